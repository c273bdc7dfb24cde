// Command bench compares ringroad with nginx on this machine: the same lab, the same clients and backend, one after the other, in
// interleaved rounds. `direct` is the client talking to the backend through the edge's kernel without any proxy: what is left when it
// is subtracted is the proxy's.
//
// Each candidate runs alone: the XDP program is detached while another one is measured. Numbers on veth compare candidates with one
// another; they do not say what a network card would do.
//
// It needs root, nginx and wrk (`make bench` installs them); HAProxy takes part when it is named.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"ringroad/hack/lab"
)

// options of one run of the benchmark.
type options struct {
	candidates []string
	rounds     int
	load       load
	mtu        int
	binary     string
	settings   string // YAML lines added to ringroad's configuration
	jsonFile   string
	profile    string // file for ringroad's CPU profile
}

func main() {
	lab.Child()
	o, err := parse()
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() (options, error) {
	var o options
	candidates := flag.String("candidates", "direct,nginx,ringroad", "what to run, of: "+strings.Join(candidateNames(), ", "))
	flag.IntVar(&o.rounds, "r", 3, "rounds")
	flag.DurationVar(&o.load.duration, "d", 5*time.Second, "duration of a measurement, whole seconds")
	flag.IntVar(&o.load.connections, "c", 64, "client connections")
	flag.StringVar(&o.load.path, "path", "/empty", "request target: /empty, / (12 bytes), /f/1k, /f/64k, /f/1m")
	flag.BoolVar(&o.load.close, "close", false, "a connection for every request")
	flag.IntVar(&o.mtu, "mtu", 1500, "MTU of each link")
	flag.StringVar(&o.binary, "binary", "", "ringroad binary to run; built from this tree when not given")
	flag.StringVar(&o.settings, "set", "", "more configuration for ringroad, as YAML, such as 'wait: spin'")
	flag.StringVar(&o.jsonFile, "json", "", "write all measurements to this file as JSON")
	flag.StringVar(&o.profile, "cpu-profile", "", "write ringroad's CPU profile to this file (of the last round)")
	quick := flag.Bool("quick", false, "one round of two seconds")
	flag.Parse()
	if *quick {
		o.rounds, o.load.duration = 1, 2*time.Second
	}
	o.candidates = strings.Split(*candidates, ",")
	if o.rounds < 1 || o.load.duration < time.Second || o.load.connections < 1 || flag.NArg() > 0 {
		return o, errors.New("nothing to measure: -r and -c must be at least 1, -d at least 1s, and there are no arguments beside flags")
	}
	return o, nil
}

func run(o options) error {
	started := time.Now()
	l, err := lab.Up(lab.Options{
		MTU: o.mtu, Forward: true,
		Files: map[string]int64{"1k": 1 << 10, "64k": 64 << 10, "1m": 1 << 20},
	})
	if err != nil {
		return err
	}
	l.CloseOnSignal(130)
	results, err := measureAll(l, o)
	l.EndedBySignal()
	if err := errors.Join(err, l.Close()); err != nil {
		return err
	}
	printTable(o, results)
	fmt.Printf("%.0f s in all\n", time.Since(started).Seconds())
	if o.jsonFile == "" {
		return nil
	}
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.jsonFile, append(b, '\n'), 0o644)
}

// measureAll runs the rounds. In each, every candidate is started, warmed up, measured and stopped.
func measureAll(l *lab.Lab, o options) ([]*result, error) {
	if o.binary == "" {
		var err error
		if o.binary, err = lab.BuildRingroad(l.Dir); err != nil {
			return nil, err
		}
	}
	var results []*result
	for _, name := range o.candidates {
		if _, ok := candidates[name]; !ok {
			return nil, fmt.Errorf("no candidate is called %q: there are %s", name, strings.Join(candidateNames(), ", "))
		}
		results = append(results, &result{Candidate: name})
	}
	for round := range o.rounds {
		for _, r := range results {
			s, err := measureOne(l, o, r.Candidate)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, r.Candidate, err)
			}
			r.Samples = append(r.Samples, s)
			fmt.Fprintf(os.Stderr, "round %d of %d  %-9s %8.0f requests/s\n", round+1, o.rounds, r.Candidate, s.RequestsPerSecond)
		}
	}
	return results, nil
}

func measureOne(l *lab.Lab, o options, name string) (sample, error) {
	c, err := candidates[name](l, o)
	if err != nil {
		return sample{}, err
	}
	defer c.stop()
	if err := l.Client.WaitTCP(c.address, 10*time.Second); err != nil {
		return sample{}, errors.Join(err, c.said())
	}
	s, err := c.measure(l, o.load)
	if err != nil {
		err = errors.Join(err, c.said())
	}
	return s, err
}
