package stack_test

import (
	"errors"
	"io"
	"net/netip"
	"testing"

	"ringroad/stack"
)

// portList is a stack.Placement that names these ports, again and again.
type portList struct {
	ports []uint16 // none: never finds one
	asked []netip.AddrPort
	local netip.Addr
}

func (p *portList) Port(local netip.Addr, remote netip.AddrPort) (uint16, bool) {
	p.local = local
	if len(p.ports) == 0 {
		p.asked = append(p.asked, remote)
		return 0, false
	}
	port := p.ports[len(p.asked)%len(p.ports)]
	p.asked = append(p.asked, remote)
	return port, true
}

// connect begins connections to addrs and returns their local ports.
func (l *loop) connect(addrs ...string) (conns []*stack.Conn, ports []uint16) {
	l.t.Helper()
	l.do(func() {
		for _, a := range addrs {
			c, err := l.Stack.Connect(netip.MustParseAddrPort(a))
			if err != nil {
				l.t.Errorf("connect to %s: %v", a, err)
				continue
			}
			conns = append(conns, c)
			ports = append(ports, c.LocalAddr().Port())
		}
	})
	return conns, ports
}

func (l *loop) placed() (placed, unplaced uint64) {
	l.do(func() {
		st := l.Stack.LinkStats(2)
		placed, unplaced = st.PortsPlaced, st.PortsUnplaced
	})
	return placed, unplaced
}

func TestConnectUsesThePortsOfThePlacement(t *testing.T) {
	for _, v := range []struct{ local, one, other string }{
		{"10.2.0.1", "10.2.0.2:8080", "10.2.0.2:8081"},
		{"fd00:2::1", "[fd00:2::2]:8080", "[fd00:2::2]:8081"},
	} {
		p := &portList{ports: []uint16{20007, 20003}}
		l := start(t, func(c *stack.Config) { c.Links[1].Placement = p }, serveCalls)
		echoBackend(t, l.Backend, v.one)
		_, ports := l.connect(v.one, v.one)
		if ports[0] != 20007 || ports[1] != 20003 {
			t.Errorf("connected from %v", ports)
		}
		if p.local != netip.MustParseAddr(v.local) || p.asked[0] != netip.MustParseAddrPort(v.one) {
			t.Errorf("asked for a port from %v to %v", p.local, p.asked)
		}
		// The same ports serve another backend.
		if _, ports = l.connect(v.other, v.other); ports[0] != 20007 || ports[1] != 20003 {
			t.Errorf("connected to another backend from %v", ports)
		}
		// All are in use: any other will do, within the range.
		asked := len(p.asked)
		_, ports = l.connect(v.one)
		if ports[0] == 20007 || ports[0] == 20003 || ports[0] < 20000 || ports[0] > 29999 {
			t.Errorf("connected from %v though the placement's ports are in use", ports)
		}
		if n := len(p.asked) - asked; n != 16 {
			t.Errorf("asked for a port %d times", n)
		}
		if placed, unplaced := l.placed(); placed != 4 || unplaced != 1 {
			t.Errorf("%d placed, %d not", placed, unplaced)
		}
		body := payload(50_000)
		p.ports = []uint16{20009}
		c := l.call(v.one, body)
		l.eventually("the echo ends", func() bool { return c.err != nil })
		if c.err != io.EOF || string(c.got) != string(body) || c.conn.LocalAddr().Port() != 20009 {
			t.Errorf("got %d bytes, %v, on %s", len(c.got), c.err, c.conn.LocalAddr())
		}
	}
}

func TestPlacementFallsBack(t *testing.T) {
	none := &portList{}
	l := start(t, func(c *stack.Config) {
		c.FirstPort, c.LastPort = 20000, 20001
		c.Links[1].Placement = none
	}, collect)
	echoBackend(t, l.Backend, "10.2.0.2:8080")
	_, ports := l.connect("10.2.0.2:8080")
	if placed, unplaced := l.placed(); placed != 0 || unplaced != 1 || len(none.asked) != 1 {
		t.Errorf("%d placed, %d not, asked %d times", placed, unplaced, len(none.asked))
	}
	// Replaced at run time, by one that names what the fallback took.
	l.do(func() { l.Stack.SetPlacement(2, &portList{ports: ports}) })
	_, more := l.connect("10.2.0.2:8080")
	if more[0] == ports[0] {
		t.Errorf("port %d is used twice", more[0])
	}
	l.do(func() {
		if _, err := l.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:8080")); !errors.Is(err, stack.ErrNoPort) {
			t.Errorf("a third connection from two ports: %v", err)
		}
		l.Stack.SetPlacement(2, nil)
		l.Stack.SetPlacement(7, none) // no such link
	})
	if _, ports = l.connect("10.2.0.2:8081"); len(ports) != 1 {
		t.Error("cannot connect without a placement")
	}
	if placed, unplaced := l.placed(); placed != 0 || unplaced != 2 {
		t.Errorf("%d placed, %d not", placed, unplaced)
	}
	l.do(func() {
		l.Stack.SetPlacement(2, none)
		if _, err := l.Stack.Connect(netip.MustParseAddrPort("192.0.2.1:80")); !errors.Is(err, stack.ErrNoRoute) {
			t.Errorf("connect without a route: %v", err)
		}
	})
}

func TestPlacementAvoidsPortsInTimeWait(t *testing.T) {
	p := &portList{ports: []uint16{20001}}
	l := start(t, func(c *stack.Config) { c.Links[1].Placement = p }, serveCalls)
	echoBackend(t, l.Backend, "10.2.0.2:8080")
	c := l.call("10.2.0.2:8080", []byte("x")) // closes its side first
	l.eventually("the echo ends", func() bool { return c.err != nil })
	l.do(func() { c.conn.Close() })
	l.eventually("it waits, netstack has forgotten it", func() bool {
		return l.Stack.LinkStats(2).TimeWait == 1 && l.Stack.TCPStats().Endpoints == 0
	})
	p.ports, p.asked = []uint16{20001, 20002}, nil
	if _, ports := l.connect("10.2.0.2:8080"); ports[0] != 20002 {
		t.Errorf("connected from %v", ports)
	}
	if _, ports := l.connect("10.2.0.2:8081"); ports[0] != 20001 {
		t.Errorf("connected to another backend from %v", ports)
	}
}
