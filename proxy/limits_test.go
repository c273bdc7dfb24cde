package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/proxy/config"
)

const (
	// short is a timeout that is meant to expire, and does no harm where it does so early.
	short = 60 * time.Millisecond
	// long is a timeout that expires when the test says so (rig.elapse).
	long = time.Hour
)

func TestClientTimeouts(t *testing.T) {
	const whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	tests := []struct {
		name   string
		kind   wait
		send   string
		status int // of the answer; 0: closed without one
		count  func(*Stats) uint64
	}{
		{"nothing sent", waitClientHeader, "", 0, func(s *Stats) uint64 { return s.TimeoutsClientHeader }},
		{"half a head", waitClientHeader, "GET / HTTP/1.1\r\nHo", 408, func(s *Stats) uint64 { return s.TimeoutsClientHeader }},
		{"half a head behind a request", waitClientHeader, whole + "GET", 408, func(s *Stats) uint64 { return s.TimeoutsClientHeader }},
		{"half a body", waitClientBody, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", 408, func(s *Stats) uint64 { return s.TimeoutsClientBody }},
		{"half a chunk", waitClientBody, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", 408, func(s *Stats) uint64 { return s.TimeoutsClientBody }},
		{"idle", waitKeepAlive, whole, 0, func(s *Stats) uint64 { return s.TimeoutsKeepAlive }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) {
				c.Timeouts.ClientHeader, c.Timeouts.ClientBody, c.Timeouts.KeepAlive = long, 2*long, 3*long
			})
			r.serve(8080, http.HandlerFunc(echo))
			c := r.dial()
			c.send(tt.send)
			if strings.HasPrefix(tt.send, whole) {
				c.expect("GET", 200, "")
			}
			r.await("all was read", func(s *Stats) bool { return s.ClientBytesIn == uint64(len(tt.send)) })
			r.elapse(tt.kind, map[wait]time.Duration{waitClientHeader: long, waitClientBody: 2 * long, waitKeepAlive: 3 * long}[tt.kind])
			if tt.status != 0 {
				if resp := c.expect("GET", tt.status, ""); !resp.Close {
					t.Error("no Connection: close")
				}
			}
			if rest := c.closed(); rest != "" {
				t.Errorf("got %q", rest)
			}
			if s := r.stats(); tt.count(&s) != 1 {
				t.Errorf("the timeout was counted %d times", tt.count(&s))
			}
		})
	}
}

// TestTimeoutsLookAtTheInputFirst: after the loop was held up, a request that came in time
// is served, though it stands behind more frames than a turn takes.
func TestTimeoutsLookAtTheInputFirst(t *testing.T) {
	// As in production: what came in one batch is processed before the loop goes on.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 200, "")
	var first *session
	var others []*raw
	for range 20 {
		others = append(others, r.dial())
	}
	r.await("all are connected", func(s *Stats) bool { return s.ClientsActive == 21 })
	r.on(func() { first = r.worker.sessions.next })
	const left = 50 * time.Millisecond
	thaw := r.freezeAfter(func() { r.worker.wheel.arm(&first.reading, waitKeepAlive, r.worker.now+left) })
	for range 8 { // the initial window has room for them
		for _, o := range others {
			o.send("G")
		}
	}
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	time.Sleep(2 * left) // how long the loop is held up
	thaw()
	c.expect("GET", 200, "")
}

// deadline is when the wait for the next bytes of the only client ends, 0 when none of that
// kind is on.
func (r *rig) deadline(kind wait) (at time.Duration) {
	r.on(func() {
		if t := &r.worker.sessions.next.reading; t.armed(kind) {
			at = t.at
		}
	})
	return at
}

