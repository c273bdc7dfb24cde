package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
)

// checkDeliveries compares the reading of a whole delivery with those byte by byte
// and split in three at the given places.
func checkDeliveries(t *testing.T, raw string, a, b uint16, read func(cuts ...int) string) string {
	t.Helper()
	whole := read()
	every := make([]int, len(raw))
	for i := range every {
		every[i] = i + 1
	}
	if got := read(every...); got != whole {
		t.Fatalf("%q byte by byte:\n%s\nwhole:\n%s", raw, got, whole)
	}
	first := int(a) % (len(raw) + 1)
	second := first + int(b)%(len(raw)+1-first)
	if got := read(first, second); got != whole {
		t.Fatalf("%q split at %d and %d:\n%s\nwhole:\n%s", raw, first, second, got, whole)
	}
	return whole
}

var (
	canonicalLine  = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+: ([^\\x00-\\x08\\x0a-\\x1f\\x7f]*)$")
	canonicalStart = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\\x21\\x22\\x24-\\x7e]+ HTTP/1\\.1$|^HTTP/1\\.1 [1-5][0-9][0-9] [^\\x00-\\x08\\x0a-\\x1f\\x7f]*$")
	hopByHopField  = regexp.MustCompile("(?i)^(Keep-Alive|Proxy-Connection|Proxy-Auth[a-z]*|TE|Trailer):")
)

// checkCanonical reads a serialised head with means of its own: one reading, strictly
// conformant.
func checkCanonical(t *testing.T, head string, request bool) {
	t.Helper()
	count := map[string]int{}
	lines := strings.Split(head, "\r\n")
	n := len(lines)
	if n < 3 || lines[n-1] != "" || lines[n-2] != "" {
		t.Fatalf("%q does not end with an empty line", head)
	}
	if !canonicalStart.MatchString(lines[0]) {
		t.Fatalf("first line of %q", head)
	}
	for i, line := range lines[1 : n-2] {
		m := canonicalLine.FindStringSubmatch(line)
		if m == nil || strings.Trim(m[1], " \t") != m[1] {
			t.Fatalf("line %q of %q", line, head)
		}
		if hopByHopField.MatchString(line) {
			t.Fatalf("hop-by-hop field %q in %q", line, head)
		}
		name := strings.ToLower(line[:strings.IndexByte(line, ':')])
		count[name]++
		switch {
		case name == "host" && i != 0 && request:
			t.Fatalf("Host is not first in %q", head)
		case name == "transfer-encoding" && m[1] != "chunked":
			t.Fatalf("coding in %q", head)
		case name == "content-length" && regexp.MustCompile("^(0|[1-9][0-9]*)$").FindString(m[1]) == "":
			t.Fatalf("length in %q", head)
		}
	}
	if request && count["host"] != 1 || count["transfer-encoding"]+count["content-length"] > 1 || count["connection"] > 1 {
		t.Fatalf("%v in %q", count, head)
	}
}

func sameFields(fields []Field, in []byte, h http.Header) error {
	ours := http.Header{}
	for _, f := range fields {
		switch f.ID {
		case FieldHost, FieldTransferEncoding, FieldTrailer:
			continue // net/http takes them out
		}
		ours.Add(string(f.Name.Of(in)), string(f.Value.Of(in)))
	}
	h = h.Clone()
	h.Del("Trailer")
	h.Del("Transfer-Encoding")
	h.Del("Host")
	if fmt.Sprint(ours) != fmt.Sprint(h) {
		return fmt.Errorf("fields %v, net/http has %v", ours, h)
	}
	return nil
}

