package proxy

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack/stacktest"
)

// heads records what a backend gets and answers every request with the same bytes.
func (r *rig) heads(answer string) (got chan string) {
	got = make(chan string, 16)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for {
			head := readHead(in)
			if !strings.HasSuffix(head, "\r\n\r\n") {
				return
			}
			got <- head
			say(c, answer)
		}
	})
	return got
}

// lines makes a head of its lines.
func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n\r\n" }

func fields(pairs ...string) (list []config.Field) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, config.Field{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func TestRequestFields(t *testing.T) {
	request := lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "X-A: 1", "x-a: 2", "Cookie: c", "X-Forwarded-Proto: gopher", "X-B: 3")
	tests := []struct {
		name            string
		listener, route config.Edits
		config          func(*config.Config)
		want            string
	}{
		{"none", config.Edits{}, config.Edits{}, nil,
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "X-A: 1", "x-a: 2", "Cookie: c", "X-Forwarded-Proto: gopher", "X-B: 3")},
		{"set, add, remove",
			config.Edits{Set: fields("X-a", "new", "X-New", "n"), Add: fields("X-B", "4"), Remove: []string{"cookie", "X-None"}}, config.Edits{}, nil,
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "X-Forwarded-Proto: gopher", "X-B: 3", "X-a: new", "X-New: n", "X-B: 4")},
		{"the route goes before the listener",
			config.Edits{Set: fields("X-A", "l", "X-L", "l"), Add: fields("X-B", "l", "X-C", "l"), Remove: []string{"Cookie"}},
			config.Edits{Set: fields("Cookie", "r"), Add: fields("x-l", "r"), Remove: []string{"X-B", "x-a"}}, nil,
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "X-Forwarded-Proto: gopher", "X-L: l", "Cookie: r", "X-C: l", "x-l: r")},
		{"look-alikes", config.Edits{Set: fields("X-A", "new", "Cookie", "n"), Remove: []string{"X-Forwarded-Proto"}}, config.Edits{}, nil,
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "X-B: 3", "X-A: new", "Cookie: n")},
		{"variables",
			config.Edits{Set: fields("X-A", "$host|$remote_addr|${scheme}://x$request_uri|$$"), Remove: []string{"X-B", "Cookie"}}, config.Edits{}, nil,
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "X-Forwarded-Proto: gopher", "X-A: example.org|10.1.0.2|http://x/a?b|$")},
		{"host", config.Edits{Set: fields("Host", "l.example")}, config.Edits{Set: fields("host", "backend.example:81"), Remove: []string{"X-A", "X-B"}}, nil,
			lines("GET /a?b HTTP/1.1", "Host: backend.example:81", "Cookie: c", "X-Forwarded-Proto: gopher")},
		{"before x_forwarded",
			config.Edits{Set: fields("X-Forwarded-Proto", "https"), Remove: []string{"X-Forwarded-Host", "X-A", "X-B"}}, config.Edits{},
			func(c *config.Config) { c.XForwarded = config.XForwardedAppend },
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "Cookie: c", "X-Forwarded-For: 10.1.0.2", "X-Forwarded-Proto: https")},
		{"X-Forwarded-For removed",
			config.Edits{}, config.Edits{Remove: []string{"x-forwarded-for", "X-A", "X-B", "Cookie"}},
			func(c *config.Config) { c.XForwarded = config.XForwardedReplace },
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "X-Forwarded-Proto: http", "X-Forwarded-Host: Example.org:80")},
		{"beside via", config.Edits{Add: fields("X-B", "4"), Remove: []string{"X-A"}}, config.Edits{},
			func(c *config.Config) { c.Via = true },
			lines("GET /a?b HTTP/1.1", "Host: Example.org:80", "Cookie: c", "X-Forwarded-Proto: gopher", "X-B: 3", "Via: 1.1 ringroad", "X-B: 4")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			request := request
			if tt.name == "look-alikes" {
				request = strings.Replace(request, "X-B", "X_A: 5\r\nx_forwarded-PROTO: x\r\nX-B", 1)
			}
			r := newRig(t, func(c *config.Config) {
				c.XForwarded = config.XForwardedOff
				c.Listeners[0].Request, c.Listeners[0].Routes[0].Request = tt.listener, tt.route
				if tt.config != nil {
					tt.config(c)
				}
			})
			got := r.heads(ok)
			c := r.dial()
			for range 2 {
				c.send(request)
				c.expect("GET", 200, "ok")
				if head := <-got; head != tt.want {
					t.Errorf("backend got\n%s\nwant\n%s", head, tt.want)
				}
			}
		})
	}
}

