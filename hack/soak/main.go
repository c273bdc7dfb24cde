// Command soak keeps ringroad under mixed traffic for a long time while things go wrong, and then accounts for all it had: frames,
// connections, timers, goroutines, files, memory, and every answer.
//
//	go run ./hack/soak                     # half an hour
//	go run ./hack/soak -d 4m -legs 2rss    # two queues that are chosen as by a NIC, four minutes
//
// It runs in legs, each with a lab of its own: so many queues, RSS emulated or not, frames lost on the client's wire or not. A leg
// (leg.go) warms up, comes to rest, plays traffic (traffic*.go) and disturbances (disturb.go) against each other, comes to rest again,
// and ends ringroad. What it decides at random follows from the seed, so that a run can be played again as far as the schedulers let it.
//
// A request either gets the right answer or fails for a disturbance that explains it (ledger.go): its worker was killed, its backend
// was taken away. Any other failure fails the run, and so do: something that does not come back at rest (account.go), memory that
// grows, a line in the log at warn or error that no disturbance brings about (log.go). Then logs and configuration are kept.
//
// It needs root and nginx (`make soak` installs that). The exit status is 1 when anything was not as it should be.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"ringroad/hack/lab"
)

func main() {
	lab.Child()
	duration := flag.Duration("d", 30*time.Minute, "how long all legs together play, their coming to rest not counted")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what happens follows from it")
	legs := flag.String("legs", "1,2rss,2loss,4rss,4loss,1loss", "legs: so many queues each; rss: they are chosen as by a NIC; loss: a frame in 500 is lost")
	clients := flag.Int("clients", 32, "clients at a time")
	binary := flag.String("binary", "", "ringroad binary to run; built from this tree when not given")
	flag.Parse()
	plans, err := parseLegs(*legs)
	if err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q", flag.Arg(0))
	}
	if err == nil {
		err = run(plans, *duration, *seed, *clients, *binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// plan is what kind of leg to run.
type plan struct {
	name   string
	queues int
	rss    bool
	loss   bool
}

func parseLegs(list string) ([]plan, error) {
	var plans []plan
	for name := range strings.SplitSeq(list, ",") {
		digits := strings.TrimRight(name, "abcdefghijklmnopqrstuvwxyz")
		p := plan{name: name, rss: strings.Contains(name, "rss"), loss: strings.Contains(name, "loss")}
		var err error
		if p.queues, err = strconv.Atoi(digits); err != nil || p.queues < 1 || p.queues > 16 {
			return nil, fmt.Errorf("leg %q: want a number of queues from 1 to 16, then rss and loss as wished", name)
		}
		if rest := strings.NewReplacer("rss", "", "loss", "").Replace(name[len(digits):]); rest != "" {
			return nil, fmt.Errorf("leg %q: what is %q? there are rss and loss", name, rest)
		}
		plans = append(plans, p)
	}
	return plans, nil
}

// run plays the legs one after the other, to the end even when one fails.
func run(plans []plan, duration time.Duration, seed uint64, clients int, binary string) error {
	fmt.Printf("soak: %v in %d legs, -seed %d\n", duration, len(plans), seed)
	if binary == "" {
		dir, err := os.MkdirTemp("", "ringroad-soak-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if binary, err = lab.BuildRingroad(dir); err != nil {
			return err
		}
	}
	var all error
	for i, p := range plans {
		l := &leg{plan: p, seed: seed + uint64(i), clients: clients, duration: duration / time.Duration(len(plans))}
		if err := l.run(binary); err != nil {
			fmt.Printf("leg %s FAILED: %v\n", p.name, err)
			all = errors.Join(all, fmt.Errorf("leg %s failed (-legs %s -seed %d)", p.name, p.name, l.seed))
		}
	}
	return all
}
