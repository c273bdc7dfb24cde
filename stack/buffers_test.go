package stack_test

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"ringroad/stack"
)

// TestLevelsOfListenersQueues follows connections through the SYN queue and the accept
// queue.
func TestLevelsOfListenersQueues(t *testing.T) {
	l := start(t, nil, func(*loop, stack.Event) {}) // nobody accepts
	var ln *stack.Listener
	l.do(func() {
		var err error
		if ln, err = l.Stack.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 8); err != nil {
			t.Fatal(err)
		}
	})
	queues := func() stack.QueueStats {
		t.Helper()
		n, q := l.Stack.TCPStats().Endpoints, l.Stack.QueueStats()
		if endpoints, handshakes := l.Stack.Walk(); n != endpoints || q.SynQueue != handshakes {
			t.Errorf("counted %d endpoints and %d handshakes, there are %d and %d", n, q.SynQueue, endpoints, handshakes)
		}
		return q
	}
	const syn = 2
	var through atomic.Bool
	l.LoseFromClient(func(frame []byte) bool { return through.Load() || frame[14+20+13]&syn != 0 })
	for range 3 {
		c, err := l.Client.Dial("10.1.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	l.do(func() {
		if q := queues(); q.SynQueue != 3 || q.AcceptQueue != 0 || q.Capacity != 8 {
			t.Errorf("without the client's ACKs: %+v", q)
		}
	})
	l.do(func() {
		if n := testing.AllocsPerRun(100, func() { l.Stack.TCPStats() }); n != 0 {
			t.Errorf("counting allocates %v times: it looks at each endpoint", n)
		}
	})
	through.Store(true)
	l.eventually("the SYN-ACKs are sent again and answered", func() bool {
		q := queues()
		return q.SynQueue == 0 && q.AcceptQueue == 3
	})
	l.do(func() {
		if _, err := ln.Accept(); err != nil {
			t.Error(err)
		}
		if q := queues(); q.AcceptQueue != 2 || q.AcceptQueueHighWater != 3 || q.SynQueueHighWater != 3 {
			t.Errorf("one accepted: %+v", q)
		}
		ln.Close()
		if q := queues(); q.AcceptQueue != 0 || q.Capacity != 0 {
			t.Errorf("closed: %+v", q)
		}
	})
}

// TestBufferedBytesOfAConnection: what the peer does not read fills our send buffer,
// what we do not read our receive buffer, until the window closes.
func TestBufferedBytesOfAConnection(t *testing.T) {
	conns := make(chan *stack.Conn, 1)
	l := start(t, nil, func(l *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			if c, err := ln.Accept(); err == nil {
				conns <- c
			}
		}
	})
	l.listen("10.1.0.1:80")
	client, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := <-conns
	l.do(func() {
		if b := c.Buffered(); b.Sent != 0 || b.Received != 0 || b.SendRoom == 0 || b.ReceiveRoom == 0 {
			t.Errorf("idle: %+v", b)
		}
	})
	written := 0
	l.eventually("the send buffer is full, and stays so", func() bool {
		before := written
		for range 64 {
			n, err := c.Write(payload(16 << 10))
			written += n
			if err != nil {
				return written == before && c.Info().PeerWindow == 0
			}
		}
		return false
	})
	l.do(func() {
		if b := c.Buffered(); b.Sent == 0 || b.Sent > written {
			t.Errorf("%d bytes written: %+v", written, b)
		}
		if i := c.Info(); i.BytesWritten != uint64(written) || i.Local != netip.MustParseAddrPort("10.1.0.1:80") ||
			i.Remote != c.RemoteAddr() || i.State != "ESTABLISHED" || i.RTT == 0 || i.RTO < i.RTT || i.CongestionWindow == 0 {
			t.Errorf("of the stuck connection: %+v", i)
		}
		if n := testing.AllocsPerRun(100, func() { c.Info() }); n != 0 {
			t.Errorf("looking at it allocates %v times", n)
		}
	})
	got := 0
	for b := make([]byte, 64<<10); got < written; {
		n, err := client.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	l.eventually("all is acknowledged", func() bool { return c.Buffered().Sent == 0 })

	sent := make(chan struct{})
	go func() {
		defer close(sent)
		client.Write(payload(8 << 20)) //nolint:errcheck // cut off in the end
	}()
	var full uint64
	l.do(func() { c.CountZeroWindows(&full) })
	l.eventually("the receive buffer is full", func() bool {
		b := c.Buffered()
		return full > 0 && b.Received > b.ReceiveRoom*3/4
	})
	l.do(c.Abort)
	<-sent
}
