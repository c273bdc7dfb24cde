package http1

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

const chunkedHead = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

func TestChunkedRules(t *testing.T) {
	tests := []struct {
		raw  string
		want string // last line of the reading
	}{
		// Sizes: RFC 9112, 7.1.
		{"5\r\nhello\r\n0\r\n\r\n", `  body "hello" trailers ""`},
		{"0\r\n\r\n", `  body "" trailers ""`},
		{"a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n", `  body "01234567890123456789" trailers ""`},
		{"0000000000000005\r\nhello\r\n0\r\n\r\n", `  body "hello" trailers ""`},
		{"00000000000000005\r\nhello\r\n0\r\n\r\n", "400"},
		{"7fffffffffffffff\r\nhello", "wait for body"},
		{"8000000000000000\r\nhello", "400"},
		{"ffffffffffffffff\r\nhello", "400"},
		{"10000000000000000\r\nhello", "400"},
		{"\r\nhello", "400"},
		{"\r\n0\r\n\r\n", "400"},
		{"+5\r\nhello", "400"},
		{"-5\r\nhello", "400"},
		{"0x5\r\nhello", "400"},
		{"5_0\r\nhello", "400"},
		{"5.0\r\nhello", "400"},
		{"5h\r\nhello", "400"},
		{" 5\r\nhello", "400"},
		{"\t5\r\nhello", "400"},
		{"5 \r\nhello", "400"},
		{"5\t\r\nhello", "400"},
		{"5 ;a=b\r\nhello", "400"},
		{"5\x00\r\nhello", "400"},
		{"5\nhello\n0\n\n", "400"},
		{"5\rhello", "400"},
		{"5\r\r\nhello", "400"},

		// Data: RFC 9112, 7.1.
		{"5\r\nhello0\r\n\r\n", "400"},
		{"5\r\nhello\n0\r\n\r\n", "400"},
		{"5\r\nhello\r0\r\n\r\n", "400"},
		{"5\r\nhello!\r\n0\r\n\r\n", "400"},
		{"5\r\nhell\r\n0\r\n\r\n", "400"},
		{"5\r\nhel", "wait for body"},
		{"5\r\nhello\r\n", "wait for body"},
		{"5\r\nhello\r\n0\r\n", "wait for body"},
		{"5\r\n\r\n\r\n\r\r\n0\r\n\r\n", `  body "\r\n\r\n\r" trailers ""`},

		// Extensions: RFC 9112, 7.1.1.
		{"5;a\r\nhello\r\n0;b\r\n\r\n", `  body "hello" trailers ""`},
		{"5;a=b;c=\"d;\\\"\\\\\t\xff\";e\r\nhello\r\n0\r\n\r\n", `  body "hello" trailers ""`},
		{"5; a = b ; c\t=\t\"d\" ;e\r\nhello\r\n0\r\n\r\n", `  body "hello" trailers ""`},
		{"5;\r\nhello", "400"},
		{"5;;a\r\nhello", "400"},
		{"5;=a\r\nhello", "400"},
		{"5;a=\r\nhello", "400"},
		{"5;a b\r\nhello", "400"},
		{"5;a \r\nhello", "400"},
		{"5;a=b \r\nhello", "400"},
		{"5;a=b c\r\nhello", "400"},
		{"5;a=\"b\r\nhello", "400"},
		{"5;a=\"b\"c\r\nhello", "400"},
		{"5;a=\"\\\r\nhello", "400"},
		{"5;a\nhello", "400"},
		{"5;a\x00\r\nhello", "400"},
		{"5;a=\"\x01\"\r\nhello", "400"},
		{"5;a\r\r\nhello", "400"},
		{"5;" + strings.Repeat("a", 254) + "\r\nhello\r\n0\r\n\r\n", `  body "hello" trailers ""`},
		{"5;" + strings.Repeat("a", 256) + "\r\nhello\r\n0\r\n\r\n", "400"},

		// Trailers: RFC 9112, 7.1.2; RFC 9110, 6.5.1.
		{"0\r\nA: b\r\nC:d \r\n\r\n", `  body "" trailers "A: b\r\nC: d\r\n"`},
		{"0\r\nA: b\r\nX-Forwarded-For: 1\r\nContent-Type: x\r\nCookie: y\r\n\r\n", `  body "" trailers "A: b\r\n"`},
		{"0\r\nContent-Length: 5\r\n\r\n", "400"},
		{"0\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
		{"0\r\nHost: a\r\n\r\n", "400"},
		{"0\r\nconnection: close\r\n\r\n", "400"},
		{"0\r\nExpect: 100-continue\r\n\r\n", "400"},
		{"0\r\nA : b\r\n\r\n", "400"},
		{"0\r\nA: b\r\n c\r\n\r\n", "400"},
		{"0\r\nA: b\nC: d\r\n\r\n", "400"},
		{"0\r\nA: \x00\r\n\r\n", "400"},
		{"0\r\n\n", "400"},
		{"0\r\n\r\r\n", "400"},
		{"0\r\nGET / HTTP/1.1\r\n\r\n", "400"},
		{"0\r\n" + strings.Repeat("A: b\r\n", 32) + "\r\n", `  body "" trailers "` + strings.Repeat(`A: b\r\n`, 32) + `"`},
		{"0\r\n" + strings.Repeat("A: b\r\n", 33) + "\r\n", "431"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.60q", tt.raw), func(t *testing.T) {
			reading := requestReading(t, chunkedHead+tt.raw, nil)
			lines := strings.Split(strings.TrimSuffix(reading, "\nidle"), "\n")
			last := lines[len(lines)-1]
			if want := "refused " + tt.want; last != tt.want && !strings.HasPrefix(last, want+" ") {
				t.Errorf("got %s\nwant %s", last, tt.want)
			}
		})
	}
}

