package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ringroad/proxy/config"
)

// echo answers with the request's method and body.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Method", r.Method)
	w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
	if r.URL.Query().Get("flush") != "" {
		w.(http.Flusher).Flush()
	}
	_, _ = w.Write(b)
}

// pattern returns n bytes that differ everywhere.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + i>>16)
	}
	return b
}

func TestBodiesArriveWhole(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	client := r.client()
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "X-OTHER"} {
		for _, size := range []int{0, 1, 1000, headBytes - 150, headBytes, relayBytes, relayBytes + 1, 3 << 20} {
			if size > relayBytes && method != "POST" {
				continue
			}
			for _, chunked := range []bool{false, true} {
				for _, flush := range []string{"", "?flush=1"} {
					name := fmt.Sprintf("%s/%d/chunked=%t%s", method, size, chunked, flush)
					body := pattern(size)
					var in io.Reader = bytes.NewReader(body)
					if chunked {
						in = io.MultiReader(in) // hides the length
					}
					req, err := http.NewRequest(method, "http://"+front+"/"+flush, in)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := client.Do(req)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || resp.StatusCode != 200 {
						t.Fatalf("%s: status %d, %v", name, resp.StatusCode, err)
					}
					if sha256.Sum256(got) != sha256.Sum256(body) {
						t.Fatalf("%s: got %d bytes, which are not what was sent", name, len(got))
					}
					if got := resp.Header.Get("X-Method"); got != method {
						t.Fatalf("%s: backend saw method %q", name, got)
					}
					if want := strconv.Itoa(size); !chunked && resp.Header.Get("X-Length") != want {
						t.Fatalf("%s: backend saw length %s", name, resp.Header.Get("X-Length"))
					}
				}
			}
		}
	}
	if s := r.stats(); s.ClientsAccepted != 1 || s.BackendConnects != 1 {
		t.Errorf("%d client connections and %d backend connections for requests one after the other, want 1 and 1", s.ClientsAccepted, s.BackendConnects)
	}
}