func TestResponseFields(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		l := &c.Listeners[0]
		l.Response = config.Edits{Set: fields("Server", "front", "Strict-Transport-Security", "max-age=1"), Remove: []string{"X-Powered-By"}}
		l.Routes = []config.Route{
			{Path: "/none", Upstream: "app", Response: config.Edits{Remove: []string{"server", "strict-transport-security"}}},
			{Path: "/gone", Return: &config.Return{Status: 410, Type: "text/plain"}},
			{Path: "/down", Upstream: "down"},
			{Host: "*.org", Upstream: "app", Response: config.Edits{Add: fields("X-From", "$host")}},
		}
		c.Upstreams = append(c.Upstreams, config.Upstream{Name: "down", Servers: c.Upstreams[0].Servers, KeepAliveTimeout: time.Minute, Balance: config.RoundRobin})
		c.Upstreams[1].Servers = c.Upstreams[1].Servers[:1:1]
		c.Upstreams[1].Servers[0] = netipPort(c.Upstreams[1].Servers[0], 9)
		c.Upstreams[0].Servers = append(c.Upstreams[0].Servers[:0:0], netipPort(c.Upstreams[0].Servers[0], 8080))
	})
	r.heads("HTTP/1.1 200 OK\r\nServer: back\r\nDate: d\r\nX-Powered-By: x\r\nX-From: back\r\nContent-Length: 0\r\n\r\n")
	c := r.dial()
	for _, tt := range []struct{ host, path, want string }{
		{"a.ORG:80", "/", lines("HTTP/1.1 200 OK", "Date: d", "X-From: back", "Content-Length: 0", "Server: front", "Strict-Transport-Security: max-age=1", "X-From: a.org")},
		{"a.org", "/none", lines("HTTP/1.1 200 OK", "Date: d", "X-From: back", "Content-Length: 0")},
		{"a.org", "/gone", "HTTP/1.1 410 Gone\r\nDate: *\r\nContent-Type: text/html\r\nContent-Length: *\r\nServer: front\r\nStrict-Transport-Security: max-age=1\r\n\r\n"},
		{"a.org", "/down", "HTTP/1.1 502 Bad Gateway\r\nDate: *\r\nContent-Type: text/html\r\nContent-Length: *\r\nServer: front\r\nStrict-Transport-Security: max-age=1\r\n\r\n"},
		{"a.com", "/", "HTTP/1.1 404 Not Found\r\nServer: ringroad\r\nDate: *\r\nContent-Type: text/html\r\nContent-Length: *\r\n\r\n"},
	} {
		c.send(lines("HEAD "+tt.path+" HTTP/1.1", "Host: "+tt.host))
		head := readHead(c.in)
		if got := anyLine(anyLine(head, "Date: ", tt.want), "Content-Length: ", tt.want); got != tt.want {
			t.Errorf("%s%s: got\n%s\nwant\n%s", tt.host, tt.path, got, tt.want)
		}
	}
}

// anyLine puts a star in place of what stands behind name in head, where want has
// one.
func anyLine(head, name, want string) string {
	if !strings.Contains(want, name+"*") {
		return head
	}
	before, after, _ := strings.Cut(head, name)
	_, after, _ = strings.Cut(after, "\r\n")
	return before + name + "*\r\n" + after
}

