package main

import (
	"fmt"
	"runtime"
	"slices"
)

// median of what a function takes from each sample.
func (r *result) median(f func(sample) float64) float64 {
	v := r.values(f)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// values in ascending order.
func (r *result) values(f func(sample) float64) []float64 {
	v := make([]float64, len(r.Samples))
	for i, s := range r.Samples {
		v[i] = f(s)
	}
	slices.Sort(v)
	return v
}

func rate(s sample) float64  { return s.RequestsPerSecond }
func busy(s sample) float64  { return s.BusyMicros }
func proxy(s sample) float64 { return s.ProcessMicros }

// printTable prints medians, a line for each candidate.
func printTable(o options, results []*result) {
	find := func(name string, queues int) *result {
		for _, r := range results {
			if r.contender == (contender{name, queues}) {
				return r
			}
		}
		return nil
	}
	connections := "kept"
	if o.load.close {
		connections = "closed after each request"
	}
	links := "veth"
	if o.rss {
		links += " with emulated RSS"
	}
	fmt.Printf("\n%d connections, %s; GET %s; medians of %d rounds of %v; %s, MTU %d; %d processors for all, clients and backend too\n",
		o.load.connections, connections, o.load.path, o.rounds, o.load.duration, links, o.mtu, runtime.NumCPU())
	fmt.Printf("NAME: links of one queue and one worker; NAME-N: N of each\n\n")
	fmt.Printf("%-11s %10s %17s %9s %9s %9s %8s %8s %7s %7s\n", "", "requests/s", "min..max", "busy us", "- direct", "proxy us", "p50 us", "p99 us", "PSS MB", "errors")
	for _, r := range results {
		rates := r.values(rate)
		fmt.Printf("%-11s %10.0f %17s %9.2f", r.Candidate, r.median(rate), fmt.Sprintf("%.0f..%.0f", rates[0], rates[len(rates)-1]), r.median(busy))
		if direct := find("direct", r.Queues); direct != nil && r != direct {
			fmt.Printf(" %9.2f", r.median(busy)-direct.median(busy))
		} else {
			fmt.Printf(" %9s", "-")
		}
		if r.contender.name != "direct" {
			fmt.Printf(" %9.2f", r.median(proxy))
		} else {
			fmt.Printf(" %9s", "-")
		}
		fmt.Printf(" %8.0f %8.0f %7.1f %7.0f\n", r.median(func(s sample) float64 { return s.P50Micros }), r.median(func(s sample) float64 { return s.P99Micros }),
			r.median(func(s sample) float64 { return float64(s.MemoryBytes) / (1 << 20) }), r.total(func(s sample) uint64 { return s.Errors }))
	}
	fmt.Println("\nbusy: CPU of the whole machine for a request, clients and backend included; proxy and PSS: of all processes of the proxy.")
	for _, r := range results {
		if other := find("nginx", r.Queues); r.contender.name == "ringroad" && other != nil {
			printRatio(r, other)
		}
	}
	for _, r := range results {
		if other := find(r.contender.name, 1); r.Queues > 1 && other != nil && r.contender.name != "direct" {
			printRatio(r, other)
		}
	}
}

func printRatio(r, other *result) {
	ratio := func(f func(sample) float64) float64 { return r.median(f) / other.median(f) }
	fmt.Printf("%s / %s: requests/s %.2f, busy %.2f, proxy %.2f\n", r.Candidate, other.Candidate, ratio(rate), ratio(busy), ratio(proxy))
}

func (r *result) total(f func(sample) uint64) float64 {
	var sum uint64
	for _, s := range r.Samples {
		sum += f(s)
	}
	return float64(sum)
}
