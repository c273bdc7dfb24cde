package stack_test

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// serveClose accepts on the listener and closes a connection when something came.
func serveClose(l *loop, e stack.Event) {
	switch d := e.Data.(type) {
	case *stack.Listener:
		if c, err := d.Accept(); err == nil {
			l.Stack.Poller().AddConn(c, stack.Readable, c)
		}
	case *stack.Conn:
		d.Read(make([]byte, 100)) //nolint:errcheck // it closes anyway
		d.Close()
	}
}

// wait brings the connection of p into TIME-WAIT. early are FINs that are not the connection's.
func (p *puppet) wait(early ...rawSegment) {
	p.l.t.Helper()
	p.connect()
	p.say(header.TCPFlagAck|header.TCPFlagPsh, "x")
	p.raw.seq++
	for s := p.hear(); s.Flags()&header.TCPFlagFin == 0; s = p.hear() {
	}
	p.raw.ack++
	p.say(header.TCPFlagAck, "")
	good, stamp := p.raw, p.stamp
	for _, r := range early {
		p.raw.seq += r.seq
		p.say(r.flags, r.data)
		p.raw, p.stamp = good, stamp
	}
	p.say(header.TCPFlagFin|header.TCPFlagAck, "")
	p.raw.seq++
	for s := p.hear(); s.AckNumber() != p.raw.seq; s = p.hear() {
	}
	p.l.eventually("netstack has forgotten", func() bool { return p.l.Stack.TCPStats().Endpoints == 2 })
	for len(p.answers) > 0 {
		<-p.answers
	}
}

// TestTimeWaitIsReopened sends SYNs to a connection that waits (RFC 6191 2, RFC 9293 3.6.1).
func TestTimeWaitIsReopened(t *testing.T) {
	for _, c := range []struct {
		name       string
		seq, stamp int32 // to the last of the old connection
		none       bool  // the SYN has no timestamp
		reopens    bool
	}{
		{"newer number", 1, 0, true, true},
		{"same number", 0, 0, true, false},
		{"older number", -1000, 0, true, false},
		{"older number, newer timestamp", -1000, 5, false, true},
		{"newer number, older timestamp", 1000, -1, false, false},
		{"newer number, same timestamp", 1, 0, false, true},
		{"older number, same timestamp", -1, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := puppetOf(t, false, false, serveClose)
			p.stamp = 1<<32 - 1 // it wraps
			p.wait()
			good := p.raw
			p.raw.seq, p.stamp = p.raw.seq+uint32(c.seq), p.stamp+uint32(c.stamp)
			if c.none {
				p.stamp = 0
			}
			p.say(header.TCPFlagSyn, "", 1, 1, 4, 2)
			s := p.hear()
			if c.reopens {
				if s.Flags() != header.TCPFlagSyn|header.TCPFlagAck || s.AckNumber() != p.raw.seq+1 {
					t.Errorf("SYN answered with %v", s.Flags())
				}
				return
			}
			if s.Flags() != header.TCPFlagAck || s.AckNumber() != good.seq {
				t.Errorf("SYN answered with %v, acknowledgment +%d", s.Flags(), s.AckNumber()-good.seq)
			}
		})
	}
}

// TestTimeWaitAnswers sends what is late. A FIN that was none of the connection's must not be taken for its end.
func TestTimeWaitAnswers(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags header.TCPFlags
		seq   int32
		data  string
		ack   bool
	}{
		{"the FIN again", header.TCPFlagFin | header.TCPFlagAck, -1, "", true},
		{"old data", header.TCPFlagAck, -2, "x", true},
		{"an ACK before the window", header.TCPFlagAck, -2, "", true},
		{"an ACK behind the window", header.TCPFlagAck, 1 << 20, "", true},
		{"an ACK", header.TCPFlagAck, 0, "", false},
		{"no flags", 0, 5, "", false},
		{"a reset", header.TCPFlagRst, 0, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			everyWayOf(t, serveClose, func(t *testing.T, p *puppet) {
				p.wait(rawSegment{flags: header.TCPFlagFin | header.TCPFlagAck, seq: 1 << 29}, rawSegment{flags: header.TCPFlagFin, seq: 40})
				good, stamp := p.raw, p.stamp
				p.raw.seq += uint32(c.seq)
				p.say(c.flags, c.data)
				p.raw, p.stamp = good, stamp
				if c.ack {
					p.wantAnswer(c.name)
				}
				// The next that is answered is a SYN that begins anew.
				p.raw.seq += 10
				p.say(header.TCPFlagSyn, "")
				if s := p.hear(); s.Flags() != header.TCPFlagSyn|header.TCPFlagAck {
					t.Errorf("answered with %v", s.Flags())
				}
			})
		})
	}
}

// A new connection may follow right behind the end of the old one.
func TestTimeWaitIsReopenedAtOnce(t *testing.T) {
	everyWayOf(t, serveClose, func(t *testing.T, p *puppet) {
		p.stamp = 1
		p.connect()
		p.say(header.TCPFlagAck|header.TCPFlagPsh, "x")
		p.raw.seq++
		for s := p.hear(); s.Flags()&header.TCPFlagFin == 0; s = p.hear() {
		}
		p.raw.ack++
		p.l.do(func() { // in one batch
			p.say(header.TCPFlagAck|header.TCPFlagFin, "")
			p.raw.seq++
			p.stamp++
			p.say(header.TCPFlagSyn, "") // only the timestamp is newer, at which netstack does not look
		})
		for s := p.hear(); s.Flags()&header.TCPFlagSyn == 0; s = p.hear() {
			if s.Flags() != header.TCPFlagAck {
				t.Fatalf("answered with %v", s.Flags())
			}
		}
	})
}