// FuzzRequest: one verdict whatever the delivery; what is accepted means to net/http
// the same as to us, as it came and as it is forwarded; what is forwarded is canonical.
func FuzzRequest(f *testing.F) {
	for _, c := range loadCases(f) {
		f.Add(aboutItsPoint(c.ID, string(c.Raw)), uint16(7), uint16(20))
	}
	f.Add(chunkedHead+"5;a=\"b\"\r\nhello\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.0\r\n\r\n", uint16(60), uint16(2))
	f.Fuzz(func(t *testing.T, raw string, a, b uint16) {
		if len(raw) > 4096 {
			return
		}
		l := &Limits{FieldsBytes: 1000, RequestLineBytes: 100, ChunkExtensionBytes: 20, TrailerBytes: 50, AllowConnect: a&1 == 1}
		checkDeliveries(t, raw, a, b, func(cuts ...int) string { return readRequests(raw, l, cuts...) })

		var r Request
		r.Reset(nil)
		in := []byte(raw)
		if done, _ := r.Parse(in); !done {
			return
		}
		out := AppendRequest(nil, &r, in, &ForwardOptions{ForwardedFor: []byte("192.0.2.1"), ForwardedHost: true})
		checkCanonical(t, string(out), true)
		payload, complete := decode(t, func(b *Body) { b.ResetRequest(&r) }, in[r.HeadBytes:])

		// As it came. net/http does not skip empty lines and refuses some
		// targets and hosts.
		theirs, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.TrimLeft(raw, "\r\n"))))
		if err != nil {
			return
		}
		if theirs.Method != string(r.Method.Of(in)) || theirs.RequestURI != string(r.Target.Of(in)) ||
			theirs.Host != string(r.Host.Of(in)) || theirs.ProtoMinor != int(r.Minor) {
			t.Fatalf("%q: net/http read %s %s of %s", raw, theirs.Method, theirs.RequestURI, theirs.Host)
		}
		if err := sameFields(r.Fields, in, theirs.Header); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		sameBody(t, raw, theirs.Body, payload, complete)

		// As it is forwarded.
		if r.Framing == FramingChunked && complete {
			if len(payload) > 0 {
				out = AppendChunkHeader(out, len(payload))
				out = append(append(out, payload...), ChunkEnd...)
			}
			out = AppendLastChunk(out, nil)
		} else {
			out = append(out, payload...)
		}
		theirs, err = http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
		if err != nil {
			t.Fatalf("%q forwarded as %q: %v", raw, out, err)
		}
		if theirs.Method != string(r.Method.Of(in)) || theirs.Host != string(r.Host.Of(in)) {
			t.Fatalf("%q forwarded as %q: net/http read %s of %s", raw, out, theirs.Method, theirs.Host)
		}
		sameBody(t, raw, theirs.Body, payload, complete)
	})
}

// decode returns the payload of a body at the front of in and whether it is complete,
// without the distinction between waiting and refusal.
func decode(t *testing.T, reset func(*Body), in []byte) (payload []byte, complete bool) {
	t.Helper()
	var b Body
	reset(&b)
	if b.Framing() == FramingTunnel {
		return nil, false
	}
	for len(in) > 0 && !b.Done() {
		n, data, err := b.Next(in)
		if err != nil {
			return payload, false
		}
		if n == 0 {
			t.Fatalf("nothing taken from %q", in)
		}
		payload = append(payload, data...)
		in = in[n:]
	}
	if b.Framing() == FramingClose {
		return payload, b.EOF() == nil
	}
	return payload, b.Done()
}

// sameBody compares with a body read by net/http, which accepts more: only what we
// find complete must be the same.
func sameBody(t *testing.T, raw string, body io.Reader, payload []byte, complete bool) {
	t.Helper()
	if !complete {
		return
	}
	got, err := io.ReadAll(body)
	// net/http wants trailers as MIME headers and a blank line it can see at once.
	if err != nil && !strings.Contains(err.Error(), "malformed MIME header") && !strings.Contains(err.Error(), "trailer") &&
		!strings.Contains(err.Error(), "too much overhead") {
		t.Fatalf("%q: net/http: %v", raw, err)
	}
	if !bytes.Equal(got, payload) {
		t.Fatalf("%q: body %q, net/http has %q", raw, payload, got)
	}
}

// FuzzResponse is FuzzRequest for responses.
func FuzzResponse(f *testing.F) {
	f.Add(string(serverResponse), uint8(0), uint16(7), uint16(20))
	for _, s := range []string{
		"HTTP/1.1 200\r\nTransfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\nxyz",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\nuntil close",
	} {
		f.Add(s, uint8(0), uint16(20), uint16(5))
		f.Add(s, uint8(MethodHead), uint16(20), uint16(5))
	}
	f.Fuzz(func(t *testing.T, raw string, m uint8, a, b uint16) {
		if len(raw) > 4096 {
			return
		}
		method := Method(m) % (MethodPatch + 1)
		upgrade := a&1 == 1
		l := &Limits{FieldsBytes: 1000, ChunkExtensionBytes: 20, TrailerBytes: 50}
		checkDeliveries(t, raw, a, b, func(cuts ...int) string { return readResponse(raw, method, upgrade, l, cuts...) })

		var r Response
		r.ResetFor(nil, method, upgrade)
		in := []byte(raw)
		if done, _ := r.Parse(in); !done {
			return
		}
		for minor := range uint8(2) {
			out := AppendResponse(nil, &r, in, &AnswerOptions{Minor: minor, KeepAlive: b&1 == 1})
			checkCanonical(t, string(out), false)
			if minor == 0 && bytes.Contains(out, []byte("Transfer-Encoding: ")) {
				t.Fatalf("%q to HTTP/1.0: %q", raw, out)
			}
		}
		if r.Interim() || r.Framing == FramingTunnel {
			return
		}
		payload, complete := decode(t, func(b *Body) { b.ResetResponse(&r) }, in[r.HeadBytes:])
		req := &http.Request{Method: "GET"}
		if method == MethodHead {
			req.Method = "HEAD"
		}
		theirs, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), req)
		if err != nil || bytes.Contains(in[:r.HeadBytes], []byte(" :")) || bytes.Contains(in[:r.HeadBytes], []byte("\t:")) {
			return
		}
		if theirs.StatusCode != r.Status || theirs.ProtoMinor != int(r.Minor) {
			t.Fatalf("%q: net/http read %s", raw, theirs.Status)
		}
		sameBody(t, raw, theirs.Body, payload, complete)
	})
}

