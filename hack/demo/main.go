// Command demo shows ringroad at work on this machine, in a network of namespaces that it makes and removes: a few requests by curl
// with all that they moved on their way, then a short load by wrk. With -stay the network stays up until Ctrl-C, and the demo prints
// what to try in it. -queues N gives the links that many queues; with -rss they distribute what arrives as NICs do. -link and -backend-link
// give the wire to the client and that to the backend faults: loss, delay and more.
//
// It needs root, nginx, wrk and curl (`make demo` installs them).
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/faultlink"
	"ringroad/hack/lab/rss"
)

// The front doors of the demo. Port 81 leads to a Go server that can show what a backend gets.
const (
	url4      = "http://10.1.0.1/"
	url6      = "http://[fd00:1::1]/"
	urlGo     = "http://10.1.0.1:81"
	configure = `interfaces: [e0, e1]
rx_checksum: verify
listeners:
  - {address: "0.0.0.0:80", upstream: nginx}
  - {address: "[::]:80", upstream: nginx6}
  - {address: "0.0.0.0:81", upstream: go}
upstreams:
  nginx: {servers: ["10.2.0.2:8080"]}
  nginx6: {servers: ["[fd00:2::2]:8080"]}
  go: {servers: ["10.2.0.2:8081"]}
log: {access: %s}
`
)

func main() {
	lab.Child()
	stay := flag.Bool("stay", false, "keep the network up until Ctrl-C")
	binary := flag.String("binary", "", "ringroad binary to run; built from this tree when not given")
	queues := flag.Int("queues", 1, "queues of each link, and workers of ringroad")
	emulate := flag.Bool("rss", false, "the links distribute frames over their queues as NICs do, by a Toeplitz hash that ringroad knows")
	var client, backend *faultlink.Options
	flag.Func("link", "faults of the wire between client and ringroad, such as loss=1%,delay=20ms,seed=7: "+faultlink.Usage, faults(&client))
	flag.Func("backend-link", "faults of the wire between ringroad and backend", faults(&backend))
	flag.Parse()
	options := lab.Options{Queues: *queues, ClientFault: client, BackendFault: backend, Files: map[string]int64{"64k": 64 << 10, "100m": 100 << 20}}
	if *emulate {
		options.RSS = rss.DefaultKey
	}
	if err := run(options, *binary, *stay); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// faults returns the function that reads a flag into o.
func faults(o **faultlink.Options) func(string) error {
	return func(text string) error {
		parsed, err := faultlink.Parse(text)
		*o = &parsed
		return err
	}
}

// run makes the network, shows it and removes it, whatever happens in between.
func run(options lab.Options, binary string, stay bool) error {
	p := progress{start: time.Now()}
	p.begin("make the network")
	l, err := lab.Up(options)
	if err != nil {
		return err
	}
	status := 130
	if stay {
		status = 0
	}
	lab.CloseOnSignal(status, l)
	p.done("client 10.1.0.2 - edge e0, e1 - backend 10.2.0.2 (%s)%s", backendName(), linkKind(options))

	err = relay(&p, l, binary, stay)
	l.EndedBySignal()
	p.begin("remove the network")
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	p.done("")
	return nil
}

// relay runs ringroad in the edge for as long as there is something to show.
func relay(p *progress, l *lab.Lab, binary string, stay bool) error {
	if binary == "" {
		p.begin("build ringroad")
		var err error
		if binary, err = lab.BuildRingroad(l.Dir); err != nil {
			return err
		}
		p.done("")
	}
	p.begin("start ringroad in the edge")
	configuration := fmt.Sprintf(configure, filepath.Join(l.Dir, "access.log"))
	if key := l.Options().RSS; key != nil {
		configuration += fmt.Sprintf("rss: {key: %q}\n", key)
	}
	r, err := l.StartRingroad(binary, configuration)
	if err != nil {
		return err
	}
	if err := r.WaitReady(10 * time.Second); err != nil {
		return err
	}
	running, err := describe(r)
	if err != nil {
		return err
	}
	p.done("%s", running)
	if err := show(p, l, r); err != nil {
		return fmt.Errorf("%w\nringroad printed:\n%s", err, r.Output())
	}
	if stay {
		printCommands(l, r, binary)
		<-r.Done()
		return fmt.Errorf("ringroad ended; it printed:\n%s", r.Output())
	}
	p.begin("stop ringroad")
	if !r.Stop(5 * time.Second) {
		return fmt.Errorf("ringroad did not stop; it printed:\n%s", r.Output())
	}
	p.done("")
	return nil
}

// describe says which processes run and what they take up.
func describe(r *lab.Ringroad) (string, error) {
	pids, err := r.Processes()
	if err != nil {
		return "", err
	}
	memory, err := lab.PSS(pids...)
	return fmt.Sprintf("processes %v, %.1f MiB", pids, float64(memory)/(1<<20)), err
}

func backendName() string {
	if lab.HasNginx() {
		return "nginx"
	}
	return "Go server: nginx is not installed"
}

// linkKind says how links differ from plain ones.
func linkKind(o lab.Options) string {
	s := ""
	if o.Queues > 1 {
		s = fmt.Sprintf(", %d queues a link", o.Queues)
	}
	if o.RSS != nil {
		s += ", RSS emulated"
	}
	if o.ClientFault != nil {
		s += fmt.Sprintf("; client's wire: %v", o.ClientFault)
	}
	if o.BackendFault != nil {
		s += fmt.Sprintf("; backend's wire: %v", o.BackendFault)
	}
	return s
}

// printCommands says what to try in the network.
func printCommands(l *lab.Lab, r *lab.Ringroad, binary string) {
	client, edge := "ip netns exec "+l.Client.Name, "ip netns exec "+l.Edge.Name
	fmt.Printf(`
The network is up. In another terminal, as root:

  requests    %[1]s curl -i %[3]s
              %[1]s curl -i '%[4]s'
              %[1]s wrk -t1 -c64 -d5 --latency %[3]s
              %[1]s curl -o /dev/null %[3]sf/100m
  headers     %[1]s curl %[5]s/request          # what a backend gets
  buffers     %[8]s top --control %[9]s
  connections %[8]s connections --control %[9]s
  counters    cat %[6]s
              %[2]s grep -A1 Tcp: /proc/net/snmp    # the kernel's TCP: stands still
  XDP         %[2]s ip -d link show e0
  access log  tail -f %[7]s
  a shell     %[2]s bash

Ctrl-C removes it all.
`, client, edge, url4, url6, urlGo, r.StatsFile, filepath.Join(l.Dir, "access.log"), binary, r.Control)
}

// progress prints one line a step.
type progress struct {
	start   time.Time
	started time.Time // of the step that runs
	what    string
}

func (p *progress) begin(what string) {
	p.what, p.started = what, time.Now()
}

// done prints the line of the step with what came out of it.
func (p *progress) done(format string, args ...any) {
	fmt.Printf("%5.1fs  %-28s %s\n", time.Since(p.start).Seconds(), p.what, fmt.Sprintf(format, args...))
}
