package stack_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/stack"
)

// A server that answers and closes in one turn needs one frame for both.
func TestFINLeavesWithTheLastData(t *testing.T) {
	for _, size := range []int{1, 100, 1448, 20_000} {
		body := payload(size)
		l := start(t, nil, func(l *loop, e stack.Event) {
			switch d := e.Data.(type) {
			case *stack.Listener:
				if c, err := d.Accept(); err == nil {
					l.Stack.Poller().AddConn(c, stack.Readable, c)
				}
			case *stack.Conn:
				d.Read(make([]byte, 64)) //nolint:errcheck // a request
				d.Write(body)            //nolint:errcheck // the client tells
				d.Close()
			}
		})
		l.listen("10.1.0.1:80", "[fd00:1::1]:80")
		for _, addr := range []string{"10.1.0.1:80", "[fd00:1::1]:80"} {
			c, err := l.Client.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // shows in Read
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%s: got %d of %d bytes, %v", addr, len(got), size, err)
			}
			c.Close()
		}
		// 20,000 bytes are more than the initial window of ten segments: their
		// FIN cannot come with the first turn's data.
		l.do(func() {
			if n := l.Stack.LinkStats(1).FinsMerged; size < 14_000 && n != 2 {
				t.Errorf("%d bytes: %d FINs merged, want 2", size, n)
			}
		})
	}
}

func TestFlowsAndConnectionsAreForgotten(t *testing.T) {
	l := start(t, func(c *stack.Config) { c.TCP.TimeWait = 10 * time.Millisecond }, serveEcho)
	l.listen("10.1.0.1:80")
	var base uint64
	l.do(func() { base = l.Stack.TCPStats().Endpoints })
	for range 50 {
		c, err := l.Client.Dial("10.1.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, []byte("x"))
		c.Close()
	}
	l.eventually("no endpoint is left but the listener", func() bool {
		n, _ := l.Stack.Walk()
		return n == base && l.Stack.TCPStats().Endpoints == base
	})
}

// hangUp is a server that closes as soon as it reads something, first.
func hangUp(l *loop, e stack.Event) {
	switch d := e.Data.(type) {
	case *stack.Listener:
		for {
			c, err := d.Accept()
			if err != nil {
				return
			}
			l.Stack.Poller().AddConn(c, stack.Readable, c)
		}
	case *stack.Conn:
		d.Read(make([]byte, 64)) //nolint:errcheck // a request
		d.Write([]byte("bye"))   //nolint:errcheck // the client tells
		d.Close()
	}
}

// TestClosedConnectionDoesNotWaitForEver: a peer that acknowledges and never opens its window
// again cannot keep what was written to it.
func TestClosedConnectionDoesNotWaitForEver(t *testing.T) {
	var server *stack.Conn
	refused := 0
	l := start(t, func(c *stack.Config) { c.TCP.FinWait2 = 500 * time.Millisecond }, func(l *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			server, _ = ln.Accept()
			l.Stack.Poller().AddConn(server, stack.Writable, server)
		}
	})
	l.listen("0.0.0.0:80")
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The client takes what its receive buffer holds, and no more.
	l.eventually("both buffers are full", func() bool {
		if server == nil {
			return false
		}
		n, _ := server.Write(make([]byte, 1<<20))
		if refused++; n > 0 {
			refused = 0
		}
		return refused == 20
	})
	l.do(func() { server.Close() })
	l.eventually("the connection is gone", func() bool { return l.Stack.TCPStats().Endpoints == 1 }) // the listener
}

func TestTimeWaitAnswersALateFINAndLetsTheTupleBeUsedAgain(t *testing.T) {
	for _, addr := range []string{"10.1.0.1:80", "[fd00:1::1]:80"} {
		l := start(t, nil, hangUp)
		l.listen("0.0.0.0:80", "[::]:80")
		ip := 14 + 20
		if addr[0] == '[' {
			ip = 14 + 40
		}
		// The ACK of the client's FIN is lost, so that the FIN comes again.
		var finSeen, dropped, resets atomic.Int32
		l.LoseFromClient(func(f []byte) bool {
			if len(f) > ip+13 && f[ip+13]&1 != 0 {
				finSeen.Add(1)
			}
			return true
		})
		l.LoseToClient(func(f []byte) bool {
			if len(f) > ip+13 && f[ip+13]&4 != 0 {
				resets.Add(1)
			}
			return finSeen.Load() == 0 || len(f) <= ip+13 || f[ip+13] != 0x10 || !dropped.CompareAndSwap(0, 1)
		})
		say := func() {
			c, err := l.Client.DialFrom(40000, addr)
			if err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // shows in Read
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
				t.Fatalf("%s: read %q, %v", addr, got, err)
			}
			c.Close()
		}
		say()
		l.eventually("the FIN came again and was answered", func() bool {
			return finSeen.Load() >= 2 && l.Stack.LinkStats(1).TimeWaitSegments >= 1
		})
		l.do(func() {
			if st := l.Stack.LinkStats(1); st.TimeWait != 1 || l.Stack.TCPStats().Endpoints > 2 {
				t.Errorf("%d connections wait, %d endpoints are left of two listeners", st.TimeWait, l.Stack.TCPStats().Endpoints)
			}
		})
		l.eventually("the client is done", func() bool { return l.Client.Connections() == 0 })
		say() // the same tuple
		if n := resets.Load(); n != 0 {
			t.Errorf("%s: %d resets were sent", addr, n)
		}
	}
}

func TestAbortAndUnreadDataReset(t *testing.T) {
	for _, how := range []string{"abort", "close with unread data"} {
		t.Run(how, func(t *testing.T) {
			got := make(chan *stack.Conn, 1)
			l := start(t, nil, func(l *loop, e stack.Event) {
				switch d := e.Data.(type) {
				case *stack.Listener:
					if c, err := d.Accept(); err == nil {
						l.Stack.Poller().AddConn(c, stack.Readable, c)
					}
				case *stack.Conn:
					select {
					case got <- d:
					default:
					}
				}
			})
			l.listen("10.1.0.1:80")
			c, err := l.Client.Dial("10.1.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("data")) //nolint:errcheck // the event tells
			conn := <-got
			l.do(func() {
				if how == "abort" {
					conn.Abort()
				} else {
					conn.Close()
				}
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, stack.ErrClosed) {
					t.Errorf("read of a closed connection: %v", err)
				}
			})
			c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // shows in Read
			if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF || errors.Is(err, net.ErrClosed) {
				t.Errorf("the peer read %v, want a reset", err)
			}
		})
	}
}
