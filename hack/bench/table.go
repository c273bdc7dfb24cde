package main

import (
	"fmt"
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

func rate(s sample) float64 { return s.RequestsPerSecond }
func busy(s sample) float64 { return s.BusyMicros }

// printTable prints medians, a line for each candidate.
func printTable(o options, results []*result) {
	find := func(name string) *result {
		for _, r := range results {
			if r.Candidate == name {
				return r
			}
		}
		return nil
	}
	connections := "kept"
	if o.load.close {
		connections = "closed after each request"
	}
	fmt.Printf("\n%d connections, %s; GET %s; medians of %d rounds of %v; veth, one queue, MTU %d\n\n",
		o.load.connections, connections, o.load.path, o.rounds, o.load.duration, o.mtu)
	fmt.Printf("%-10s %10s %17s %9s %9s %9s %8s %8s %7s %7s\n", "", "requests/s", "min..max", "busy us", "- direct", "proxy us", "p50 us", "p99 us", "PSS MB", "errors")
	for _, r := range results {
		rates := r.values(rate)
		fmt.Printf("%-10s %10.0f %17s %9.2f", r.Candidate, r.median(rate), fmt.Sprintf("%.0f..%.0f", rates[0], rates[len(rates)-1]), r.median(busy))
		if direct := find("direct"); direct != nil && r != direct {
			fmt.Printf(" %9.2f", r.median(busy)-direct.median(busy))
		} else {
			fmt.Printf(" %9s", "-")
		}
		if r.Candidate != "direct" {
			fmt.Printf(" %9.2f", r.median(func(s sample) float64 { return s.ProcessMicros }))
		} else {
			fmt.Printf(" %9s", "-")
		}
		fmt.Printf(" %8.0f %8.0f %7.1f %7.0f\n", r.median(func(s sample) float64 { return s.P50Micros }), r.median(func(s sample) float64 { return s.P99Micros }),
			r.median(func(s sample) float64 { return float64(s.MemoryBytes) / (1 << 20) }), r.total(func(s sample) uint64 { return s.Errors }))
	}
	fmt.Println("\nbusy: CPU of the whole machine for a request, clients and backend included; proxy and PSS: of all processes of the proxy.")
	if ours, theirs := find("ringroad"), find("nginx"); ours != nil && theirs != nil {
		fmt.Printf("ringroad / nginx: requests/s %.2f, busy %.2f\n", ours.median(rate)/theirs.median(rate), ours.median(busy)/theirs.median(busy))
	}
}

func (r *result) total(f func(sample) uint64) float64 {
	var sum uint64
	for _, s := range r.Samples {
		sum += f(s)
	}
	return float64(sum)
}
