package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack"
)

// quick makes the waits for a backend short.
func quick(c *config.Config) {
	c.Timeouts.Connect = 100 * time.Millisecond
	c.Timeouts.BackendRead = 100 * time.Millisecond
	c.Timeouts.BackendSend = 100 * time.Millisecond
}

func servers(ports ...uint16) func(*config.Config) {
	return func(c *config.Config) {
		addr := c.Upstreams[0].Servers[0].Addr()
		c.Upstreams[0].Servers = nil
		for _, p := range ports {
			c.Upstreams[0].Servers = append(c.Upstreams[0].Servers, netip.AddrPortFrom(addr, p))
		}
	}
}

func TestBackendFailsBeforeTheResponse(t *testing.T) {
	tests := []struct {
		name   string
		script func(n int, c net.Conn, in *bufio.Reader) // nil: nobody listens
		status int
	}{
		{"refused", nil, 502},
		{"silent", func(n int, c net.Conn, in *bufio.Reader) { swallow(in) }, 504},
		{"reset", func(n int, c net.Conn, in *bufio.Reader) {
			if _, err := in.ReadByte(); err == nil {
				_ = in.UnreadByte()
			}
		}, 502},
		{"half a head, then silent", func(n int, c net.Conn, in *bufio.Reader) {
			say(c, "HTTP/1.1 200 OK\r\nContent-")
			swallow(in)
		}, 504},
		{"closed at once", func(n int, c net.Conn, in *bufio.Reader) {}, 502},
		{"closed after the request", func(n int, c net.Conn, in *bufio.Reader) { readHead(in) }, 502},
		{"closed within the head", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "HTTP/1.1 200 OK\r\nContent-")
		}, 502},
		{"garbage", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "SSH-2.0-OpenSSH_9.9\r\n")
			swallow(in)
		}, 502},
		{"two framings", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")
			swallow(in)
		}, 502},
		{"head over the limit", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 100_000)+"\r\n\r\n")
			swallow(in)
		}, 502},
		{"101 unasked", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
			swallow(in)
		}, 502},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var change func(*config.Config)
			if tt.status == 504 {
				change = quick
			}
			r := newRig(t, change)
			if tt.script != nil {
				r.script(8080, tt.script)
			}
			c := r.dial()
			// The client connection goes on: nothing is wrong with it.
			for range 2 {
				c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
				resp := c.expect("POST", tt.status, "")
				if resp.Close {
					t.Fatal("the connection of the client is closed for a failure of the backend")
				}
			}
			s := r.stats()
			if s.ErrorsBackend == 0 || s.ErrorsClient != 0 || s.Answers != 2 {
				t.Errorf("%d backend errors, %d client errors, %d answers", s.ErrorsBackend, s.ErrorsClient, s.Answers)
			}
			if !strings.Contains(r.log.String(), "backend=10.2.0.2:8080") {
				t.Error("no line in the log names the backend")
			}
		})
	}
}

func TestUnreachableBackendTimesOut(t *testing.T) {
	r := newRig(t, quick)
	r.LoseToBackend(func([]byte) bool { return false })
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 504, "")
	if s := r.stats(); s.TimeoutsConnect != 1 {
		t.Errorf("%d connect timeouts", s.TimeoutsConnect)
	}
	r.LoseToBackend(nil)
}

func TestBackendWithoutRoute(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Upstreams[0].Servers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80")}
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 502, "")
	if !strings.Contains(r.log.String(), "no route to host") {
		t.Error("the log does not say why")
	}
}

// TestNoLocalPortLeft: this is no fault of the backend, and passes.
func TestNoLocalPortLeft(t *testing.T) {
	r := newRigOn(t, func(c *stack.Config) { c.FirstPort, c.LastPort = 20000, 20000 }, nil)
	finish := make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for readRequest(in) != nil {
			if n == 0 {
				<-finish
			}
			say(c, ok)
		}
	})
	first, second := r.dial(), r.dial()
	first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.await("the port is taken", func(s *Stats) bool { return s.BackendBytesOut > 0 })
	second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	second.expect("GET", 503, "")
	close(finish)
	first.expect("GET", 200, "ok")
	second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	second.expect("GET", 200, "ok")
	if s := r.stats(); s.ErrorsInternal != 1 || s.ErrorsBackend != 0 {
		t.Errorf("%d internal and %d backend errors", s.ErrorsInternal, s.ErrorsBackend)
	}
}

