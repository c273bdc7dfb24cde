package conformance

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ringroad/proxy"
	"ringroad/proxy/config"
)

// ending is what a backend does with its connection behind what it has sent.
type ending uint8

const (
	goesOn ending = iota // takes the next request: all was well
	holds                // keeps it open and says nothing
	closes
	resets
)

// result is what must come of a misbehaving backend for the client.
type result string

const (
	badGateway result = "502"
	timedOut   result = "504"
	broken     result = "broken"        // a response that began and does not look complete
	failed     result = "502 or broken" // what a RST left of it
	whole      result = "whole"
)

// mishap is what a backend says, and what must come of it.
type mishap struct {
	name   string
	say    string
	then   ending
	method string // "" : POST, with a body of one byte
	old    bool   // asked by HTTP/1.0
	want   result
	body   string // of a whole response
}

func (m *mishap) request(n int) string {
	version, method := "1.1", "POST"
	if m.old {
		version = "1.0"
	}
	if m.method != "" {
		method = m.method
	}
	return fmt.Sprintf("%s /%d HTTP/%s\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx", method, n, version)
}

// stage is a rig whose backend plays mishaps: the target of a request names one.
type stage struct {
	*rig
	mu      sync.Mutex
	mishaps []*mishap
	reused  []string // mishaps behind which their connection was used again
	running sync.WaitGroup
}

func newStage(t testing.TB, change func(*config.Config)) *stage {
	s := &stage{rig: newRig(t, change)}
	l, err := s.Backend.Listen(origin)
	if err != nil {
		t.Fatal(err)
	}
	s.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.running.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.worker.Stop()
		<-s.done
		s.running.Wait()
	})
	return s
}

// serve reads heads byte by byte, so that the body stays unread where a RST is to be
// sent: that is what closing with unread bytes leads to.
func (s *stage) serve(c net.Conn) {
	defer c.Close()
	for {
		head := readHead(c)
		if head == "" {
			return
		}
		parts := strings.SplitN(head, " ", 3)
		if parts[1] == "/good" {
			readByte(c)
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
			continue
		}
		n, _ := strconv.Atoi(parts[1][1:])
		s.mu.Lock()
		m := s.mishaps[n]
		s.mu.Unlock()
		if m.then != resets {
			readByte(c)
		}
		say(c, m.say)
		switch m.then {
		case closes, resets:
			return
		case goesOn:
			continue
		}
		if readHead(c) != "" {
			s.mu.Lock()
			s.reused = append(s.reused, m.name)
			s.mu.Unlock()
		}
		return
	}
}

func readByte(c net.Conn) (byte, bool) {
	var b [1]byte
	n, _ := c.Read(b[:])
	return b[0], n == 1
}

// readHead reads a head and nothing behind it, "" at the end of the connection.
func readHead(c net.Conn) string {
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		b, ok := readByte(c)
		if !ok {
			return ""
		}
		head.WriteByte(b)
	}
	return head.String()
}

// say writes s. What becomes of it is seen at the other end.
func say(c net.Conn, s string) { _, _ = c.Write([]byte(s)) }

// play asks for a mishap on a connection of its own and checks what comes of it.
func (s *stage) play(m *mishap) error {
	s.mu.Lock()
	n := len(s.mishaps)
	s.mishaps = append(s.mishaps, m)
	s.mu.Unlock()
	c := s.dial()
	defer c.close()
	c.send(m.request(n))
	var final *message
	for end := time.Now().Add(patience); final == nil; time.Sleep(20 * time.Microsecond) { // between two looks
		ended := c.hasEnded()
		all, _, err := c.answers()
		if i := slices.IndexFunc(all, func(m *message) bool { return m.status >= 200 }); i >= 0 {
			final = all[i]
		}
		if err != nil && err != errIncomplete && !ended {
			return err
		}
		if ended || time.Now().After(end) {
			break
		}
	}
	_, why := c.received()
	got := broken
	switch {
	case final == nil && !c.hasEnded():
		return fmt.Errorf("hangs")
	case final == nil:
	case m.old && why != nil && final.count("Content-Length") == 0:
		// Without a length, RST is what tells it from a complete one.
	case final.status == 502:
		got = badGateway
	case final.status == 504:
		got = timedOut
	default:
		got = whole
	}
	expected := got == m.want || m.want == failed && (got == broken || got == badGateway)
	if !expected || got == whole && final.body != m.body {
		return fmt.Errorf("%q: got %s %+v (%v), want %s %q", m.say[:min(len(m.say), 300)], got, final, why, m.want, m.body)
	}
	return nil
}

