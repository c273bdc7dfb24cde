package stack_test

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// A peer that took its window back drops an ACK behind it, and would send for ever what was taken long ago.
func TestACKsStayWithinAWindowThatShrank(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := puppetOf(t, v6, false, func(_ *loop, e stack.Event) {
			switch d := e.Data.(type) {
			case *stack.Listener:
				for c, err := d.Accept(); err == nil; c, err = d.Accept() {
					_, _ = c.Write(make([]byte, 3000)) // three times the window
				}
			}
		})
		p.connect()
		first := p.raw.ack
		sent := first
		for sent-first < 1000 {
			if s := p.hear(); len(s) > int(s.DataOffset()) {
				sent = s.SequenceNumber() + uint32(len(s)) - uint32(s.DataOffset())
			}
		}
		for _, window := range []uint16{0, 100, 0, 1000} {
			p.raw.window = window
			edge := first + uint32(window)
			for _, ahead := range []uint32{100, 0} { // first a gap, then what fills it: two ways in, both answered at once
				p.raw.seq += ahead
				p.say(header.TCPFlagAck, "x")
				p.raw.seq -= ahead
				if s := p.hearACK(); s.SequenceNumber() != edge {
					t.Errorf("IPv6 %v, window %d: ACK with sequence number %d, want %d; %d was sent", v6, window, s.SequenceNumber()-first, edge-first, sent-first)
				}
			}
			p.raw.seq++
		}
		// What takes the window back, what acknowledges all, and a copy of the former, before netstack has seen the first.
		p.raw.window = 0
		p.raw.seq += 100
		for _, number := range []uint32{first, sent, first} {
			p.raw.ack = number
			p.say(header.TCPFlagAck, "x")
		}
		p.l.eventually("all came", func() bool { return p.l.Stack.LinkStats(1).RXFrames == 2+8+3 })
		for len(p.answers) > 0 {
			<-p.answers
		}
		p.raw.ack = sent
		p.say(header.TCPFlagAck, "y")
		if s := p.hearACK(); s.SequenceNumber() != sent {
			t.Errorf("IPv6 %v, all acknowledged: ACK with sequence number %d, want %d", v6, s.SequenceNumber()-first, sent-first)
		}
	}
}

// hearACK returns the next segment of the stack without data.
func (p *puppet) hearACK() header.TCP {
	p.l.t.Helper()
	for {
		if s := p.hear(); len(s) == int(s.DataOffset()) {
			return s
		}
	}
}
