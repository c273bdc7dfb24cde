package openloop

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

// serve answers each request of a connection with what answer returns; "" closes the connection.
func serve(t *testing.T, answer func(connection, request int) string) (address netip.AddrPort, connections *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	connections = new(atomic.Int64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			number := int(connections.Add(1)) - 1
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for i := 0; ; i++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					a := answer(number, i)
					if _, err := io.WriteString(c, a); err != nil || a == "" {
						return
					}
				}
			}()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String()), connections
}

const hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

func always(answer string) func(int, int) string { return func(int, int) string { return answer } }

func mustRun(t *testing.T, o Options) Result {
	t.Helper()
	if o.Request == nil {
		o.Request = []byte(request)
	}
	o.Timeout = 10 * time.Second
	r, err := Run(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAStallIsChargedToAllThatHadToWait: a closed loop would see one slow request.
func TestAStallIsChargedToAllThatHadToWait(t *testing.T) {
	const stall = 300 * time.Millisecond
	address, _ := serve(t, func(_, i int) string {
		if i == 150 {
			time.Sleep(stall)
		}
		return hello
	})
	r := mustRun(t, Options{Server: address, Connections: 1, Rate: 1000, Warm: 100 * time.Millisecond, Duration: 900 * time.Millisecond})
	// 300 requests were due during the stall, and every one but the last 100 or so waited for at least 100 ms: more than a fifth of 900.
	if r.Requests != 900 || r.Errors != 0 || r.P99 < 200e3 {
		t.Errorf("%+v; want 900 requests, and 1 %% of them to have waited for 200 ms", r)
	}
	if one := time.Duration(r.P999) * time.Microsecond; one < stall-50*time.Millisecond {
		t.Errorf("99.9 %% took at most %v, with a stall of %v", one, stall)
	}
}

func TestClosedLoopClosesAfterEach(t *testing.T) {
	address, connections := serve(t, always(hello))
	r := mustRun(t, Options{Server: address, Connections: 4, Duration: 200 * time.Millisecond, CloseEach: true})
	if n := uint64(connections.Load()); r.Errors != 0 || r.Requests == 0 || n != r.Requests {
		t.Errorf("%+v over %d connections", r, n)
	}
}

func TestOnceHoldsConnections(t *testing.T) {
	address, connections := serve(t, always(hello))
	held := int64(0)
	r, err := Run(Options{Server: address, Request: []byte(request), Connections: 100, Once: true, Timeout: 10 * time.Second}, func() { held = connections.Load() })
	if err != nil || held != 100 || r.Requests != 100 || r.Errors != 0 {
		t.Errorf("%+v, %v; %d connections were held", r, err, held)
	}
}

func TestErrorsAreCounted(t *testing.T) {
	for name, answer := range map[string]string{
		"other status":  "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
		"no length":     "HTTP/1.1 200 OK\r\n\r\n",
		"too long":      hello + "!",
		"closed":        "",
		"closing":       "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"no HTTP":       "hello\r\n\r\n",
		"bad length":    "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"endless lines": "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			address, _ := serve(t, func(c, i int) string {
				if c == 0 && i == 3 {
					return answer
				}
				return hello
			})
			r := mustRun(t, Options{Server: address, Connections: 1, Rate: 1000, Duration: 100 * time.Millisecond})
			if r.Errors != 1 || r.First == "" || r.Requests < 90 {
				t.Errorf("%+v; want one error, and the other requests over another connection", r)
			}
		})
	}
	if _, err := Run(Options{Server: netip.MustParseAddrPort("127.0.0.1:1"), Request: []byte(request), Connections: 1, Rate: 1, Duration: time.Second, Timeout: 100 * time.Millisecond}, nil); err == nil {
		t.Error("nothing listens, and Run does not say so")
	}
}

// TestResponseInPieces: whatever the pieces are.
func TestResponseInPieces(t *testing.T) {
	for size := 1; size <= len(hello); size++ {
		var r response
		for at := 0; at < len(hello); at += size {
			end := min(at+size, len(hello))
			done, err := r.take([]byte(hello[at:end]))
			if err != nil || done != (end == len(hello)) {
				t.Fatalf("pieces of %d: done %v, %v after %d bytes", size, done, err, end)
			}
		}
	}
}

func TestPercentile(t *testing.T) {
	var s samples
	if s.percentile(50) != 0 {
		t.Error("a percentile of nothing")
	}
	for i := 1000; i > 0; i-- {
		s.add(time.Duration(i) * time.Microsecond)
	}
	for p, want := range map[float64]float64{50: 500, 99: 990, 99.9: 999, 100: 1000} {
		if got := s.percentile(p); got != want {
			t.Errorf("%v %%: %v us, want %v", p, got, want)
		}
	}
}