// theatre plays mishaps one after the other; behind each, another client must be
// served, and no connection that was left in disorder is used again.
func (s *stage) theatre(t *testing.T, mishaps []mishap) {
	t.Helper()
	other := s.dial()
	for i := range mishaps {
		m := &mishaps[i]
		if err := s.play(m); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		other.send("POST /good HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx")
		if a := other.final(i + 1)[i]; a.status != 200 || a.body != "good" {
			t.Fatalf("%s: the next request got %+v", m.name, a)
		}
	}
	s.checkReused()
	other.close()
	s.idle(0)
}

func (s *stage) checkReused() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reused) > 0 {
		s.t.Errorf("used again behind %q", s.reused)
	}
}

// impatient makes the waits for a backend short, and lets the one connection of the other
// client last.
func impatient(c *config.Config) {
	c.Limits.KeepAliveRequests = 0
	c.Timeouts.BackendRead = 400 * time.Millisecond
}

const okHead = "HTTP/1.1 200 OK\r\n"

// TestBackendsThatMisbehave: RFC 9112 4, 6.3, 8, 9.5.
func TestBackendsThatMisbehave(t *testing.T) {
	t.Parallel()
	var all []mishap
	for _, say := range []string{
		"SSH-2.0-OpenSSH_9.9\r\n", "\x00\x01\x02\x03", "<html></html>", "{}", "\x16\x03\x01", "HTTP/1.1\r\n\r\n", "HTTP/1.1 200OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 abc OK\r\n\r\n", "HTTP/1.1 099 X\r\n\r\n", "HTTP/1.1 600 X\r\n\r\n", "HTTP/1.1 -20 X\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "http/1.1 200 OK\r\n\r\n", "ICY 200 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n",
		" HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1\t200 OK\r\n\r\n", "HTTP/1.1 200 O\rK\r\n\r\n", "HTTP/1.1 200 O\x00K\r\n\r\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "HTTP/1.1 200 " + strings.Repeat("O", 5000) + "\r\n\r\n",
		okHead + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk", okHead + "Content-Length: 2, 3\r\n\r\nokk", okHead + "Content-Length: -2\r\n\r\nok", okHead + "Content-Length: +2\r\n\r\nok", okHead + "Content-Length: 0x2\r\n\r\nok",
		okHead + "Content-Length: \r\n\r\nok", okHead + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", okHead + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		okHead + "Transfer-Encoding: gzip\r\n\r\nok", okHead + "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", okHead + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", okHead + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		okHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", okHead + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", okHead + "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
		okHead + "Content-Length: 99999999999999999999\r\n\r\nok", okHead + "X: a\r\n b\r\n\r\n", okHead + " X: a\r\n\r\n", okHead + "X: a\x00\r\n\r\n", okHead + "X: a\rb\r\n\r\n", okHead + "X: a\nY: b\r\n\r\n", okHead + "X\r\n\r\n", okHead + ": y\r\n\r\n", okHead + "X Y: z\r\n\r\n", okHead + "X\x80: z\r\n\r\n",
		okHead + "X: " + strings.Repeat("a", 40000) + "\r\n\r\n", okHead + strings.Repeat("X: y\r\n", 200) + "\r\n", okHead + strings.Repeat("X", 40000) + ": y\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "HTTP/1.1 101 X\r\n\r\n", "HTTP/1.1 103 X\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 103 X\r\n\r\nHTTP/1.1 103 X\r\n\r\ngarbage\r\n\r\n",
	} {
		all = append(all, mishap{name: fmt.Sprintf("head %.80q", say), say: say, then: holds, want: badGateway})
	}
	ok := okHead + "Content-Length: 2\r\n\r\nok"
	all = append(all, []mishap{
		{name: "nothing, then closes", then: closes, want: badGateway},
		{name: "nothing, then resets", then: resets, want: badGateway},
		{name: "nothing", then: holds, want: timedOut},
		{name: "half a head", say: "HTTP/1.1 200 OK\r\nContent-", then: holds, want: timedOut},
		{name: "interim responses only", say: "HTTP/1.1 103 Early Hints\r\n\r\n", then: holds, want: timedOut},
		{name: "half a body", say: okHead + "Content-Length: 5\r\n\r\nok", then: holds, want: broken},
		{name: "half a chunk", say: okHead + "Transfer-Encoding: chunked\r\n\r\n5\r\nok", then: holds, want: broken},
		{name: "no last chunk", say: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", then: holds, want: broken},
		{name: "a body until close, stalled", say: okHead + "\r\nok", then: holds, want: broken},
		{name: "a body until close, reset", say: okHead + "\r\nok", then: resets, want: failed},
		{name: "a body until close, stalled, to 1.0", say: okHead + "\r\nok", then: holds, old: true, want: broken},
		{name: "chunks cut off, to 1.0", say: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", then: closes, old: true, want: broken},
		{name: "length cut off, to 1.0", say: okHead + "Content-Length: 5\r\n\r\nok", then: closes, old: true, want: broken},
		{name: "whole, to 1.0", say: ok, then: goesOn, old: true, want: whole, body: "ok"},
		{name: "chunks, to 1.0", say: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", then: goesOn, old: true, want: whole, body: "ok"},
		{name: "interim, to 1.0", say: "HTTP/1.1 103 X\r\n\r\n" + ok, then: goesOn, old: true, want: whole, body: "ok"},
		{name: "whole", say: ok, then: goesOn, want: whole, body: "ok"},
		{name: "whole, then closes", say: ok, then: closes, want: whole, body: "ok"},
		{name: "Connection: close, held", say: okHead + "Connection: close\r\nContent-Length: 2\r\n\r\nok", then: holds, want: whole, body: "ok"},
		{name: "until close", say: okHead + "\r\nok", then: closes, want: whole, body: "ok"},
		{name: "nothing until close", say: okHead + "\r\n", then: closes, want: whole},
		{name: "1.0", say: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", then: holds, want: whole, body: "ok"},
		{name: "1.0 keep-alive", say: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", then: goesOn, want: whole, body: "ok"},
		{name: "1.0 until close", say: "HTTP/1.0 200 OK\r\n\r\nok", then: closes, want: whole, body: "ok"},
		{name: "bytes behind a length", say: ok + ok, then: holds, want: whole, body: "ok"},
		{name: "a byte behind a length", say: ok + "x", then: holds, want: whole, body: "ok"},
		{name: "CRLF behind a length", say: ok + "\r\n", then: holds, want: whole, body: "ok"},
		{name: "bytes behind nothing", say: okHead + "Content-Length: 0\r\n\r\n" + ok, then: holds, want: whole},
		{name: "bytes behind the last chunk", say: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + ok, then: holds, want: whole, body: "ok"},
		{name: "body behind 204", say: "HTTP/1.1 204 No Content\r\n\r\n" + ok, then: holds, want: whole},
		{name: "length of 204", say: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", then: holds, want: whole},
		{name: "chunks of 204", say: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", then: holds, want: whole},
		{name: "body behind 304", say: "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", then: holds, want: whole},
		{name: "body to HEAD", say: okHead + methodField + ": HEAD\r\nContent-Length: 2\r\n\r\nok", method: "HEAD", then: holds, want: whole},
		{name: "chunks to HEAD", say: okHead + methodField + ": HEAD\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", method: "HEAD", then: holds, want: whole},
		{name: "no reason", say: "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", then: goesOn, want: whole, body: "ok"},
		{name: "empty reason", say: "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", then: goesOn, want: whole, body: "ok"},
		{name: "space in front of a colon", say: okHead + "Content-Length : 2\r\nX : y\r\n\r\nok", then: goesOn, want: whole, body: "ok"},
		{name: "interim responses", say: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 2000) + ok, then: goesOn, want: whole, body: "ok"},
		{name: "trailers", say: okHead + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", then: goesOn, want: whole, body: "ok"},
		{name: "hop-by-hop fields", say: okHead + "Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nConnection: upgrade, X-Foo\r\nX-Foo: y\r\nContent-Length: 2\r\n\r\nok", then: goesOn, want: whole, body: "ok"},
	}...)
	for _, bad := range []string{"zz\r\n", "-1\r\n", "+1\r\nx\r\n", "0x1\r\nx\r\n", "\r\n", "1\nx\r\n", "1\r\nxx\r\n", "1\r\nx\n", "1 \r\nx\r\n", "fffffffffffffffff\r\n", "1;\x00\r\nx\r\n", "0\r\nX : y\r\n\r\n", "0\r\n Y\r\n\r\n", "0\r\nContent-Length: 1\r\n\r\n", "0\r\n\n", "0\n\r\n", "GET / HTTP/1.1\r\n"} {
		all = append(all, mishap{name: fmt.Sprintf("chunk %q", bad), say: okHead + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + bad, then: holds, want: broken})
	}
	newStage(t, impatient).theatre(t, all)
}

// TestTruncatedAtEveryByte: a response of each framing ends at each of its bytes, by
// FIN and by RST.
func TestTruncatedAtEveryByte(t *testing.T) {
	t.Parallel()
	var all []mishap
	for name, r := range map[string]struct{ head, body string }{
		"length":  {okHead + "Content-Length: 5\r\n\r\n", "hello"},
		"chunked": {okHead + "Transfer-Encoding: chunked\r\n\r\n", "2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n"},
		"close":   {okHead + "X: y\r\n\r\n", "hello"},
		"interim": {"HTTP/1.1 103 X\r\nLink: </a>\r\n\r\n" + okHead + "Content-Length: 5\r\n\r\n", "hello"},
		"1.0":     {"HTTP/1.0 200 OK\r\n\r\n", "hello"},
	} {
		say := r.head + r.body
		untilClose := name == "close" || name == "1.0"
		for n := range len(say) {
			m := mishap{name: fmt.Sprintf("%s at %d", name, n), say: say[:n], then: closes, want: badGateway}
			if n >= len(r.head) {
				m.want = broken
				if untilClose {
					m.want, m.body = whole, r.body[:n-len(r.head)]
				}
			}
			reset := m
			reset.name, reset.then, reset.want = m.name+" by RST", resets, failed
			all = append(all, m, reset)
		}
	}
	newStage(t, impatient).theatre(t, all)
}

// TestStalledAtEveryByte: as TestTruncatedAtEveryByte, but the backend falls silent.
func TestStalledAtEveryByte(t *testing.T) {
	t.Parallel()
	s := newStage(t, impatient)
	head, body := okHead+"Transfer-Encoding: chunked\r\n\r\n", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
	var playing sync.WaitGroup
	for n := range len(head + body) {
		m := &mishap{name: fmt.Sprintf("at %d", n), say: (head + body)[:n], then: holds, want: timedOut}
		if n >= len(head) {
			m.want = broken
		}
		playing.Go(func() {
			if err := s.play(m); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		})
	}
	playing.Wait()
	if st := s.await("all are closed", func(s *proxy.Stats) bool { return s.ClientsActive == 0 && s.BackendsActive == 0 }); st.TimeoutsBackendRead != uint64(len(head+body)) {
		t.Errorf("%d time-outs", st.TimeoutsBackendRead)
	}
	s.checkReused()
}