// TestRemovedFieldsAreNoTrailers: what is kept from a backend in the head must not
// reach it behind the body.
func TestRemovedFieldsAreNoTrailers(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Listeners[0].Request = config.Edits{Remove: []string{"X-User"}, Set: fields("X-Role", "none")}
		c.Listeners[0].Response = config.Edits{Remove: []string{"X-Secret"}}
	})
	got := make(chan string, 1)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		got <- readHead(in)
		say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Secret: s\r\nX-Sum: 1\r\nx-secret: t\r\n\r\n")
		swallow(in)
	})
	c := r.dial()
	c.send(lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked") + "1\r\nx\r\n0\r\nx-user: root\r\nX-Sum: 2\r\nX-ROLE: admin\r\nX-Users: u\r\n\r\n")
	if body := <-got; body != "1\r\nx\r\n0\r\nX-Sum: 2\r\nX-Users: u\r\n\r\n" {
		t.Errorf("backend got %q", body)
	}
	resp := c.expect("POST", 200, "ok")
	if len(resp.Trailer) != 1 || resp.Trailer.Get("X-Sum") != "1" {
		t.Errorf("client got the trailers %v", resp.Trailer)
	}
}

func TestForwarded(t *testing.T) {
	tests := []struct {
		mode        config.Forwarded
		edits       config.Edits
		front, host string
		sent        []string
		want        []string
	}{
		{config.ForwardedOff, config.Edits{}, front, "a.org", []string{"Forwarded: for=x"}, []string{"for=x"}},
		{config.ForwardedAppend, config.Edits{}, front, "a.org", nil, []string{"for=10.1.0.2;host=a.org;proto=http"}},
		{config.ForwardedAppend, config.Edits{}, front, "a.org:8080", []string{"Forwarded: for=x", "forwarded: for=y"}, []string{"for=x", "for=y", `for=10.1.0.2;host="a.org:8080";proto=http`}},
		{config.ForwardedReplace, config.Edits{}, front, "a.org", []string{"Forwarded: for=x"}, []string{"for=10.1.0.2;host=a.org;proto=http"}},
		{config.ForwardedReplace, config.Edits{}, frontIPv6, "[fd00::7]", nil, []string{`for="[fd00:1::2]";host="[fd00::7]";proto=http`}},
		{config.ForwardedAppend, config.Edits{Set: fields("forwarded", "for=_hidden")}, front, "a.org", []string{"Forwarded: for=x"}, []string{"for=_hidden"}},
		{config.ForwardedAppend, config.Edits{Remove: []string{"Forwarded"}}, front, "a.org", []string{"Forwarded: for=x"}, nil},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s/%s", tt.mode, tt.host), func(t *testing.T) {
			r := newRig(t, func(c *config.Config) {
				c.Forwarded = tt.mode
				for i := range c.Listeners {
					c.Listeners[i].Request = tt.edits
				}
			})
			got := r.heads(ok)
			conn, err := r.Client.Dial(tt.front)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			say(conn, lines(append([]string{"GET / HTTP/1.1", "Host: " + tt.host}, tt.sent...)...))
			req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(<-got)))
			if err != nil {
				t.Fatal(err)
			}
			if have := req.Header.Values("Forwarded"); strings.Join(have, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got %q, want %q", have, tt.want)
			}
		})
	}
}

// silentPort is a port of the backend that answers nothing, not even a SYN.
const silentPort = 9999

func (r *rig) silence() {
	r.LoseToBackend(func(frame []byte) bool {
		return binary.BigEndian.Uint16(frame[14+20+2:]) != silentPort
	})
}

const frontIPv6 = "[fd00:1::1]:80"

