// Command flood compares ringroad with nginx on the kernel under floods: what connections that are open get done, whether new ones
// succeed, and what memory it takes. It runs in a lab of its own; every flood is bounded in frames and seconds.
//
// A round measures, each on a process of its own and against what the same process did just before: nginx and ringroad under as much as
// can be sent to them, ringroad under as much as nginx got, and under a tenth of that. The table has medians of the rounds. Then a line for
// each kind of flood tells whether ringroad does what it must:
//
//   - under the same flood, as much as reached nginx, open connections get at least as many answers as nginx gives;
//   - under a tenth of it they keep 95 % of what they had without, and 95 % of what they keep with the control, nginx under a tenth of it;
//   - under the fastest, all new connections are served;
//   - memory grows by less than 64 MB.
//
// The flood, the client and the backend share the processors with the proxy, so that what the sender of the flood takes is missing too. Where
// the control itself keeps less than 95 %, Linux could not on this machine either. If a line fails, the exit status is 1.
//
// # What a frame costs
//
// In a flood of 210,000 RSTs a second, which took 29 % of a machine of two processors (perf, Linux 6.18), of that were
//
//   - 53 % the sender's: packet_sendmsg, the skb, veth_xmit;
//   - 20 % veth's copy: its XDP takes no skb whose head is no page fragment, or that has less than 256 bytes of headroom
//     (veth_convert_skb_to_xdp_buff), so whatever a socket sends is copied into a page of the pool first (skb_pp_cow_data);
//   - 18 % the program's: the own address, the port, the hash, the table of open connections;
//   - 9 % the rest of NAPI's.
//
// All of it ran in the system call of the sender, none in ksoftirqd, and none in the worker. nginx's kernel took 29 % too for 190,000: what
// ringroad saves in IP and TCP it pays for the copy, which no NIC's driver makes. A SYN that is answered costs the worker another 5 us, half
// of it the send call; without a limit on them that was a third of the machine.
//
// BenchmarkFlood of package bpf has what the program takes by kind of frame.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/flood"
)

type options struct {
	seconds time.Duration
	rounds  int
	kinds   []flood.Kind
	binary  string
	filter  string
	only    string
	during  string
	gro     bool
}

func main() {
	lab.Child()
	if len(os.Args) == 6 && os.Args[1] == senderArgument {
		if err := sender(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "flood:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	var kinds string
	flag.DurationVar(&o.seconds, "d", time.Second, "how long each flood lasts")
	flag.IntVar(&o.rounds, "r", 3, "rounds")
	flag.StringVar(&kinds, "kinds", "syn,ack,rst,fragment,icmp,http", "floods")
	flag.BoolVar(&o.gro, "gro", false, "the client's link has GRO on, for all: 'filter: {syn_cookies: xdp}' needs it in native mode")
	flag.StringVar(&o.filter, "filter", "", "more of ringroad's configuration, such as 'filter: {packet_rate: 1000}'")
	flag.StringVar(&o.only, "only", "", "nginx or ringroad")
	flag.StringVar(&o.during, "during", "", "shell command that runs during each flood, such as a profiler; KIND, PROXY, RATE (0: as fast as it goes) and PID are set")
	flag.StringVar(&o.binary, "ringroad", "", "binary of ringroad; built without")
	flag.Parse()
	for k := range strings.SplitSeq(kinds, ",") {
		o.kinds = append(o.kinds, flood.Kind(k))
	}
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	l, err := lab.Up(lab.Options{NoQdisc: true}) // who floods does not wait until a ring has room
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // it reports itself
	lab.CloseOnSignal(130, l)
	if o.binary == "" {
		if o.binary, err = lab.BuildRingroad(l.Dir); err != nil {
			return err
		}
	}
	if err := route(l, o); err != nil {
		return err
	}
	var verdicts []verdict
	for _, kind := range o.kinds {
		rows, err := rounds(l, o, kind)
		if err != nil {
			return err
		}
		show(rows)
		verdicts = append(verdicts, judge(kind, rows)...)
	}
	fmt.Println()
	failed := 0
	for _, v := range verdicts {
		fmt.Println(v)
		if v.mark == fail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d verdicts failed", failed, len(verdicts))
	}
	return nil
}

// row is what is measured of one proxy under one flood, once a round.
type row struct {
	proxy  string
	flood  flood.Kind
	share  int // of what reached nginx: 1 all of it, 10 a tenth; 0: as fast as it goes
	rounds []measured
}

// rounds measures a kind of flood.
func rounds(l *lab.Lab, o *options, kind flood.Kind) ([]*row, error) {
	rows := []*row{
		{proxy: nginx, flood: kind},
		{proxy: ringroad, flood: kind},
		{proxy: ringroad, flood: kind, share: 1},
		{proxy: ringroad, flood: kind, share: 10},
		{proxy: nginx, flood: kind, share: 10},
	}
	rows = slices.DeleteFunc(rows, func(r *row) bool {
		return o.only != "" && o.only != r.proxy || o.only == ringroad && r.share == 1
	})
	for range o.rounds {
		for _, r := range rows {
			rate := 0
			if r.share > 0 {
				rate = max(rows[0].rounds[len(rows[0].rounds)-1].rate/r.share, 1)
			}
			m, err := measure(l, o, r.proxy, r.flood, rate)
			if err != nil {
				return nil, fmt.Errorf("%s under %s: %w", r.proxy, r.flood, err)
			}
			r.rounds = append(r.rounds, m)
		}
	}
	return rows, nil
}

// median is that of what f says of each round.
func (r *row) median(f func(m measured) float64) float64 {
	of := make([]float64, len(r.rounds))
	for i, m := range r.rounds {
		of[i] = f(m)
	}
	return median(of)
}

func median(of []float64) float64 {
	slices.Sort(of)
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}

func (r *row) opened() (n, of int) {
	for _, m := range r.rounds {
		n, of = n+m.opened, of+m.tried
	}
	return n, of
}

func show(rows []*row) {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintln(t, "flood\tproxy\ta second\trequests/s before\tunder it\tkept\tnew connections\tMB before\tafter")
	for _, r := range rows {
		n, of := r.opened()
		fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f %%\t%d of %d\t%.0f\t%.0f\n", r.flood, r.proxy,
			r.median(func(m measured) float64 { return float64(m.rate) }), r.median(func(m measured) float64 { return m.before }),
			r.median(func(m measured) float64 { return m.under }), r.median(measured.kept), n, of,
			r.median(func(m measured) float64 { return m.memoryBefore }), r.median(func(m measured) float64 { return m.memoryAfter }))
	}
}