// TestBrokenResponsesLookBroken: whatever ends a response early, a client must
// not be able to take it for complete.
func TestBrokenResponsesLookBroken(t *testing.T) {
	tests := []struct {
		name, request, response string
		open                    bool // the backend leaves its connection open
		stalls                  bool // and that is all there is
	}{
		{"length", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50000), false, false},
		{"chunked", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, false},
		{"chunked, malformed", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n", true, false},
		{"chunked, within a trailer", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b", false, false},
		{"chunked, to HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false, false},
		{"stalled", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome", true, true},
		{"stalled until close", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nsome", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) { c.Timeouts.BackendRead = long })
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				readHead(in)
				say(c, tt.response)
				if tt.open {
					swallow(in)
				}
			})
			c := r.dial()
			c.send(tt.request)
			resp, err := http.ReadResponse(c.in, &http.Request{Method: "GET"})
			if err == nil {
				if tt.stalls {
					r.await("all of it was read", func(s *Stats) bool { return s.BackendBytesIn == uint64(len(tt.response)) })
					r.elapse(waitBackendRead, long)
				}
				_, err = io.ReadAll(resp.Body)
			}
			if err == nil {
				t.Fatal("the response looks complete")
			}
			s := r.await("the client was cut off", func(s *Stats) bool { return s.ClientsActive == 0 })
			if s.ClientsAborted != 1 || s.BackendsIdle != 0 {
				t.Errorf("%d clients aborted, %d idle backend connections", s.ClientsAborted, s.BackendsIdle)
			}
		})
	}
}

// TestEarlyResponse: the backend answers while the body is still coming.
func TestEarlyResponse(t *testing.T) {
	const answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied"
	scripts := map[string]func(n int, c net.Conn, in *bufio.Reader){
		"then reads on": func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, answer)
			swallow(in)
		},
		"then closes": func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, answer)
		},
	}
	for name, script := range scripts {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/chunked=%t", name, chunked), func(t *testing.T) {
				r := newRig(t, nil)
				r.script(8080, script)
				c := r.dial()
				size := 8 << 20
				head := fmt.Sprintf("Content-Length: %d", size)
				if chunked {
					head = "Transfer-Encoding: chunked"
				}
				sent := make(chan struct{})
				go func() {
					say(c.Conn, "POST / HTTP/1.1\r\nHost: a\r\n"+head+"\r\n\r\n")
					var err error
					for i := 0; i < size && err == nil; i += 32 << 10 {
						if chunked {
							say(c.Conn, "8000\r\n")
						}
						_, err = c.Write(bytes.Repeat([]byte("x"), 32<<10))
						if chunked {
							say(c.Conn, "\r\n")
						}
					}
					close(sent)
				}()
				resp, body := c.response("POST")
				if resp.StatusCode != 403 || body != "denied" || !resp.Close {
					t.Errorf("%d %q, close %t", resp.StatusCode, body, resp.Close)
				}
				if s := r.stats(); s.BackendsIdle != 0 {
					t.Error("a connection that was sent half a request is in the pool")
				}
				<-sent
				c.Close()
				r.await("all connections are closed", func(s *Stats) bool { return s.ClientsActive == 0 && s.BackendsActive == 0 })
			})
		}
	}
}