func TestRedirects(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		for i := range c.Listeners {
			c.Listeners[i].Routes = []config.Route{
				{Path: "/app", Upstream: "app"},
				{Path: "/old", Redirect: &config.Redirect{Status: 301, Location: "/new$request_uri"}},
				{Redirect: &config.Redirect{Status: 308, Location: "https://$host:8443$request_uri"}, Response: config.Edits{Set: fields("X-A", "b")}},
			}
		}
	})
	r.serve(8080, http.HandlerFunc(echo))
	tests := []struct {
		front, request, method string
		status                 int
		location               string
	}{
		{front, lines("GET /a?b=c HTTP/1.1", "Host: Example.ORG:80"), "GET", 308, "https://example.org:8443/a?b=c"},
		{front, lines("GET /old/x HTTP/1.1", "Host: a"), "GET", 301, "/new/old/x"},
		{front, lines("HEAD / HTTP/1.1", "Host: a"), "HEAD", 308, "https://a:8443/"},
		{front, lines("GET //evil.example/x HTTP/1.1", "Host: a"), "GET", 308, "https://a:8443//evil.example/x"},
		{front, lines("GET http://b.org/x HTTP/1.1", "Host: b.org"), "GET", 308, "https://b.org:8443/x"},
		{front, lines("GET http://b.org?q HTTP/1.1", "Host: b.org"), "GET", 308, "https://b.org:8443/?q"},
		{front, lines("OPTIONS * HTTP/1.1", "Host: a"), "OPTIONS", 308, "https://a:8443/"},
		{front, lines("POST /p HTTP/1.1", "Host: a", "Content-Length: 3") + "abc", "POST", 308, "https://a:8443/p"},
		{front, lines("GET / HTTP/1.0", "Connection: keep-alive"), "GET", 308, "https://10.1.0.1:8443/"},
		{frontIPv6, lines("GET / HTTP/1.0", "Connection: keep-alive"), "GET", 308, "https://[fd00:1::1]:8443/"},
		{frontIPv6, lines("GET / HTTP/1.1", "Host: [FD00::A]:80"), "GET", 308, "https://[fd00::a]:8443/"},
	}
	for _, tt := range tests {
		conn, err := r.Client.Dial(tt.front)
		if err != nil {
			t.Fatal(err)
		}
		limit(conn)
		c := &raw{conn, bufio.NewReader(conn), t}
		c.send(tt.request)
		resp, body := c.response(tt.method)
		if resp.StatusCode != tt.status || resp.Header.Get("Location") != tt.location {
			t.Errorf("%q: got %d to %q, want %d to %q", tt.request, resp.StatusCode, resp.Header.Get("Location"), tt.status, tt.location)
		}
		if (tt.status == 308) != (resp.Header.Get("X-A") == "b") || tt.method == "GET" && !strings.Contains(body, http.StatusText(tt.status)) {
			t.Errorf("%q: fields %v, body %q", tt.request, resp.Header, body)
		}
		// The connection goes on, also to routes with an upstream.
		c.send(lines("PUT /app HTTP/1.1", "Host: a", "Content-Length: 2") + "up")
		c.expect("PUT", 200, "up")
		conn.Close()
	}
	if s := r.stats(); s.Responses3xx != uint64(len(tests)) || s.Answers != uint64(len(tests)) {
		t.Errorf("%d redirections, %d answers, want %d", s.Responses3xx, s.Answers, len(tests))
	}
}

