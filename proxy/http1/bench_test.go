package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// browserRequest is what a browser sends, with the given number of fields.
func browserRequest(fields int) []byte {
	list := []string{
		"Host: www.example.com",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
		"Accept-Language: en-US,en;q=0.5",
		"Accept-Encoding: gzip, deflate, br, zstd",
		"Referer: https://www.example.com/start/page.html",
		"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
		"Connection: keep-alive",
		"Cache-Control: max-age=0",
		"If-None-Match: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"",
	}
	for i := len(list); i < fields; i++ {
		list = append(list, fmt.Sprintf("X-Custom-Field-%02d: some value of an ordinary length %d", i, i))
	}
	return []byte("GET /some/path/to/a/resource.html?with=a&query=string HTTP/1.1\r\n" + strings.Join(list[:fields], "\r\n") + "\r\n\r\n")
}

var serverResponse = []byte("HTTP/1.1 200 OK\r\nServer: nginx/1.26.2\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n" +
	"Content-Length: 12345\r\nLast-Modified: Sun, 31 Dec 2023 00:00:00 GMT\r\nConnection: keep-alive\r\nETag: \"65920080-3039\"\r\n" +
	"Cache-Control: public, max-age=3600\r\nVary: Accept-Encoding\r\nAccept-Ranges: bytes\r\n\r\n")

var forwardOptions = ForwardOptions{ForwardedFor: []byte("192.0.2.1"), ForwardedProto: []byte("http"), ForwardedHost: true}

// TestNoAllocation: parsing, decoding and serialising allocate nothing once the
// buffers have grown.
func TestNoAllocation(t *testing.T) {
	var req Request
	var resp Response
	var body Body
	head := browserRequest(40)
	post := []byte(chunkedHead + "5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n")
	bad := []byte("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
	out := make([]byte, 0, 8192)
	ipv6 := []byte("GET http://[2001:db8::1]:8080/ HTTP/1.1\r\nHost: [::1]\r\nConnection: close, x\r\nX: y\r\nX-Forwarded-For: 1\r\n\r\n")
	parse := func(in []byte) {
		req.Reset(nil)
		if done, err := req.Parse(in); !done {
			t.Fatal(err)
		}
		out = AppendRequest(out[:0], &req, in, &forwardOptions)
	}
	for what, f := range map[string]func(){
		"request": func() { parse(head) },
		"ipv6":    func() { parse(ipv6) },
		"response": func() {
			resp.ResetFor(nil, MethodGet, false)
			if done, err := resp.Parse(serverResponse); !done {
				t.Fatal(err)
			}
			out = AppendResponse(out[:0], &resp, serverResponse, &AnswerOptions{Minor: 1})
		},
		"body with trailers in pieces": func() {
			parse(post)
			body.ResetRequest(&req)
			body.CollectTrailers()
			for at := req.HeadBytes; !body.Done(); {
				n, data, err := body.Next(post[at : at+1])
				if err != nil {
					t.Fatal(err)
				}
				out = AppendChunkHeader(out[:0], len(data)+1)
				at += n
			}
			out = AppendLastChunk(out, body.Trailers())
		},
		"refusal": func() {
			req.Reset(nil)
			if _, err := req.Parse(bad); err == nil {
				t.Fatal("accepted")
			}
		},
		"page": func() { out = AppendErrorPage(out[:0], 502, &PageOptions{Minor: 1}) },
		"date": func() { out = AppendDate(out[:0], 1700000000) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
}

func benchmarkParse(b *testing.B, fields int) {
	in := browserRequest(fields)
	b.Run("ringroad", func(b *testing.B) {
		var r Request
		b.SetBytes(int64(len(in)))
		b.ReportAllocs()
		for b.Loop() {
			r.Reset(nil)
			if done, err := r.Parse(in); !done {
				b.Fatal(err)
			}
		}
	})
	b.Run("fasthttp", func(b *testing.B) {
		var src bytes.Reader
		var h fasthttp.RequestHeader
		br := bufio.NewReader(&src)
		b.SetBytes(int64(len(in)))
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(in)
			br.Reset(&src)
			if err := h.Read(br); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net/http", func(b *testing.B) {
		var src bytes.Reader
		br := bufio.NewReader(&src)
		b.SetBytes(int64(len(in)))
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(in)
			br.Reset(&src)
			if _, err := http.ReadRequest(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParse10Fields(b *testing.B) { benchmarkParse(b, 10) }

func BenchmarkParse40Fields(b *testing.B) { benchmarkParse(b, 40) }

func BenchmarkForward10Fields(b *testing.B) {
	in := browserRequest(10)
	var r Request
	var out []byte
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(nil)
		if done, err := r.Parse(in); !done {
			b.Fatal(err)
		}
		out = AppendRequest(out[:0], &r, in, &forwardOptions)
	}
}

func BenchmarkResponse(b *testing.B) {
	b.Run("ringroad", func(b *testing.B) {
		var r Response
		b.SetBytes(int64(len(serverResponse)))
		b.ReportAllocs()
		for b.Loop() {
			r.ResetFor(nil, MethodGet, false)
			if done, err := r.Parse(serverResponse); !done {
				b.Fatal(err)
			}
		}
	})
	b.Run("ringroad with serialising", func(b *testing.B) {
		var r Response
		var out []byte
		b.SetBytes(int64(len(serverResponse)))
		b.ReportAllocs()
		for b.Loop() {
			r.ResetFor(nil, MethodGet, false)
			if done, err := r.Parse(serverResponse); !done {
				b.Fatal(err)
			}
			out = AppendResponse(out[:0], &r, serverResponse, &AnswerOptions{Minor: 1, KeepAlive: true})
		}
	})
	b.Run("fasthttp", func(b *testing.B) {
		var src bytes.Reader
		var h fasthttp.ResponseHeader
		br := bufio.NewReader(&src)
		b.SetBytes(int64(len(serverResponse)))
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(serverResponse)
			br.Reset(&src)
			if err := h.Read(br); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("net/http", func(b *testing.B) {
		var src bytes.Reader
		br := bufio.NewReader(&src)
		b.SetBytes(int64(len(serverResponse)))
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(serverResponse)
			br.Reset(&src)
			if _, err := http.ReadResponse(br, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkChunked(b *testing.B) {
	in := []byte(strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 64) + "0\r\n\r\n")
	head := []byte(chunkedHead)
	var r Request
	var body Body
	r.Reset(nil)
	if done, err := r.Parse(head); !done {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		body.ResetRequest(&r)
		for at := 0; !body.Done(); {
			n, _, err := body.Next(in[at:])
			if err != nil {
				b.Fatal(err)
			}
			at += n
		}
	}
}
