package stack_test

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestLastSegmentsOfConnectionsTakeTheShortWay(t *testing.T) {
	const data, end = header.TCPFlagAck | header.TCPFlagPsh, header.TCPFlagFin | header.TCPFlagAck
	for _, c := range []struct {
		name        string
		clientFirst bool
		stamp       uint32
	}{
		{"our FIN first", false, 0},
		{"our FIN first, timestamps", false, 100},
		{"the client's FIN first", true, 0},
		{"the client's FIN first, timestamps", true, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := puppetOf(t, false, false, serveClose)
			p.stamp = c.stamp
			p.connect()
			if c.clientFirst {
				p.say(end, "")
			} else {
				p.say(data, "x")
			}
			p.raw.seq++
			for s := p.hear(); s.Flags()&header.TCPFlagFin == 0; s = p.hear() {
			}
			before, _ := p.established()
			p.raw.ack++
			if c.clientFirst {
				p.say(header.TCPFlagAck, "")
			} else {
				p.say(end, "")
				p.raw.seq++
				for s := p.hear(); s.AckNumber() != p.raw.seq; s = p.hear() {
				}
			}
			p.l.eventually("netstack has forgotten", func() bool { return p.l.Stack.TCPStats().Endpoints == 2 })
			if in, _ := p.established(); in != before+1 {
				t.Errorf("%d segments took the short way instead of the last", in-before)
			}
			if c.clientFirst {
				return
			}
			p.raw.seq--
			p.say(end, "") // it comes again
			p.raw.seq++
			if s := p.hear(); s.Flags() != header.TCPFlagAck || s.AckNumber() != p.raw.seq || s.SequenceNumber() != p.raw.ack {
				t.Errorf("FIN that came again was answered with %v of %d", s.Flags(), s.AckNumber()-p.raw.seq)
			}
		})
	}
}
