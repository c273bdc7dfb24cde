package stack_test

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"ringroad/stack"
)

// TestRefuseLetsHandshakesEnd: a SYN that was answered leads to a connection, the
// next one to a reset, until SYNs are taken again.
func TestRefuseLetsHandshakesEnd(t *testing.T) {
	for _, addr := range []string{"10.1.0.1:80", "[fd00:1::1]:80"} {
		t.Run(addr, func(t *testing.T) {
			l := start(t, nil, serveEcho)
			var ln *stack.Listener
			l.do(func() {
				var err error
				if ln, err = l.Stack.Listen(netip.MustParseAddrPort(addr), 128); err != nil {
					t.Fatal(err)
				}
				l.Stack.Poller().AddListener(ln, ln)
			})
			// The client's ACK, and what it sends next, are lost at first.
			ip := 40
			if ln.Addr().Addr().Is4() {
				ip = 20
			}
			const syn = 2
			var through atomic.Bool
			l.LoseFromClient(func(frame []byte) bool { return through.Load() || frame[14+ip+13]&syn != 0 })
			c, err := l.Client.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			l.do(func() { ln.Refuse(true) })
			if _, err := l.Client.Dial(addr); err == nil {
				t.Fatal("a SYN was taken")
			}
			through.Store(true)
			roundTrip(t, c, payload(10_000))
			l.do(func() { ln.Refuse(false) })
			c, err = l.Client.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			roundTrip(t, c, payload(10))
			l.do(func() {
				ln.Refuse(true)
				ln.Close()
			})
			if _, err := l.Client.Dial(addr); err == nil {
				t.Fatal("a closed listener took a SYN")
			}
		})
	}
}

func TestBacklogCanChange(t *testing.T) {
	l := start(t, nil, func(*loop, stack.Event) {}) // nobody accepts
	var ln *stack.Listener
	l.do(func() {
		var err error
		if ln, err = l.Stack.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 2); err != nil {
			t.Fatal(err)
		}
	})
	dial := func(n int) {
		for range n {
			c, err := l.Client.Dial("10.1.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}
	}
	dial(2)
	l.do(func() {
		if err := ln.SetBacklog(8); err != nil {
			t.Error(err)
		}
	})
	dial(5) // only the larger queue has room for them
	accepted := 0
	l.eventually("all are in the queue", func() bool {
		if c, err := ln.Accept(); err == nil {
			accepted++
			c.Close()
		}
		return accepted == 7
	})
	l.do(func() {
		if err := ln.SetBacklog(2); err != nil {
			t.Error(err)
		}
	})
}
