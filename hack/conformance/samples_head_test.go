package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// get is a GET with the given field lines behind Host, each with its line end.
func get(lines string) string { return "GET /p HTTP/1.1\r\nHost: a.example\r\n" + lines + "\r\n" }

// absent checks that a field was not forwarded.
func absent(name string) func(*message) error {
	return func(m *message) error {
		if m.count(name) > 0 {
			return fmt.Errorf("%s was forwarded", name)
		}
		return nil
	}
}

// has checks the only value of a field that was forwarded.
func has(name, value string) func(*message) error {
	return func(m *message) error {
		if m.count(name) != 1 || m.get(name) != value {
			return fmt.Errorf("%d %s: %q, want %q", m.count(name), name, m.get(name), value)
		}
		return nil
	}
}

// row is a sample in short: what is put into a template.
type row struct {
	text  string
	class class
}

// rows makes samples: template says what surrounds each text.
func rows(group string, template func(string) string, want string, all []row) (samples []sample) {
	for _, r := range all {
		s := sample{name: fmt.Sprintf("%s %q", group, r.text), raw: template(r.text), class: r.class}
		if len(r.text) > 100 {
			s.name = fmt.Sprintf("%s %q... %d", group, r.text[:20], len(r.text))
		}
		if r.class == accept || r.class == either {
			s.want = []string{want}
		}
		samples = append(samples, s)
	}
	return samples
}

// TestControlBytesAnywhere puts each control byte at every place of a head, and
// replaces each line end by others: no place is one where they may stand (RFC 9112
// 2.2, RFC 9110 5.5).
func TestControlBytesAnywhere(t *testing.T) {
	t.Parallel()
	head := "POST /p HTTP/1.1\r\nHost: a.example\r\nX-A: b c\r\nContent-Length: 5\r\n\r\n"
	var all []sample
	for _, c := range []string{"\x00", "\r", "\n", "\x0b", "\x0c", "\x7f", "\x1b"} {
		for i := range len(head) {
			s := sample{name: fmt.Sprintf("%q at %d", c, i), raw: head[:i] + c + head[i:] + "hello", class: reject}
			if !strings.HasPrefix(s.raw, head) { // otherwise it is the body's first byte
				all = append(all, s)
			}
		}
	}
	for i := range len(head) - 1 {
		if head[i:i+2] != "\r\n" {
			continue
		}
		for _, end := range []string{"\n", "\r", "\n\r", "\r\r\n", "\n\n", "\r\n \r\n", "\r\n\t", "\r\n ", " \n", "\\r\\n", "\x85", "\u2028"} {
			s := sample{name: fmt.Sprintf("%q as line end at %d", end, i), raw: head[:i] + end + head[i+2:] + "hello", class: reject}
			switch {
			case strings.Contains("\x85\u2028\\r\\n", end) && strings.Contains(head[:i], "Host"):
				continue // part of a value
			case strings.HasPrefix(s.raw, head):
				continue
			}
			all = append(all, s)
		}
	}
	campaign(t, all)
}