func TestResponsesWithoutBody(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"x"`)
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.WriteHeader(http.StatusNotModified)
		case "/chunked":
			w.(http.Flusher).Flush()
			say(w, "body")
		default:
			w.Header().Set("Content-Length", "1234")
			if r.Method != "HEAD" {
				_, _ = w.Write(pattern(1234))
			}
		}
	}))
	c := r.dial()
	for _, tt := range []struct {
		method, path string
		status       int
		length       int64
		body         int
	}{
		{"HEAD", "/", 200, 1234, 0},
		{"GET", "/204", 204, 0, 0},
		{"GET", "/304", 304, 0, 0},
		{"HEAD", "/chunked", 200, -1, 0},
		{"GET", "/", 200, 1234, 1234},
		{"GET", "/chunked", 200, -1, 4},
		{"OPTIONS", "*", 200, 0, 0},
	} {
		c.send(tt.method + " " + tt.path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, body := c.response(tt.method)
		if resp.StatusCode != tt.status || len(body) != tt.body || tt.path != "*" && resp.Header.Get("Etag") == "" {
			t.Errorf("%s %s: %d, %d bytes, %v", tt.method, tt.path, resp.StatusCode, len(body), resp.Header)
		}
		if tt.method == "HEAD" && resp.ContentLength != tt.length {
			t.Errorf("%s %s: length %d, want %d", tt.method, tt.path, resp.ContentLength, tt.length)
		}
	}
	if s := r.stats(); s.ClientsAccepted != 1 {
		t.Errorf("%d connections accepted, want 1", s.ClientsAccepted)
	}
}

func TestCloseDelimitedResponses(t *testing.T) {
	body := string(pattern(200_000))
	for _, tt := range []struct {
		name, head, request string
		chunked, closes     bool
	}{
		{"to HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false},
		{"to HTTP/1.1, from HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false},
		{"to HTTP/1.0", "HTTP/1.1 200 OK\r\n\r\n", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				readHead(in)
				say(c, tt.head+body)
			})
			c := r.dial()
			for range 2 {
				c.send(tt.request)
				resp, got := c.response("GET")
				if got != body || len(resp.TransferEncoding) > 0 != tt.chunked {
					t.Fatalf("%d bytes, transfer encoding %v", len(got), resp.TransferEncoding)
				}
				if tt.closes {
					c.closed()
					return
				}
			}
		})
	}
}

func TestHTTP10Clients(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/chunked" {
			w.(http.Flusher).Flush()
		}
		say(w, "hello")
	}))
	t.Run("closes by default", func(t *testing.T) {
		c := r.dial()
		c.send("GET / HTTP/1.0\r\n\r\n")
		c.expect("GET", 200, "hello")
		c.closed()
	})
	t.Run("keep-alive when asked", func(t *testing.T) {
		c := r.dial()
		for range 3 {
			c.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
			resp := c.expect("GET", 200, "hello")
			if !strings.EqualFold(resp.Header.Get("Connection"), "keep-alive") {
				t.Fatalf("Connection: %q, an HTTP/1.0 client needs keep-alive", resp.Header.Get("Connection"))
			}
		}
	})
	t.Run("chunked comes plain", func(t *testing.T) {
		c := r.dial()
		c.send("GET /chunked HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
		all := c.closed()
		if strings.Contains(strings.ToLower(all), "transfer-encoding") || !strings.HasSuffix(all, "\r\n\r\nhello") {
			t.Fatalf("got %q", all)
		}
	})
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.URL.Path, b)
	}))
	const n = 400
	c := r.dial()
	go func() {
		var all strings.Builder
		for i := range n {
			switch i % 3 {
			case 0:
				fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			case 1:
				fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", i)
			case 2:
				fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", i)
			}
		}
		say(c.Conn, all.String())
	}()
	for i := range n {
		want := fmt.Sprintf("/%d ", i)
		if i%3 > 0 {
			want += "abc"
		}
		c.expect("GET", 200, want)
	}
}

func TestRequestsInAnyDelivery(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	const request = "POST /x HTTP/1.1\r\nHost: a\r\nX-Field: value\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n"
	c := r.dial()
	received := uint64(0)
	for i := range len(request) {
		c.send(request[:i])
		r.await("the first part was read", func(s *Stats) bool { return s.ClientBytesIn == received+uint64(i) })
		c.send(request[i:])
		c.expect("POST", 200, "hello!")
		received += uint64(len(request))
	}
	for i := range len(request) {
		c.send(request[i : i+1])
	}
	c.expect("POST", 200, "hello!")
}

func TestForwardedRequest(t *testing.T) {
	tests := []struct {
		name   string
		change func(*config.Config)
		send   string
		want   []string // lines of the head at the backend
		not    []string
	}{
		{
			name: "default",
			send: "GET http://Example.org:80/a?b HTTP/1.1\r\nHost: example.org\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: websocket\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nx-Other: A  b\r\n\r\n",
			want: []string{"GET /a?b HTTP/1.1", "X-Forwarded-For: 9.9.9.9, 10.1.0.2", "X-Forwarded-Proto: http", "x-Other: A  b"},
			not:  []string{"x-hop", "keep-alive:", "upgrade", "via:", "https"},
		},
		{
			name:   "replace, with Via",
			change: func(c *config.Config) { c.XForwarded, c.Via = config.XForwardedReplace, true },
			send:   "GET / HTTP/1.0\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
			want:   []string{"GET / HTTP/1.1", "Host: h", "X-Forwarded-For: 10.1.0.2", "X-Forwarded-Host: h", "Via: 1.0 ringroad"},
			not:    []string{"9.9.9.9"},
		},
		{
			name: "without Host",
			send: "GET / HTTP/1.0\r\n\r\n",
			want: []string{"Host: 10.1.0.1:80"},
		},
		{
			name:   "off",
			change: func(c *config.Config) { c.XForwarded = config.XForwardedOff },
			send:   "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
			want:   []string{"X-Forwarded-For: 9.9.9.9"},
			not:    []string{"10.1.0.2", "x-forwarded-proto"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.change)
			got := make(chan string, 1)
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				got <- readHead(in)
				say(c, ok)
			})
			c := r.dial()
			c.send(tt.send)
			resp := c.expect("GET", 200, "ok")
			if resp.Header.Get("Date") == "" {
				t.Error("no Date in a response that came without (RFC 9110 6.6.1)")
			}
			if v := resp.Header.Get("Via"); (v != "") != (r.worker.config.Via) {
				t.Errorf("Via of the response: %q", v)
			}
			head := <-got
			for _, line := range tt.want {
				if !strings.Contains(head, line+"\r\n") {
					t.Errorf("no line %q in\n%s", line, head)
				}
			}
			for _, s := range tt.not {
				if strings.Contains(strings.ToLower(head), s) {
					t.Errorf("%q in\n%s", s, head)
				}
			}
		})
	}
}

func TestIPv6Client(t *testing.T) {
	r := newRig(t, nil)
	got := make(chan string, 1)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		got <- readHead(in)
		say(c, ok)
	})
	resp, err := r.client().Get("http://[fd00:1::1]/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if head := <-got; !strings.Contains(head, "X-Forwarded-For: fd00:1::2\r\n") {
		t.Error(head)
	}
}

func TestInterimResponses(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</s.css>")
		w.WriteHeader(http.StatusEarlyHints)
		echo(w, r) // reading the body makes the server send 100 when it is expected
	}))
	var seen []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		seen = append(seen, code)
		return nil
	}}
	req, _ := http.NewRequest("POST", "http://"+front+"/", bytes.NewReader(pattern(100_000)))
	req.Header.Set("Expect", "100-continue")
	resp, err := r.client().Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, pattern(100_000)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if len(seen) != 2 || seen[0] != 103 || seen[1] != 100 {
		t.Errorf("interim responses %v, want 103 and 100", seen)
	}
	c := r.dial()
	c.send("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
	c.expect("POST", 200, "hi") // ReadResponse would return a 1xx
}

func TestTrailersGoThrough(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		swallow(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.(http.Flusher).Flush()
		say(w, "body")
		w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
	}))
	req, _ := http.NewRequest("POST", "http://"+front+"/", io.MultiReader(strings.NewReader("data")))
	req.Trailer = http.Header{"X-Sum": {"42"}}
	resp, err := r.client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	swallow(resp.Body)
	if got := resp.Trailer.Get("X-Sum"); got != "42" {
		t.Errorf("trailer %q", got)
	}
}

func TestRoutes(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		api := c.Upstreams[0]
		api.Name, api.Servers = "api", nil
		for _, s := range c.Upstreams[0].Servers {
			api.Servers = append(api.Servers, netipPort(s, 8081))
		}
		c.Upstreams = append(c.Upstreams, api)
		for i := range c.Listeners {
			c.Listeners[i].Routes = []config.Route{
				{Host: "api.example.org", Path: "/v1/", Upstream: "api"},
				{Host: "*.example.org", Path: "/", Upstream: "app"},
			}
		}
	})
	for port, name := range map[int]string{8080: "app", 8081: "api"} {
		r.serve(port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { say(w, name) }))
	}
	c := r.dial()
	for _, tt := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /v1/x HTTP/1.1\r\nHost: API.example.org:80\r\n\r\n", 200, "api"},
		{"GET /v2/x HTTP/1.1\r\nHost: api.example.org\r\n\r\n", 200, "app"},
		{"GET http://api.example.org/v1/ HTTP/1.1\r\nHost: x\r\n\r\n", 200, "api"},
		{"GET http://www.example.org HTTP/1.1\r\nHost: x\r\n\r\n", 200, "app"},
		{"POST /v1/ HTTP/1.1\r\nHost: example.net\r\nContent-Length: 4\r\n\r\nbody", 404, ""},
		{"GET /v1/ HTTP/1.1\r\nHost: api.example.org\r\n\r\n", 200, "api"},
	} {
		c.send(tt.request)
		c.expect("GET", tt.status, tt.body)
	}
}

func TestManyClientsShareFewBackendConnections(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	client := r.client()
	const clients, requests = 32, 40
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range requests {
				body := fmt.Sprintf("client %d request %d", i, j)
				resp, err := client.Post("http://"+front+"/", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != body {
					t.Errorf("got %q, %v; want %q", got, err, body)
					return
				}
			}
		})
	}
	wg.Wait()
	s := r.stats()
	if s.Requests != clients*requests || s.Responses2xx != clients*requests {
		t.Errorf("%d requests, %d responses", s.Requests, s.Responses2xx)
	}
	if s.BackendConnects > clients || s.BackendConnects+s.BackendReuses != clients*requests {
		t.Errorf("%d connections and %d reuses for %d requests of %d clients", s.BackendConnects, s.BackendReuses, clients*requests, clients)
	}
}
