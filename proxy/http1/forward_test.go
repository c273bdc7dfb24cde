package http1

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func names(t *testing.T, list ...string) (out []FieldName) {
	t.Helper()
	for _, s := range list {
		n, ok := NewFieldName(s)
		if !ok {
			t.Fatalf("%q is no field name", s)
		}
		out = append(out, n)
	}
	return out
}

func TestAppendRequest(t *testing.T) {
	tests := []struct {
		what, raw, want string
		o               ForwardOptions
	}{
		{"fields keep names, values and order, Host comes first",
			"GET /a?b HTTP/1.1\r\nuser-AGENT:x \t\r\nAccept: */*\r\nhost:  h:1\r\nAccept:\r\nZ:a\tb\r\n\r\n",
			"GET /a?b HTTP/1.1\r\nHost: h:1\r\nuser-AGENT: x\r\nAccept: */*\r\nAccept: \r\nZ: a\tb\r\n\r\n", ForwardOptions{}},
		{"hop-by-hop fields and what Connection names are left out",
			"GET / HTTP/1.1\r\nHost: h\r\nConnection: X-A, keep-alive, te\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nX-A: 1\r\nX-B: 1\r\n" +
				"x-a: 2\r\nTE: trailers\r\nTrailer: X-T\r\nUpgrade: x\r\nProxy-Authorization: y\r\nAuthorization: z\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nAuthorization: z\r\n\r\n", ForwardOptions{}},
		{"absolute-form becomes origin-form and decides about Host (RFC 9112, 3.2.2)",
			"GET http://b:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: b:8\r\n\r\n", ForwardOptions{}},
		{"absolute-form without path", "GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: b\r\n\r\n", ForwardOptions{}},
		{"absolute-form with query only", "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: b\r\n\r\n", ForwardOptions{}},
		{"OPTIONS absolute-form (RFC 9112, 3.2.4)", "OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n", ForwardOptions{}},
		{"OPTIONS asterisk-form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ForwardOptions{}},
		{"OPTIONS absolute-form with query", "OPTIONS http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS /?q HTTP/1.1\r\nHost: b\r\n\r\n", ForwardOptions{}},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n\r\n", ForwardOptions{}},
		{"HTTP/1.0 without Host, default", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: d\r\n\r\n", ForwardOptions{DefaultHost: []byte("d")}},
		{"Host replaced", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: b\r\n\r\n", ForwardOptions{Host: []byte("b")}},
		{"target replaced", "GET /v1/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", ForwardOptions{Target: []byte("/x")}},
		{"Content-Length in its place, canonical",
			"PUT / HTTP/1.1\r\nHost: a\r\nA: 1\r\ncontent-length: \t007\r\nB: 1\r\n\r\n",
			"PUT / HTTP/1.1\r\nHost: a\r\nA: 1\r\nContent-Length: 7\r\nB: 1\r\n\r\n", ForwardOptions{}},
		{"Transfer-Encoding in its place, canonical",
			"PUT / HTTP/1.1\r\nHost: a\r\nA: 1\r\ntransfer-encoding:CHUNKED\r\nB: 1\r\n\r\n",
			"PUT / HTTP/1.1\r\nHost: a\r\nA: 1\r\nTransfer-Encoding: chunked\r\nB: 1\r\n\r\n", ForwardOptions{}},
		{"framing and Host cannot be removed",
			"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nA: 1\r\n\r\n",
			"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
			ForwardOptions{Edits: Edits{Remove: names(t, "Host", "Content-Length", "Transfer-Encoding", "a")}}},
		{"remove and add",
			"GET / HTTP/1.1\r\nHost: a\r\nCookie: 1\r\nX-A: 1\r\nX-B: 2\r\nx-a: 3\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX-B: 2\r\nX-C: 4\r\n\r\n",
			ForwardOptions{Edits: Edits{Remove: names(t, "cookie", "X-A"), Add: []byte("X-C: 4\r\n")}}},
		{"forwarding fields set",
			"GET / HTTP/1.1\r\nHost: a:1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a:1\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:1\r\n\r\n",
			ForwardOptions{ForwardedFor: []byte("1.2.3.4"), ForwardedProto: []byte("http"), ForwardedHost: true}},
		{"X-Forwarded-For appended",
			"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-For:\r\nx-forwarded-for: 3.3.3.3\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 4.4.4.4\r\n\r\n",
			ForwardOptions{ForwardedFor: []byte("4.4.4.4")}},
		{"X-Forwarded-For replaced",
			"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 4.4.4.4\r\n\r\n",
			ForwardOptions{ForwardedFor: []byte("4.4.4.4"), DropForwarded: true}},
		{"nominated X-Forwarded-For cannot hide the client",
			"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nConnection: X-Forwarded-For, x-forwarded-host\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 4.4.4.4\r\nX-Forwarded-Host: a\r\n\r\n",
			ForwardOptions{ForwardedFor: []byte("4.4.4.4"), ForwardedHost: true}},
		{"X-Forwarded-Host names the authority of an absolute-form",
			"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: c\r\nX-Forwarded-Host: b\r\n\r\n", ForwardOptions{ForwardedHost: true, Host: []byte("c")}},
		{"upgrade kept when asked",
			"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: k\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nConnection: upgrade\r\n\r\n",
			ForwardOptions{Upgrade: true, Close: true}},
		{"h2c is not passed on",
			"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ForwardOptions{Upgrade: true}},
		{"close", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", ForwardOptions{Close: true}},
		{"trailers", "PUT / HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\n\r\n",
			"PUT / HTTP/1.1\r\nHost: a\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\r\n", ForwardOptions{Trailers: true}},
		{"Expect goes on", "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
			"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", ForwardOptions{}},
		{"Expect dropped", "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
			"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", ForwardOptions{DropExpect: true}},
		{"Expect of HTTP/1.0 is ignored (RFC 9110, 10.1.1)", "PUT / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
			"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", ForwardOptions{}},
		{"leading empty lines are not part of it", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n", ForwardOptions{}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			var r Request
			r.Reset(nil)
			in := []byte(tt.raw)
			if done, err := r.Parse(in); !done {
				t.Fatal(err)
			}
			got := string(AppendRequest([]byte("before"), &r, in, &tt.o))
			if got != "before"+tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestAppendResponse(t *testing.T) {
	date := []byte("Mon, 01 Jan 2024 00:00:00 GMT")
	tests := []struct {
		what, raw, want string
		o               AnswerOptions
	}{
		{"fields keep names, values and order",
			"HTTP/1.0 200 very  fine\r\nserver:x\r\nset-COOKIE : a\r\nSet-Cookie: b\r\nContent-Length: 00\r\nDate: d\r\n\r\n",
			"HTTP/1.1 200 very  fine\r\nserver: x\r\nset-COOKIE: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\nDate: d\r\n\r\n",
			AnswerOptions{Minor: 1, KeepAlive: true, Date: date}},
		{"hop-by-hop fields are left out",
			"HTTP/1.1 200 OK\r\nConnection: close, X-A\r\nKeep-Alive: timeout=5\r\nX-A: 1\r\nUpgrade: h2\r\nTrailer: T\r\nProxy-Authenticate: Basic\r\n" +
				"Content-Length: 0\r\nX-B: 2\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-B: 2\r\n\r\n", AnswerOptions{Minor: 1, KeepAlive: true}},
		{"Date added (RFC 9110, 6.6.1), Connection: close",
			"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 \r\nContent-Length: 0\r\nDate: " + string(date) + "\r\nConnection: close\r\n\r\n", AnswerOptions{Minor: 1, Date: date}},
		{"not to an interim response", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
			AnswerOptions{Minor: 1, Date: date}},
		{"remove and add", "HTTP/1.1 200 OK\r\nServer: x\r\nX-P: y\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Q: z\r\n\r\n",
			AnswerOptions{Minor: 1, KeepAlive: true, Edits: Edits{Remove: names(t, "Server", "x-p", "Content-Length"), Add: []byte("X-Q: z\r\n")}}},
		{"Trailer kept when trailers are relayed", "HTTP/1.1 200 OK\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTrailer: T\r\nTransfer-Encoding: chunked\r\n\r\n", AnswerOptions{Minor: 1, KeepAlive: true, Trailers: true}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			var r Response
			r.ResetFor(nil, MethodGet, false)
			in := []byte(tt.raw)
			if done, err := r.Parse(in); !done {
				t.Fatal(err)
			}
			if got := string(AppendResponse(nil, &r, in, &tt.o)); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// TestErrorPages: every page is a response that the parser of this package takes,
// with a body of the length it announces.
func TestErrorPages(t *testing.T) {
	for _, status := range []int{400, 404, 408, 413, 414, 417, 421, 431, 500, 501, 502, 503, 504, 505, 599} {
		page := string(AppendErrorPage(nil, status, &PageOptions{Minor: 1, Date: []byte("d")}))
		reading := responseReading(t, page, MethodGet, false, nil)
		if !strings.Contains(reading, `"Connection": "close"`) || !strings.HasSuffix(reading, `rest ""`) {
			t.Errorf("%d: %s", status, reading)
		}
		text := http.StatusText(status)
		if status == 413 {
			text = "Content Too Large" // RFC 9110 renamed it
		}
		if status == 414 {
			text = "URI Too Long"
		}
		if status != 599 && !strings.Contains(page, " "+text+"</h1>") {
			t.Errorf("%d: %s", status, page)
		}
	}
	for kind := Kind(1); kind < numKinds; kind++ {
		if k := kinds[kind]; k.text == "" || k.section == "" || StatusText(k.status) == "" {
			t.Errorf("kind %d: %+v", kind, k)
		}
	}
	old := string(AppendErrorPage(nil, 404, &PageOptions{KeepAlive: true, Head: true, Edits: Edits{Add: []byte("X-Y: z\r\n")}}))
	if want := "Connection: keep-alive\r\nX-Y: z\r\n\r\n"; !strings.HasSuffix(old, want) {
		t.Errorf("to HTTP/1.0: %q", old)
	}
	custom := string(AppendErrorPage(nil, 503, &PageOptions{Minor: 1, KeepAlive: true, Body: []byte("{}"), Type: "application/json"}))
	if want := "Server: ringroad\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"; !strings.HasSuffix(custom, want) {
		t.Errorf("custom: %q", custom)
	}
	edited := string(AppendErrorPage(nil, 299, &PageOptions{Minor: 1, KeepAlive: true, Date: []byte("d"), Body: []byte("x"),
		Edits: Edits{Remove: names(t, "Server", "content-type", "Content-Length", "date"), Add: []byte("Server: y\r\n")}}))
	if want := "HTTP/1.1 299 \r\nContent-Length: 1\r\nServer: y\r\n\r\nx"; edited != want {
		t.Errorf("edited: %q, want %q", edited, want)
	}
	empty := string(AppendErrorPage(nil, 200, &PageOptions{Minor: 1, KeepAlive: true, Body: []byte{}}))
	if want := "HTTP/1.1 200 OK\r\nServer: ringroad\r\nContent-Length: 0\r\n\r\n"; empty != want {
		t.Errorf("empty: %q, want %q", empty, want)
	}
}

// TestLookAlikes: a hyphen and an underscore are one to CGI.
func TestLookAlikes(t *testing.T) {
	n := names(t, "x-user_id")[0].LookAlikes()
	for name, want := range map[string]bool{"X-User-Id": true, "x_user_id": true, "X_User-ID": true, "XxUser-Id": false, "X-User-I": false, "X-User-Id_": false} {
		if got := n.Is([]byte(name)); got != want {
			t.Errorf("%s looks like x-user_id: %t, want %t", name, got, want)
		}
	}
}

// TestEmptyPages: 204 and 304 have no body (RFC 9110, 15.3.5 and 15.4.5).
func TestEmptyPages(t *testing.T) {
	for status, want := range map[int]string{
		204: "HTTP/1.1 204 No Content\r\nServer: ringroad\r\nConnection: close\r\n\r\n",
		304: "HTTP/1.1 304 Not Modified\r\nServer: ringroad\r\nConnection: close\r\n\r\n",
	} {
		if got := string(AppendErrorPage(nil, status, &PageOptions{Minor: 1})); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAppendDate(t *testing.T) {
	for _, sec := range []int64{0, 1700000000, 4102444799} {
		if got, want := string(AppendDate(nil, sec)), time.Unix(sec, 0).UTC().Format(http.TimeFormat); got != want {
			t.Errorf("%d: %s, want %s", sec, got, want)
		}
	}
}

func TestFieldNames(t *testing.T) {
	for id := FieldOther + 1; id < numFields; id++ {
		name := fieldNames[id]
		if got := lookupField([]byte(name)); got != id {
			t.Errorf("%s is field %d, want %d", name, got, id)
		}
		if got := lookupField([]byte(strings.ToUpper(name))); got != id {
			t.Errorf("%s is field %d, want %d", strings.ToUpper(name), got, id)
		}
		for i := range name {
			if got := lookupField([]byte(name[:i] + "~" + name[i+1:])); got != FieldOther {
				t.Errorf("a name like %s is field %d", name, got)
			}
		}
	}
	for _, bad := range []string{"", "a b", "a:", "\x00", "\xe4"} {
		if _, ok := NewFieldName(bad); ok {
			t.Errorf("%q passes for a name", bad)
		}
	}
	for value, want := range map[string]bool{"": true, "a\tb \xff": true, " a": false, "a\t": false, "a\r\nb": false, "\x00": false, "\x7f": false} {
		if got := ValidFieldValue([]byte(value)); got != want {
			t.Errorf("value %q: %t", value, got)
		}
	}
}

func TestFind(t *testing.T) {
	in := []byte("GET / HTTP/1.1\r\nHost: a\r\nReferer: b\r\nX-Y: 1\r\nx-y: 2\r\n\r\n")
	var r Request
	r.Reset(nil)
	if done, err := r.Parse(in); !done {
		t.Fatal(err)
	}
	if v, ok := Find(r.Fields, in, FieldReferer); !ok || string(v) != "b" {
		t.Errorf("Referer: %q %t", v, ok)
	}
	if _, ok := Find(r.Fields, in, FieldCookie); ok {
		t.Error("Cookie found")
	}
	if v, ok := FindName(r.Fields, in, names(t, "X-y")[0]); !ok || string(v) != "1" {
		t.Errorf("X-Y: %q %t", v, ok)
	}
	if _, ok := FindName(r.Fields, in, names(t, "X-z")[0]); ok {
		t.Error("X-Z found")
	}
}

func TestHosts(t *testing.T) {
	for host, want := range map[string]int{
		"a": 1, "a:80": 1, "a:": 1, "a.b-c_d~!$&'()*+;=%41": 21, "1.2.3.4:5": 7, "[::]": 4, "[::1]:80": 5,
		"[1:2:3:4:5:6:7:8]": 17, "[1::8]": 6, "[::ffff:1.2.3.4]": 16, "[1:2:3:4:5:6:1.2.3.4]": 21, "[1:2:3:4:5:6:7::]": 17,
		"": -1, ":80": -1, "[]": -1, "[:]": -1, "[:::]": -1, "[1::2::3]": -1, "[1:2:3:4:5:6:7]": -1, "[1:2:3:4:5:6:7:8:9]": -1,
		"[1:2:3:4:5:6:7:8::]": -1, "[12345::]": -1, "[::1.2.3]": -1, "[::1.2.3.256]": -1, "[::01.2.3.4]": -1, "[::1.2.3.4.5]": -1,
		"[1:]": -1, "[:1]": -1, "[::g]": -1, "[::1": -1, "a%4": -1, "a%zz": -1, "a,b": -1, "a:123456": -1, "a]": -1, "a\\b": -1,
	} {
		n, ok := splitHost([]byte(host))
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%q: %d, want %d", host, n, want)
		}
	}
}
