package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// rig is a worker between a client host and a backend host, all in memory:
//
//	client 10.1.0.2 ── 10.1.0.1:80 worker 10.2.0.1 ── 10.2.0.2:8080, 8081, ... backends
type rig struct {
	*stacktest.Network
	t      testing.TB
	worker *Worker
	access *lockedBuffer // the access log
	log    *lockedBuffer
	stop   func() // stops the worker and waits for it; may be called again
	done   chan struct{}
}

const (
	front    = "10.1.0.1:80"
	patience = time.Minute // longer than anything may take, also under -race
)

// newRig starts a worker. Its configuration has one upstream with one server,
// 10.2.0.2:8080; change, if not nil, may change it.
func newRig(t testing.TB, change func(*config.Config)) *rig {
	t.Helper()
	return newRigOn(t, nil, change)
}

// newConfig makes the configuration of newRig.
func newConfig(change func(*config.Config)) *config.Config {
	c := config.Default()
	c.Interfaces = []string{"test0"}
	c.Limits.KeepAliveRequests = 0 // tests count connections
	c.Upstreams = []config.Upstream{{
		Name: "app", Balance: config.RoundRobin, KeepAlive: 256, KeepAliveTimeout: time.Minute,
		Servers: []netip.AddrPort{netip.MustParseAddrPort("10.2.0.2:8080")},
	}}
	for _, a := range []string{"0.0.0.0:80", "[::]:80"} {
		c.Listeners = append(c.Listeners, config.Listener{
			Address: netip.MustParseAddrPort(a), Backlog: 4096, Routes: []config.Route{{Upstream: "app"}},
		})
	}
	if change != nil {
		change(c)
	}
	return c
}

// newRigOn is newRig on a stack of which configure may change the configuration.
func newRigOn(t testing.TB, configure func(*stack.Config), change func(*config.Config)) *rig {
	t.Helper()
	c := newConfig(change)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r := &rig{Network: stacktest.New(t, configure), t: t, access: new(lockedBuffer), log: new(lockedBuffer), done: make(chan struct{})}
	w, err := New(Options{
		Config: c, Stack: r.Stack, AccessLog: r.access,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.worker = w
	go func() {
		defer close(r.done)
		w.Run()
	}()
	r.stop = func() {
		w.Stop()
		<-r.done
	}
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("log of the worker:\n%s", r.log.String())
		}
		r.checkRest()
	})
	return r
}

// checkRest finds what a stopped worker still holds.
func (r *rig) checkRest() {
	r.t.Helper()
	s := r.worker.stats
	if s.ClientsActive != 0 || s.BackendsActive != 0 || s.BackendsIdle != 0 || s.ExchangesActive != 0 || s.BuffersInUse != 0 || s.Retiring != 0 {
		r.t.Errorf("after the end: %d clients, %d backends (%d idle), %d exchanges, %d buffers, %d retiring",
			s.ClientsActive, s.BackendsActive, s.BackendsIdle, s.ExchangesActive, s.BuffersInUse, s.Retiring)
	}
	if d := r.worker.wheel.deadline(); d >= 0 {
		r.t.Error("after the end: a timer is left")
	}
}

// on runs f on the loop and waits for it.
func (r *rig) on(f func()) {
	done := make(chan struct{})
	r.worker.Post(func() { f(); close(done) })
	select {
	case <-done:
	case <-r.done:
		f()
	case <-time.After(patience):
		r.t.Fatal("the loop does not turn")
	}
}

// stats returns the counters of this moment.
func (r *rig) stats() (s Stats) {
	r.on(func() { s = *r.worker.stats })
	return s
}

// until waits for a condition that does not need the loop.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// await waits until the counters meet a condition.
func (r *rig) await(what string, ok func(*Stats) bool) Stats {
	r.t.Helper()
	for end := time.Now().Add(patience); ; {
		s := r.stats()
		if ok(&s) {
			return s
		}
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain until %s: %+v", what, s)
		}
		time.Sleep(time.Millisecond) // between two looks
	}
}

// elapse lets the time of a wait come that is on, of a client or of its backend, so that
// no test has to be quicker than a short timeout. limit, of hours, is what the wait must
// have been given.
func (r *rig) elapse(kind wait, limit time.Duration) {
	r.t.Helper()
	var left time.Duration
	r.until(fmt.Sprintf("there is a wait of kind %d", kind), func() (on bool) {
		r.on(func() {
			w := r.worker
			for s := w.sessions.next; s != &w.sessions; s = s.next {
				waits := []*timer{&s.reading, &s.writing}
				if s.x != nil && s.x.backend != nil {
					waits = append(waits, &s.x.backend.reading, &s.x.backend.writing)
				}
				for _, t := range waits {
					if t.armed(kind) {
						on, left = true, t.at-w.now
						w.wheel.arm(t, kind, w.now)
					}
				}
			}
		})
		return on
	})
	if left > limit || left < limit-patience {
		r.t.Errorf("%v are left of a timeout of %v", left, limit)
	}
}

// freeze stops the loop until thaw is called. Frames wait on the wires meanwhile, so
// that the first turn afterwards finds all of them.
func (r *rig) freeze() (thaw func()) { return r.freezeAfter(func() {}) }