// TestBackendResetsWithinTheRequest: it goes away while the body is still coming.
func TestBackendResetsWithinTheRequest(t *testing.T) {
	r := newRig(t, nil)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		if _, err := io.CopyN(io.Discard, in, 1<<20); err != nil {
			t.Error(err)
		}
		// More is in the receive buffer: closing sends RST.
	})
	c := r.dial()
	go func() {
		say(c.Conn, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
		pour(c.Conn, 100_000_000)
	}()
	if resp := c.expect("PUT", 502, ""); !resp.Close {
		t.Error("the connection goes on in the middle of a body")
	}
	c.Close()
	s := r.await("everything is closed", func(s *Stats) bool { return s.ClientsActive == 0 && s.BackendsActive == 0 })
	if s.BackendRetries != 0 {
		t.Error("a request that was under way was sent again")
	}
}

func TestRefusedRequests(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Limits.BodyBytes = 1000 })
	r.serve(8080, http.HandlerFunc(echo))
	upload := strings.Repeat("x", 1<<20)
	for _, tt := range []struct {
		name, request string
		status        int
	}{
		{"malformed", "GET / HTTP/1.1\r\nHost a\r\n\r\n", 400},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"two framings", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"request line", "GET /" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: a\r\n\r\n", 414},
		{"fields", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 33000) + "\r\n\r\n", 431},
		{"version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505},
		{"CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501},
		{"length over the limit", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + upload, 413},
		{"chunks over the limit", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + upload, 413},
		{"malformed chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n\r\n" + upload, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.dial()
			go say(c.Conn, tt.request+"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, _ := c.response("GET")
			if resp.StatusCode != tt.status || !resp.Close {
				t.Fatalf("got %d, close %t; want %d and close", resp.StatusCode, resp.Close, tt.status)
			}
			if rest := c.closed(); rest != "" {
				t.Fatalf("after the refusal came %q", rest)
			}
			c.Close()
		})
	}
	r.await("no connection is left", func(s *Stats) bool { return s.ClientsActive == 0 })
	if log := r.log.String(); strings.Contains(log, "level=WARN") {
		t.Errorf("what clients do wrong is no warning:\n%s", log)
	}
}

func TestClientGoesAway(t *testing.T) {
	gone := make(chan error, 1)
	for _, tt := range []struct {
		name   string
		send   string
		script func(n int, c net.Conn, in *bufio.Reader)
	}{
		{"within the request body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf", func(n int, c net.Conn, in *bufio.Reader) {
			_, err := io.ReadAll(io.LimitReader(in, 1<<20))
			gone <- err
		}},
		{"within the response", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			var err error
			for err == nil {
				_, err = c.Write(make([]byte, 64<<10))
			}
			gone <- err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.script(8080, tt.script)
			c := r.dial()
			c.send(tt.send)
			r.await("the request was passed on", func(s *Stats) bool { return s.BackendBytesOut > 0 })
			c.Close()
			// The backend must see a cut-off request, not a complete one, and stop
			// sending.
			if err := <-gone; err == nil {
				t.Error("the backend saw a clean end")
			}
			r.await("everything is closed", func(s *Stats) bool { return s.ClientsActive == 0 && s.BackendsActive == 0 })
		})
	}
}

// TestClientHalfCloses: a client may shut down its sending side after its request
// and still read the answer.
func TestClientHalfCloses(t *testing.T) {
	r := newRig(t, nil)
	answer := make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		<-answer
		say(c, ok)
		swallow(in)
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	r.await("the request was passed on", func(s *Stats) bool { return s.BackendBytesOut > 0 })
	close(answer)
	c.expect("GET", 200, "ok")
	c.closed()
	r.await("the client is closed", func(s *Stats) bool { return s.ClientsActive == 0 })
}

// TestClosingKeepsTheResponse: unread data behind the last request must not destroy
// the answer by a RST.
func TestClosingKeepsTheResponse(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	c := r.dial()
	go func() {
		say(c.Conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		pour(c.Conn, 300_000)
	}()
	c.expect("GET", 200, "")
	c.closed()
}

func TestErrorSaysWhatHappened(t *testing.T) {
	cause := errors.New("reset")
	var err error = &Error{Source: Backend, Phase: PhaseWait, Err: cause}
	if !errors.Is(err, cause) || err.Error() != "backend: waiting for the response: reset" {
		t.Errorf("%v", err)
	}
}
