package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestUncleanConnectionsAreNotReused(t *testing.T) {
	for _, tt := range []struct{ name, response string }{
		{"data behind a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"},
		{"data behind the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
		{"data behind no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx"},
		{"connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				for readRequest(in) != nil {
					say(c, tt.response)
				}
			})
			c := r.dial()
			for range 3 {
				c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				if _, body := c.response("GET"); body != "ok" && body != "" {
					t.Fatalf("got %q", body)
				}
			}
			if s := r.stats(); s.BackendConnects != 3 || s.BackendReuses != 0 {
				t.Errorf("%d connects, %d reuses", s.BackendConnects, s.BackendReuses)
			}
		})
	}
}

// TestUnaskedResponseIsNotAnAnswer: a backend that sends 408 on an idle connection
// must not have it taken for the answer to the next request.
func TestUnaskedResponseIsNotAnAnswer(t *testing.T) {
	r := newRig(t, nil)
	speak := make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		say(c, ok)
		if n == 0 {
			<-speak
			say(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nlate")
		}
		swallow(in)
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 200, "ok")
	close(speak)
	r.await("the idle connection is retired", func(s *Stats) bool { return s.BackendsActive == 0 && s.BackendStale == 1 })
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 200, "ok")
}

// TestRetryOnStaleConnection: the backend closes a pooled connection when it gets
// the second request on it.
func TestRetryOnStaleConnection(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		part          string // of a response, before closing
		status        int
	}{
		{"GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", 200},
		{"PUT with its body at hand", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", "", 200},
		{"chunked PUT at hand", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "", 200},
		{"PUT with a long body", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000), "", 502},
		{"POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", "", 502},
		{"unknown method", "FROB / HTTP/1.1\r\nHost: a\r\n\r\n", "", 502},
		{"GET with a response begun", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 2", 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			var got atomic.Pointer[string]
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				for i := 0; ; i++ {
					req := readRequest(in)
					if req == nil {
						return
					}
					if n == 0 && i == 1 {
						say(c, tt.part)
						return
					}
					b, _ := io.ReadAll(req.Body)
					s := req.Method + " " + string(b)
					got.Store(&s)
					say(c, ok)
				}
			})
			c := r.dial()
			c.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
			c.expect("GET", 200, "ok")
			r.await("the backend connection is idle", func(s *Stats) bool { return s.BackendsIdle == 1 })
			c.send(tt.request)
			resp := c.expect("GET", tt.status, "ok")
			s := r.stats()
			if want := uint64(0); tt.status == 200 {
				want = 1
				method, _, _ := strings.Cut(tt.request, " ")
				body := ""
				if method != "GET" {
					body = "body"
				}
				if *got.Load() != method+" "+body {
					t.Errorf("the backend got %q the second time", *got.Load())
				}
				if s.BackendRetries != want {
					t.Errorf("%d retries", s.BackendRetries)
				}
			} else if s.BackendRetries != 0 {
				t.Errorf("%d retries of a request that is not safe to repeat", s.BackendRetries)
			}
			if resp.Close {
				t.Error("the client's connection is closed")
			}
		})
	}
}

