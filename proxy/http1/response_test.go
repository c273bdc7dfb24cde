package http1

import (
	"fmt"
	"strings"
	"testing"
)

func responseReading(t *testing.T, raw string, method Method, upgrade bool, l *Limits) string {
	t.Helper()
	return everyDelivery(t, raw, func(cuts ...int) string { return readResponse(raw, method, upgrade, l, cuts...) })
}

func TestResponseRules(t *testing.T) {
	tests := []struct {
		raw  string
		kind Kind
	}{
		// Status line: RFC 9112, 4; RFC 9110, 15.
		{"HTTP/1.1 200 OK\r\n\r\n", 0},
		{"HTTP/1.1 200 \r\n\r\n", 0},
		{"HTTP/1.1 200\r\n\r\n", 0},
		{"HTTP/1.0 599 a\tb \xc3\xa4\r\n\r\n", 0},
		{"\r\nHTTP/1.1 200 OK\r\n\r\n", KindStatusLine},
		{"HTTP/2.0 200 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.2 200 OK\r\n\r\n", KindStatusLine},
		{"HTTP/0.9 200 OK\r\n\r\n", KindStatusLine},
		{"http/1.1 200 OK\r\n\r\n", KindStatusLine},
		{"ICY 200 OK\r\n\r\n", KindStatusLine},
		{"<html>\r\n\r\n", KindStatusLine},
		{"HTTP/1.1  200 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1\t200 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 20 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 2000 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 +20 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 099 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 600 OK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 200\tOK\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 200 O\x00K\r\n\r\n", KindStatusLine},
		{"HTTP/1.1 200 OK\n\r\n", KindBareLF},
		{"HTTP/1.1 200 OK\r\r\n", KindBareCR},
		{"HTTP/1.1 200 " + strings.Repeat("x", 5000), KindStatusLineTooLong},

		// Field lines: RFC 9112, 5.1 has whitespace before the colon removed.
		{"HTTP/1.1 200 OK\r\nX \t: y\r\n\r\n", 0},
		{"HTTP/1.1 200 OK\r\nX y: z\r\n\r\n", KindNoColon},
		{"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", KindFold},
		{"HTTP/1.1 200 OK\r\nX: y\nZ: z\r\n\r\n", KindBareLF},
		{"HTTP/1.1 200 OK\r\nX: y\x00\r\n\r\n", KindFieldValue},
		{"HTTP/1.1 200 OK\r\n: y\r\n\r\n", KindFieldName},
		{"HTTP/1.1 200 OK\r\nnothing\r\n\r\n", KindNoColon},
		{"HTTP/1.1 200 OK\r\nHost: a\r\nHost: b c\r\n\r\n", 0}, // means nothing in a response
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 40000), KindFieldsTooLarge},
		{"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 101), KindTooManyFields},

		// Framing: RFC 9112, 6.3.
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", KindContentLengthRepeated},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx", KindContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", KindContentLength},
		{"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", KindTwoFramings},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\nContent-Length: 1\r\n\r\n", KindTwoFramings},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", KindTransferEncodingVersion},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", KindTransferCoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", KindTransferEncoding},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", KindTransferEncoding},
		{"HTTP/1.1 200 OK\r\nConnection: Content-Length\r\nContent-Length: 0\r\n\r\n", KindConnectionNominates},
		{"HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
		{"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n", KindContentForbidden},
		{"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n", KindContentForbidden},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", KindUpgradeUnasked},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.60q", tt.raw), func(t *testing.T) {
			if len(tt.raw) < 4096 {
				responseReading(t, tt.raw, MethodGet, false, nil)
			}
			var r Response
			r.ResetFor(nil, MethodGet, false)
			done, err := r.Parse([]byte(tt.raw))
			switch {
			case tt.kind == 0 && !done:
				t.Fatalf("not done: %v", err)
			case tt.kind != 0 && (err == nil || err.Kind != tt.kind || err.Status != 502):
				t.Fatalf("got %+v, want 502 for %v", err, tt.kind)
			}
		})
	}
}

