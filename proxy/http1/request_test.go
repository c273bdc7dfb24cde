package http1

import (
	"fmt"
	"strings"
	"testing"
)

// TestRequestRules has one line a rule: what is refused, why, and with which
// status; and the nearest things that must be accepted (kind 0). {H}
// stands for a Host field.
func TestRequestRules(t *testing.T) {
	const host = "Host: a\r\n"
	long := strings.Repeat
	tests := []struct {
		raw  string
		kind Kind
	}{
		// Empty lines in front of a request: RFC 9112, 2.2.
		{"\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n", 0},
		{"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n{H}\r\n", KindEmptyLines},
		{"\nGET / HTTP/1.1\r\n{H}\r\n", KindBareLF},
		{"\r\rGET / HTTP/1.1\r\n{H}\r\n", KindBareCR},
		{" GET / HTTP/1.1\r\n{H}\r\n", KindMethod},

		// Method: RFC 9112, 3.1; RFC 9110, 9.1.
		{"get / HTTP/1.1\r\n{H}\r\n", 0},
		{"M-SEARCH /x HTTP/1.1\r\n{H}\r\n", 0},
		{"!#$%&'*+-.^_`|~09 / HTTP/1.1\r\n{H}\r\n", 0},
		{"G(T / HTTP/1.1\r\n{H}\r\n", KindMethod},
		{"G\x00T / HTTP/1.1\r\n{H}\r\n", KindMethod},
		{"GET\t/ HTTP/1.1\r\n{H}\r\n", KindMethod},
		{"GET\r\n", KindMethod},
		{"\x16\x03\x01\x02\x00\x01", KindMethod}, // a TLS client
		{long("A", 40) + " / HTTP/1.1\r\n{H}\r\n", 0},
		{long("A", 41) + " / HTTP/1.1\r\n{H}\r\n", KindMethodTooLong},

		// Request target: RFC 9112, 3.2.
		{"GET /?a=b?c&d=%zz;|\"<>[]{}^`\\ HTTP/1.1\r\n{H}\r\n", 0},
		{"GET //a//b/../c HTTP/1.1\r\n{H}\r\n", 0},
		{"GET  / HTTP/1.1\r\n{H}\r\n", KindTarget},
		{"GET  HTTP/1.1\r\n{H}\r\n", KindTarget},
		{"GET /\t HTTP/1.1\r\n{H}\r\n", KindTarget},
		{"GET /\x00 HTTP/1.1\r\n{H}\r\n", KindTarget},
		{"GET /\x7f HTTP/1.1\r\n{H}\r\n", KindTarget},
		{"GET /\xc3\xa4 HTTP/1.1\r\n{H}\r\n", KindTarget},
		{"GET /abcdefghijkl\x80nop HTTP/1.1\r\n{H}\r\n", KindTarget},
		{"GET /#f HTTP/1.1\r\n{H}\r\n", KindFragment},
		{"GET /abcdefghijklmn#op HTTP/1.1\r\n{H}\r\n", KindFragment},
		{"GET a HTTP/1.1\r\n{H}\r\n", KindTargetForm},
		{"GET a/b HTTP/1.1\r\n{H}\r\n", KindTargetForm},
		{"GET ?a HTTP/1.1\r\n{H}\r\n", KindTargetForm},
		{"GET a:80 HTTP/1.1\r\n{H}\r\n", KindTargetForm}, // authority-form: 3.2.3
		{"GET * HTTP/1.1\r\n{H}\r\n", KindTargetForm},    // asterisk-form: 3.2.4
		{"OPTIONS * HTTP/1.1\r\n{H}\r\n", 0},
		{"OPTIONS ** HTTP/1.1\r\n{H}\r\n", KindTargetForm},

		// absolute-form: RFC 9112, 3.2.2.
		{"GET http://b HTTP/1.1\r\n{H}\r\n", 0},
		{"GET HTTP://b:80?x HTTP/1.1\r\n{H}\r\n", 0},
		{"GET http://b:8080/x@y HTTP/1.1\r\n{H}\r\n", 0},
		{"GET http://b/ HTTP/1.1\r\n\r\n", KindHostMissing},
		{"GET http:///x HTTP/1.1\r\n{H}\r\n", KindHost},
		{"GET http:// HTTP/1.1\r\n{H}\r\n", KindHost},
		{"GET http:/x HTTP/1.1\r\n{H}\r\n", KindTargetForm},
		{"GET http://b:x/ HTTP/1.1\r\n{H}\r\n", KindHost},
		{"GET http://u:p@b/ HTTP/1.1\r\n{H}\r\n", KindUserinfo},
		{"GET ftp://b/ HTTP/1.1\r\n{H}\r\n", KindScheme},
		{"GET ://b/ HTTP/1.1\r\n{H}\r\n", KindScheme},
		{"GET https://b/ HTTP/1.1\r\n{H}\r\n", KindMisdirected},

		// CONNECT and authority-form: RFC 9112, 3.2.3; RFC 9110, 9.3.6.
		{"CONNECT a:443 HTTP/1.1\r\n{H}\r\n", KindConnect},

		// Version: RFC 9112, 2.3.
		{"GET / HTTP/1.0\r\n\r\n", 0},
		{"GET /\r\n", KindVersionMissing},
		{"GET /\n", KindVersionMissing},
		{"GET / \r\n", KindVersion},
		{"GET / HTTP/1\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/1.\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/.1\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/11\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/01.1\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/1.10\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/1.1 \r\n{H}\r\n", KindVersion},
		{"GET /  HTTP/1.1\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/ 1.1\r\n{H}\r\n", KindVersion},
		{"GET / http/1.1\r\n{H}\r\n", KindVersion},
		{"GET / HTTPS/1.1\r\n{H}\r\n", KindVersion},
		{"GET / x HTTP/1.1\r\n{H}\r\n", KindVersion},
		{"GET / HTTP/1.1\n{H}\r\n", KindBareLF},
		{"GET / HTTP/1.1\rH\r\n", KindBareCR},
		{"GET / HTTP/0.9\r\n{H}\r\n", KindVersionUnsupported},
		{"GET / HTTP/1.2\r\n{H}\r\n", KindVersionUnsupported},
		{"GET / HTTP/2.0\r\n{H}\r\n", KindVersionUnsupported},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", KindVersionUnsupported},

		// Field lines: RFC 9112, 5 and 2.2; RFC 9110, 5.1 and 5.5.
		{"GET / HTTP/1.1\r\n{H}X:\r\nY: \r\nZ:\t \ta\tb \t\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n{H}X: D\xc3\xbcsseldorf\xff\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n{H}X_y.!#$%&'*+^`|~: 1\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n{H}: x\r\n\r\n", KindFieldName},
		{"GET / HTTP/1.1\r\n{H}X Y: 1\r\n\r\n", KindSpaceBeforeColon},
		{"GET / HTTP/1.1\r\n{H}X : 1\r\n\r\n", KindSpaceBeforeColon},
		{"GET / HTTP/1.1\r\n{H}Transfer-Encoding\t: chunked\r\n\r\n", KindSpaceBeforeColon},
		{"GET / HTTP/1.1\r\n{H}X[: 1\r\n\r\n", KindFieldName},
		{"GET / HTTP/1.1\r\n{H}\x01X: 1\r\n\r\n", KindFieldName},
		{"GET / HTTP/1.1\r\n{H}X\x00: 1\r\n\r\n", KindFieldName},
		{"GET / HTTP/1.1\r\n{H}X\xa0: 1\r\n\r\n", KindFieldName},
		{"GET / HTTP/1.1\r\n{H}X\r\n\r\n", KindNoColon},
		{"GET / HTTP/1.1\r\n{H}X\n\r\n", KindBareLF},
		{"GET / HTTP/1.1\r\n{H}X: a\r\n b\r\n\r\n", KindFold},
		{"GET / HTTP/1.1\r\n{H}X: a\r\n\tb\r\n\r\n", KindFold},
		{"GET / HTTP/1.1\r\n HX: a\r\n\r\n", KindFold},
		{"GET / HTTP/1.1\r\n{H}X: a\r\n \r\n\r\n", KindFold},
		{"GET / HTTP/1.1\r\n{H}X: a\nY: b\r\n\r\n", KindBareLF},
		{"GET / HTTP/1.1\r\n{H}X: a\rY: b\r\n\r\n", KindBareCR},
		{"GET / HTTP/1.1\r\n{H}X: a\r\r\n\r\n", KindBareCR},
		{"GET / HTTP/1.1\r\n{H}X:\rY: b\r\n\r\n", KindBareCR},
		{"GET / HTTP/1.1\r\n{H}X:\nY: b\r\n\r\n", KindBareLF},
		{"GET / HTTP/1.1\r\n{H}\n", KindBareLF},
		{"GET / HTTP/1.1\r\n{H}\rX", KindBareCR},
		{"GET / HTTP/1.1\r\n{H}X: a\x00b\r\n\r\n", KindFieldValue},
		{"GET / HTTP/1.1\r\n{H}X: abcdefghijkl\x00b\r\n\r\n", KindFieldValue},
		{"GET / HTTP/1.1\r\n{H}X: \x01\r\n\r\n", KindFieldValue},
		{"GET / HTTP/1.1\r\n{H}X: abcdefghijkl\x7f\r\n\r\n", KindFieldValue},
		{"GET / HTTP/1.1\r\n{H}X: a\x0bb\r\n\r\n", KindFieldValue},
		{"GET / HTTP/1.1\r\n{H}X: a\x0cb\r\n\r\n", KindFieldValue},

		// Host: RFC 9112, 3.2; RFC 9110, 4.2.1 and 7.2; RFC 3986, 3.2.2.
		{"GET / HTTP/1.1\r\n\r\n", KindHostMissing},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", KindHostRepeated},
		{"GET / HTTP/1.0\r\nHost: a\r\nhOST: b\r\n\r\n", KindHostRepeated},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: [v1.x]\r\n\r\n", KindHost},
		{"GET / HTTP/1.1\r\nHost: a:65535\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\nHost: A_b-c.%e4~!\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0},

		// Content-Length: RFC 9112, 6.3; RFC 9110, 8.6.
		{"POST / HTTP/1.1\r\n{H}Content-Length: 003\r\n\r\nabc", 0},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 9223372036854775807\r\n\r\n", 0},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 9223372036854775808\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 18446744073709551616\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 00000000000000000003\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length:\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: -1\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: +1\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 0x1\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 1 1\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 1.0\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 1_0\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 5, 5\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 5,\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: \"5\"\r\n\r\n", KindContentLength},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 5\r\nContent-Length: 5\r\n\r\n", KindContentLengthRepeated},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 5\r\ncontent-length: 6\r\n\r\n", KindContentLengthRepeated},

		// Transfer-Encoding: RFC 9112, 6.1, 6.3 and 7.
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: \t ChunKed\t \r\n\r\n0\r\n\r\n", 0},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", KindTwoFramings},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", KindTwoFramings},
		{"POST / HTTP/1.1\r\n{H}Content-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\n", KindTwoFramings},
		{"POST / HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\n\r\n", KindTransferEncodingVersion},
		{"POST / HTTP/1.0\r\n{H}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", KindTransferEncodingVersion},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: gzip, chunked\r\n\r\n", KindTransferCoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", KindTransferCoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: identity, chunked\r\n\r\n", KindTransferCoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: xchunked, chunked\r\n\r\n", KindTransferCoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: gzip\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: identity\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: xchunked\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked, gzip\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked, identity\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked, chunked\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding:\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: , chunked\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked,\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: \"chunked\"\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked;q=1\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chunked x\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: chun\xc2\xadked\r\n\r\n", KindTransferEncoding},
		{"POST / HTTP/1.1\r\n{H}Transfer-Encoding: \x0bchunked\r\n\r\n", KindFieldValue},
		{"POST / HTTP/1.1\r\n{H}Transfer_Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 0}, // another field

		// Content where there can be none: RFC 9110, 9.3.8.
		{"TRACE / HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\n", KindContentForbidden},
		{"TRACE / HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\n\r\n", KindContentForbidden},
		{"TRACE / HTTP/1.1\r\n{H}\r\n", 0},
		{"GET / HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhello", 0},

		// Connection: RFC 9110, 7.6.1.
		{"GET / HTTP/1.1\r\n{H}Connection: ,, close ,,X,\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n{H}Connection: a b\r\n\r\n", KindConnectionOption},
		{"GET / HTTP/1.1\r\n{H}Connection: \"close\"\r\n\r\n", KindConnectionOption},
		{"GET / HTTP/1.1\r\n{H}Connection: " + long("x,", 32) + "\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\n{H}Connection: " + long("x,", 33) + "\r\n\r\n", KindConnectionOption},
		{"GET / HTTP/1.1\r\n{H}Connection: close, host\r\n\r\n", KindConnectionNominates},
		{"GET / HTTP/1.1\r\n{H}Connection: Content-Length\r\n\r\n", KindConnectionNominates},
		{"GET / HTTP/1.1\r\n{H}Connection: transfer-encoding\r\n\r\n", KindConnectionNominates},
		{"GET / HTTP/1.1\r\n{H}Connection: Expect\r\n\r\n", KindConnectionNominates},

		// Expect: RFC 9110, 10.1.1.
		{"POST / HTTP/1.1\r\n{H}Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", 0},
		{"POST / HTTP/1.1\r\n{H}Expect: 200-ok\r\n\r\n", KindExpect},
		{"POST / HTTP/1.1\r\n{H}Expect: 100-continue, x\r\n\r\n", KindExpect},
		{"POST / HTTP/1.1\r\n{H}Expect: 100-continue, 100-continue\r\n\r\n", KindExpect},
		{"POST / HTTP/1.1\r\n{H}Expect: 100-continue\r\nExpect: 100-continue\r\n\r\n", KindExpect},
		{"POST / HTTP/1.1\r\n{H}Expect:\r\n\r\n", KindExpect},
	}
	for _, tt := range tests {
		raw := strings.Replace(tt.raw, "{H}", host, 1)
		t.Run(fmt.Sprintf("%.60q", tt.raw), func(t *testing.T) {
			reading := requestReading(t, raw, nil)
			_, refused, _ := strings.Cut("\n"+reading, "\nrefused ")
			var r Request
			r.Reset(nil)
			_, err := r.Parse([]byte(raw))
			switch {
			case tt.kind == 0 && err != nil:
				t.Fatalf("refused %s, want accepted", refused)
			case tt.kind == 0 && r.HeadBytes == 0:
				t.Fatal("head is not complete")
			case tt.kind != 0 && (err == nil || err.Kind != tt.kind):
				t.Fatalf("got %s, want %v", reading, tt.kind)
			case tt.kind != 0 && err.Status != kinds[tt.kind].status:
				t.Fatalf("status %d, want %d", err.Status, kinds[tt.kind].status)
			}
		})
	}
}