// TestHeaderTimeoutIsForTheWholeHead: a client cannot stretch it by sending byte
// by byte.
func TestHeaderTimeoutIsForTheWholeHead(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Timeouts.ClientHeader = long })
	c := r.dial()
	r.await("the client is there", func(s *Stats) bool { return s.ClientsActive == 1 })
	at := r.deadline(waitClientHeader)
	for i, b := range "GET / HTTP/1.1\r\nX: xxxx" {
		c.send(string(b))
		r.await("it was read", func(s *Stats) bool { return s.ClientBytesIn == uint64(i+1) })
		if now := r.deadline(waitClientHeader); now != at {
			t.Fatalf("byte %d puts the timeout off by %v", i, now-at)
		}
	}
	r.elapse(waitClientHeader, long)
	c.expect("GET", 408, "")
}

func TestBodyTimeoutBeginsAnewWithEveryRead(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Timeouts.ClientBody = long })
	r.serve(8080, http.HandlerFunc(echo))
	c := r.dial()
	const head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n"
	c.send(head)
	at := time.Duration(0)
	for range 20 {
		r.until("the timeout is put off", func() bool { return r.deadline(waitClientBody) > at })
		at = r.deadline(waitClientBody)
		c.send("x")
	}
	c.expect("POST", 200, strings.Repeat("x", 20))
}

// endless answers with a body that never ends.
func endless(n int, c net.Conn, in *bufio.Reader) {
	readHead(in)
	say(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
	for {
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			return
		}
	}
}

func TestReaderThatStopsIsCutOff(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Timeouts.ClientSend = 300 * time.Millisecond })
	r.script(8080, endless)
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	s := r.await("the client was cut off", func(s *Stats) bool { return s.TimeoutsClientSend == 1 && s.ClientsActive == 0 })
	if s.BackendsActive != 0 || s.ClientsAborted != 1 {
		t.Errorf("%d backend connections left, %d clients aborted", s.BackendsActive, s.ClientsAborted)
	}
}

// TestClosesLingerAsLongAsTheySay has two clients that were answered and do not end their side: one is silent, the other goes on sending.
func TestClosesLingerAsLongAsTheySay(t *testing.T) {
	for name, goesOn := range map[string]bool{"silent": false, "goes on": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) { c.Timeouts.Linger = 100 * time.Millisecond })
			r.serve(8080, http.HandlerFunc(echo))
			c := r.dial()
			c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			c.expect("GET", 200, "")
			begin := time.Now()
			for goesOn {
				if _, err := c.Write([]byte("x")); err != nil {
					break // answered with RST: nobody is there any more
				}
				time.Sleep(20 * time.Millisecond)
			}
			r.await("the client was let go", func(s *Stats) bool { return s.ClientsActive == 0 })
			if took := time.Since(begin); goesOn && took < 500*time.Millisecond {
				t.Errorf("a client that goes on sending was let go after %v", took)
			}
		})
	}
}

func TestBackendThatStopsReadingIsGivenUp(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Timeouts.BackendSend = 300 * time.Millisecond })
	release := make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) { <-release })
	c := r.dial()
	go func() {
		say(c.Conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
		pour(c.Conn, 100_000_000)
	}()
	c.expect("POST", 504, "")
	close(release)
	c.Close()
	if s := r.stats(); s.TimeoutsBackendSend != 1 {
		t.Errorf("%d timeouts", s.TimeoutsBackendSend)
	}
}

func TestIdleBackendConnectionsExpire(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Upstreams[0].KeepAliveTimeout = short })
	r.serve(8080, http.HandlerFunc(echo))
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 200, "")
	r.await("the idle connection is closed", func(s *Stats) bool { return s.BackendsActive == 0 && s.BackendsIdle == 0 })
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 200, "")
}

// heldBytes is the memory of all buffers that sessions and exchanges hold. It is called
// on the loop.
func (w *Worker) heldBytes() (n int) {
	for s := w.sessions.next; s != &w.sessions; s = s.next {
		n += len(s.in.b)
		if x := s.x; x != nil {
			n += len(x.in.b) + len(x.request.out.b) + len(x.response.out.b)
		}
	}
	return n
}

