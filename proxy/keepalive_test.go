package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"ringroad/proxy/config"
)

func TestKeepAliveRequests(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Limits.KeepAliveRequests = 3 })
		r.serve(8080, http.HandlerFunc(echo))
		c := r.dial()
		for i := range 3 {
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp := c.expect("GET", 200, ""); resp.Close != (i == 2) {
				t.Errorf("answer %d: Connection: close is %t", i, resp.Close)
			}
		}
		c.closed()
		// A pipeline ends there too, and its last answer can be read.
		c = r.dial()
		c.send(strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 5))
		for range 3 {
			c.expect("GET", 200, "")
		}
		if rest := c.closed(); rest != "" {
			t.Errorf("%q behind the last answer", rest)
		}
		if s := r.stats(); s.Requests != 6 || s.ClientsAborted != 0 {
			t.Errorf("%d requests, %d clients cut off", s.Requests, s.ClientsAborted)
		}
	})
	t.Run("backend", func(t *testing.T) {
		r := newRig(t, func(c *config.Config) { c.Upstreams[0].KeepAliveRequests = 2 })
		r.serve(8080, http.HandlerFunc(echo))
		c := r.dial()
		for range 7 {
			c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			c.expect("GET", 200, "")
		}
		s := r.await("full connections are closed", func(s *Stats) bool { return s.BackendsActive == 1 })
		if s.BackendConnects != 4 || s.BackendReuses != 3 || s.BackendsIdle != 1 {
			t.Errorf("%d connections, %d reuses, %d idle", s.BackendConnects, s.BackendReuses, s.BackendsIdle)
		}
	})
}

// TestBytesBehindTheLastAnswer: what a client sends behind the request whose answer says
// Connection: close costs it nothing of that answer, however late it comes (RFC 9112
// 9.6), and reaches nobody.
func TestBytesBehindTheLastAnswer(t *testing.T) {
	const size = 4 << 20 // more than the client's TCP takes unread
	for _, tt := range []struct{ name, request string }{
		{"limits.keepalive_requests", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"asked for", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) { c.Limits.KeepAliveRequests = 1 })
			r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(size))
				pour(w, size)
			}))
			c := r.dial()
			c.send(tt.request)
			read := 0
			for r.stats().ExchangesActive > 0 || read == 0 {
				n, err := c.in.Discard(min(16<<10, size-read)) // the head makes it longer: the end stays
				if read += n; err != nil {
					t.Fatal(err)
				}
			}
			before := r.stats()
			for range 3 {
				c.send("GET /behind HTTP/1.1\r\nHost: a\r\n\r\n")
				r.await("it is read", func(s *Stats) bool { return s.ClientBytesIn > before.ClientBytesIn })
				before = r.stats()
			}
			if read += len(c.closed()); read < size {
				t.Errorf("%d bytes of an answer of more than %d", read, size)
			}
			if before.Requests != 1 || before.ClientsAborted != 0 || before.ClientsActive != 1 {
				t.Errorf("%d requests, %d clients cut off, %d connected", before.Requests, before.ClientsAborted, before.ClientsActive)
			}
			c.Close()
			r.await("its end is enough", func(s *Stats) bool { return s.ClientsActive == 0 })
		})
	}
}

// TestExpectWaitsForTheBackend: another interim response is not the one that the
// client waits for, so its timeout does not begin yet.
func TestExpectWaitsForTheBackend(t *testing.T) {
	r := newRig(t, nil)
	goOn := make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		say(c, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
		<-goOn
		say(c, "HTTP/1.1 100 Continue\r\n\r\n")
		if _, err := io.ReadFull(in, make([]byte, 4)); err == nil {
			say(c, ok)
		}
	})
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	c.readHeadOf("103")
	r.worker.Post(func() {
		if w := r.worker; w.sessions.next.reading.armed(waitClientBody) {
			t.Error("the client is expected to send")
		}
	})
	r.stats()
	close(goOn)
	c.readHeadOf("100")
	c.send("body")
	c.expect("POST", 200, "ok")
}

// TestExpectRefused: a final answer in place of 100 reaches the client, which keeps
// its body, or sends it all the same: neither is taken for a request.
func TestExpectRefused(t *testing.T) {
	for name, body := range map[string]string{"kept": "", "sent": "GET / HTTP/1.1\r\nHost: smuggled\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			rest := make(chan string, 1)
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				if head := readHead(in); !strings.Contains(head, "\r\nExpect: 100-continue\r\n") {
					t.Errorf("head %q", head)
				}
				say(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
				b, _ := io.ReadAll(in)
				rest <- string(b)
			})
			c := r.dial()
			c.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 34\r\n\r\n")
			c.readHeadOf("103")
			if resp := c.expect("POST", 403, ""); !resp.Close {
				t.Error("no Connection: close")
			}
			c.send(body)
			if got := c.closed(); got != "" {
				t.Errorf("%q behind the answer", got)
			}
			if got := <-rest; got != "" {
				t.Errorf("the backend got %q", got)
			}
			if s := r.stats(); s.Requests != 1 || s.BackendsIdle != 0 {
				t.Errorf("%d requests, %d idle connections", s.Requests, s.BackendsIdle)
			}
		})
	}
}
