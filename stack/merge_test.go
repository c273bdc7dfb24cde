package stack_test

import (
	"bytes"
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// Of the pure ACKs of one batch TCP sees the last one, unless one of them says something that the next one does not.
func TestACKsOfABatchAreMerged(t *testing.T) {
	const bytes = 700
	for name, c := range map[string]struct {
		acknowledge []int // bytes
		say         func(p *puppet)
		merged      uint64
		left        int // bytes not acknowledged then
	}{
		"each says more":       {acknowledge: []int{100, 300, 700}, merged: 2},
		"one says nothing new": {acknowledge: []int{300, 300, 700}, merged: 1},
		"one is older":         {acknowledge: []int{300, 100, 700}, merged: 1},
		"one was never sent":   {acknowledge: []int{100, 300, 701}, merged: 2, left: bytes}, // the guard refuses the last one
		"a stamp is another": {acknowledge: []int{100, 300}, merged: 1, say: func(p *puppet) {
			p.stamp++
			p.raw.ack += bytes - 300
			p.say(header.TCPFlagAck, "")
		}},
		"one is damaged": {acknowledge: []int{100, 300}, merged: 1, left: bytes - 300, say: func(p *puppet) {
			r := p.raw
			r.flags, r.ack = header.TCPFlagAck, r.ack+bytes-300
			f := r.frame()
			f[len(f)-1] ^= 1
			p.l.InjectFromClient(f)
		}},
		"data are behind them": {acknowledge: []int{100, 300}, merged: 1, left: 2 * bytes, say: func(p *puppet) {
			p.raw.ack += bytes - 300
			p.say(header.TCPFlagAck|header.TCPFlagPsh, string(payload(2*bytes)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var conn *stack.Conn
			p := puppetOf(t, false, false, func(l *loop, e stack.Event) {
				serveEcho(l, e)
				if d, ok := e.Data.(*echo); ok {
					conn = d.conn
				}
			})
			p.raw.window, p.stamp = 10000, 100
			p.connect()
			p.talk(string(payload(bytes)))
			p.l.do(func() {
				begun := p.raw.ack - bytes
				before := p.l.Stack.LinkStats(1).RXMerged
				for _, n := range c.acknowledge {
					p.raw.ack = begun + uint32(n)
					p.say(header.TCPFlagAck, "")
				}
				if c.say != nil {
					c.say(p)
				}
				p.l.Stack.Turn()
				if n := p.l.Stack.LinkStats(1).RXMerged - before; n != c.merged {
					t.Errorf("%d ACKs were merged, want %d", n, c.merged)
				}
			})
			p.l.eventually("the rest is acknowledged", func() bool { return conn.Buffered().Sent == c.left })
		})
	}
}

// Of the segments of a batch that seem to follow one another the damaged one is not delivered, and nothing of it: those before
// it are, and those behind it when it has come again.
func TestDamageEndsAMerge(t *testing.T) {
	const segment, segments = 600, 5
	for damaged := range segments {
		for name, at := range map[string]int{"window": -(segment + 6), "first byte": -segment, "last byte": -1} {
			t.Run(fmt.Sprint(name, " of ", damaged), func(t *testing.T) {
				p := puppetWith(t, func(c *stack.Config) { c.Batch = 2 + damaged%2*62 }, false, false, serveEcho)
				p.raw.window = 60000
				p.connect()
				body := payload(segment * segments)
				frame := func(i int) []byte {
					r := p.raw
					r.seq += uint32(i * segment)
					r.flags, r.data = header.TCPFlagAck, string(body[i*segment:][:segment])
					return r.frame()
				}
				p.l.do(func() {
					for i := range segments {
						f := frame(i)
						if i == damaged {
							f[len(f)+at] ^= 1
						}
						p.l.InjectFromClient(f)
					}
					bad := p.l.Stack.TCPStats().ChecksumErrors
					p.l.Stack.Turn()
					if n := p.l.Stack.TCPStats().ChecksumErrors - bad; n != 1 {
						t.Errorf("%d checksum errors", n)
					}
				})
				p.l.eventually("what came before is read", func() bool { return p.l.Stack.LoopStats().BytesRead == uint64(damaged*segment) })
				p.l.InjectFromClient(frame(damaged))
				got := make([]byte, len(body))
				for n := 0; n < len(body); {
					h := p.hear()
					data := h.Payload()
					if len(data) > 0 && int(h.SequenceNumber()-p.raw.ack) == n {
						n += copy(got[n:], data)
					}
				}
				if !bytes.Equal(got, body) {
					t.Error("other bytes come back")
				}
			})
		}
	}
}
