package stack_test

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// A packet that three others overtake is sent again, and the congestion window shrinks.
// When the peer reports that it has the packet twice, the window is as before; when it
// does not, the packet was lost.
func TestWindowIsGivenBackAfterARecoveryFromNoLoss(t *testing.T) {
	for _, c := range []struct {
		name      string
		lost      bool
		threshold uint64 // slow start threshold at the end; 0: none, slow start goes on
	}{{"overtaken", false, 0}, {"lost", true, 7}} {
		t.Run(c.name, func(t *testing.T) {
			p, conn, write := serveScripted(t, 2*time.Second)
			l := p.l
			// As in TestTailThatIsLostAgainIsResent: a window of 10 packets.
			write(1)
			p.next("the first packet", covers(0))
			p.echo -= 16_000 // a round trip of seconds, so that no tail loss probe comes before the acknowledgments
			p.say(packetBytes)
			const window = 10
			write(window)
			p.next("a full window", covers(window*packetBytes))
			for _, n := range []int{3, 4, 9} {
				p.acknowledge(packetBytes, [2]int{2 * packetBytes, n * packetBytes})
			}
			p.next("the overtaken packet again", covers(packetBytes))
			l.do(func() {
				if i := conn.Info(); i.SlowStartThreshold == 0 || i.SlowStartThreshold >= window {
					t.Errorf("in recovery: %+v", i)
				}
			})
			if c.lost {
				p.acknowledge((window + 1) * packetBytes)
			} else {
				p.acknowledge((window+1)*packetBytes, [2]int{packetBytes, 2 * packetBytes}) // twice: RFC 2883
			}
			l.eventually("all is acknowledged", func() bool { return conn.Info().Sent == 0 })
			undone := uint64(1)
			if c.lost {
				undone = 0
			}
			l.do(func() {
				i := conn.Info()
				if i.SlowStartThreshold != c.threshold || !c.lost && i.CongestionWindow < window || i.Recovery != "" {
					t.Errorf("after the recovery: %+v", i)
				}
				if n := l.Stack.LinkStats(1).RecoveriesUndone; n != undone {
					t.Errorf("%d recoveries undone, want %d", n, undone)
				}
			})
		})
	}
}

// A recovery that is undone is over at once, though the report of what came twice acknowledges nothing
// new: selective acknowledgments let new data out again, and the tail is probed.
func TestUndoneRecoveryIsOver(t *testing.T) {
	p, conn, write := serveScripted(t, time.Minute)
	pass := p.l.setClock()
	const window, packets = 10, 30
	write(1)
	p.next("the first packet", covers(0))
	pass(100 * time.Millisecond)
	p.acknowledge(packetBytes)
	p.l.eventually("it is acknowledged", func() bool { return conn.Info().Sent == 0 })
	write(packets - 1)
	p.next("a full window", covers(window*packetBytes))
	pass(10 * time.Millisecond) // sooner than the tail is probed
	for _, n := range []int{3, 4, 5} {
		p.acknowledge(packetBytes, [2]int{2 * packetBytes, n * packetBytes})
	}
	p.next("the overtaken packet again", covers(packetBytes))
	p.acknowledge(5 * packetBytes)                                     // sooner than what was sent again can be
	p.acknowledge(5*packetBytes, [2]int{packetBytes, 2 * packetBytes}) // twice: RFC 2883
	p.l.eventually("undone", func() bool { return p.l.Stack.LinkStats(1).RecoveriesUndone == 1 })
	sent := 0
	for len(p.answers) > 0 {
		a := <-p.answers
		sent = max(sent, a.seq+a.bytes)
	}
	p.acknowledge(5*packetBytes, [2]int{6 * packetBytes, 7 * packetBytes})
	p.next("more data", covers(sent))
}

// The numbers of a new connection have nothing to do with those of an old one with the
// same ports, which may have sent more than the initial number goes on meanwhile.
func TestNewConnectionIsNotTakenForTheOldOne(t *testing.T) {
	echoOnce := func(l *loop, e stack.Event) {
		switch d := e.Data.(type) {
		case *stack.Listener:
			if c, err := d.Accept(); err == nil {
				l.Stack.Poller().AddConn(c, stack.Readable, c)
			}
		case *stack.Conn:
			b := make([]byte, 100)
			if n, _ := d.Read(b); n > 0 {
				d.Write(b[:n]) //nolint:errcheck // the peer would miss it
			} else {
				d.Close()
			}
		}
	}
	everyWayOf(t, echoOnce, func(t *testing.T, p *puppet) {
		p.connect()
		p.talk("old")
		p.say(header.TCPFlagFin|header.TCPFlagAck, "") // the flow remembers it for a while
		p.raw.seq++
		for s := p.hear(); s.Flags()&header.TCPFlagFin == 0; s = p.hear() {
		}
		p.raw.ack++
		p.say(header.TCPFlagAck, "")
		p.l.eventually("netstack has forgotten", func() bool { return p.l.Stack.TCPStats().Endpoints == 2 })
		p.l.do(func() { p.l.Stack.Outrun(1 << 30) })
		for len(p.answers) > 0 {
			<-p.answers
		}
		p.raw.seq += 1000
		p.connect()
		p.talk("new")
		p.l.do(func() {
			if p.l.Stack.Suspects() {
				t.Error("the first data of the new connection are taken for sent again")
			}
		})
	})
}

// The last acknowledgment of a connection that we closed first leaves at once, and nothing
// but an entry of TIME_WAIT is left: tens of thousands of connections may end a second.
func TestLastAcknowledgmentIsTheEndOfAFlow(t *testing.T) {
	everyWayOf(t, serveClose, func(t *testing.T, p *puppet) {
		p.wait()
		p.l.do(func() {
			if s := p.l.Stack.LinkStats(1); s.Flows != 0 || s.AcksHolding != 0 || s.AcksExpired != 0 || s.TimeWait != 1 {
				t.Errorf("at the end: %d flows, %d ACKs held, %d that waited, %d in TIME_WAIT", s.Flows, s.AcksHolding, s.AcksExpired, s.TimeWait)
			}
		})
	})
}

// While the acknowledgments of one connection are looked at, those of others take the short way.
func TestOnlyTheConnectionThatSentAgainIsSuspected(t *testing.T) {
	p := puppetWith(t, func(c *stack.Config) { c.TCP.MinRTO = 20 * time.Millisecond }, false, false, serveEcho)
	p.connect()
	other := *p
	other.raw.from++
	other.connect()
	p.say(header.TCPFlagAck|header.TCPFlagPsh, "what comes back and is never acknowledged")
	p.l.eventually("the answer is sent again", func() bool { return p.l.Stack.Suspects() })
	before, _ := p.established()
	other.l.LoseToClient(func(f []byte) bool {
		if t := frameTCP(f); t != nil && t.DestinationPort() == other.raw.from {
			other.answers <- append(header.TCP(nil), t...)
		}
		return false
	})
	other.talk("first")
	other.talk("second")
	if in, _ := p.established(); in != before+2 {
		t.Errorf("%d of 2 segments of another connection took the short way", in-before)
	}
}