// heapBytes is what the whole process holds.
func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestSlowReaderHoldsBoundedMemory: what the proxy holds for a client that does not read,
// or reads slowly, is bounded at every moment, so that no look needs to wait for another.
func TestSlowReaderHoldsBoundedMemory(t *testing.T) {
	for _, tt := range []struct{ name, head, piece string }{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", strings.Repeat("x", 64<<10)},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 16)},
		{"until close", "HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 64<<10)},
		{"interim responses", "", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 2000)},
		{"large interim responses", "", "HTTP/1.1 103 Early Hints\r\nX: " + strings.Repeat("x", 30_000) + "\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			heapBefore := heapBytes()
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				readHead(in)
				say(c, tt.head)
				for {
					if _, err := io.WriteString(c, tt.piece); err != nil {
						return
					}
				}
			})
			most := 0
			look := func() (s Stats) {
				r.on(func() {
					s = *r.worker.stats
					most = max(most, r.worker.heldBytes())
				})
				// One buffer a side, and one for the head of the request.
				if s.BuffersInUse > 3 || most > headBytes+2*relayBytes {
					t.Fatalf("%d buffers, %d bytes at most held for one exchange", s.BuffersInUse, most)
				}
				return s
			}
			c := r.dial()
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			// Everything between backend and client fills up; then nothing moves.
			before := uint64(0)
			for still := 0; still < 20; time.Sleep(5 * time.Millisecond) { // between two looks
				s := look()
				if still++; s.BackendBytesIn != before || before == 0 {
					still = 0
				}
				before = s.BackendBytesIn
			}
			// The send and receive buffers of three TCP stacks, and nothing of that order
			// besides.
			if n := heapBytes() - heapBefore; n > 32<<20 {
				t.Errorf("%d bytes of heap for one exchange", n)
			}
			// Another client is served meanwhile, and the first one goes on.
			c2 := r.dial()
			c2.send("GET /bad HTTP/1.0\r\nHost a\r\n\r\n")
			c2.expect("GET", 400, "")
			for range 200 {
				limit(c.Conn)
				if _, err := io.CopyN(io.Discard, c.in, 16<<10); err != nil {
					t.Fatal(err)
				}
				look()
			}
		})
	}
}

func TestIdleConnectionsHoldNoBuffers(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	for range 20 {
		c := r.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
		c.expect("POST", 200, "hi")
	}
	s := r.await("the exchanges are over", func(s *Stats) bool { return s.ExchangesActive == 0 })
	if s.ClientsActive != 20 || s.BuffersInUse != 0 {
		t.Errorf("%d clients, %d buffers in use", s.ClientsActive, s.BuffersInUse)
	}
}

func TestAcceptingPausesAtTheLimit(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Limits.MaxConnections = 6 })
	r.serve(8080, http.HandlerFunc(echo))
	var clients []*raw
	ask := func(n int) {
		for range n {
			c := r.dial()
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			clients = append(clients, c)
		}
	}
	ask(3)
	for _, c := range clients {
		c.expect("GET", 200, "")
	}
	ask(2) // the accept queue takes these, in any order
	s := r.await("accepting pauses", func(s *Stats) bool { return s.AcceptPauses > 0 })
	if s.ClientsActive != 3 || s.ConnectionsMax > 6 {
		t.Errorf("%d clients at the limit of 3, %d connections at most", s.ClientsActive, s.ConnectionsMax)
	}
	for i, c := range clients[:2] {
		c.Close()
		r.await("another is accepted", func(s *Stats) bool { return int(s.ClientsAccepted) == 4+i })
	}
	for _, c := range clients[3:] {
		c.expect("GET", 200, "")
	}
	if s := r.stats(); s.ClientsAccepted != 5 || s.ConnectionsMax > 6 || s.Answers != 0 {
		t.Errorf("%d accepted, %d connections at most, %d error pages", s.ClientsAccepted, s.ConnectionsMax, s.Answers)
	}
}

// TestAcceptingGoesOnAfterATimeout: nothing but the timer of the idle client wakes
// the loop.
func TestAcceptingGoesOnAfterATimeout(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Limits.MaxConnections = 2
		c.Timeouts.KeepAlive = short
	})
	r.serve(8080, http.HandlerFunc(echo))
	first, second := r.dial(), r.dial()
	first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	first.expect("GET", 200, "")
	second.expect("GET", 200, "")
	if s := r.stats(); s.TimeoutsKeepAlive == 0 || s.AcceptPauses == 0 {
		t.Errorf("%d idle clients closed, %d pauses", s.TimeoutsKeepAlive, s.AcceptPauses)
	}
}

