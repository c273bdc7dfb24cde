package http1

import (
	"fmt"
	"strings"
	"testing"
)

// largeSizes are lengths of bodies around those that 32 bits hold, and 10 GB.
var largeSizes = []int64{1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 10_000_000_000}

// feed gives a body its payload in pieces of 1 MiB at most, of which all are the
// same memory, and the lines in front of, between and behind them. frame returns
// the lines in front of the next piece and its length, which is 0 at the end.
func feed(t *testing.T, b *Body, frame func(left int64) (line string, n int64, end string), size int64) {
	t.Helper()
	piece := make([]byte, 1<<20)
	give := func(p []byte) {
		t.Helper()
		for len(p) > 0 {
			n, _, err := b.Next(p)
			if err != nil {
				t.Fatalf("behind %d bytes: %v", b.Received(), err)
			}
			if n == 0 {
				t.Fatalf("done after %d bytes of %d", b.Received(), size)
			}
			p = p[n:]
		}
	}
	for left := size; ; {
		line, n, end := frame(left)
		give([]byte(line))
		left -= n
		for ; n > 0; n -= int64(len(piece)) {
			if b.Done() || b.Remaining() < n {
				t.Fatalf("behind %d bytes of %d: done %t, %d remain of a piece", b.Received(), size, b.Done(), b.Remaining())
			}
			give(piece[:min(n, int64(len(piece)))])
		}
		give([]byte(end))
		if left == 0 {
			return
		}
	}
}

// TestBodiesBeyondFourGiB: no length and no sum of lengths is cut to 32 bits, and what
// follows the body is not taken for a part of it.
func TestBodiesBeyondFourGiB(t *testing.T) {
	for _, framing := range []struct {
		name  string
		head  string // of a request; %d is the size
		frame func(left int64) (line string, n int64, end string)
		last  string
	}{
		{"length", "Content-Length: %d\r\n", func(left int64) (string, int64, string) { return "", left, "" }, ""},
		{"one chunk", "Transfer-Encoding: chunked\r\nX: %d\r\n", func(left int64) (string, int64, string) { return fmt.Sprintf("%x\r\n", left), left, "\r\n" }, "0\r\n\r\n"},
		{"chunks", "Transfer-Encoding: chunked\r\nX: %d\r\n", func(left int64) (string, int64, string) {
			n := min(left, 1<<20)
			return fmt.Sprintf("%x\r\n", n), n, "\r\n"
		}, "0\r\n\r\n"},
	} {
		for _, size := range largeSizes {
			t.Run(fmt.Sprintf("%s/%d", framing.name, size), func(t *testing.T) {
				fields := fmt.Sprintf(framing.head, size)
				var r Request
				r.Reset(nil)
				head := []byte("PUT / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n")
				if done, err := r.Parse(head); !done {
					t.Fatal(err)
				}
				if out := string(AppendRequest(nil, &r, head, &ForwardOptions{})); !strings.Contains(out, "\r\n"+fields) {
					t.Errorf("forwarded as %q", out)
				}
				var resp Response
				resp.ResetFor(nil, MethodGet, false)
				answer := []byte("HTTP/1.1 200 OK\r\n" + fields + "\r\n")
				if done, err := resp.Parse(answer); !done {
					t.Fatal(err)
				}
				if out := string(AppendResponse(nil, &resp, answer, &AnswerOptions{Minor: 1, KeepAlive: true})); !strings.Contains(out, "\r\n"+fields) {
					t.Errorf("relayed as %q", out)
				}
				var b Body
				for _, reset := range []func(){func() { b.ResetRequest(&r) }, func() { b.ResetResponse(&resp) }} {
					reset()
					feed(t, &b, framing.frame, size)
					next := []byte(framing.last + "GET")
					for !b.Done() && len(next) > 3 {
						n, data, err := b.Next(next)
						if err != nil || len(data) > 0 {
							t.Fatalf("at the end: %q, %v", data, err)
						}
						next = next[n:]
					}
					if n, data, err := b.Next(next); n != 0 || data != nil || err != nil || !b.Done() || string(next) != "GET" {
						t.Errorf("done %t with %q left, of which it takes %d, %v", b.Done(), next, n, err)
					}
					if b.Received() != size {
						t.Errorf("received %d", b.Received())
					}
				}
			})
		}
	}
}

// TestLimitsBeyondFourGiB: a limit of 5 GiB lets 5 GiB through and not a byte more.
func TestLimitsBeyondFourGiB(t *testing.T) {
	const limit = 5 << 30
	l := &Limits{BodyBytes: limit}
	for over := range int64(2) {
		var r Request
		r.Reset(l)
		done, err := r.Parse(fmt.Appendf(nil, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", limit+over))
		if done != (over == 0) || !done && err.Kind != KindBodyTooLarge {
			t.Errorf("length of %d: %t, %v", limit+over, done, err)
		}

		r.Reset(l)
		if done, err := r.Parse([]byte(chunkedHead)); !done {
			t.Fatal(err)
		}
		var b Body
		b.ResetRequest(&r)
		feed(t, &b, func(left int64) (string, int64, string) {
			n := min(left, 1<<30)
			return fmt.Sprintf("%x\r\n", n), n, "\r\n"
		}, limit)
		for _, c := range []byte(fmt.Sprintf("%x\r\n", over)) {
			if _, _, err = b.Next([]byte{c}); err != nil {
				break
			}
		}
		if (err == nil) != (over == 0) || err != nil && err.Kind != KindBodyTooLarge {
			t.Errorf("%d bytes more in chunks: %v", over, err)
		}
	}
}