var (
	simpleSize    = regexp.MustCompile("^[0-9A-Fa-f]{1,16}")
	simpleQuoted  = `"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*"`
	simpleToken   = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	simpleExt     = regexp.MustCompile("^(?:[ \t]*;[ \t]*" + simpleToken + "(?:[ \t]*=[ \t]*(?:" + simpleToken + "|" + simpleQuoted + "))?)*\r\n")
	simpleTrailer = regexp.MustCompile("^(?:" + simpleToken + ":[^\\x00-\\x08\\x0a-\\x1f\\x7f]*\r\n)*\r\n")
)

// simpleChunked decodes a chunked body by regular expressions, without limits.
func simpleChunked(in string) (payload string, n int, ok bool) {
	rest := in
	for {
		digits := simpleSize.FindString(rest)
		if digits == "" {
			return payload, 0, false
		}
		rest = rest[len(digits):]
		ext := simpleExt.FindString(rest)
		if ext == "" || ext[0] == ' ' || ext[0] == '\t' {
			return payload, 0, false
		}
		rest = rest[len(ext):]
		size, _ := new(big.Int).SetString(digits, 16)
		if size.Sign() == 0 {
			break
		}
		if size.Cmp(big.NewInt(int64(len(rest)-2))) > 0 {
			return payload, 0, false
		}
		n := int(size.Int64())
		payload += rest[:n]
		if rest[n:n+2] != "\r\n" {
			return payload, 0, false
		}
		rest = rest[n+2:]
	}
	trailer := simpleTrailer.FindString(rest)
	if trailer == "" {
		return payload, 0, false
	}
	rest = rest[len(trailer):]
	return payload, len(in) - len(rest), true
}

// FuzzChunked compares with a decoder made of regular expressions.
func FuzzChunked(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "5;a=b;c=\"d\\\"\";e\r\nhello\r\n0\r\n\r\nGET", "0\r\nA: b\r\nC:d\r\n\r\n", "5; a = \"b\" ; c\r\nhello\r\n00\r\n\r\n",
		"A\r\n0123456789\r\n0;x\r\n\r\n", "5\r\nhello\r\n",
	} {
		f.Add(s)
	}
	for _, c := range loadCases(f) {
		if head, body, ok := strings.Cut(string(c.Raw), "\r\n\r\n"); ok && strings.Contains(head, "chunked") {
			f.Add(body)
		}
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if len(raw) > 4096 {
			return
		}
		l := &Limits{ChunkExtensionBytes: 1 << 20, ChunkOverheadBytes: 1 << 20, TrailerBytes: 1 << 20, TrailerCount: 1 << 20}
		var r Request
		r.Reset(l)
		if done, err := r.Parse([]byte(chunkedHead)); !done {
			t.Fatal(err)
		}
		var b Body
		b.ResetRequest(&r)
		var payload []byte
		in := []byte(raw)
		at := 0
		for at < len(in) && !b.Done() {
			n, data, err := b.Next(in[at:])
			if err != nil {
				if err.Kind == KindTrailer {
					return
				}
				break
			}
			at += n
			payload = append(payload, data...)
		}
		want, n, ok := simpleChunked(raw)
		if b.Done() != ok || ok && (string(payload) != want || at != n) {
			t.Fatalf("%q: done %t with %q after %d bytes, want %t with %q after %d", raw, b.Done(), payload, at, ok, want, n)
		}
	})
}

// FuzzIPv6 compares with netip.
func FuzzIPv6(f *testing.F) {
	for _, s := range []string{"::", "1::8", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:1.2.3.4", "1:::2", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := netip.ParseAddr(s)
		want := err == nil && a.Is6() && a.Zone() == ""
		if got := isIPv6([]byte(s)); got != want {
			t.Fatalf("%q: %t, netip says %t", s, got, want)
		}
	})
}