// TestResponseFraming goes through the cases of RFC 9112, 6.3.
func TestResponseFraming(t *testing.T) {
	const (
		length  = "Content-Length: 3\r\n"
		chunked = "Transfer-Encoding: chunked\r\n"
	)
	tests := []struct {
		head     string
		method   Method
		upgrade  bool
		framing  Framing
		toOld    Framing // to an HTTP/1.0 client
		toNew    Framing
		keep     bool
		length   int64
		outOld   string // framing and connection fields of the answer, keep-alive wanted
		outNew   string
		response string // status line, "HTTP/1.1 200 OK" when empty
	}{
		{head: length, framing: FramingLength, toOld: FramingLength, toNew: FramingLength, keep: true, length: 3,
			outOld: length + "Connection: keep-alive\r\n", outNew: length},
		{head: length + "Connection: close\r\n", framing: FramingLength, toOld: FramingLength, toNew: FramingLength, length: 3,
			outOld: length + "Connection: keep-alive\r\n", outNew: length},
		{head: chunked, framing: FramingChunked, toOld: FramingClose, toNew: FramingChunked, keep: true, length: -1,
			outOld: "Connection: close\r\n", outNew: chunked},
		{head: "", framing: FramingClose, toOld: FramingClose, toNew: FramingChunked, length: -1,
			outOld: "Connection: close\r\n", outNew: chunked},
		{head: length, response: "HTTP/1.0 200 OK", framing: FramingLength, toOld: FramingLength, toNew: FramingLength, length: 3,
			outOld: length + "Connection: keep-alive\r\n", outNew: length},
		{head: length + "Connection: keep-alive\r\n", response: "HTTP/1.0 200 OK", framing: FramingLength, toOld: FramingLength,
			toNew: FramingLength, keep: true, length: 3, outOld: length + "Connection: keep-alive\r\n", outNew: length},
		{head: length, method: MethodHead, keep: true, length: 3,
			outOld: length + "Connection: keep-alive\r\n", outNew: length},
		{head: chunked, method: MethodHead, keep: true, length: -1,
			outOld: "Connection: keep-alive\r\n", outNew: chunked},
		{head: "", method: MethodHead, keep: true, length: -1,
			outOld: "Connection: keep-alive\r\n", outNew: ""},
		{head: length, response: "HTTP/1.1 304 Not Modified", keep: true, length: 3,
			outOld: length + "Connection: keep-alive\r\n", outNew: length},
		{head: chunked, response: "HTTP/1.1 304 Not Modified", keep: true, length: -1,
			outOld: "Connection: keep-alive\r\n", outNew: ""},
		{head: "", response: "HTTP/1.1 204 No Content", keep: true, length: -1,
			outOld: "Connection: keep-alive\r\n", outNew: ""},
		{head: "Content-Length: 0\r\n", response: "HTTP/1.1 204 No Content", keep: true, length: 0,
			outOld: "Connection: keep-alive\r\n", outNew: ""},
		{head: length, response: "HTTP/1.1 204 No Content", keep: false, length: 3,
			outOld: "Connection: keep-alive\r\n", outNew: ""},
		{head: chunked, response: "HTTP/1.1 204 No Content", keep: false, length: -1,
			outOld: "Connection: keep-alive\r\n", outNew: ""},
		{head: "Content-Length: 0\r\n", response: "HTTP/1.1 205 Reset Content", keep: true, framing: FramingLength,
			toOld: FramingLength, toNew: FramingLength, outOld: "Content-Length: 0\r\nConnection: keep-alive\r\n",
			outNew: "Content-Length: 0\r\n"},
		{head: "", response: "HTTP/1.1 103 Early Hints", keep: true, length: -1},
		{head: length + "Transfer-Encoding: chunked\r\n", method: MethodConnect, framing: FramingTunnel, toOld: FramingTunnel,
			toNew: FramingTunnel, length: -1},
		{head: length, method: MethodConnect, response: "HTTP/1.1 403 No", framing: FramingLength, toOld: FramingLength,
			toNew: FramingLength, keep: true, length: 3, outOld: length + "Connection: keep-alive\r\n", outNew: length},
		{head: "Upgrade: x\r\nConnection: Upgrade, y\r\ny: 1\r\n", upgrade: true, response: "HTTP/1.1 101 Go", framing: FramingTunnel,
			toOld: FramingTunnel, toNew: FramingTunnel, length: -1, outOld: "Upgrade: x\r\nConnection: upgrade\r\n",
			outNew: "Upgrade: x\r\nConnection: upgrade\r\n"},
		{head: "Upgrade: x\r\nConnection: Upgrade\r\n" + length, response: "HTTP/1.1 426 No", framing: FramingLength,
			toOld: FramingLength, toNew: FramingLength, keep: true, length: 3,
			outOld: "Upgrade: x\r\n" + length + "Connection: keep-alive, upgrade\r\n",
			outNew: "Upgrade: x\r\n" + length + "Connection: upgrade\r\n"},
	}
	for _, tt := range tests {
		line := tt.response
		if line == "" {
			line = "HTTP/1.1 200 OK"
		}
		raw := line + "\r\n" + tt.head + "\r\n"
		if !strings.Contains(line, " 103 ") {
			responseReading(t, raw+"abc", tt.method, tt.upgrade, nil)
		}
		var r Response
		r.ResetFor(nil, tt.method, tt.upgrade)
		in := []byte(raw)
		if done, err := r.Parse(in); !done {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		if r.Framing != tt.framing || r.FramingFor(0) != tt.toOld || r.FramingFor(1) != tt.toNew ||
			r.KeepAlive != tt.keep || r.ContentLength != tt.length {
			t.Errorf("%q method %d: framing %d (to 1.0 %d, to 1.1 %d), keep %t, length %d", raw, tt.method,
				r.Framing, r.FramingFor(0), r.FramingFor(1), r.KeepAlive, r.ContentLength)
		}
		for minor, fields := range []string{tt.outOld, tt.outNew} {
			out := string(AppendResponse(nil, &r, in, &AnswerOptions{Minor: uint8(minor), KeepAlive: true}))
			if want := "HTTP/1.1" + line[len("HTTP/1.1"):] + "\r\n" + fields + "\r\n"; out != want {
				t.Errorf("%q to HTTP/1.%d: %q, want %q", raw, minor, out, want)
			}
		}
	}
}

// TestTruncatedResponse: what ends early never looks complete.
func TestTruncatedResponse(t *testing.T) {
	for _, whole := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
	} {
		head := strings.Index(whole, "\r\n\r\n") + 4
		for n := range len(whole) {
			got := readResponse(whole[:n], MethodGet, false, nil)
			want := "wait for head"
			if n >= head {
				want = KindTruncated.String()
			}
			if !strings.HasSuffix(got, want) {
				t.Errorf("%q:\n%s", whole[:n], got)
			}
		}
		if got := responseReading(t, whole+"HTTP/1.1 ", MethodGet, false, nil); !strings.Contains(got, `rest "HTTP/1.1 "`) {
			t.Errorf("bytes behind the response:\n%s", got)
		}
	}
}

func TestInterimResponses(t *testing.T) {
	got := responseReading(t, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		MethodPost, false, nil)
	for _, want := range []string{"HTTP/1.1 100 ", "HTTP/1.1 103 ", `"Link": "x"`, "HTTP/1.1 200 ", `body "ok"`} {
		_, after, ok := strings.Cut(got, want)
		if !ok {
			t.Fatalf("no %q in %s", want, got)
		}
		got = after
	}
}