func TestFixedAnswers(t *testing.T) {
	long := strings.Repeat("x", 32<<10)
	r := newRig(t, func(c *config.Config) {
		c.Listeners[0].Connect = true
		c.Listeners[0].Routes = []config.Route{
			{Path: "/text", Return: &config.Return{Status: 200, Body: "hello\n", Type: "text/plain"}},
			{Path: "/json", Return: &config.Return{Status: 403, Body: "{}", Type: "application/json"}},
			{Path: "/empty", Return: &config.Return{Status: 200, Type: "text/plain"}},
			{Path: "/204", Return: &config.Return{Status: 204, Type: "text/plain"}},
			{Path: "/503", Return: &config.Return{Status: 503, Type: "text/plain"}},
			{Path: "/long", Return: &config.Return{Status: 299, Body: long, Type: "text/plain"}},
			{Return: &config.Return{Status: 200, Body: "any", Type: "text/plain"}},
		}
	})
	c := r.dial()
	for _, tt := range []struct {
		method, path string
		status       int
		kind, body   string // "": none; "*": some page
		length       int64
	}{
		{"GET", "/text", 200, "text/plain", "hello\n", 6},
		{"HEAD", "/text", 200, "text/plain", "", 6},
		{"GET", "/json", 403, "application/json", "{}", 2},
		{"GET", "/empty", 200, "", "", 0},
		{"GET", "/204", 204, "", "", 0},
		{"GET", "/503", 503, "text/html", "*", -1},
		{"GET", "/long", 299, "text/plain", long, 32 << 10},
		{"DELETE", "/other", 200, "text/plain", "any", 3},
	} {
		c.send(lines(tt.method+" "+tt.path+" HTTP/1.1", "Host: a"))
		resp, body := c.response(tt.method)
		if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != tt.kind || body != tt.body && tt.body != "*" {
			t.Errorf("%s %s: got %d %q %.100q", tt.method, tt.path, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		if tt.length >= 0 && resp.ContentLength != tt.length {
			t.Errorf("%s %s: length %d, want %d", tt.method, tt.path, resp.ContentLength, tt.length)
		}
	}
	// A body that is still to come is not waited for, and the answer is readable.
	c.send(lines("POST /text HTTP/1.1", "Host: a", "Content-Length: 100") + "half")
	if resp := c.expect("POST", 200, "hello\n"); !resp.Close {
		t.Error("the connection goes on in the middle of a body")
	}
	// 200 to CONNECT would be a tunnel to nowhere.
	c = r.dial()
	c.send(lines("CONNECT a:1 HTTP/1.1", "Host: a:1"))
	c.expect("CONNECT", 501, "")
}

func TestErrorPagesFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, body string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	r := newRig(t, func(c *config.Config) {
		page := file("all.html", "<p>all</p>")
		c.ErrorPages = []config.ErrorPage{{Status: 404, File: page}, {Status: 502, File: page}, {Status: 400, File: page}}
		c.Listeners[0].ErrorPages = []config.ErrorPage{{Status: 502, File: file("own.json", `{"error": 502}`)}, {Status: 503, File: file("empty.txt", "")}}
		for i := range c.Listeners {
			c.Listeners[i].Routes = []config.Route{
				{Path: "/app", Upstream: "app"},
				{Path: "/503", Return: &config.Return{Status: 503, Type: "text/plain"}},
				{Path: "/backend", Upstream: "back"},
			}
		}
		c.Upstreams = append(c.Upstreams, config.Upstream{Name: "back", Servers: append(c.Upstreams[0].Servers[:0:0], netipPort(c.Upstreams[0].Servers[0], 8081)), KeepAliveTimeout: time.Minute, Balance: config.RoundRobin})
	})
	r.serve(8081, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "mine", http.StatusBadGateway) }))
	for _, tt := range []struct {
		front, request string
		status         int
		kind, body     string
	}{
		{front, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404, "text/html", "<p>all</p>"},
		{frontIPv6, "GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404, "text/html", "<p>all</p>"},
		{front, "GET /app HTTP/1.1\r\nHost: a\r\n\r\n", 502, "application/json", `{"error": 502}`},
		{frontIPv6, "GET /app HTTP/1.1\r\nHost: a\r\n\r\n", 502, "text/html", "<p>all</p>"},
		{front, "GET /503 HTTP/1.1\r\nHost: a\r\n\r\n", 503, "", ""},
		{frontIPv6, "GET /503 HTTP/1.1\r\nHost: a\r\n\r\n", 503, "text/html", "*"},
		{front, "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "text/html", "<p>all</p>"},
		{front, "GET /backend HTTP/1.1\r\nHost: a\r\n\r\n", 502, "text/plain; charset=utf-8", "mine\n"},
	} {
		conn, err := r.Client.Dial(tt.front)
		if err != nil {
			t.Fatal(err)
		}
		limit(conn)
		c := &raw{conn, bufio.NewReader(conn), t}
		c.send(tt.request)
		resp, body := c.response("GET")
		if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != tt.kind || body != tt.body && tt.body != "*" {
			t.Errorf("%q: got %d %q %q", tt.request, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		conn.Close()
	}
}

func TestErrorPagesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, "long.html")
	if err := os.WriteFile(long, make([]byte, config.MaxErrorPageBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		filepath.Join(dir, "none.html"): "no such file",
		long:                            "is longer than 32768 bytes",
	} {
		c := config.Default()
		c.Listeners = []config.Listener{{ErrorPages: []config.ErrorPage{{Status: 502, File: name}}}}
		_, err := New(Options{Config: c, Stack: stacktest.New(t, nil).Stack})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "502") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRouteTimeouts: each shortens a wait of its route and of no other.
func TestRouteTimeouts(t *testing.T) {
	post := "POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"
	get := "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n"
	tests := []struct {
		name   string
		set    config.RouteTimeouts
		send   string
		status int // 0: cut off
		count  func(*Stats) uint64
	}{
		{"client_body", config.RouteTimeouts{ClientBody: short}, post, 408, func(s *Stats) uint64 { return s.TimeoutsClientBody }},
		{"backend_read", config.RouteTimeouts{BackendRead: short}, get, 504, func(s *Stats) uint64 { return s.TimeoutsBackendRead }},
		{"connect", config.RouteTimeouts{Connect: short}, "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 504, func(s *Stats) uint64 { return s.TimeoutsConnect }},
		{"backend_send", config.RouteTimeouts{BackendSend: short}, "POST /quick HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n", 504, func(s *Stats) uint64 { return s.TimeoutsBackendSend }},
		{"client_send", config.RouteTimeouts{ClientSend: short}, "GET /quick/endless HTTP/1.1\r\nHost: a\r\n\r\n", 0, func(s *Stats) uint64 { return s.TimeoutsClientSend }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) {
				nowhere := c.Upstreams[0]
				nowhere.Name = "nowhere"
				nowhere.Servers = append(nowhere.Servers[:0:0], netipPort(nowhere.Servers[0], silentPort))
				c.Upstreams = append(c.Upstreams, nowhere)
				c.Listeners[0].Routes = []config.Route{
					{Path: "/quick", Upstream: "app", Timeouts: tt.set},
					{Path: "/nowhere", Upstream: "nowhere", Timeouts: tt.set},
					{Upstream: "app"},
				}
			})
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				if strings.Contains(readHead(in), "endless") {
					say(c, "HTTP/1.1 200 OK\r\n\r\n")
					pour(c, -1)
				}
				<-r.done // neither reads nor answers
			})
			r.silence()
			other := r.dial()
			other.send(strings.Replace(post, "/quick", "/patient", 1))
			c := r.dial()
			c.send(tt.send)
			if tt.name == "backend_send" {
				go pour(c.Conn, 999999999)
			}
			if tt.status != 0 {
				c.expect("GET", tt.status, "")
			}
			s := r.await("the timeout is over", func(s *Stats) bool { return tt.count(s) > 0 })
			if tt.count(&s) != 1 || s.TimeoutsClientBody+s.TimeoutsBackendRead+s.TimeoutsConnect+s.TimeoutsBackendSend+s.TimeoutsClientSend != 1 {
				t.Errorf("timeouts: %+v", s)
			}
			if s.ExchangesActive != 1 {
				t.Errorf("%d exchanges left, want that of the other route", s.ExchangesActive)
			}
			r.stop()
		})
	}
}

