package conformance

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"ringroad/proxy"
)

// script runs f for every connection to the backend, numbered from 0, which is closed
// when f returns.
func (r *rig) script(f func(n int, c net.Conn)) {
	r.t.Helper()
	l, err := r.Backend.Listen(origin)
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
			running.Go(func() {
				defer c.Close()
				f(n, c)
			})
		}
	})
	r.t.Cleanup(func() {
		l.Close()
		r.worker.Stop()
		<-r.done
		running.Wait()
	})
}

// readRequest reads one request, nil at the end of the connection.
func readRequest(c net.Conn) *message {
	var b []byte
	for {
		m, _, err := parseRequest(b)
		if err == nil {
			return m
		}
		x, ok := readByte(c)
		if !ok || err != errIncomplete {
			return nil
		}
		b = append(b, x)
	}
}

const okAnswer = okHead + "Content-Length: 2\r\n\r\nok"

// TestSafeRetries: a request that fails on a reused connection is sent again once when
// that is safe (RFC 9110 9.2.2, RFC 9112 9.3.1), and never otherwise.
func TestSafeRetries(t *testing.T) {
	t.Parallel()
	type body struct{ name, lines, text string }
	bodies := []body{
		{"no body", "", ""},
		{"a body", "Content-Length: 5\r\n", "hello"},
		{"a chunked body", "Transfer-Encoding: chunked\r\n", chunked("hello")},
	}
	for _, failure := range []struct {
		name  string
		part  string // of an answer
		reset bool
		reads bool // the whole request first
		safe  bool
	}{
		{"closes when the request comes", "", false, false, true},
		{"closes behind the request", "", false, true, true},
		{"resets", "", true, false, true},
		{"answers with a byte", "H", false, true, false},
		{"answers with an interim response", "HTTP/1.1 103 X\r\n\r\n", false, true, false},
		{"answers with half a head", "HTTP/1.1 200 OK\r\nConte", false, true, false},
	} {
		t.Run(failure.name, func(t *testing.T) {
			r := newRig(t, nil)
			var mu sync.Mutex
			seen := map[string]int{} // heads by target
			r.script(func(_ int, c net.Conn) {
				for i := 0; ; i++ {
					head := readHead(c)
					if head == "" {
						return
					}
					target := strings.Split(head, " ")[1]
					mu.Lock()
					seen[target]++
					again := seen[target] > 1
					mu.Unlock()
					rest := io.MultiReader(strings.NewReader(head), c)
					if strings.HasPrefix(target, "/fail") && (!again || strings.HasPrefix(target, "/fail-twice")) {
						if failure.reads {
							readRequest(readerConn{c, rest})
						} else if failure.reset && strings.Contains(head, "Content-Length: 5") {
							readByte(c) // the rest stays unread, so that RST is sent
						}
						say(c, failure.part)
						return
					}
					readRequest(readerConn{c, rest})
					say(c, okAnswer)
				}
			})
			c := r.dial()
			answers := 0
			ask := func(request string) *message {
				answers++
				c.send(request)
				return c.final(answers)[answers-1]
			}
			const first = "GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n"
			n := 0
			for _, method := range []string{"GET", "PUT", "DELETE", "OPTIONS", "POST", "PATCH", "FROB"} {
				for _, b := range bodies {
					for _, how := range []string{"/fail", "/fail-twice"} {
						n++
						target := fmt.Sprintf("%s-%d", how, n)
						if a := ask(first); a.status != 200 {
							t.Fatalf("the request in front got %d", a.status)
						}
						r.await("a connection is idle", func(s *proxy.Stats) bool { return s.BackendsIdle > 0 && s.ExchangesActive == 0 })
						before := r.stats()
						a := ask(method + " " + target + " HTTP/1.1\r\nHost: a.example\r\n" + b.lines + "\r\n" + b.text)
						idempotent := method != "POST" && method != "PATCH" && method != "FROB"
						status, times, retries := 502, 1, uint64(0)
						if failure.safe && idempotent {
							times, retries = 2, 1
							if how == "/fail" {
								status = 200
							}
						}
						mu.Lock()
						got := seen[target]
						mu.Unlock()
						s := r.stats()
						if a.status != status || got != times || s.BackendRetries-before.BackendRetries != retries {
							t.Errorf("%s with %s, %s: got %d, the backend saw it %d times, %d retries; want %d, %d, %d",
								method, b.name, how, a.status, got, s.BackendRetries-before.BackendRetries, status, times, retries)
						}
					}
				}
			}
		})
	}
}

// readerConn is a connection with bytes read from elsewhere.
type readerConn struct {
	net.Conn
	r io.Reader
}

