package stack_test

import (
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// TestEndpointUsedAgainIsAsNew: whatever an endpoint was at the end of its connection, the next one begins with what a new
// endpoint has, down to the last field of netstack's.
func TestEndpointUsedAgainIsAsNew(t *testing.T) {
	s := newBenchServer(t, 32, true)
	p := stacktest.Peer{Host: 2, Port: firstBenchPort, To: 80, Seq: 1 << 30}
	s.net.Sent = func(t stacktest.Segment) { p.Take(&t) }
	var conn *stack.Conn
	s.took = func(c *stack.Conn) { conn = c }
	open := func() *tcp.Endpoint {
		t.Helper()
		p.Seq += 1 << 20
		s.net.Put(p.Send(stacktest.SYN, ""))
		s.turn()
		s.net.Put(p.Send(stacktest.ACK, ""))
		s.turn()
		s.turn()
		return conn.Endpoint()
	}
	finish := func() {
		t.Helper()
		s.closes = false
		for range 3 { // so that a segment lasts
			s.net.Put(p.Send(stacktest.ACK|stacktest.PSH, benchRequest))
			s.turn()
		}
		s.net.Put(p.Send(stacktest.ACK, "")) // it is idle
		s.turn()
		s.net.Put(p.Send(stacktest.ACK|stacktest.FIN, ""))
		s.turn()
		s.net.Put(p.Send(stacktest.ACK, ""))
		s.turn()
		s.closes = true
		if s.stack.Reusable() != 1 {
			t.Fatal("the endpoint is not kept")
		}
	}
	first := open()
	want := stack.Dump(first)
	p.Seq += 100 // out of order, so that there are SACK blocks
	s.net.Put(p.Send(stacktest.ACK|stacktest.PSH, benchRequest))
	s.turn()
	p.Seq -= 100 + uint32(len(benchRequest))
	s.net.Put(p.Send(stacktest.ACK|stacktest.PSH, benchRequest))
	s.turn()
	p.Seq += 100
	s.net.Put(p.Send(stacktest.ACK|stacktest.FIN, ""))
	s.turn()
	if s.stack.Reusable() != 1 {
		t.Fatal("the endpoint is not kept")
	}
	for _, spoil := range []bool{false, true} {
		if spoil {
			stack.Spoil(first)
		}
		old := conn
		if again := open(); again != first {
			t.Fatal("another endpoint is used")
		}
		got := stack.Dump(first)
		var paths []string
		for path := range want {
			if got[path] != want[path] {
				paths = append(paths, path+" is "+got[path]+", of a new endpoint "+want[path])
			}
		}
		slices.Sort(paths)
		for _, path := range paths {
			t.Errorf("spoilt %v: %s", spoil, path)
		}
		if len(got) != len(want) || len(want) < 200 {
			t.Errorf("%d fields, of a new endpoint %d", len(got), len(want))
		}
		if old.Endpoint() == first || !old.Delivered() {
			t.Error("the closed connection has the endpoint of the next one")
		}
		finish()
	}

	// One that ends otherwise may be known to others: a timer, or netstack's processor.
	open()
	s.net.Put(p.Send(stacktest.RST, ""))
	s.turn()
	if conn.Err() == nil || s.stack.Reusable() != 0 {
		t.Errorf("after a reset %d endpoints are kept", s.stack.Reusable())
	}
}
