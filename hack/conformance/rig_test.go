package conformance

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/proxy"
	"ringroad/proxy/config"
	"ringroad/stack/stacktest"
)

const (
	front    = "10.1.0.1:80"
	origin   = "10.2.0.2:8080"
	patience = time.Minute // longer than anything may take, also under -race
)

// rig is a worker between a client host and a backend host, in memory.
type rig struct {
	*stacktest.Network
	t      testing.TB
	worker *proxy.Worker
	log    *lockedBuffer
	done   chan struct{} // closed when the worker has ended
	post   func()        // lets the loop turn once more, then sends the counters to reply
	reply  chan proxy.Stats
}

// newRig starts a worker for one upstream with the server origin. change, if not
// nil, may change its configuration. At the end of the test the worker is
// stopped, and must hold nothing any more.
func newRig(t testing.TB, change func(*config.Config)) *rig {
	t.Helper()
	return newRigOn(t, stacktest.New(t, nil), change)
}

// newRigOn is newRig on a network made before.
func newRigOn(t testing.TB, n *stacktest.Network, change func(*config.Config)) *rig {
	t.Helper()
	c := config.Default()
	c.Interfaces = []string{"test0"}
	c.Upstreams = []config.Upstream{{
		Name: "app", Balance: config.RoundRobin, KeepAlive: 256, KeepAliveTimeout: time.Minute,
		Servers: []netip.AddrPort{netip.MustParseAddrPort(origin)},
	}}
	c.Listeners = []config.Listener{{
		Address: netip.MustParseAddrPort("0.0.0.0:80"), Backlog: 4096, Routes: []config.Route{{Upstream: "app"}},
	}}
	if change != nil {
		change(c)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r := &rig{Network: n, t: t, log: new(lockedBuffer), done: make(chan struct{}), reply: make(chan proxy.Stats, 1)}
	w, err := proxy.New(proxy.Options{
		Config: c, Stack: r.Stack,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.worker = w
	look := func() { r.reply <- *w.Stats() }
	r.post = func() { w.Post(look) }
	go func() {
		defer close(r.done)
		w.Run()
	}()
	t.Cleanup(func() {
		w.Stop()
		<-r.done
		if t.Failed() {
			t.Logf("log of the worker:\n%s", r.log.tail(4000))
		}
		s := w.Stats()
		if s.ClientsActive != 0 || s.BackendsActive != 0 || s.BackendsIdle != 0 || s.ExchangesActive != 0 || s.BuffersInUse != 0 {
			t.Errorf("after the end: %d clients, %d backends (%d idle), %d exchanges, %d buffers",
				s.ClientsActive, s.BackendsActive, s.BackendsIdle, s.ExchangesActive, s.BuffersInUse)
		}
		if client, backend, all := r.FreeFrames(); client != all || backend != all {
			t.Errorf("after the end: %d and %d of %d frames are free", client, backend, all)
		}
	})
	return r
}

// stats returns the counters of this moment. A loop that does not turn any more is
// left to the time limit of the test, which shows where it is.
func (r *rig) stats() proxy.Stats {
	r.worker.Post(r.post)
	select {
	case s := <-r.reply:
		return s
	case <-r.done:
		return *r.worker.Stats()
	}
}

// await waits until the counters meet a condition.
func (r *rig) await(what string, ok func(*proxy.Stats) bool) proxy.Stats {
	r.t.Helper()
	for end := time.Now().Add(patience); ; {
		s := r.stats()
		if ok(&s) {
			return s
		}
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain until %s: %+v", what, s)
		}
		runtime.Gosched()
	}
}

// idle waits until no exchange and no more than the given number of clients are
// left, and checks that nothing is held for them.
func (r *rig) idle(clients uint64) proxy.Stats {
	r.t.Helper()
	s := r.await("the exchanges are over", func(s *proxy.Stats) bool { return s.ClientsActive == clients && s.ExchangesActive == 0 })
	if s.BuffersInUse != 0 || s.BackendsActive != s.BackendsIdle {
		r.t.Errorf("at rest: %d buffers, %d backend connections of which %d are idle", s.BuffersInUse, s.BackendsActive, s.BackendsIdle)
	}
	return s
}

// client is a connection of the client host with everything that came on it. Reading
// goes on by itself.
type client struct {
	conn  net.Conn
	sent  uint64        // bytes that Write took
	got   atomic.Uint64 // bytes that came
	ended chan struct{} // closed when nothing more comes

	mu     sync.Mutex
	bytes  []byte
	parsed []*message // of them
	at     int        // bytes behind those of parsed
	err    error      // why nothing more comes: nil for FIN
	t      testing.TB
}

func (r *rig) dial() *client {
	r.t.Helper()
	conn, err := r.Client.Dial(front)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &client{conn: conn, ended: make(chan struct{}), t: r.t}
	go func() {
		defer close(c.ended)
		p := make([]byte, 32<<10)
		for {
			n, err := conn.Read(p)
			c.mu.Lock()
			c.bytes = append(c.bytes, p[:n]...)
			if err != nil && err != io.EOF {
				c.err = err
			}
			c.mu.Unlock()
			c.got.Add(uint64(n))
			if err != nil {
				return
			}
		}
	}()
	r.t.Cleanup(c.close)
	return c
}

// send writes s. What becomes of it is seen in what comes back.
func (c *client) send(s string) {
	n, _ := c.conn.Write([]byte(s))
	c.sent += uint64(n)
}

// finish shuts down the sending side.
func (c *client) finish() {
	_ = c.conn.(interface{ CloseWrite() error }).CloseWrite() // fails when the worker has ended it
}

func (c *client) close() { c.conn.Close() }

// received is all that has come, and why nothing more comes.
func (c *client) received() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.bytes), c.err
}

func (c *client) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// waitEnd waits until the other side has ended the connection.
func (c *client) waitEnd() {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		b, _ := c.received()
		c.t.Fatalf("the connection does not end; so far came %q", tail(b, 1000))
	}
}

// answers reads the responses that came. rest is what is no complete response.
func (c *client) answers() (all []*message, rest []byte, err error) {
	eof := c.hasEnded()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.at < len(c.bytes) {
		m, err := parseResponse(c.bytes[c.at:], eof)
		if err != nil {
			return c.parsed, c.bytes[c.at:], err
		}
		c.parsed = append(c.parsed, m)
		c.at += m.size
	}
	return c.parsed, nil, nil
}

// final waits for n final responses and returns them.
func (c *client) final(n int) []*message {
	c.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Microsecond) { // between two looks
		ended := c.hasEnded()
		all, rest, err := c.answers()
		var final []*message
		for _, m := range all {
			if m.status >= 200 {
				final = append(final, m)
			}
		}
		if len(final) >= n {
			return final
		}
		if err != nil && err != errIncomplete || ended || time.Now().After(end) {
			_, why := c.received()
			c.t.Fatalf("want %d responses, got %d, then %q (%v; connection: ended %t, %v)", n, len(final), tail(rest, 1000), err, ended, why)
		}
	}
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) tail(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(tail(b.b.Bytes(), n))
}
