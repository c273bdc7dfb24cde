// Command bench compares ringroad with nginx on this machine: the same lab, the same clients and backend, one after the other, in
// interleaved rounds. `direct` is the client talking to the backend through the edge's kernel without any proxy: what is left when it
// is subtracted is the proxy's.
//
// A candidate runs on links of -queues queues, with as many workers; NAME-N is the candidate NAME on links of N queues with N workers,
// so that `-candidates nginx,nginx-2,ringroad,ringroad-2` shows how both scale. A lab for each number of queues is up all the time.
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
	"ringroad/hack/lab/rss"
)

// options of one run of the benchmark.
type options struct {
	candidates []contender
	rounds     int
	load       load
	mtu        int
	rss        bool // the links distribute frames as NICs do
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
	candidates := flag.String("candidates", "direct,nginx,ringroad", "what to run, of: "+strings.Join(candidateNames(), ", ")+"; NAME-N on N queues with N workers")
	queues := flag.Int("queues", 1, "queues of each link, and workers, of the candidates that do not say")
	flag.BoolVar(&o.rss, "rss", false, "the links distribute frames over their queues as NICs do, by a Toeplitz hash that ringroad knows")
	flag.IntVar(&o.rounds, "r", 3, "rounds")
	flag.DurationVar(&o.load.duration, "d", 5*time.Second, "duration of a measurement, whole seconds")
	flag.IntVar(&o.load.threads, "t", 1, "threads of the client")
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
	if o.rounds < 1 || o.load.duration < time.Second || o.load.threads < 1 || o.load.connections < o.load.threads || flag.NArg() > 0 {
		return o, errors.New("nothing to measure: -r and -t must be at least 1, -c at least -t, -d at least 1s, and there are no arguments beside flags")
	}
	for name := range strings.SplitSeq(*candidates, ",") {
		c, err := parseContender(name, *queues)
		if err != nil {
			return o, err
		}
		o.candidates = append(o.candidates, c)
	}
	return o, nil
}

func run(o options) error {
	started := time.Now()
	labs, err := bringUp(o)
	if err != nil {
		return err
	}
	results, err := measureAll(labs, o)
	for _, l := range labs {
		l.EndedBySignal()
		err = errors.Join(err, l.Close())
	}
	if err != nil {
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

// bringUp makes a lab for each number of queues.
func bringUp(o options) (map[int]*lab.Lab, error) {
	labs := map[int]*lab.Lab{}
	var all []*lab.Lab
	for _, c := range o.candidates {
		if labs[c.queues] != nil {
			continue
		}
		options := lab.Options{
			Queues: c.queues, MTU: o.mtu, Forward: true,
			Files: map[string]int64{"1k": 1 << 10, "64k": 64 << 10, "1m": 1 << 20},
		}
		if o.rss {
			options.RSS = rss.DefaultKey
		}
		l, err := lab.Up(options)
		if err != nil {
			for _, l := range all {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		labs[c.queues], all = l, append(all, l)
	}
	lab.CloseOnSignal(130, all...)
	return labs, nil
}

// measureAll runs the rounds. In each, every candidate is started, warmed up, measured and stopped.
func measureAll(labs map[int]*lab.Lab, o options) ([]*result, error) {
	if o.binary == "" {
		var err error
		if o.binary, err = lab.BuildRingroad(labs[o.candidates[0].queues].Dir); err != nil {
			return nil, err
		}
	}
	var results []*result
	for _, c := range o.candidates {
		results = append(results, &result{Candidate: c.String(), Queues: c.queues, contender: c})
	}
	for round := range o.rounds {
		for _, r := range results {
			s, err := measureOne(labs[r.Queues], o, r.contender)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round+1, r.Candidate, err)
			}
			r.Samples = append(r.Samples, s)
			fmt.Fprintf(os.Stderr, "round %d of %d  %-11s %8.0f requests/s\n", round+1, o.rounds, r.Candidate, s.RequestsPerSecond)
		}
	}
	return results, nil
}

func measureOne(l *lab.Lab, o options, r contender) (sample, error) {
	c, err := candidates[r.name](l, o)
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
