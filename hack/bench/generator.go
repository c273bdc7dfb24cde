package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"time"

	"ringroad/hack/bench/openloop"
	"ringroad/hack/lab"
)

// generatorArgument is the first argument of this binary when it is executed again in the client's namespace as the load generator.
const generatorArgument = "ringroad-bench-generator"

// generatorChild turns such a process into the generator, and does not return then.
func generatorChild() {
	if len(os.Args) < 2 || os.Args[1] != generatorArgument {
		return
	}
	if err := runGenerator(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "load generator:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runGenerator prints its result as JSON. With -once it first prints "held", and goes on when its standard input ends.
func runGenerator(args []string) error {
	runtime.GOMAXPROCS(1)
	set := flag.NewFlagSet("generator", flag.ContinueOnError)
	var o openloop.Options
	server := set.String("server", "", "")
	target := set.String("target", "", "")
	set.IntVar(&o.Connections, "c", 64, "")
	set.Float64Var(&o.Rate, "rate", 0, "")
	set.DurationVar(&o.Duration, "d", 0, "")
	set.DurationVar(&o.Warm, "warm", 0, "")
	set.BoolVar(&o.CloseEach, "close", false, "")
	set.BoolVar(&o.Once, "once", false, "")
	err := set.Parse(args)
	if err != nil {
		return err
	}
	if o.Server, err = netip.ParseAddrPort(*server); err != nil {
		return err
	}
	o.Timeout = 15 * time.Second
	o.Request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", *target, *server)
	r, err := openloop.Run(o, func() {
		if o.Once {
			fmt.Println("held")
			_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent, at the latest
		}
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// generatorArgs are the arguments of the generator for a case.
func generatorArgs(k *kase, address string, more ...string) []string {
	return append([]string{"-server", address, "-target", k.target(), "-c", fmt.Sprint(k.clients())}, more...)
}

// generated is a result of the generator.
type generated openloop.Result

func (g generated) load() load {
	return load{
		requests: g.Requests, rate: float64(g.Requests) / max(g.Duration.Seconds(), 1e-9), errors: g.Errors, said: g.First,
		p50: g.P50, p99: g.P99, p999: g.P999,
	}
}

func generate(l *lab.Lab, args []string, limit time.Duration) (g generated, err error) {
	self, err := os.Executable()
	if err != nil {
		return g, err
	}
	out, err := l.Client.Run(limit, self, append([]string{generatorArgument}, args...)...)
	if err != nil {
		return g, err
	}
	return g, json.Unmarshal([]byte(out), &g)
}

// hold calls a function while the generator holds idle connections.
func hold(l *lab.Lab, args []string, f func() error) (g generated, err error) {
	self, err := os.Executable()
	if err != nil {
		return g, err
	}
	c := l.Client.Exec(self, append([]string{generatorArgument}, args...)...)
	in, err := c.StdinPipe()
	if err != nil {
		return g, err
	}
	p, err := l.Start("load generator", c)
	if err != nil {
		return g, err
	}
	defer p.Stop(0)
	if err := p.WaitLine("held", 30*time.Second); err != nil {
		return g, err
	}
	err = errors.Join(f(), in.Close(), p.Wait(10*time.Second))
	if err != nil {
		return g, errors.Join(err, errors.New(p.Output()))
	}
	return g, json.Unmarshal([]byte(p.Output()[len("held\n"):]), &g)
}
