package stack_test

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A packet that is lost is sent again as soon as the acknowledgment of a later one tells,
// long before a time-out.
func TestLossIsSeenInSelectiveAcknowledgments(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []int // packets of each
		probe  bool  // the tail loss probe is what arrives
		block  [2]int
	}{
		{"of a part of a segment", []int{3}, false, [2]int{2, 3}},
		{"of more than a part", []int{4}, false, [2]int{2, 5}},
		{"of a probe", []int{1, 1}, true, [2]int{2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, conn, write := serveScripted(t, time.Minute)
			l := p.l
			write(1)
			p.next("the first packet", covers(0))
			p.say(packetBytes)
			packets := 1
			for _, n := range c.writes {
				write(n)
				packets += n
			}
			p.next("the last packet", covers(packets*packetBytes-1))
			if c.probe {
				p.next("the probe", covers(packets*packetBytes-1))
				// What is acknowledged sooner may be the first transmission.
				sent, trip := time.Duration(0), time.Duration(0)
				l.do(func() { sent, trip = l.Stack.Now(), conn.Info().RTT })
				l.eventually("a round trip is over", func() bool { return l.Stack.Now() > sent+trip })
			}
			p.acknowledge(packetBytes, [2]int{c.block[0] * packetBytes, c.block[1] * packetBytes})
			p.next("the lost packet again", covers(packetBytes))
			p.acknowledge(packets * packetBytes)
			l.eventually("all is acknowledged", func() bool { return conn.Info().Sent == 0 })
			p.noTimeouts()
		})
	}
}

// noTimeouts fails the test if a retransmission time-out has come.
func (p *scripted) noTimeouts() {
	p.l.t.Helper()
	p.l.do(func() {
		if n := p.l.Stack.TCPStats().Timeouts; n != 0 {
			p.l.t.Errorf("%d time-outs", n)
		}
	})
}

// What is selectively acknowledged is not in flight any more, and lets as much new data out
// before anything is found lost (RFC 6675 4, RFC 3042). By their acknowledgment it is seen
// that what was sent again is lost, too.
func TestSelectiveAcknowledgmentsLetDataOut(t *testing.T) {
	p, conn, write := serveScripted(t, time.Minute)
	write(1)
	p.next("the first packet", covers(0))
	p.say(packetBytes)
	const packets, window = 19, 10
	write(packets - 1)
	p.next("a full window", covers(window*packetBytes))
	p.acknowledge(packetBytes, [2]int{2 * packetBytes, 4 * packetBytes})
	p.nextOf("two packets more, and the lost one", covers((window+1)*packetBytes), covers((window+2)*packetBytes), covers(packetBytes))
	sent, trip := time.Duration(0), time.Duration(0)
	p.l.do(func() { sent, trip = p.l.Stack.Now(), conn.Info().RTT })
	p.l.eventually("a round trip is over", func() bool { return p.l.Stack.Now() > sent+trip })
	write(1)
	p.acknowledge(packetBytes, [2]int{2 * packetBytes, (window + 3) * packetBytes})
	p.nextOf("what the second acknowledgment lets out", covers((window+3)*packetBytes))
	p.acknowledge(packetBytes, [2]int{2 * packetBytes, (window + 4) * packetBytes})
	p.next("the lost packet once more", covers(packetBytes))
	p.noTimeouts()
}

// The tail loss probe is the last packet, of a segment that has several, too: its
// acknowledgment shows all that is lost before it.
func TestTailLossProbeIsTheLastPacket(t *testing.T) {
	p, _, write := serveScripted(t, time.Minute)
	write(1)
	p.next("the first packet", covers(0))
	p.say(packetBytes)
	write(3)
	p.next("the last packet", covers(3*packetBytes))
	probe := p.next("the probe", func(a answer) bool { return a.bytes > 0 })
	if probe.seq != 3*packetBytes || probe.bytes != packetBytes {
		t.Errorf("the probe is %+v", probe)
	}
	p.noTimeouts()
}

// A FIN that is probed brings the last data, which left with it: when both were lost, no
// time-out follows. The probe waits anew with every acknowledgment.
func TestProbedFINBringsTheLastData(t *testing.T) {
	p, conn, write := serveScripted(t, time.Minute)
	pass := p.l.setClock()
	write(1)
	p.next("the first packet", covers(0))
	pass(100 * time.Millisecond)
	p.acknowledge(packetBytes)
	p.l.eventually("it is acknowledged", func() bool { return conn.Info().Sent == 0 })
	p.l.do(func() {
		if _, err := conn.Write(make([]byte, 3*packetBytes)); err != nil {
			t.Error(err)
		}
		conn.CloseWrite()
	})
	ends := func(what string) {
		t.Helper()
		a := p.next(what, func(a answer) bool { return a.flags&header.TCPFlagFin != 0 })
		if a.seq != 3*packetBytes || a.bytes != packetBytes {
			t.Errorf("%s: %+v", what, a)
		}
	}
	ends("FIN")
	var probe time.Duration
	p.l.do(func() { probe = conn.ProbeDelay() })
	pass(probe - time.Millisecond)
	p.acknowledge(2 * packetBytes)
	p.l.eventually("another is acknowledged", func() bool { return conn.Info().Sent < 3*packetBytes })
	pass(2 * time.Millisecond) // when the probe was due at first
	if n := len(p.answers); n != 0 {
		t.Errorf("%d segments were sent before the probe is due", n)
	}
	pass(time.Second)
	ends("FIN again")
	p.noTimeouts()
}

// What is lost before a FIN that was sent again is seen by the acknowledgment of that.
func TestLossBeforeAProbedFINIsSeen(t *testing.T) {
	p, conn, write := serveScripted(t, time.Minute)
	write(1)
	p.next("the first packet", covers(0))
	p.say(packetBytes)
	write(2)
	p.l.do(conn.CloseWrite)
	isFIN := func(a answer) bool { return a.flags&header.TCPFlagFin != 0 }
	p.next("FIN", isFIN)
	p.next("FIN again", isFIN)
	sent, trip := time.Duration(0), time.Duration(0)
	p.l.do(func() { sent, trip = p.l.Stack.Now(), conn.Info().RTT })
	p.l.eventually("a round trip is over", func() bool { return p.l.Stack.Now() > sent+trip })
	p.acknowledge(packetBytes, [2]int{3 * packetBytes, 3*packetBytes + 1})
	p.nextOf("the lost packets again", covers(packetBytes), covers(2*packetBytes))
	p.noTimeouts()
}
