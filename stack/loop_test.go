package stack_test

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// loop drives a stack as a worker does, on a goroutine of its own.
type loop struct {
	*stacktest.Network
	t     *testing.T
	calls chan func()
	stop  atomic.Bool
	done  sync.WaitGroup
	every func() // runs each turn
	ready func(stack.Event)
	log   []stack.Event // every event, in order
}

func start(t *testing.T, configure func(*stack.Config), ready func(*loop, stack.Event)) *loop {
	return drive(t, stacktest.New(t, configure), ready)
}

// drive starts the loop of the network's Stack.
func drive(t *testing.T, n *stacktest.Network, ready func(*loop, stack.Event)) *loop {
	l := &loop{Network: n, t: t, calls: make(chan func(), 64), every: func() {}}
	l.ready = func(e stack.Event) { ready(l, e) }
	l.done.Add(1)
	go l.run()
	t.Cleanup(func() {
		l.stop.Store(true)
		l.Stack.Wake()
		l.done.Wait()
	})
	return l
}

func (l *loop) run() {
	defer l.done.Done()
	events := make([]stack.Event, 16)
	for !l.stop.Load() {
		_, work := l.Stack.Turn()
		for {
			n := l.Stack.Poller().Wait(events)
			if n == 0 {
				break
			}
			work += n
			for _, e := range events[:n] {
				l.log = append(l.log, e)
				l.ready(e)
			}
		}
		select {
		case f := <-l.calls:
			f()
			work++
		default:
		}
		l.every()
		l.Stack.Flush()
		if work == 0 {
			l.Stack.Sleep(-1)
		}
	}
}

// do runs f on the loop and waits for it.
func (l *loop) do(f func()) {
	l.t.Helper()
	ended := make(chan struct{})
	l.calls <- func() { f(); close(ended) }
	l.Stack.Wake()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		l.t.Fatal("the loop does not run")
	}
}

// setClock stops the time of the stack. What it returns has some of it pass.
func (l *loop) setClock() (pass func(time.Duration)) {
	l.t.Helper()
	var now atomic.Int64
	l.do(func() {
		now.Store(int64(l.Stack.Now() + time.Second))
		l.Stack.SetClock(func() time.Duration { return time.Duration(now.Load()) })
	})
	return func(d time.Duration) {
		now.Add(int64(d))
		l.do(func() {}) // a turn
	}
}

// eventually waits until cond, evaluated on the loop, holds.
func (l *loop) eventually(what string, cond func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var ok bool
		l.do(func() { ok = cond() })
		if ok {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// echo is a server that writes back what it reads.
type echo struct {
	conn *stack.Conn
	out  []byte
	eof  bool
}

func (s *echo) run() {
	for {
		for len(s.out) > 0 {
			n, err := s.conn.Write(s.out)
			s.out = s.out[n:]
			if err != nil {
				return
			}
		}
		if s.eof {
			s.conn.Close()
			return
		}
		p := make([]byte, 16<<10) // more than a jumbo frame holds
		n, err := s.conn.Read(p)
		s.out = p[:n]
		switch {
		case err == io.EOF:
			s.eof = true
		case err != nil && n == 0:
			return
		}
	}
}

// serveEcho accepts on the listener and echoes.
func serveEcho(l *loop, e stack.Event) {
	switch d := e.Data.(type) {
	case *stack.Listener:
		for {
			c, err := d.Accept()
			if err != nil {
				return
			}
			s := &echo{conn: c}
			l.Stack.Poller().AddConn(c, stack.Readable|stack.Writable, s)
		}
	case *echo:
		d.run()
	}
}

func (l *loop) listen(addrs ...string) {
	l.t.Helper()
	l.do(func() {
		for _, a := range addrs {
			ln, err := l.Stack.Listen(netip.MustParseAddrPort(a), 128)
			if err != nil {
				l.t.Error(err)
				return
			}
			l.Stack.Poller().AddListener(ln, ln)
		}
	})
}

func payload(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b) //nolint:errcheck // never fails
	return b
}

// roundTrip sends body, half-closes and compares what comes back.
func roundTrip(t *testing.T, c net.Conn, body []byte) {
	t.Helper()
	c.SetDeadline(time.Now().Add(60 * time.Second)) //nolint:errcheck // shows in Read
	go func() {
		if _, err := c.Write(body); err != nil {
			t.Error("write:", err)
		}
		c.(interface{ CloseWrite() error }).CloseWrite() //nolint:errcheck // shows in Read
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal("read:", err)
	}
	if sha256.Sum256(got) != sha256.Sum256(body) {
		t.Fatalf("echo of %d bytes differs: got %d bytes", len(body), len(got))
	}
}