// freezeAfter is freeze with f called on the loop right before.
func (r *rig) freezeAfter(f func()) (thaw func()) {
	frozen, hold := make(chan struct{}), make(chan struct{})
	r.worker.Post(func() { f(); close(frozen); <-hold })
	<-frozen
	thaw = sync.OnceFunc(func() { close(hold) })
	r.t.Cleanup(thaw) // before the rig's own, which waits for the loop
	return thaw
}

// FIN, and where a frame of TCP over IPv4 without options has its flags.
const (
	flagFIN = 1
	flagsAt = 14 + 20 + 13
)

// watch returns a filter for frames that loses nothing, keeps in n how many bytes
// of a connection's payload have been on the wire, however often, and in fins how
// many IPv4 packets with FIN.
func watch(n, fins *atomic.Int64) func([]byte) bool {
	const ip, tcp = 14, 14 + 20
	var first uint32
	known := false
	return func(frame []byte) bool {
		end := ip + int(binary.BigEndian.Uint16(frame[ip+2:]))
		payload := end - tcp - int(frame[tcp+12]>>4)*4
		if sequence := binary.BigEndian.Uint32(frame[tcp+4:]); payload > 0 {
			if !known {
				first, known = sequence, true
			}
			if sent := int64(sequence - first + uint32(payload)); sent > n.Load() {
				n.Store(sent)
			}
		}
		if frame[flagsAt]&flagFIN != 0 {
			fins.Add(1)
		}
		return true
	}
}

// serve runs a server of the standard library as the backend on port.
func (r *rig) serve(port int, h http.Handler) {
	r.t.Helper()
	l, err := r.Backend.Listen(fmt.Sprintf("10.2.0.2:%d", port))
	if err != nil {
		r.t.Fatal(err)
	}
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = s.Serve(l) }() // until Close
	r.t.Cleanup(func() { s.Close() })
}

// script runs f for every connection to the backend on port, numbered from 0. The
// connection is closed when f returns.
func (r *rig) script(port int, f func(n int, c net.Conn, in *bufio.Reader)) {
	r.t.Helper()
	l, err := r.Backend.Listen(fmt.Sprintf("10.2.0.2:%d", port))
	if err != nil {
		r.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			limit(c)
			running.Go(func() {
				defer c.Close()
				f(n, c, bufio.NewReader(c))
			})
		}
	})
	r.t.Cleanup(func() {
		l.Close()
		r.stop()
		running.Wait()
	})
}

// limit ends a connection that a failing test would hang on.
func limit(c net.Conn) { _ = c.SetDeadline(time.Now().Add(patience)) }

// client is a client of the standard library.
func (r *rig) client() *http.Client {
	tr := &http.Transport{DialContext: r.Client.DialContext, MaxIdleConnsPerHost: 256, DisableCompression: true, ExpectContinueTimeout: patience}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// raw is a client connection that speaks byte by byte.
type raw struct {
	net.Conn
	in *bufio.Reader
	t  testing.TB
}

func (r *rig) dial() *raw {
	r.t.Helper()
	return r.dialTo(front)
}

func (r *rig) dialTo(address string) *raw {
	r.t.Helper()
	c, err := r.Client.Dial(address)
	if err != nil {
		r.t.Fatal(err)
	}
	limit(c)
	r.t.Cleanup(func() { c.Close() })
	return &raw{c, bufio.NewReader(c), r.t}
}

func (c *raw) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// response reads one response to a request with the given method.
func (c *raw) response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read response body: %v", err)
	}
	return resp, string(b)
}

// expect reads a response and checks status and body.
func (c *raw) expect(method string, status int, body string) *http.Response {
	c.t.Helper()
	resp, b := c.response(method)
	if resp.StatusCode != status || status < 400 && b != body {
		c.t.Fatalf("got %d %q, want %d %q", resp.StatusCode, b, status, body)
	}
	return resp
}

// closed reads to the end, which must be a FIN, and returns what came before.
func (c *raw) closed() string {
	c.t.Helper()
	b, err := io.ReadAll(c.in)
	if err != nil {
		c.t.Fatalf("read to the end: %v after %q", err, b)
	}
	return string(b)
}

// readRequest reads one request at a backend with its body; nil at the end of the
// connection.
func readRequest(in *bufio.Reader) *http.Request {
	req, err := http.ReadRequest(in)
	if err != nil {
		return nil
	}
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return nil
	}
	req.Body = io.NopCloser(bytes.NewReader(b))
	return req
}

// readHead reads the bytes of a head.
func readHead(in *bufio.Reader) string {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String()
		}
	}
}

// say writes s. What becomes of it is seen at the other end.
func say(w io.Writer, s string) { _, _ = io.WriteString(w, s) }

// swallow reads to the end, whatever that is.
func swallow(r io.Reader) { _, _ = io.Copy(io.Discard, r) }

// pour writes n zeros, or zeros without end if n < 0, until nobody takes them.
func pour(w io.Writer, n int64) {
	b := make([]byte, 32<<10)
	for n != 0 {
		p := b
		if n > 0 {
			p = b[:min(n, int64(len(b)))]
			n -= int64(len(p))
		}
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

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

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func netipPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}
