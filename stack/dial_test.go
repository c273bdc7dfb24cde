package stack_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// dialRig begins connections to one backend of which nothing answers but what the test puts.
type dialRig struct {
	*benchServer
	syn stacktest.Segment // the last one sent
	now time.Duration
}

func newDialRig(t *testing.T, first, last uint16) *dialRig {
	d := new(stacktest.Direct)
	s, err := stack.New(stack.Config{Resolver: d, Waiter: d, Batch: 32, Links: []stack.Link{d.Link()}, FirstPort: first, LastPort: last})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r := &dialRig{benchServer: &benchServer{net: d, stack: s, closes: true}}
	d.Sent = func(g stacktest.Segment) {
		if g.Flags&stacktest.SYN != 0 {
			r.syn = g
		}
	}
	s.SetClock(func() time.Duration { return r.now })
	return r
}

// dial begins a connection to a port.
func (r *dialRig) dial(t *testing.T, port uint16) *stack.Conn {
	t.Helper()
	c, err := r.stack.Connect(netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), port))
	if err != nil {
		t.Fatal(err)
	}
	r.turn()
	return c
}

// once is a connection to a port from beginning to end.
func (r *dialRig) once(t *testing.T, port uint16) (number uint32) {
	t.Helper()
	c := r.dial(t, port)
	p := stacktest.Peer{Host: 2, Port: port, To: c.LocalAddr().Port(), Seq: 1 << 30}
	p.Take(&r.syn)
	number = p.Ack - 1
	r.net.Put(p.Send(stacktest.SYN|stacktest.ACK, ""))
	r.turn()
	r.net.Put(p.Send(stacktest.ACK|stacktest.FIN, ""))
	r.turn()
	c.Close()
	r.turn()
	p.Ack++
	r.net.Put(p.Send(stacktest.ACK, ""))
	r.turn()
	return number
}

// TestNumbersOfDialledConnections: those of a flow grow by 1 in 64 ns, whether its endpoint is a new one or one that is used again,
// and those of different flows say nothing of one another (RFC 6528 3).
func TestNumbersOfDialledConnections(t *testing.T) {
	r := newDialRig(t, 20000, 20000)
	const pause = time.Second
	var at [4]uint32 // of other flows at about the same time
	for i := range at {
		at[i] = r.once(t, 8080+uint16(i))
	}
	for range 3 {
		r.now += pause
		r.turn()
		for i := range at {
			next := r.once(t, 8080+uint16(i))
			if grown := next - at[i]; grown < uint32(pause/64)-1000 || grown > uint32(pause/64)+1000 {
				t.Errorf("within %v the number of a flow grew by %d", pause, grown)
			}
			at[i] = next
		}
	}
	if r.stack.Reusable() != 1 {
		t.Error("no endpoint is used again")
	}
	near := 0
	for i := range at {
		if d := int32(at[i] - at[(i+1)%len(at)]); d > -1<<24 && d < 1<<24 {
			near++
		}
	}
	if near > 1 {
		t.Errorf("numbers of different flows are near each other: %v", at)
	}
}

// TestPortsOfDialledConnections: they are taken by chance, out of what is left (RFC 6056 3.3.1), and not from a listener.
func TestPortsOfDialledConnections(t *testing.T) {
	const first, last, listens = 20000, 20063, 20007
	r := newDialRig(t, first, last)
	if _, err := r.stack.Listen(netip.MustParseAddrPort("10.1.0.1:20007"), 16); err != nil {
		t.Fatal(err)
	}
	r.once(t, 8079) // the endpoint of the first connection is used again
	used, before, inTurn := make(map[uint16]bool), uint16(0), 0
	for range last - first {
		port := r.dial(t, 8080).LocalAddr().Port()
		if used[port] || port == listens || port < first || port > last {
			t.Fatalf("port %d is taken", port)
		}
		if used[port] = true; len(used) <= 16 && port == before+1 {
			inTurn++
		}
		before = port
	}
	if inTurn > 8 {
		t.Error("ports are taken one after the other")
	}
	if _, err := r.stack.Connect(netip.MustParseAddrPort("10.1.0.2:8080")); !errors.Is(err, stack.ErrNoPort) {
		t.Errorf("with all ports in use: %v", err)
	}
	r.dial(t, 8081) // another flow
}
