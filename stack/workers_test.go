package stack_test

import (
	"io"
	"net/netip"
	"testing"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// workers are the loops of several stacks of one host.
type workers []*loop

// startWorkers drives n stacks, each by a loop of its own. They listen on port
// 80 of all addresses.
func startWorkers(t *testing.T, n int, backlog int, ready func(*loop, stack.Event)) workers {
	t.Helper()
	return startWorkersAs(t, n, backlog, nil, ready)
}

// startWorkersAs is startWorkers with a change to each worker's configuration.
func startWorkersAs(t *testing.T, n int, backlog int, configure func(int, *stack.Config), ready func(*loop, stack.Event)) workers {
	t.Helper()
	network := stacktest.NewWorkers(t, n, configure)
	var ws workers
	for _, s := range network.Stacks {
		own := *network
		own.Stack = s
		ws = append(ws, drive(t, &own, ready))
	}
	for _, w := range ws {
		w.do(func() {
			for _, a := range []string{"0.0.0.0:80", "[::]:80"} {
				ln, err := w.Stack.Listen(netip.MustParseAddrPort(a), backlog)
				if err != nil {
					t.Error(err)
					return
				}
				w.Stack.Poller().AddListener(ln, ln)
			}
		})
	}
	return ws
}

// tcp returns the sum of all workers' counters, which are read on their loops.
func (ws workers) tcp() (sum stack.TCPStats) {
	for _, w := range ws {
		w.do(func() {
			t := w.Stack.TCPStats()
			sum.Endpoints += t.Endpoints
			sum.SynCookiesReceived += t.SynCookiesReceived
		})
	}
	return sum
}

// handover is a worker's counters.
func (l *loop) handover() (st stack.HandoverStats) {
	l.do(func() { st = l.Stack.HandoverStats() })
	return st
}

func (l *loop) passiveOpens() (n uint64) {
	l.do(func() { n = l.Stack.TCPStats().PassiveOpens })
	return n
}

// handedFrames are the frames handed over by all workers.
func (ws workers) handedFrames() (n uint64) {
	for _, w := range ws {
		st := w.handover()
		n += st.Owner + st.Walk + st.ICMP
	}
	return n
}

var bothVersions = []string{"10.1.0.1:80", "[fd00:1::1]:80"}

// caller sends a body to a backend that echoes, and collects the echo.
type caller struct {
	conn *stack.Conn
	rest []byte
	got  []byte
	err  error
}

func (c *caller) run() {
	for c.err == nil && len(c.rest) > 0 {
		var n int
		n, c.err = c.conn.Write(c.rest)
		c.rest = c.rest[n:]
		if len(c.rest) == 0 {
			c.conn.CloseWrite()
		}
	}
	if c.err == stack.ErrWouldBlock {
		c.err = nil
	}
	p := make([]byte, 64<<10)
	for c.err == nil {
		var n int
		n, c.err = c.conn.Read(p)
		c.got = append(c.got, p[:n]...)
	}
	if c.err == stack.ErrWouldBlock {
		c.err = nil
	}
}

func serveCalls(l *loop, e stack.Event) {
	if c, ok := e.Data.(*caller); ok {
		if e.Events&(stack.Error|stack.Hangup) != 0 && c.conn.Err() != nil {
			c.err = c.conn.Err()
			return
		}
		c.run()
		return
	}
	serveEcho(l, e)
}

// echoBackend echoes on a port of the backend until the test ends.
func echoBackend(t *testing.T, h *stacktest.Host, addr string) {
	t.Helper()
	ln, err := h.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c) //nolint:errcheck // the caller tells
				c.Close()
			}()
		}
	}()
}

// call begins a connection to addr that sends body.
func (l *loop) call(addr string, body []byte) *caller {
	l.t.Helper()
	c := &caller{rest: body}
	l.do(func() {
		var err error
		if c.conn, err = l.Stack.Connect(netip.MustParseAddrPort(addr)); err != nil {
			l.t.Error(err)
			return
		}
		l.Stack.Poller().AddConn(c.conn, stack.Readable|stack.Writable, c)
	})
	if c.conn == nil {
		l.t.FailNow()
	}
	return c
}
