package stack_test

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/stack"
)

// A SYN that had to be sent again is no measure of the round trip.
func TestLostSYNDoesNotCountAsRoundTrip(t *testing.T) {
	const synFlag, tcpFlags = 2, 14 + 20 + 13
	loseFirst := func() func([]byte) bool {
		var seen atomic.Bool
		return func(frame []byte) bool { return frame[tcpFlags]&synFlag == 0 || seen.Swap(true) }
	}
	onlyFirst := func() func([]byte) bool {
		var seen atomic.Bool
		return func(frame []byte) bool { return frame[tcpFlags]&synFlag == 0 || !seen.Swap(true) }
	}
	for _, active := range []bool{false, true} {
		conns := make(chan *stack.Conn, 1)
		var established atomic.Bool
		l := start(t, nil, func(l *loop, e stack.Event) {
			if ln, ok := e.Data.(*stack.Listener); ok {
				if c, err := ln.Accept(); err == nil {
					conns <- c
				}
			} else if e.Events&stack.Writable != 0 {
				established.Store(true)
			}
		})
		var c *stack.Conn
		if active {
			ln, err := l.Backend.Listen("10.2.0.2:8080")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
			l.LoseToBackend(loseFirst())
			l.do(func() {
				if c, err = l.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:8080")); err != nil {
					t.Error(err)
					return
				}
				l.Stack.Poller().AddConn(c, stack.Writable, c)
			})
			l.eventually("established", established.Load)
		} else {
			l.listen("10.1.0.1:80")
			l.LoseToClient(loseFirst())
			l.LoseFromClient(onlyFirst()) // another SYN would be answered with a fresh timestamp
			client, err := l.Client.Dial("10.1.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { client.Close() })
			c = <-conns
		}
		before := time.Now()
		l.do(func() {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Error(err)
			}
		})
		var rtt time.Duration
		l.eventually("measured", func() bool { rtt = c.RoundTrip(); return rtt != 0 })
		// netstack measures in milliseconds, of which it takes at least one.
		if took := time.Since(before); rtt > took+2*time.Millisecond {
			t.Errorf("active %v: the round trip is said to be %v, but all took %v", active, rtt, took)
		}
	}
}
