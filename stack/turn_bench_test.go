package stack_test

import (
	"net/netip"
	"testing"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// BenchmarkTurn is a turn of the loop that finds nothing.
func BenchmarkTurn(b *testing.B) {
	n := stacktest.New(b, nil)
	for b.Loop() {
		n.Stack.Turn()
		n.Stack.Flush()
	}
}

// BenchmarkTCPStats reads the counters of a stack with 40,000 connections; walk is
// what it takes to look at each.
func BenchmarkTCPStats(b *testing.B) {
	n := stacktest.New(b, func(c *stack.Config) { c.FirstPort, c.LastPort = 20000, 59999 })
	for range 40000 {
		if _, err := n.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:80")); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("counted", func(b *testing.B) {
		for b.Loop() {
			n.Stack.TCPStats()
		}
	})
	b.Run("walk", func(b *testing.B) {
		for b.Loop() {
			n.Stack.Walk()
		}
	})
}
