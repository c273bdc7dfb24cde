package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// smuggled is the request that must never be seen where a body is.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: smuggled.example\r\n\r\n"

// post is a POST with the given field lines, each with its line end, and body.
func post(lines, body string) string {
	return "POST /p HTTP/1.1\r\nHost: a.example\r\n" + lines + "\r\n" + body
}

// chunked is body as one chunk with the last one behind it.
func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

// length is the field line for body.
func length(body string) string { return fmt.Sprintf("Content-Length: %d\r\n", len(body)) }

// transferEncodings are the ways in which suites write Transfer-Encoding: chunked so that one
// reader honours it and another does not. honoured: it is chunked to everybody. ignored: the
// name is a valid one of another field, which is relayed and means nothing.
var transferEncodings = []struct {
	name, lines       string
	honoured, ignored bool
}{
	{"plain", "Transfer-Encoding: chunked\r\n", true, false},
	{"lower case", "transfer-encoding: chunked\r\n", true, false},
	{"upper case", "TRANSFER-ENCODING: CHUNKED\r\n", true, false},
	{"no space", "Transfer-Encoding:chunked\r\n", true, false},
	{"two spaces", "Transfer-Encoding:  chunked\r\n", true, false},
	{"tab in front", "Transfer-Encoding:\tchunked\r\n", true, false},
	{"space behind", "Transfer-Encoding: chunked \r\n", true, false},
	{"tab behind", "Transfer-Encoding: chunked\t\r\n", true, false},
	{"space in front of colon", "Transfer-Encoding : chunked\r\n", false, false},
	{"tab in front of colon", "Transfer-Encoding\t: chunked\r\n", false, false},
	{"space in front of name", " Transfer-Encoding: chunked\r\n", false, false},
	{"tab in front of name", "\tTransfer-Encoding: chunked\r\n", false, false},
	{"underscore", "Transfer_Encoding: chunked\r\n", false, true},
	{"dot", "Transfer.Encoding: chunked\r\n", false, true},
	{"no hyphen", "TransferEncoding: chunked\r\n", false, true},
	{"plural", "Transfer-Encodings: chunked\r\n", false, true},
	{"prefix", "X-Transfer-Encoding: chunked\r\n", false, true},
	{"Content-Encoding", "Content-Encoding: chunked\r\n", false, true},
	{"space in name", "Transfer Encoding: chunked\r\n", false, false},
	{"NUL in name", "Transfer\x00-Encoding: chunked\r\n", false, false},
	{"NUL behind name", "Transfer-Encoding\x00: chunked\r\n", false, false},
	{"VT in front of name", "\x0bTransfer-Encoding: chunked\r\n", false, false},
	{"FF in front of colon", "Transfer-Encoding\x0c: chunked\r\n", false, false},
	{"CR behind name", "Transfer-Encoding\r: chunked\r\n", false, false},
	{"LF behind name", "Transfer-Encoding\n: chunked\r\n", false, false},
	{"fold in name", "Transfer\r\n -Encoding: chunked\r\n", false, false},
	{"two colons", "Transfer-Encoding:: chunked\r\n", false, false},
	{"no colon", "Transfer-Encoding chunked\r\n", false, false},
	{"quoted name", "\"Transfer-Encoding\": chunked\r\n", false, false},
	{"beyond ASCII in name", "Transfer-Encod\xc4\xb1ng: chunked\r\n", false, false},
	{"NBSP in front of name", "\xa0Transfer-Encoding: chunked\r\n", false, false},
	{"behind a bare LF", "X: y\nTransfer-Encoding: chunked\r\n", false, false},
	{"behind a bare CR", "X: y\rTransfer-Encoding: chunked\r\n", false, false},
	{"behind CR CR LF", "X: y\r\r\nTransfer-Encoding: chunked\r\n", false, false},
	{"behind LF CR", "X: y\n\rTransfer-Encoding: chunked\r\n", false, false},
	{"behind NEL", "X: y\x85Transfer-Encoding: chunked\r\n", false, true},
	{"ended by LF", "Transfer-Encoding: chunked\n", false, false},
	{"ended by CR", "Transfer-Encoding: chunked\r", false, false},
	{"ended by CR CR LF", "Transfer-Encoding: chunked\r\r\n", false, false},
	{"empty", "Transfer-Encoding: \r\n", false, false},
	{"nothing", "Transfer-Encoding:\r\n", false, false},
	{"identity", "Transfer-Encoding: identity\r\n", false, false},
	{"unknown", "Transfer-Encoding: cow\r\n", false, false},
	{"xchunked", "Transfer-Encoding: xchunked\r\n", false, false},
	{"chunkedx", "Transfer-Encoding: chunkedx\r\n", false, false},
	{"chunk", "Transfer-Encoding: chunk\r\n", false, false},
	{"hyphen in front", "Transfer-Encoding: -chunked\r\n", false, false},
	{"space within", "Transfer-Encoding: chun ked\r\n", false, false},
	{"word behind", "Transfer-Encoding: chunked foo\r\n", false, false},
	{"comma behind", "Transfer-Encoding: chunked,\r\n", false, false},
	{"comma in front", "Transfer-Encoding: ,chunked\r\n", false, false},
	{"comma only", "Transfer-Encoding: ,\r\n", false, false},
	{"semicolon behind", "Transfer-Encoding: chunked;\r\n", false, false},
	{"parameter", "Transfer-Encoding: chunked;q=1\r\n", false, false},
	{"double quotes", "Transfer-Encoding: \"chunked\"\r\n", false, false},
	{"single quotes", "Transfer-Encoding: 'chunked'\r\n", false, false},
	{"NUL behind", "Transfer-Encoding: chunked\x00\r\n", false, false},
	{"VT in front", "Transfer-Encoding: \x0bchunked\r\n", false, false},
	{"VT behind", "Transfer-Encoding: chunked\x0b\r\n", false, false},
	{"FF behind", "Transfer-Encoding: chunked\x0c\r\n", false, false},
	{"DEL behind", "Transfer-Encoding: chunked\x7f\r\n", false, false},
	{"NBSP behind", "Transfer-Encoding: chunked\xa0\r\n", false, false},
	{"UTF-8 BOM in front", "Transfer-Encoding: \xef\xbb\xbfchunked\r\n", false, false},
	{"Kelvin sign", "Transfer-Encoding: chun\xe2\x84\xaaed\r\n", false, false},
	{"folded", "Transfer-Encoding:\r\n chunked\r\n", false, false},
	{"folded with tab", "Transfer-Encoding: \r\n\tchunked\r\n", false, false},
	{"folded behind", "Transfer-Encoding: chunked\r\n x\r\n", false, false},
	{"folded by LF", "Transfer-Encoding:\n chunked\r\n", false, false},
	{"chunked, identity", "Transfer-Encoding: chunked, identity\r\n", false, false},
	{"identity, chunked", "Transfer-Encoding: identity, chunked\r\n", false, false},
	{"gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", false, false},
	{"chunked, gzip", "Transfer-Encoding: chunked, gzip\r\n", false, false},
	{"chunked, chunked", "Transfer-Encoding: chunked, chunked\r\n", false, false},
	{"twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", false, false},
	{"and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", false, false},
	{"identity and", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", false, false},
	{"and cow", "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", false, false},
	{"empty and", "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", false, false},
	{"nominated", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", false, false},
	{"nominated behind", "Transfer-Encoding: chunked\r\nConnection: keep-alive, transfer-encoding\r\n", false, false},
}

// TestTransferEncodings: TE.CL, CL.TE, TE.TE and chunked alone (RFC 9112 6.1, 6.3).
func TestTransferEncodings(t *testing.T) {
	t.Parallel()
	var all []sample
	for _, te := range transferEncodings {
		body := chunked(smuggled)
		alone := sample{name: te.name + "/alone", raw: post(te.lines, body), class: reject}
		front := sample{name: te.name + "/TE.CL", raw: post(te.lines+length(body), body), class: reject}
		behind := sample{name: te.name + "/CL.TE", raw: post(length(body)+te.lines, body), class: reject}
		// The classical attack: what the length covers is less than what the chunks do.
		short := sample{name: te.name + "/short CL", raw: post("Content-Length: 4\r\n"+te.lines, body), class: reject}
		switch {
		case te.honoured:
			alone.class, alone.want = accept, []string{"POST /p " + smuggled}
		case te.ignored:
			front.class, front.want = either, []string{"POST /p " + body}
			behind.class, behind.want = either, front.want
			alone.want = []string{"POST /p "} // the chunk size is no request line
			short.want = []string{"POST /p " + body[:4], "GET /smuggled "}
		}
		all = append(all, alone, front, behind, short)
	}
	campaign(t, all)
}

// TestContentLengths: spellings and repetitions (RFC 9110 8.6, RFC 9112 6.3).
func TestContentLengths(t *testing.T) {
	t.Parallel()
	var all []sample
	const body = "hello"
	hello := []string{"POST /p hello"}
	for _, s := range []struct {
		lines string
		class class
	}{
		{"Content-Length: 5", accept}, {"content-length:5", accept}, {"CONTENT-LENGTH: \t5\t ", accept},
		{"Content-Length: 05", either}, {"Content-Length: 00000000000000005", either},
		{"Content-Length: 000000000000000000000000000000005", either},
		{"Content-Length: +5", reject}, {"Content-Length: -5", reject}, {"Content-Length: -0", reject},
		{"Content-Length: 5,5", reject}, {"Content-Length: 5, 5", reject}, {"Content-Length: 5,6", reject},
		{"Content-Length: 5,", reject}, {"Content-Length: ,5", reject}, {"Content-Length: 5;", reject},
		{"Content-Length: 0x5", reject}, {"Content-Length: 0b101", reject}, {"Content-Length: 0o5", reject},
		{"Content-Length: 5.0", reject}, {"Content-Length: 5e0", reject}, {"Content-Length: 5L", reject},
		{"Content-Length: 5_0", reject}, {"Content-Length: 5 0", reject}, {"Content-Length: 5 5", reject},
		{"Content-Length: \"5\"", reject}, {"Content-Length: '5'", reject}, {"Content-Length: five", reject},
		{"Content-Length: ", reject}, {"Content-Length:", reject}, {"Content-Length: NaN", reject},
		{"Content-Length: 5\x00", reject}, {"Content-Length: \x005", reject}, {"Content-Length: \x0b5", reject},
		{"Content-Length: 5\x0c", reject}, {"Content-Length: 5\r", reject}, {"Content-Length: \n5", reject},
		{"Content-Length: \xd9\xa5", reject}, {"Content-Length: \xef\xbc\x95", reject}, {"Content-Length: \xa05", reject},
		{"Content-Length: 5\r\n 5", reject}, {"Content-Length:\r\n 5", reject},
		{"Content-Length: 9223372036854775808", reject}, {"Content-Length: 18446744073709551621", reject},
		{"Content-Length: 4294967301", wait}, {"Content-Length: 99999999999999999999999999", reject},
		{"Content-Length : 5", reject}, {" Content-Length: 5", reject}, {"Content-Length\x00: 5", reject}, {"Content Length: 5", reject},
		{"Content-Length: 5\r\nContent-Length: 5", reject}, {"Content-Length: 5\r\nContent-Length: 6", reject},
		{"Content-Length: 5\r\nContent-Length: 0", reject}, {"Content-Length: 0\r\nContent-Length: 5", reject},
		{"Content-Length: 5\r\ncontent-length: 5", reject}, {"Content-Length: 5\r\nContent-Length:", reject},
		{"Content-Length: 5\r\nX: y\r\nContent-Length: 4", reject}, {"Content-Length:\r\nContent-Length: 5", reject},
		{"Content-Length: 5\r\nContent-Length : 6", reject}, {"Content-Length: 5\r\n Content-Length: 6", reject},
		{"Content-Length: 5\r\nContent_Length: 6", either}, {"Content_Length: 6\r\nContent-Length: 5", either},
		{"Content-Length: 5\r\nContent.Length: 4", either}, {"Content-Length: 5\r\nX-Content-Length: 4", accept},
		{"Connection: Content-Length\r\nContent-Length: 5", reject}, {"Content-Length: 5\r\nConnection: close, content-length", reject},
	} {
		all = append(all, sample{name: s.lines, raw: post(s.lines+"\r\n", body), class: s.class, want: hello})
		if s.class == reject || s.class == wait {
			all[len(all)-1].want = nil
		}
	}
	// CL.0 and 0.CL: the body of a request that has none, or the other way round.
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "FROB"} {
		head := method + " /p HTTP/1.1\r\nHost: a.example\r\n"
		all = append(all,
			sample{name: "CL.0/" + method, raw: head + length(smuggled) + "\r\n" + smuggled, want: []string{method + " /p " + smuggled}},
			sample{name: "0.CL/" + method, raw: head + "Content-Length: 0\r\n\r\n" + smuggled, want: []string{method + " /p ", "GET /smuggled "}},
			sample{name: "none/" + method, raw: head + "\r\n" + smuggled, want: []string{method + " /p ", "GET /smuggled "}},
			sample{name: "chunked/" + method, raw: head + "Transfer-Encoding: chunked\r\n\r\n" + chunked(smuggled), want: []string{method + " /p " + smuggled}},
			sample{name: "underscore/" + method, raw: head + "Content_Length: 44\r\n\r\n" + smuggled, class: either, want: []string{method + " /p ", "GET /smuggled "}},
		)
	}
	campaign(t, all)
}

// TestChunks: spellings of chunk sizes, extensions, line ends and last chunks (RFC 9112 7.1).
func TestChunks(t *testing.T) {
	t.Parallel()
	var all []sample
	add := func(what, body string, c class, payload string) {
		s := sample{name: fmt.Sprintf("%s %q", what, body), raw: post("Transfer-Encoding: chunked\r\n", body), class: c}
		if c == accept || c == either {
			s.want = []string{"POST /p " + payload}
		}
		all = append(all, s)
	}
	for line, c := range map[string]class{
		"5": accept, "05": accept, "0000000000000005": accept, "00000000000000005": either, "5;": either, "5;a": accept, "5;a=b": accept,
		"5;a=\"b\"": accept, "5;a=\"b;c\"": accept, "5;a=\"b\\\"c\"": accept, "5;a;b=c": accept, "5; a": accept, "5 ;a": either, "5\t;a": either,
		"5;a = b": accept, "5;a=\"b": reject, "5;a=\"\n\"": reject, "5;a=\"\r\n\"": reject, "5;a\x00": reject, "5;a\n": reject, "5;a\r": reject,
		"5;\x01": reject, "5;a=b\x7f": reject, "5;=b": either, "5;;a": either, "5;a=": either, "5;a b": either, "5,a": reject, "5:a": reject,
		"0x5": reject, "0X5": reject, "x5": reject, "+5": reject, "-5": reject, " 5": reject, "\t5": reject, "5 ": either, "5\t": either, "5  ": either,
		"5\x00": reject, "\x005": reject, "5\x0b": reject, "5\x0c": reject, "5\xa0": reject, "5\r": reject, "\r5": reject, "\n5": reject,
		"5h": reject, "h5": reject, "5.0": reject, "5_": reject, "_5": reject, "5e": reject, "\"5\"": reject, "5 5": reject, "": reject,
		"100000005": reject, "10000000000000005": reject, "FFFFFFFFFFFFFFFF": reject, "8000000000000000": reject, "ffffffffffffffff5": reject,
		"7fffffffffffffff": reject, "\xef\xbc\x95": reject, "5;" + strings.Repeat("a", 5000): reject,
	} {
		if line == "100000005" || line == "7fffffffffffffff" || line == "5e" {
			c = wait
		}
		add("size", line+"\r\nhello\r\n0\r\n\r\n", c, "hello")
	}
	for end, c := range map[string]class{
		"\n": reject, "\r": reject, "\r\r\n": reject, "\n\r": reject, "": reject, "x\r\n": reject, " \r\n": reject, "\x00\r\n": reject, ";\r\n": reject,
	} {
		add("behind the size", "5"+end+"hello\r\n0\r\n\r\n", c, "hello")
		add("behind the data", "5\r\nhello"+end+"0\r\n\r\n", c, "hello")
		add("behind the last size", "5\r\nhello\r\n0"+end+"\r\n", c, "hello")
		add("at the end", "5\r\nhello\r\n0\r\n"+end, c, "hello")
	}
	for i := range all { // what is missing at the end, may come
		switch all[i].raw {
		case post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r"), post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"):
			all[i].class = wait
		}
	}
	for last, c := range map[string]class{
		"0": accept, "00": accept, "0000000000000000": accept, "0;a=b": accept, "-0": reject, "+0": reject, "0x0": reject, " 0": reject, "0 ": either,
		"": reject, "O": reject, "0\x00": reject, "0\r": reject, "0,": reject,
	} {
		add("last", "5\r\nhello\r\n"+last+"\r\n\r\n", c, "hello")
	}
	for trailer, c := range map[string]class{
		"X: y\r\n": accept, "X:\r\n": accept, "X: y\r\nZ: w\r\n": accept, "X-Forwarded-For: 6.6.6.6\r\n": either, "Cookie: a=b\r\n": either,
		"Content-Length: 5\r\n": reject, "Transfer-Encoding: chunked\r\n": reject, "Host: b.example\r\n": reject, "Connection: close\r\n": reject,
		"Trailer: X\r\n": reject, "TE: trailers\r\n": reject, "Upgrade: h2c\r\n": reject, "Expect: 100-continue\r\n": reject, "Keep-Alive: x\r\n": reject,
		"Authorization: x\r\n": either, "Content-Type: a/b\r\n": either, "Content-Encoding: gzip\r\n": either,
		"X : y\r\n": reject, " X: y\r\n": reject, "X\r\n": reject, ": y\r\n": reject, "X: y\n": reject, "X: y\r": reject, "X: y\r\n z\r\n": reject,
		"X: \x00\r\n": reject, "X: a\rb\r\n": reject, "X: a\nb\r\n": reject, "X\x00: y\r\n": reject, "(X): y\r\n": reject, "GET / HTTP/1.1\r\nHost: x\r\n": reject,
		"\n": reject, "X: " + strings.Repeat("y", 9000) + "\r\n": reject, strings.Repeat("X: y\r\n", 40): reject,
	} {
		add("trailer", "5\r\nhello\r\n0\r\n"+trailer+"\r\n", c, "hello")
	}
	add("pieces", "1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n0\r\n\r\n", accept, "hello")
	add("upper case", "A\r\n0123456789\r\n0\r\n\r\n", accept, "0123456789")
	add("data like an end", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", accept, "\r\n0\r\n\r\n")
	campaign(t, all)
}

// TestLineEnds: each CR and each LF of a request with chunks, an extension and a trailer is
// left out, or is another byte (RFC 9112 2.2, 7.1).
func TestLineEnds(t *testing.T) {
	t.Parallel()
	raw := post("Transfer-Encoding: chunked\r\n", "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n")
	var all []sample
	for i := range len(raw) {
		if raw[i] != '\r' && raw[i] != '\n' {
			continue
		}
		for _, other := range []string{"", "x", " ", "\x00", "\r", "\n"} {
			if other == raw[i:i+1] {
				continue
			}
			s := sample{name: fmt.Sprintf("%q for %q at %d", other, raw[i:i+1], i), raw: raw[:i] + other + raw[i+1:], class: reject}
			if other == "" && i == len(raw)-1 {
				s.class = wait
			}
			all = append(all, s)
		}
	}
	campaign(t, all)
}