// TestRequestLines: RFC 9112 3.
func TestRequestLines(t *testing.T) {
	t.Parallel()
	line := func(l string) string { return l + "\r\nHost: a.example\r\n\r\n" }
	all := rows("line", line, "GET /p ", []row{
		{"GET /p HTTP/1.1", accept}, {"GET  /p HTTP/1.1", reject}, {"GET /p  HTTP/1.1", reject}, {"GET\t/p HTTP/1.1", reject},
		{"GET /p\tHTTP/1.1", reject}, {" GET /p HTTP/1.1", reject}, {"\tGET /p HTTP/1.1", reject}, {"GET /p HTTP/1.1 ", reject},
		{"GET /p HTTP/1.1\t", reject}, {"GET /p", reject}, {"GET /p ", reject}, {"GET", reject}, {"/p", reject}, {"GET HTTP/1.1", reject}, {"GET  HTTP/1.1", reject},
		{"GET /p HTTP/0.9", reject}, {"GET /p HTTP/1.2", reject}, {"GET /p HTTP/2.0", reject}, {"GET /p HTTP/2", reject}, {"GET /p HTTP/3.0", reject},
		{"GET /p HTTP/1.10", reject}, {"GET /p HTTP/1.01", reject}, {"GET /p HTTP/01.1", reject}, {"GET /p HTTP/11", reject}, {"GET /p HTTP/1", reject},
		{"GET /p HTTP/1.", reject}, {"GET /p HTTP/.1", reject}, {"GET /p HTTP/1.1.1", reject}, {"GET /p HTTP/1,1", reject}, {"GET /p HTTP/+1.1", reject},
		{"GET /p http/1.1", reject}, {"GET /p Http/1.1", reject}, {"GET /p HTTP/ 1.1", reject}, {"GET /p HTTP 1.1", reject}, {"GET /p HTTPS/1.1", reject},
		{"GET /p XHTTP/1.1", reject}, {"GET /p HTTP/1.1x", reject}, {"GET /p HTTP/1.1, HTTP/1.0", reject}, {"GET /p ICY/1.1", reject}, {"GET /p HTTP/1.1\x00", reject},
		{"GET /p /q HTTP/1.1", reject}, {"GET /p HTTP/1.1 HTTP/1.1", reject}, {"G ET /p HTTP/1.1", reject}, {"GET, /p HTTP/1.1", reject},
		{"G@T /p HTTP/1.1", reject}, {"[GET] /p HTTP/1.1", reject}, {"\"GET\" /p HTTP/1.1", reject}, {"GET: /p HTTP/1.1", reject}, {"G\x00T /p HTTP/1.1", reject},
		{"G\xc9T /p HTTP/1.1", reject}, {"(GET) /p HTTP/1.1", reject}, {"GET/ /p HTTP/1.1", reject}, {"\xef\xbb\xbfGET /p HTTP/1.1", reject},
		{strings.Repeat("G", 100) + " /p HTTP/1.1", reject}, {"PRI * HTTP/2.0", reject}, {"CONNECT a.example:80 HTTP/1.1", reject}, {"CONNECT /p HTTP/1.1", reject},
		{"\r\nGET /p HTTP/1.1", accept}, {"\r\n\r\nGET /p HTTP/1.1", accept}, {strings.Repeat("\r\n", 20) + "GET /p HTTP/1.1", reject},
		{"\nGET /p HTTP/1.1", reject}, {"\rGET /p HTTP/1.1", reject}, {"\r\n GET /p HTTP/1.1", reject},
	})
	for _, m := range []string{"get", "Get", "OPTIONS", "DELETE", "TRACE", "PROPFIND", "M-SEARCH", "A!#$%&'*+-.^_`|~1", "X"} {
		all = append(all, sample{name: "method " + m, raw: line(m + " /p HTTP/1.1"), want: []string{m + " /p "}})
	}
	for target, c := range map[string]class{
		"/": accept, "//": accept, "//a/b": accept, "/../..": accept, "/%2e%2e/": accept, "/%00": either, "/%": either, "/%zz": either, "/a?b?c": accept,
		"/a;b=c": accept, "/a|b": either, "/a\"b": either, "/{a}": either, "/a\\b": either, "/<a>": either, "/[a]": either, "/^": either, "/`": either,
		"/a//b/./c": accept, "/http://x/": accept, "/?": accept, "/%0d%0aX:%20y": accept, "/a@b": accept, "/" + strings.Repeat("a", 5000): accept,
		"/#f": reject, "#": reject, "/a#": reject, "/a b": reject, "/\x80": reject, "/\xff": reject, "/\u00e9": reject, "a": reject, "?a": reject, "*": reject, "**": reject,
		"*/": reject, "": reject, ":80": reject, "a.example": reject, "a.example:80": reject, "\\p": reject, ".": reject, "/" + strings.Repeat("a", 9000): reject,
		"mailto:x": reject, "http:": reject, "http:/": reject, "http://": reject, "http:///p": reject, "http:p": reject, "http:/a/p": reject, "http:\\\\a\\": reject,
		"http://u@a/": reject, "http://u:p@a/": reject, "http://@a/": reject, "http://a#f": reject, "http://a/#f": reject, "http://a:b/": reject, "http://a:99999/": reject,
		"http://a:80:80/": reject, "http://[::1/": reject, "http://::1/": reject, "http://a,b/": reject, "http://a%zz/": reject, "http://a\\b/": reject, "http:// a/": reject,
		"https://a.example/": reject, "ftp://a/": reject, "file:///etc/passwd": reject, "ws://a/": reject, "://a/": reject,
	} {
		s := sample{name: "target " + fmt.Sprintf("%.60q %d", target, len(target)), raw: line("GET " + target + " HTTP/1.1"), class: c}
		if c == accept || c == either {
			s.want = []string{"GET " + target + " "}
		}
		all = append(all, s)
	}
	all = append(all,
		sample{name: "OPTIONS *", raw: line("OPTIONS * HTTP/1.1"), want: []string{"OPTIONS * "}},
		sample{name: "TRACE with a body", raw: "TRACE / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx", class: reject},
		sample{name: "preface", raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", class: reject},
		sample{name: "TLS", raw: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", class: reject},
		sample{name: "PROXY", raw: "PROXY TCP4 6.6.6.6 10.1.0.1 1 80\r\n" + get(""), class: reject},
	)
	campaign(t, all)
}

// TestHosts: Host against the target (RFC 9112 3.2, RFC 9110 7.2).
func TestHosts(t *testing.T) {
	t.Parallel()
	all := rows("Host", func(lines string) string { return "GET /p HTTP/1.1\r\n" + lines + "X: y\r\n\r\n" }, "GET /p ", []row{
		{"Host: a.example\r\n", accept}, {"host:a.example\r\n", accept}, {"HOST: \t a.example \t\r\n", accept}, {"Host: a.example:80\r\n", accept}, {"Host: a.example:\r\n", either},
		{"Host: 10.0.0.1\r\n", accept}, {"Host: [::1]\r\n", accept}, {"Host: [::1]:80\r\n", accept}, {"Host: a_b\r\n", accept}, {"Host: a..b\r\n", either}, {"Host: a.\r\n", accept},
		{"Host: %61\r\n", either}, {"", reject}, {"Host:\r\n", either}, {"Host: \r\n", either}, {"Host: a\r\nHost: a\r\n", reject}, {"Host: a\r\nHost: b\r\n", reject}, {"Host: a\r\nhost: b\r\n", reject},
		{"Host:\r\nHost: a\r\n", reject}, {"Host: a\r\nHost:\r\n", reject}, {"Host : a\r\n", reject}, {" Host: a\r\n", reject}, {"Host: a\r\n Host: b\r\n", reject}, {"Host: a\r\n b\r\n", reject},
		{"Host: a b\r\n", reject}, {"Host: a,b\r\n", reject}, {"Host: a, b\r\n", reject}, {"Host: a/b\r\n", reject}, {"Host: a/\r\n", reject}, {"Host: a?b\r\n", reject}, {"Host: a#b\r\n", reject},
		{"Host: u@a\r\n", reject}, {"Host: a@b:80\r\n", reject}, {"Host: a:80:80\r\n", reject}, {"Host: a:b\r\n", reject}, {"Host: a:99999\r\n", reject}, {"Host: a:-1\r\n", reject}, {"Host: a:+80\r\n", reject}, {"Host: :80\r\n", reject},
		{"Host: [::1\r\n", reject}, {"Host: ::1\r\n", reject}, {"Host: [::1]x\r\n", reject}, {"Host: [g::1]\r\n", reject}, {"Host: []\r\n", reject}, {"Host: [::1%25eth0]\r\n", reject}, {"Host: [v1.a]\r\n", reject},
		{"Host: a\\b\r\n", reject}, {"Host: a\x00\r\n", reject}, {"Host: a\tb\r\n", reject}, {"Host: a\x7f\r\n", reject}, {"Host: \"a\"\r\n", reject}, {"Host: <a>\r\n", reject}, {"Host: a|b\r\n", reject},
		{"Host: http://a\r\n", reject}, {"Host: \xc3\xa9\r\n", reject}, {"Host: %zz\r\n", reject}, {"Host: a%\r\n", reject}, {"Host_: a\r\n", reject}, {"X-Host: a\r\n", reject},
		{"Connection: Host\r\nHost: a\r\n", reject}, {"Host: a\r\nConnection: close, host\r\n", reject},
	})
	for target, want := range map[string][2]string{ // forwarded target and Host
		"http://b.example/x": {"/x", "b.example"}, "http://b.example": {"/", "b.example"}, "http://b.example?q": {"/?q", "b.example"}, "HTTP://b.example/": {"/", "b.example"},
		"http://b.example:81/": {"/", "b.example:81"}, "http://[::1]:81/": {"/", "[::1]:81"}, "http://b.example//x": {"//x", "b.example"}, "http://B.Example/": {"/", "B.Example"},
	} {
		for _, host := range []string{"a.example", "b.example"} {
			all = append(all, sample{name: target + " against " + host, raw: "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n", want: []string{"GET " + want[0] + " "}, check: has("Host", want[1])})
		}
		all = append(all,
			sample{name: target + " without Host", raw: "GET " + target + " HTTP/1.1\r\n\r\n", class: reject},
			sample{name: target + " with a bad Host", raw: "GET " + target + " HTTP/1.1\r\nHost: a b\r\n\r\n", class: reject},
			sample{name: target + " with two Hosts", raw: "GET " + target + " HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", class: reject})
	}
	campaign(t, all)
}

// TestFieldLines: names, values, folds and limits (RFC 9110 5, RFC 9112 5).
func TestFieldLines(t *testing.T) {
	t.Parallel()
	all := rows("line", get, "GET /p ", []row{
		{"X: y\r\n", accept}, {"X:y\r\n", accept}, {"X:\r\n", accept}, {"X: \r\n", accept}, {"X:\t y \t\r\n", accept}, {"X: a\tb\r\n", accept}, {"X: \x80\xff\r\n", accept}, {"X::y\r\n", accept}, {"!#$%&'*+-.^_`|~: y\r\n", accept}, {"X: a:b\r\n", accept}, {"0: y\r\n", accept},
		{" X: y\r\n", reject}, {"\tX: y\r\n", reject}, {"X : y\r\n", reject}, {"X\t: y\r\n", reject}, {"X y: z\r\n", reject}, {": y\r\n", reject}, {":\r\n", reject}, {"X\r\n", reject}, {"X y\r\n", reject}, {" \r\n", reject}, {"\t\r\n", reject},
		{"X(: y\r\n", reject}, {"X,Y: y\r\n", reject}, {"X/Y: y\r\n", reject}, {"X;Y: y\r\n", reject}, {"X=Y: z\r\n", reject}, {"X@: y\r\n", reject}, {"X[]: y\r\n", reject}, {"{X}: y\r\n", reject}, {"\"X\": y\r\n", reject}, {"X\\: y\r\n", reject}, {"X?: y\r\n", reject}, {"<X>: y\r\n", reject},
		{"X\x80: y\r\n", reject}, {"\xc3\x89: y\r\n", reject}, {"X\x00: y\r\n", reject}, {"X: \x00\r\n", reject}, {"X: \x01\r\n", reject}, {"X: \x1f\r\n", reject}, {"X: \x7f\r\n", reject}, {"X: \x0b\r\n", reject}, {"X: y\x00\r\n", reject}, {"X: \x08y\r\n", reject},
		{"X: y\r\n z\r\n", reject}, {"X: y\r\n\tz\r\n", reject}, {"X:\r\n y\r\n", reject}, {"X: y\r\n \r\n", reject}, {"X: y\n z\r\n", reject}, {"X: y\r z\r\n", reject}, {"X: y\r\r\n", reject}, {"X: y\n", reject}, {"X: y\r", reject}, {"X: y\n\r\n", reject},
		{"GET /smuggled HTTP/1.1\r\n", reject}, {"X: " + strings.Repeat("a", 30000) + "\r\n", accept}, {"X: " + strings.Repeat("a", 33000) + "\r\n", reject}, {strings.Repeat("a", 40000) + ": b\r\n", reject},
		{strings.Repeat("X: y\r\n", 95), accept}, {strings.Repeat("X: y\r\n", 101), reject}, {"X: y\r\n\r\nGET /smuggled HTTP/1.1\nHost: a\r\n", either},
	})
	for i := range all {
		if strings.Contains(all[i].raw, "\r\n\r\nGET /smuggled") { // a second request, which is malformed
			all[i].class = reject
		}
	}
	campaign(t, all)
}

// TestConnectionOptions: hop-by-hop fields and what Connection names (RFC 9110 7.6.1), and
// upgrades that nobody may have (RFC 9110 7.8).
func TestConnectionOptions(t *testing.T) {
	t.Parallel()
	all := rows("field", get, "GET /p ", []row{
		{"Connection: close\r\n", accept}, {"Connection: Close\r\n", accept}, {"Connection: keep-alive\r\n", accept}, {"Connection: keep-alive, close\r\n", accept}, {"Connection: close\r\nConnection: keep-alive\r\n", accept},
		{"Connection:\r\n", either}, {"Connection: ,\r\n", either}, {"Connection: ,close,,\r\n", either}, {"Connection: x y\r\n", reject}, {"Connection: ;\r\n", reject}, {"Connection: \"close\"\r\n", reject}, {"Connection: close;q=1\r\n", reject}, {"Connection: close\x00\r\n", reject},
		{"Connection: " + strings.Repeat("x,", 500) + "x\r\n", either}, {"Connection : close\r\n", reject}, {"Proxy-Connection: close\r\n", accept}, {"Keep-Alive: timeout=5\r\n", accept}, {"TE: trailers\r\n", either}, {"TE: gzip\r\nConnection: TE\r\n", either}, {"Trailer: X\r\n", either}, {"Trailer: Content-Length\r\n", either},
		{"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", either}, {"Upgrade: h2c\r\nConnection: Upgrade\r\n", either}, {"Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n", either}, {"Upgrade: h2c\r\n", either}, {"Upgrade: H2C\r\nConnection: upgrade\r\n", either},
		{"Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", either}, {"Upgrade: websocket\r\nConnection: upgrade\r\n", either}, {"Upgrade: TLS/1.0\r\nConnection: upgrade\r\n", either}, {"Upgrade:\r\nConnection: upgrade\r\n", either},
		{"Connection: Expect\r\nExpect: 100-continue\r\n", either}, {"Proxy-Authorization: Basic x\r\n", accept}, {"Proxy-Authenticate: x\r\n", accept},
	})
	for _, name := range []string{"X-Foo", "x-foo", "Cookie", "Authorization", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via", "TE", "Upgrade"} {
		s := sample{name: "nominated " + name, raw: get("Connection: " + name + "\r\nX-Foo: secret\r\nCookie: secret\r\nAuthorization: secret\r\nX-Real-IP: secret\r\nVia: secret\r\n"), class: either, want: []string{"GET /p "}, check: absent(name)}
		if strings.HasPrefix(name, "X-Forwarded") {
			s.check = nil // the worker adds its own
		}
		all = append(all, s)
	}
	for i := range all {
		if strings.Contains(all[i].name, "pgrade") && all[i].check == nil {
			all[i].check = absent("Upgrade")
		}
	}
	campaign(t, all)
}

// TestExpectations: RFC 9110 10.1.1. The client does not wait for 100.
func TestExpectations(t *testing.T) {
	t.Parallel()
	var all []sample
	for value, c := range map[string]class{
		"Expect: 100-continue": accept, "Expect: 100-Continue": accept, "expect:100-CONTINUE": accept, "Expect: 100-continue, 100-continue": either, "Expect: 100-continue;q=1": either,
		"Expect: y 100-continue": reject, "Expect: 100-continue y": reject, "Expect: 200-ok": reject, "Expect: 100": reject, "Expect:": either, "Expect: ,": either, "Expect: 100-continue\r\nExpect: 100-continue": either,
		"Expect: 100-continue\r\nExpect: x": reject, "Expect : 100-continue": reject, "Expect: 100-continue\x00": reject, "Expect:\r\n 100-continue": reject, "Expect: 100_continue": reject, "X-Expect: 100-continue": accept, "Expect_: 100-continue": accept,
	} {
		for _, framing := range []struct{ name, raw, want string }{
			{"length", post(value+"\r\n"+length(smuggled), smuggled), "POST /p " + smuggled},
			{"chunked", post(value+"\r\nTransfer-Encoding: chunked\r\n", chunked(smuggled)), "POST /p " + smuggled},
			{"nothing", post(value+"\r\n", ""), "POST /p "},
			{"zero", post(value+"\r\nContent-Length: 0\r\n", ""), "POST /p "},
			{"GET", get(value + "\r\n"), "GET /p "},
			{"1.0", "POST /p HTTP/1.0\r\nHost: a.example\r\n" + value + "\r\n" + length("hello") + "\r\nhello", "POST /p hello"},
		} {
			s := sample{name: fmt.Sprintf("%s with %q", framing.name, value), raw: framing.raw, class: c, want: []string{framing.want}}
			if c == reject {
				s.want = nil
			}
			all = append(all, s)
		}
	}
	campaign(t, all)
}

// TestHTTP10: RFC 9112 2.5, 6.1, 9.3 and appendix C.
func TestHTTP10(t *testing.T) {
	t.Parallel()
	const next = "GET /next HTTP/1.0\r\nHost: a.example\r\n\r\n"
	one := func(lines, body string) string { return "POST /p HTTP/1.0\r\n" + lines + "\r\n" + body }
	campaign(t, []sample{
		{name: "nothing", raw: one("", ""), want: []string{"POST /p "}},
		{name: "Host", raw: one("Host: a.example\r\n", ""), want: []string{"POST /p "}, check: has("Host", "a.example")},
		{name: "two Hosts", raw: one("Host: a\r\nHost: b\r\n", ""), class: reject},
		{name: "bad Host", raw: one("Host: a b\r\n", ""), class: reject},
		{name: "length", raw: one("Content-Length: 5\r\n", "hello"), want: []string{"POST /p hello"}},
		{name: "two lengths", raw: one("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), class: reject},
		{name: "coding", raw: one("Transfer-Encoding: chunked\r\n", chunked(smuggled)), class: reject},
		{name: "coding and length", raw: one("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), class: reject},
		{name: "coding and keep-alive", raw: one("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", chunked(smuggled)), class: reject},
		{name: "closes", raw: one("", "") + next, want: []string{"POST /p "}},
		{name: "closes behind a body", raw: one("Content-Length: 5\r\n", "hello") + next, want: []string{"POST /p hello"}},
		{name: "keep-alive", raw: one("Connection: keep-alive\r\n", "") + next, want: []string{"POST /p ", "GET /next "}},
		{name: "keep-alive and close", raw: one("Connection: keep-alive, close\r\n", "") + next, want: []string{"POST /p "}},
		{name: "keep-alive by Proxy-Connection", raw: one("Proxy-Connection: keep-alive\r\n", "") + next, want: []string{"POST /p "}},
		{name: "keep-alive behind a body", raw: one("Connection: Keep-Alive\r\nContent-Length: 5\r\n", "hello") + next, want: []string{"POST /p hello", "GET /next "}},
		{name: "absolute-form", raw: "GET http://b.example/x HTTP/1.0\r\n\r\n", want: []string{"GET /x "}, check: has("Host", "b.example")},
		{name: "upgrade", raw: one("Upgrade: websocket\r\nConnection: upgrade\r\n", ""), class: either, want: []string{"POST /p "}, check: absent("Upgrade")},
		{name: "HEAD", raw: "HEAD /p HTTP/1.0\r\n\r\n", want: []string{"HEAD /p "}},
		{name: "nominates", raw: one("Connection: X-Foo\r\nX-Foo: y\r\n", ""), want: []string{"POST /p "}, check: absent("X-Foo")},
	})
}
