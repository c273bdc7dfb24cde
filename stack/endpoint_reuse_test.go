package stack_test

import (
	"fmt"
	"net/netip"
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
		compareDumps(t, stack.Dump(first), want, fmt.Sprint("spoilt ", spoil))
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

// compareDumps compares an endpoint that was used again with a new one.
func compareDumps(t *testing.T, got, want map[string]string, when string) {
	t.Helper()
	var paths []string
	for path := range want {
		if got[path] != want[path] {
			paths = append(paths, path+" is "+got[path]+", of a new endpoint "+want[path])
		}
	}
	slices.Sort(paths)
	for _, path := range paths {
		t.Errorf("%s: %s", when, path)
	}
	if len(got) != len(want) || len(want) < 200 {
		t.Errorf("%s: %d fields, of a new endpoint %d", when, len(got), len(want))
	}
}

// TestDialledEndpointUsedAgainIsAsNew: netstack takes the first SYN-ACK, the stack those for an endpoint that is used again,
// and both make the same of it, with options or without. A SYN-ACK of another number is for netstack to reset.
func TestDialledEndpointUsedAgainIsAsNew(t *testing.T) {
	for _, bare := range []bool{false, true} {
		s := newBenchServer(t, 32, false)
		var syn stacktest.Segment
		answers := 0
		var p stacktest.Peer
		s.net.Sent = func(g stacktest.Segment) {
			if g.Flags&stacktest.SYN != 0 {
				syn = g
			}
			if g.Flags&stacktest.ACK != 0 {
				answers++
			}
			p.Take(&g)
		}
		dial := func() *stack.Conn {
			t.Helper()
			c, err := s.stack.Connect(netip.MustParseAddrPort("10.1.0.2:8080"))
			if err != nil {
				t.Fatal(err)
			}
			s.stack.Poller().AddConn(c, stack.Readable|stack.Writable, c)
			s.turn()
			p = stacktest.Peer{Host: 2, Port: 8080, To: c.LocalAddr().Port(), Seq: 1 << 30, Bare: bare}
			p.Take(&syn)
			return c
		}
		open := func(c *stack.Conn) {
			t.Helper()
			p.Ack += 5
			s.net.Put(p.Send(stacktest.SYN|stacktest.ACK, ""))
			p.Seq--
			s.turn()
			if c.Established() {
				t.Fatal("a SYN-ACK of another SYN is taken")
			}
			p.Ack -= 5
			before := answers
			s.net.Put(p.Send(stacktest.SYN|stacktest.ACK, ""))
			s.turn()
			if !c.Established() {
				t.Fatal("the SYN-ACK is not taken")
			}
			for answers == before { // the ACK waits for data to carry it
				s.turn()
			}
		}
		c := dial()
		open(c)
		first, want := c.Endpoint(), stack.Dump(c.Endpoint())
		for _, spoil := range []bool{false, true} {
			s.net.Put(p.Send(stacktest.ACK|stacktest.FIN, ""))
			s.turn()
			c.Close()
			s.turn()
			s.net.Put(p.Send(stacktest.ACK, ""))
			s.turn()
			if s.stack.Reusable() != 1 {
				t.Fatal("the endpoint is not kept")
			}
			if spoil {
				stack.Spoil(first)
			}
			c = dial()
			if c.Endpoint() != first {
				t.Fatal("another endpoint is used")
			}
			open(c)
			compareDumps(t, stack.Dump(first), want, fmt.Sprintf("bare %v, spoilt %v", bare, spoil))
		}
	}
}