func TestChunkLimits(t *testing.T) {
	head := lines("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked")
	for _, tt := range []struct {
		name   string
		limits func(*config.Limits)
		body   string
		status int
	}{
		{"an extension as by default", nil, "1;a=b\r\nx\r\n0\r\n\r\n", 200},
		{"no extension permitted", func(l *config.Limits) { l.ChunkExtensionBytes = 0 }, "1;a\r\nx\r\n0\r\n\r\n", 400},
		{"no extension there", func(l *config.Limits) { l.ChunkExtensionBytes, l.ChunkOverheadBytes = 0, 0 }, "1\r\nx\r\n0\r\n\r\n", 200},
		{"an extension too long", func(l *config.Limits) { l.ChunkExtensionBytes = 4 }, "1;a=bcd\r\nx\r\n0\r\n\r\n", 400},
		{"extensions too long", func(l *config.Limits) { l.ChunkOverheadBytes = 10 }, "1;a=b\r\nx\r\n1;a=b\r\nx\r\n1;a=b\r\nx\r\n0\r\n\r\n", 400},
		{"a trailer section too long", func(l *config.Limits) { l.TrailerBytes = 64 }, "0\r\nX: " + strings.Repeat("x", 64) + "\r\n\r\n", 431},
		{"too many trailers", func(l *config.Limits) { l.TrailerCount = 1 }, "0\r\nX: 1\r\nY: 2\r\n\r\n", 431},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) {
				if tt.limits != nil {
					tt.limits(&c.Limits)
				}
			})
			r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { echo(w, r) }))
			c := r.dial()
			c.send(head + tt.body)
			if resp, _ := c.response("POST"); resp.StatusCode != tt.status {
				t.Errorf("got %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
}
