package stack_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"ringroad/stack"
)

// own4 and own6 are what the client's side of the stack has from the start.
var own4, own6 = netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("fd00:1::1/64")

func (l *loop) setAddresses(index int, addresses ...netip.Prefix) {
	l.t.Helper()
	l.do(func() {
		if err := l.Stack.SetAddresses(index, addresses); err != nil {
			l.t.Error(err)
		}
	})
}

// unanswered asserts that a SYN to the address is not answered.
func (l *loop) unanswered(address string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if c, err := l.Client.DialContext(ctx, "tcp", address); err == nil {
		c.Close()
		l.t.Errorf("connected to %s, which is not the stack's", address)
	}
}

func TestAddressesComeAndGo(t *testing.T) {
	for _, tc := range []struct {
		own    netip.Prefix
		listen string
		more   netip.Prefix
	}{
		{own4, "0.0.0.0:80", netip.MustParsePrefix("10.1.0.9/32")},
		{own6, "[::]:80", netip.MustParsePrefix("fd00:1::9/128")},
	} {
		t.Run(tc.listen, func(t *testing.T) {
			l := start(t, nil, serveEcho)
			l.listen(tc.listen)
			first := netip.AddrPortFrom(tc.own.Addr(), 80).String()
			second := netip.AddrPortFrom(tc.more.Addr(), 80).String()
			l.unanswered(second)
			l.setAddresses(1, own4, own6, tc.more)
			c, err := l.Client.Dial(second)
			if err != nil {
				t.Fatal("the new address does not serve:", err)
			}
			exchange := func() {
				t.Helper()
				c.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // shows in Read
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if n, err := c.Read(make([]byte, 1)); n != 1 {
					t.Fatal(err)
				}
			}
			exchange()
			l.setAddresses(1, own4, own6)
			l.unanswered(second)
			d, err := l.Client.Dial(first)
			if err != nil {
				t.Fatal("the other address serves no more:", err)
			}
			roundTrip(t, d, payload(10_000))
			// It comes back: so does the connection, and the address serves again.
			l.setAddresses(1, own4, own6, tc.more)
			exchange()
			roundTrip(t, c, payload(10_000))
			if d, err = l.Client.Dial(second); err != nil {
				t.Fatal("the address does not serve again:", err)
			}
			roundTrip(t, d, payload(10_000))
		})
	}
}

func TestConnectFromAnAddressThatCame(t *testing.T) {
	l := start(t, nil, collect)
	ln, err := l.Backend.Listen("10.2.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	next := netip.MustParsePrefix("10.2.0.7/24")
	l.setAddresses(2, next, netip.MustParsePrefix("fd00:2::1/64"), next, netip.MustParsePrefix("fe80::1/64"))
	d := &dialer{}
	l.do(func() {
		if d.conn, err = l.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:8080")); err == nil {
			l.Stack.Poller().AddConn(d.conn, stack.Writable, d)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	l.eventually("established", func() bool { return d.events&stack.Writable != 0 && d.conn.Established() })
	if a := d.conn.LocalAddr().Addr(); a != next.Addr() {
		t.Errorf("connected from %v, want %v", a, next.Addr())
	}
	l.do(func() {
		if err := l.Stack.SetAddresses(7, nil); err == nil {
			t.Error("a link that does not exist took addresses")
		}
	})
}