func (c readerConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// TestEarlyResponses: the final response comes while the body is still on its way (RFC
// 9110 10.1.1, RFC 9112 9.5, 9.6). The client can read it, and nothing it sends behind
// it becomes a request.
func TestEarlyResponses(t *testing.T) {
	t.Parallel()
	backends := map[string]func(net.Conn){
		"reads on":      func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"stops reading": nil,
		"closes":        func(net.Conn) {},
	}
	for _, size := range []int{1000, 4 << 20} {
		for _, framing := range []string{"length", "chunked"} {
			for name, then := range backends {
				for _, stops := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d/%s/backend %s/client stops=%t", size, framing, name, stops), func(t *testing.T) {
						r := newRig(t, nil)
						gone := make(chan struct{})
						later := make(chan string, 1)
						r.script(func(n int, c net.Conn) {
							head := readHead(c)
							if n > 0 {
								later <- head
							}
							say(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied")
							if then == nil {
								<-gone
								return
							}
							then(c)
						})
						defer close(gone)
						c := r.dial()
						lines, body := fmt.Sprintf("Content-Length: %d\r\n", size), strings.Repeat("x", size)
						if framing == "chunked" {
							lines, body = "Transfer-Encoding: chunked\r\n", chunked(body)
						}
						half := body[:len(body)/2]
						c.send(post(lines, ""))
						sent := make(chan struct{})
						go func() {
							defer close(sent)
							c.send(half)
							if !stops {
								c.send(body[len(half):])
								if size > 1000 { // a short one may have come whole before the answer
									c.send(smuggled)
								}
							}
						}()
						a := c.final(1)[0]
						if a.status != 403 || a.body != "denied" {
							t.Errorf("got %d %q", a.status, a.body)
						}
						if a.get("Connection") == "close" {
							c.waitEnd()
						} else if size > 1000 || stops {
							t.Error("the connection stays open in the middle of a request")
						}
						if _, why := c.received(); why != nil && stops {
							t.Errorf("the connection ended with %v", why)
						}
						<-sent
						c.close()
						r.await("all are gone", func(s *proxy.Stats) bool {
							return s.ClientsActive == 0 && s.ExchangesActive == 0 && s.BuffersInUse == 0
						})
						select {
						case head := <-later:
							t.Errorf("the backend got %q", head)
						default:
						}
					})
				}
			}
		}
	}
}

// TestExpectContinue: RFC 9110 10.1.1, end to end.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"length", "chunked"} {
		lines, body := "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"
		if framing == "chunked" {
			lines, body = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", chunked("hello")
		}
		request := post(lines, "")
		t.Run(framing+"/asked for", func(t *testing.T) {
			r := newRig(t, nil)
			r.script(func(_ int, c net.Conn) {
				for {
					head := readHead(c)
					if head == "" {
						return
					}
					if !strings.Contains(head, "Expect: 100-continue\r\n") {
						t.Errorf("the backend got %q", head)
					}
					say(c, "HTTP/1.1 100 Continue\r\n\r\n")
					m := readRequest(readerConn{c, io.MultiReader(strings.NewReader(head), c)})
					if m == nil || m.body != "hello" {
						t.Errorf("the backend got %+v", m)
						return
					}
					say(c, okAnswer)
				}
			})
			c := r.dial()
			for n := 1; n <= 3; n++ {
				c.send(request)
				r.await("100 was passed on", func(s *proxy.Stats) bool { return s.Responses1xx == uint64(n) })
				c.send(body)
				if a := c.final(n)[n-1]; a.status != 200 || a.get("Connection") != "" {
					t.Fatalf("got %+v", a)
				}
			}
			all, _, _ := c.answers()
			if len(all) != 6 || all[0].status != 100 || all[2].status != 100 || all[4].status != 100 {
				t.Errorf("got %d responses", len(all))
			}
		})
		t.Run(framing+"/refused", func(t *testing.T) {
			r := newRig(t, nil)
			r.script(func(_ int, c net.Conn) {
				readHead(c)
				say(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
				_, _ = io.Copy(io.Discard, c)
			})
			c := r.dial()
			c.send(request)
			if a := c.final(1)[0]; a.status != 413 || a.body != "no" || a.get("Connection") != "close" {
				t.Errorf("got %+v: whether the body follows is open, so the connection must close", a)
			}
			c.waitEnd()
			c.close()
			r.idle(0)
		})
		t.Run(framing+"/not waited for", func(t *testing.T) {
			r := newRig(t, nil)
			w := r.witness()
			c := r.dial()
			c.send(request + body + get(""))
			if all := c.final(2); all[0].status != 200 || all[1].status != 200 {
				t.Errorf("got %+v", all)
			}
			whole, _, faults := w.since(witnessed{})
			if len(whole) != 2 || whole[0].body != "hello" || len(faults) > 0 {
				t.Errorf("the backend got %d requests, %q", len(whole), faults)
			}
		})
		t.Run(framing+"/never answered with 100", func(t *testing.T) {
			r := newRig(t, nil)
			r.script(func(_ int, c net.Conn) {
				for readRequest(c) != nil {
					say(c, okAnswer)
				}
			})
			c := r.dial()
			c.send(request)
			r.await("the head was passed on", func(s *proxy.Stats) bool { return s.BackendBytesOut > 0 })
			c.send(body) // the client's patience is over
			if a := c.final(1)[0]; a.status != 200 {
				t.Errorf("got %+v", a)
			}
		})
	}
	t.Run("backend closes instead", func(t *testing.T) {
		r := newRig(t, nil)
		r.script(func(_ int, c net.Conn) { readHead(c) })
		c := r.dial()
		c.send(post("Expect: 100-continue\r\nContent-Length: 5\r\n", ""))
		if a := c.final(1)[0]; a.status != 502 || a.get("Connection") != "close" {
			t.Errorf("got %+v", a)
		}
		c.waitEnd()
	})
}
