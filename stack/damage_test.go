package stack_test

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A damaged segment ends a merge before what comes behind it in several frames, too.
func TestDamageEndsAMergeBeforeAJumboFrame(t *testing.T) {
	p := puppetWith(t, jumbo, false, false, serveEcho)
	p.raw.window = 60000
	p.connect()
	sizes := []int{600, 600, 3900}
	body := payload(600 + 600 + 3900)
	frame := func(i int) []byte {
		r := p.raw
		r.seq += uint32(i * 600)
		r.flags, r.data = header.TCPFlagAck, string(body[i*600:][:sizes[i]])
		return r.frame()
	}
	p.l.do(func() {
		for i := range sizes {
			f := frame(i)
			if i == 1 {
				f[len(f)-1] ^= 1
			}
			p.l.InjectFromClient(f)
		}
	})
	p.l.eventually("the damage is found", func() bool { return p.l.Stack.TCPStats().ChecksumErrors == 1 })
	p.l.InjectFromClient(frame(1))
	got := make([]byte, len(body))
	for n := 0; n < len(body); {
		h := p.hear()
		data := h.Payload()
		if len(data) > 0 && int(h.SequenceNumber()-p.raw.ack) == n {
			n += copy(got[n:], data)
			r := p.raw
			r.seq, r.ack, r.flags = p.raw.seq+uint32(len(body)), p.raw.ack+uint32(n), header.TCPFlagAck
			p.l.InjectFromClient(r.frame())
		}
	}
	if !bytes.Equal(got, body) {
		t.Error("other bytes come back")
	}
}