// TestSessionThatEndsBeforeItIsResumed: what is on the list for the next turn may
// be gone, or be another session, by then.
func TestSessionThatEndsBeforeItIsResumed(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	r.dial()
	r.await("there is a session", func(s *Stats) bool { return s.ClientsActive == 1 })
	r.on(func() {
		s := r.worker.sessions.next
		r.worker.resume(s)
		s.close()
		r.worker.bury()
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 200, "")
}

// TestExpectingClientWaitsForTheBackend: that no body comes before 100 is not the
// client's fault.
func TestExpectingClientWaitsForTheBackend(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Timeouts.ClientBody = short
		c.Timeouts.BackendRead = 4 * short
	})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) { swallow(in) })
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	c.expect("POST", 504, "")
}

// TestIdleBackendConnectionsMakeRoom: pooled connections to one server must not
// keep requests from another when max_connections is reached.
func TestIdleBackendConnectionsMakeRoom(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Limits.MaxConnections = 2
		servers(8080, 8081, 8082)(c)
	})
	for port := 8080; port < 8083; port++ {
		r.serve(port, http.HandlerFunc(echo))
	}
	c := r.dial()
	for range 9 {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		c.expect("GET", 200, "")
	}
	if s := r.stats(); s.ConnectionsMax > 2 {
		t.Errorf("%d connections at a limit of 2", s.ConnectionsMax)
	}
}

// TestOneBulkTransferLeavesRoomForOthers: a download as fast as the machine allows
// must not keep the loop from other sessions.
func TestOneBulkTransferLeavesRoomForOthers(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bulk" {
			pour(w, -1)
		}
	}))
	bulk, c := r.dial(), r.dial()
	bulk.send("GET /bulk HTTP/1.1\r\nHost: a\r\n\r\n")
	go swallow(bulk.in)
	r.await("the download runs", func(s *Stats) bool { return s.ClientBytesOut > 1<<20 })
	for range 50 {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		c.expect("GET", 200, "")
	}
	bulk.Close()
}

// TestFairnessBudget: a session with more to do than its budget goes on in the
// next turn without an event.
func TestFairnessBudget(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Listeners[0].Routes[0].Host = "elsewhere" })
	const requests = 3 * turnBytes / requestCost
	c := r.dial()
	go say(c.Conn, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", requests))
	for range requests {
		c.expect("GET", 404, "")
	}
	if s := r.stats(); s.Resumptions == 0 || s.Requests != requests {
		t.Errorf("%d resumptions, %d requests", s.Resumptions, s.Requests)
	}
}

func TestCongestionStopsReading(t *testing.T) {
	r := newRig(t, nil)
	var connected atomic.Int32
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connected.Add(1)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	// More connections than the device has frames for their first windows.
	const clients, size = 80, 100_000
	var all []*raw
	for range clients {
		c := r.dial()
		c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\nx", size))
		all = append(all, c)
	}
	r.await("all are connected to the backend", func(*Stats) bool { return connected.Load() == clients })
	r.StallBackendTX(true)
	for _, c := range all {
		go pour(c.Conn, size-1)
	}
	s := r.await("reading stops", func(s *Stats) bool { return s.Congestions > 0 })
	if s.ClientBytesIn >= clients*size {
		t.Error("everything was read although nothing could be sent")
	}
	r.StallBackendTX(false)
	for _, c := range all {
		c.expect("POST", 200, fmt.Sprint(size))
	}
}

func TestLossBothSides(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	drop := func() func([]byte) bool {
		n := 0
		return func([]byte) bool { n++; return n%50 != 0 }
	}
	r.LoseFromClient(drop())
	r.LoseToBackend(drop())
	r.LoseFromBackend(drop())
	r.LoseToClient(drop())
	body := pattern(300_000)
	resp, err := r.client().Post("http://"+front+"/", "", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}