// TestRequestErrorOffset: the offset is that of the byte that decides, also behind
// empty lines.
func TestRequestErrorOffset(t *testing.T) {
	for raw, want := range map[string]int{
		"\r\nGE(":                    4,
		"GET / HTTP/1.1\r\nA: b\x00": 20,
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n":   33,
		"GET / HTTP/1.1\r\nHost: a\r\nB : c\r\n\r\n": 26,
	} {
		var r Request
		r.Reset(nil)
		if _, err := r.Parse([]byte(raw)); err == nil || err.Offset != want {
			t.Errorf("%q: %+v, want offset %d", raw, err, want)
		}
	}
}

func TestRequestLimits(t *testing.T) {
	l := &Limits{RequestLineBytes: 20, FieldsBytes: 40, FieldCount: 3, EmptyLines: -1, BodyBytes: 5}
	tests := []struct {
		raw    string
		status int // 0: accepted
	}{
		{"GET /345678 HTTP/1.1\r\nHost: a\r\n\r\n", 0},
		{"GET /3456789 HTTP/1.1\r\nHost: a\r\n\r\n", 414},
		{"GET /" + strings.Repeat("a", 100), 414},
		{"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nB: 345678901234567890123456\r\n\r\n", 0}, // 9+29+2 bytes
		{"GET / HTTP/1.1\r\nHost: a\r\nB: 3456789012345678901234567\r\n\r\n", 431},
		{"GET / HTTP/1.1\r\nB: " + strings.Repeat("x", 60), 431},
		{"GET / HTTP/1.1\r\n" + strings.Repeat("x", 60), 431},
		{"GET / HTTP/1.1\r\nHost: a\r\nB:\r\nC:\r\n\r\n", 0},
		{"GET / HTTP/1.1\r\nHost: a\r\nB:\r\nC:\r\nD:\r\n\r\n", 431},
		{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345", 0},
		{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n12345", 413},
	}
	for _, tt := range tests {
		reading := requestReading(t, tt.raw, l)
		if want := fmt.Sprintf("refused %d ", tt.status); strings.HasPrefix(reading, want) != (tt.status != 0) ||
			tt.status == 0 && strings.Contains(reading, "refused") {
			t.Errorf("%q:\n%s\nwant status %d", tt.raw, reading, tt.status)
		}
	}

	var r Request
	r.Reset(nil)
	fields := "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 99)
	if done, err := r.Parse([]byte(fields + "\r\n")); !done {
		t.Errorf("100 fields under the default limits: %v", err)
	}
	r.Reset(nil)
	if _, err := r.Parse([]byte(fields + "X: y\r\n\r\n")); err == nil || err.Kind != KindTooManyFields {
		t.Errorf("101 fields under the default limits: %v", err)
	}
}

func TestConnectForm(t *testing.T) {
	l := &Limits{AllowConnect: true}
	for raw, want := range map[string]Kind{
		"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n":                      0,
		"CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n":                  0,
		"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n":                          KindHost,
		"CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n":                         KindHost,
		"CONNECT a:x HTTP/1.1\r\nHost: a\r\n\r\n":                        KindHost,
		"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n":                         KindHost,
		"CONNECT http://a:1 HTTP/1.1\r\nHost: a\r\n\r\n":                 KindHost,
		"CONNECT a:1 HTTP/1.1\r\n\r\n":                                   KindHostMissing,
		"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n":   KindContentForbidden,
		"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nxy": 0,
	} {
		requestReading(t, raw, l)
		var r Request
		r.Reset(l)
		done, err := r.Parse([]byte(raw))
		if want == 0 && (!done || r.Framing != FramingTunnel || r.Form != FormAuthority) {
			t.Errorf("%q: %v, framing %d form %d", raw, err, r.Framing, r.Form)
		}
		if want != 0 && (err == nil || err.Kind != want) {
			t.Errorf("%q: %v, want %v", raw, err, want)
		}
	}
}

func TestRequestMeaning(t *testing.T) {
	tests := []struct {
		raw string
		ok  func(r *Request, in []byte) bool
	}{
		{"GET http://B:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n", func(r *Request, in []byte) bool {
			return string(r.Host.Of(in)) == "B:8" && string(r.HostName.Of(in)) == "B" && string(r.Path.Of(in)) == "/x?y"
		}},
		{"GET / HTTP/1.1\r\nHost: [::1]:8\r\n\r\n", func(r *Request, in []byte) bool {
			return string(r.Host.Of(in)) == "[::1]:8" && string(r.HostName.Of(in)) == "[::1]"
		}},
		{"GET / HTTP/1.0\r\n\r\n", func(r *Request, _ []byte) bool { return !r.KeepAlive && r.Host.Len() == 0 }},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", func(r *Request, _ []byte) bool { return r.KeepAlive }},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive, close\r\n\r\n", func(r *Request, _ []byte) bool { return !r.KeepAlive }},
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", func(r *Request, _ []byte) bool { return r.KeepAlive }},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: Close\r\n\r\n", func(r *Request, _ []byte) bool { return !r.KeepAlive }},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", func(r *Request, in []byte) bool {
			return r.Upgrade && string(r.UpgradeProtocol.Of(in)) == "websocket"
		}},
		{"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", func(r *Request, _ []byte) bool { return !r.Upgrade }},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", func(r *Request, _ []byte) bool { return !r.Upgrade }},
		{"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", func(r *Request, _ []byte) bool { return !r.Upgrade }},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n", func(r *Request, _ []byte) bool { return !r.Upgrade }},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", func(r *Request, _ []byte) bool { return !r.Upgrade }},
		{"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", func(r *Request, _ []byte) bool { return !r.Expect100 }},
		{"PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", func(r *Request, _ []byte) bool { return !r.Expect100 }},
		{"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", func(r *Request, _ []byte) bool { return r.Expect100 }},
		{"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=1, trailers\r\n\r\n", func(r *Request, _ []byte) bool { return r.Trailers }},
		{"GET / HTTP/1.1\r\nHost: a\r\nX-Y: 1\r\nConnection: x-y\r\nX-Z: 1\r\n\r\n", func(r *Request, _ []byte) bool {
			return r.Fields[1].Hop && r.Fields[2].Hop && !r.Fields[3].Hop && !r.Fields[0].Hop
		}},
	}
	for _, tt := range tests {
		requestReading(t, tt.raw, nil)
		var r Request
		r.Reset(nil)
		in := []byte(tt.raw)
		if done, err := r.Parse(in); !done {
			t.Errorf("%q: %v", tt.raw, err)
		} else if !tt.ok(&r, in) {
			t.Errorf("%q:\n%s", tt.raw, readRequests(tt.raw, nil))
		}
	}
}

// TestPipelinedRequests: the bytes of one request are never part of another.
func TestPipelinedRequests(t *testing.T) {
	raw := "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nGET" +
		"PUT /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\nT: v\r\n\r\n" +
		"\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n" +
		"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /5 HTTP/1.1\r\n"
	reading := requestReading(t, raw, nil)
	for _, want := range []string{
		"POST /1 ", `body "GET" trailers ""`, "PUT /2 ", `body "GET" trailers "T: v\r\n"`, "GET /3 ", "GET /4 ", "\nclose",
	} {
		_, after, ok := strings.Cut(reading, want)
		if !ok {
			t.Fatalf("%q is missing or out of order in\n%s", want, requestReading(t, raw, nil))
		}
		reading = after
	}
	if reading != "" {
		t.Fatalf("behind the close: %s", reading)
	}
}