// TestRetryInTheMiddleOfABody: what has come of the body is sent again, the rest
// follows. In the second case the first part fills a buffer, and another read has
// been tried before the connection fails.
func TestRetryInTheMiddleOfABody(t *testing.T) {
	// As in production: what came in one batch is processed before the loop goes on.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	full := strings.Repeat("f", headBytes-len(head)-len("3f00\r\n\r\n"))
	attempts := 0
	for todo := []string{"first", full}; len(todo) > 0; {
		first := todo[0]
		todo = todo[1:]
		r := newRig(t, nil)
		bodies := make(chan string, 1)
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			for i := 0; ; i++ {
				if n == 0 && i == 1 {
					readHead(in)
					return
				}
				req := readRequest(in)
				if req == nil {
					return
				}
				if n == 1 {
					b, _ := io.ReadAll(req.Body)
					bodies <- string(b)
				}
				say(c, ok)
			}
		})
		c := r.dial()
		// A long request, so that the window lets the next one come in one turn.
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000))
		c.expect("POST", 200, "ok")
		part := fmt.Sprintf("%s%04x\r\n%s\r\n", head, len(first), first)
		var bytes, fins atomic.Int64
		r.LoseFromClient(watch(&bytes, &fins))
		thaw := r.freeze()
		c.send(part)
		// A machine that was slow just now may have made the client's TCP careful.
		end := time.Now().Add(5 * time.Second)
		for bytes.Load() < int64(len(part)) && time.Now().Before(end) {
			time.Sleep(time.Millisecond) // between two looks
		}
		thaw()
		if bytes.Load() < int64(len(part)) {
			if attempts++; attempts == 5 {
				t.Fatal("the request never came in one piece")
			}
			todo = append(todo, first)
			continue
		}
		r.await("the request was sent again", func(s *Stats) bool { return s.BackendRetries == 1 && s.BackendConnects == 2 })
		c.send("7\r\n second\r\n0\r\n\r\n")
		c.expect("PUT", 200, "ok")
		if got := <-bodies; got != first+" second" {
			t.Errorf("the backend got %d bytes that are not what was sent", len(got))
		}
	}
}

// TestEndThatCameWithTheResponse: one event tells of both, and the connection must
// not go into the pool.
func TestEndThatCameWithTheResponse(t *testing.T) {
	// As in production: what came in one batch is processed before the loop goes on.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := newRig(t, nil)
	answer := make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		<-answer
		say(c, ok)
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.await("the request was passed on", func(s *Stats) bool { return s.BackendBytesOut > 0 })
	var bytes, fins atomic.Int64
	r.LoseFromBackend(watch(&bytes, &fins))
	thaw := r.freeze()
	close(answer)
	r.until("the FIN is on the wire", func() bool { return fins.Load() > 0 })
	thaw()
	c.expect("GET", 200, "ok")
	if s := r.stats(); s.BackendsActive != 0 || s.BackendStale != 0 {
		t.Errorf("%d backend connections, %d of them found out later", s.BackendsActive, s.BackendStale)
	}
}

func TestOneRetryOnly(t *testing.T) {
	r := newRig(t, nil)
	var seen atomic.Int32
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for readRequest(in) != nil {
			if seen.Add(1) > 1 {
				return
			}
			say(c, ok)
		}
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 200, "ok")
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 502, "")
	if n := seen.Load(); n != 3 {
		t.Errorf("the backend saw %d requests, want the first, the second, and one repetition", n)
	}
}

func TestNextServerWhenOneRefuses(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		r := newRig(t, servers(8081, 8080, 8082))
		r.serve(8080, http.HandlerFunc(echo))
		c := r.dial()
		for range 5 {
			c.send(method + " / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
			c.expect(method, 200, "body")
		}
		s := r.stats()
		if s.BackendRefusals != 2 || s.BackendRetries != 2 {
			t.Errorf("%s: %d refusals and %d retries: each dead server should be found out once", method, s.BackendRefusals, s.BackendRetries)
		}
		if s.Answers != 0 {
			t.Errorf("%s: %d error pages", method, s.Answers)
		}
		if log := r.log.String(); !strings.Contains(log, "backend=10.2.0.2:8081") || strings.Contains(log, "backend=10.2.0.2:8080") {
			t.Errorf("%s: the log does not name the server that refused, and no other:\n%s", method, log)
		}
	}
}

func TestRoundRobinOverServers(t *testing.T) {
	r := newRig(t, servers(8080, 8081, 8082))
	var counts [3]atomic.Int32
	for i := range counts {
		r.serve(8080+i, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { counts[i].Add(1) }))
	}
	c := r.dial()
	for range 12 {
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		c.expect("GET", 200, "")
	}
	for i := range counts {
		if n := counts[i].Load(); n != 4 {
			t.Errorf("server %d got %d of 12 requests", i, n)
		}
	}
	if s := r.stats(); s.BackendConnects != 3 {
		t.Errorf("%d connections to 3 servers", s.BackendConnects)
	}
}
