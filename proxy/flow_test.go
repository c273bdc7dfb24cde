package proxy

import (
	"fmt"
	"testing"

	"ringroad/proxy/http1"
)

// TestFlowBeyondFourGiB moves a body of 4 GiB and a bit through one flow: what comes out is one
// message of that length, and the flow never holds more than its buffer. The bytes
// are always the same memory, so this takes a copy each and no more.
func TestFlowBeyondFourGiB(t *testing.T) {
	const size = 4<<30 + 1<<20
	for name, line := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d", size),
		"chunked": "Transfer-Encoding: chunked",
	} {
		t.Run(name, func(t *testing.T) {
			var inUse uint64
			w := &Worker{buffers: newBuffers(headBytes, &inUse)}
			var r http1.Response
			r.ResetFor(nil, http1.MethodGet, false)
			if done, err := r.Parse([]byte("HTTP/1.1 200 OK\r\n" + line + "\r\n\r\n")); !done {
				t.Fatal(err)
			}
			var f flow
			f.body.ResetResponse(&r)
			f.begin(r.Framing)
			var client http1.Body // reads what leaves
			client.ResetResponse(&r)

			const piece = 60 << 10
			var in buffer
			defer w.buffers.drop(&in)
			left, last := size, false
			for !f.complete {
				if in.len() == 0 {
					if in.b == nil {
						w.buffers.relay(&in)
					}
					b := in.b[:0]
					n := min(left, piece)
					switch {
					case !f.chunked:
						b = b[:n]
					case n > 0:
						b = http1.AppendChunkHeader(b, n)
						b = b[:len(b)+n]
						b = append(b, http1.ChunkEnd...)
					case last:
						t.Fatal("the last chunk is not the end")
					default:
						b, last = http1.AppendLastChunk(b, nil), true
					}
					left -= n
					in.r, in.w = 0, len(b)
				}
				if bad := f.decode(w, &in, 0); bad != nil {
					t.Fatal(bad)
				}
				for f.out.len() > 0 {
					n, _, bad := client.Next(f.out.pending())
					if bad != nil || n == 0 {
						t.Fatalf("behind %d bytes the client gets what it cannot read: %v", client.Received(), bad)
					}
					f.out.take(n, 0)
				}
				if len(f.out.b) > w.buffers.largeBytes {
					t.Fatalf("the buffer has grown to %d bytes", len(f.out.b))
				}
			}
			w.buffers.drop(&f.out)
			if !client.Done() || client.Received() != size || f.moved != size || f.body.Received() != size || left != 0 {
				t.Errorf("the client got %d bytes, done %t; moved %d, received %d, of %d", client.Received(), client.Done(), f.moved, f.body.Received(), size)
			}
			if inUse != 1 {
				t.Errorf("%d buffers in use", inUse)
			}
		})
	}
}