func TestChunkedLimits(t *testing.T) {
	l := &Limits{BodyBytes: 10, ChunkExtensionBytes: 4, ChunkOverheadBytes: 8, TrailerBytes: 20, TrailerCount: 2}
	for raw, want := range map[string]string{
		"5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n":                              "idle",
		"5\r\nhello\r\n6\r\nhello!\r\n0\r\n\r\n":                             "refused 413 ",
		"b\r\n":                                                              "refused 413 ",
		"7fffffffffffffff\r\n":                                               "refused 413 ",
		"1;ab\r\nx\r\n0\r\n\r\n":                                             "idle",
		"1;abcd\r\nx\r\n0\r\n\r\n":                                           "refused 400 ",
		"1;ab\r\nx\r\n1;ab\r\nx\r\n1;ab\r\nx\r\n":                            "refused 400 ",
		"0\r\nA: bcdef\r\nB: c\r\n\r\n":                                      "idle", // 10+6+2 bytes
		"0\r\nA: bcdef\r\nB: cdefghi\r\n\r\n":                                "refused 431 ",
		"0\r\nA:\r\nB:\r\nC:\r\n\r\n":                                        "refused 431 ",
		"0\r\nA: b\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n":                     "refused 400 ",
		"0\r\nA: b\r\n\r\nGET / HTTP/1.0\r\n\r\n" + strings.Repeat("x", 100): "close",
	} {
		reading := requestReading(t, chunkedHead+raw, l)
		if last := reading[strings.LastIndexByte(reading, '\n')+1:]; !strings.HasPrefix(last, want) {
			t.Errorf("%q: %s, want %s", raw, last, want)
		}
	}
}

func TestFixedBody(t *testing.T) {
	var r Request
	var b Body
	in := []byte("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET")
	r.Reset(nil)
	if done, err := r.Parse(in); !done {
		t.Fatal(err)
	}
	b.ResetRequest(&r)
	if b.Done() || b.Remaining() != 5 {
		t.Fatalf("done %t, remaining %d", b.Done(), b.Remaining())
	}
	rest := in[r.HeadBytes:]
	n, data, err := b.Next(rest[:2])
	if n != 2 || string(data) != "he" || err != nil || b.Remaining() != 3 || b.Received() != 2 {
		t.Fatalf("%d %q %v, remaining %d", n, data, err, b.Remaining())
	}
	n, data, err = b.Next(rest[2:])
	if n != 3 || string(data) != "llo" || err != nil || !b.Done() || cap(data) != 3 {
		t.Fatalf("%d %q %v, done %t, capacity %d", n, data, err, b.Done(), cap(data))
	}
	if n, data, err = b.Next(rest[5:]); n != 0 || len(data) != 0 || err != nil {
		t.Fatalf("behind the end: %d %q %v", n, data, err)
	}
}

// TestErrorIsFinal: after an error nothing more is taken.
func TestErrorIsFinal(t *testing.T) {
	var r Request
	var b Body
	in := []byte(chunkedHead + "x")
	r.Reset(nil)
	if done, err := r.Parse(in); !done {
		t.Fatal(err)
	}
	b.ResetRequest(&r)
	_, _, first := b.Next(in[r.HeadBytes:])
	if first == nil || first.Offset != 0 || b.Done() {
		t.Fatalf("%+v, done %t", first, b.Done())
	}
	if n, data, err := b.Next([]byte("0\r\n\r\n")); n != 0 || data != nil || err != first || b.Done() || b.EOF() != first {
		t.Fatalf("after the error: %d %q %v, done %t", n, data, err, b.Done())
	}

	bad := []byte("GET / HTTP/1.1\r\nHost: a\r\n x\r\n")
	r.Reset(nil)
	_, first = r.Parse(bad)
	if done, err := r.Parse(append(bad, "\r\n"...)); done || err != first || err == nil {
		t.Fatalf("after the error: %t %v", done, err)
	}
	r.Reset(nil)
	if done, err := r.Parse([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")); !done {
		t.Fatalf("after the reset: %v", err)
	}
}

func TestChunkHeader(t *testing.T) {
	for n, want := range map[int]string{1: "1\r\n", 10: "a\r\n", 4096: "1000\r\n", math.MaxInt: "7fffffffffffffff\r\n"} {
		if got := string(AppendChunkHeader(nil, n)); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
	if got := string(AppendLastChunk(nil, []byte("A: b\r\n"))); got != "0\r\nA: b\r\n\r\n" {
		t.Errorf("last chunk: %q", got)
	}
}
