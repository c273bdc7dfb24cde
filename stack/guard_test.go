package stack_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// puppet is a client whose every segment the test writes itself.
type puppet struct {
	l       *loop
	raw     rawSegment      // the next one
	stamp   uint32          // of it; 0: none
	answers chan header.TCP // what the stack sends
}

func newPuppet(t *testing.T, v6, ipOptions bool) *puppet {
	return puppetOf(t, v6, ipOptions, serveEcho)
}

// puppetOf is a client of the server that serve makes.
func puppetOf(t *testing.T, v6, ipOptions bool, serve func(*loop, stack.Event)) *puppet {
	return puppetWith(t, nil, v6, ipOptions, serve)
}

func puppetWith(t *testing.T, configure func(*stack.Config), v6, ipOptions bool, serve func(*loop, stack.Event)) *puppet {
	p := &puppet{
		l: start(t, configure, serve), answers: make(chan header.TCP, 1000),
		raw: rawSegment{window: 1000, v6: v6, from: 5000, to: 80, seq: 1_000_000},
	}
	if ipOptions {
		p.raw.ipOptions = []byte{1, 1, 1, 1}
	}
	p.l.LoseToClient(func(f []byte) bool {
		if t := frameTCP(f); t != nil {
			p.answers <- append(header.TCP(nil), t...)
		}
		return false
	})
	p.l.listen("0.0.0.0:80", "[::]:80")
	return p
}

// say sends a segment with the options, and a timestamp if there is one.
func (p *puppet) say(flags header.TCPFlags, data string, options ...byte) {
	r := p.raw
	r.flags, r.data, r.options = flags, data, options
	if p.stamp != 0 {
		r.options = binary.BigEndian.AppendUint32(append(r.options, 1, 1, 8, 10), p.stamp)
		r.options = append(r.options, 0, 0, 0, 0)
	}
	p.l.InjectFromClient(r.frame())
}

// hear returns the next segment of the stack.
func (p *puppet) hear() header.TCP {
	p.l.t.Helper()
	select {
	case t := <-p.answers:
		return t
	case <-time.After(20 * time.Second):
		p.l.t.Fatal("no answer")
		return nil
	}
}

// connect makes the handshake.
func (p *puppet) connect(options ...byte) {
	p.l.t.Helper()
	p.say(header.TCPFlagSyn, "", options...)
	t := p.hear()
	if t.Flags() != header.TCPFlagSyn|header.TCPFlagAck {
		p.l.t.Fatalf("SYN answered with %v", t.Flags())
	}
	p.raw.seq++
	p.raw.ack = t.SequenceNumber() + 1
	var opens uint64
	p.l.do(func() { opens = p.l.Stack.TCPStats().PassiveOpens })
	p.say(header.TCPFlagAck, "")
	p.l.eventually("established", func() bool { return p.l.Stack.TCPStats().PassiveOpens > opens })
}

// talk sends data, which has to come back.
func (p *puppet) talk(data string) {
	p.l.t.Helper()
	p.say(header.TCPFlagAck|header.TCPFlagPsh, data)
	p.raw.seq += uint32(len(data))
	for got := ""; got != data; {
		t := p.hear()
		if t.Flags()&header.TCPFlagRst != 0 {
			p.l.t.Fatalf("reset after %q", data)
		}
		if part := string(t.Payload()); part != "" && t.SequenceNumber() == p.raw.ack {
			got += part
			p.raw.ack += uint32(len(part))
		}
	}
}

// wantAnswer wants a pure ACK that says where the connection is.
func (p *puppet) wantAnswer(what string) {
	p.l.t.Helper()
	t := p.hear()
	if t.Flags() != header.TCPFlagAck || len(t.Payload()) != 0 || t.SequenceNumber() != p.raw.ack || t.AckNumber() != p.raw.seq {
		p.l.t.Errorf("%s was answered with %v, %d bytes, sequence +%d, acknowledgment +%d", what, t.Flags(), len(t.Payload()),
			t.SequenceNumber()-p.raw.ack, t.AckNumber()-p.raw.seq)
	}
}

// wantSilence wants nothing more to have been said when the loop has worked off what was sent.
func (p *puppet) wantSilence(what string, count func() uint64, want uint64) {
	p.l.t.Helper()
	p.l.eventually(what+" is counted", func() bool { return count() == want })
	select {
	case t := <-p.answers:
		p.l.t.Errorf("%s was answered with %v", what, t.Flags())
	default:
	}
}

// everyWay runs a test with IPv4 and IPv6 on the lean way, and with IP options on the stock way.
func everyWay(t *testing.T, f func(t *testing.T, p *puppet)) {
	everyWayOf(t, serveEcho, f)
}

func everyWayOf(t *testing.T, serve func(*loop, stack.Event), f func(t *testing.T, p *puppet)) {
	for name, way := range map[string][2]bool{"IPv4": {false, false}, "IPv6": {true, false}, "IPv4 with options": {false, true}} {
		t.Run(name, func(t *testing.T) { f(t, puppetOf(t, way[0], way[1], serve)) })
	}
}

func TestGuardRefusesWhatTheConnectionCannotMean(t *testing.T) {
	everyWay(t, func(t *testing.T, p *puppet) {
		p.stamp = 1<<32 - 3 // it wraps on the way
		p.connect()
		good, stamp := p.raw, p.stamp
		p.raw.ack += 1000
		p.say(header.TCPFlagAck|header.TCPFlagPsh, "never")
		p.raw, p.stamp = good, stamp
		p.wantAnswer("an ACK of unsent data")
		p.talk("first")
		p.stamp += 5
		p.talk("second")
		p.stamp -= 6
		p.say(header.TCPFlagAck|header.TCPFlagPsh, "older")
		p.stamp += 6
		// Answers to segments that carry nothing are limited; this one carries data, but is made one that does not.
		p.l.eventually("old timestamp counted", func() bool { return p.l.Stack.LinkStats(1).GuardOldTimestamps == 1 })
		p.talk("third") // with the same timestamp as the second
		p.stamp += 1 << 30
		p.talk("fourth")
		p.l.do(func() {
			if s := p.l.Stack.LinkStats(1); s.GuardUnsentACKs != 1 || s.GuardOldTimestamps != 1 {
				t.Errorf("counted %d ACKs of unsent data and %d old timestamps", s.GuardUnsentACKs, s.GuardOldTimestamps)
			}
		})
		// A reset needs no timestamp (RFC 7323 5.2).
		p.stamp = 77
		p.say(header.TCPFlagRst, "")
		p.l.eventually("the connection is reset", func() bool { return p.l.Stack.TCPStats().EstablishedResets == 1 })
	})
}

// TestGuardOnConnections sends what netstack would take, or answer with more than a challenge.
func TestGuardOnConnections(t *testing.T) {
	const minus = 1 << 31
	for _, c := range []struct {
		name  string
		state int // 0: established, 1: the peer has sent FIN, 2: the handshake is not done
		flags header.TCPFlags
		seq   uint32 // offset
		ack   uint32 // offset
		stamp uint32 // offset
		data  string
		count func(*stack.LinkStats) uint64
	}{
		{"ACK older than any window", 0, header.TCPFlagAck, 0, minus, 0, "", func(s *stack.LinkStats) uint64 { return s.GuardOldACKs }},
		{"data with an ACK older than any window", 0, header.TCPFlagAck, 0, minus, 0, "x", func(s *stack.LinkStats) uint64 { return s.GuardOldACKs }},
		{"data with an ACK just older than any window", 0, header.TCPFlagAck, 0, 1<<32 - 1<<17, 0, "x", func(s *stack.LinkStats) uint64 { return s.GuardOldACKs }},
		{"SYN with data", 0, header.TCPFlagSyn, 0, 0, 0, "x", func(s *stack.LinkStats) uint64 { return s.GuardSYNs }},
		{"data behind FIN", 1, header.TCPFlagAck, 0, 0, 0, "x", func(s *stack.LinkStats) uint64 { return s.GuardBehindFIN }},
		{"FIN behind FIN", 1, header.TCPFlagAck | header.TCPFlagFin, 0, 0, 0, "", func(s *stack.LinkStats) uint64 { return s.GuardBehindFIN }},
		{"inexact RST to a handshake", 2, header.TCPFlagRst, 1, 0, 0, "", func(s *stack.LinkStats) uint64 { return s.GuardInexactResets }},
		{"old timestamp to a handshake", 2, header.TCPFlagAck, 0, 0, minus, "x", func(s *stack.LinkStats) uint64 { return s.GuardOldTimestamps }},
	} {
		t.Run(c.name, func(t *testing.T) {
			everyWay(t, func(t *testing.T, p *puppet) {
				p.stamp = 1000
				if c.state == 2 {
					p.say(header.TCPFlagSyn, "", 2, 4, 5, 100)
					p.raw.seq++
					p.raw.ack = p.hear().SequenceNumber() + 1
				} else {
					p.connect()
					p.talk("hello")
				}
				if c.state == 1 {
					p.raw.window = 0 // so that the echo of this, and FIN, wait
					p.say(header.TCPFlagAck|header.TCPFlagFin, "held")
					p.raw.window = 1000
					p.raw.seq += 5
					for p.hear().AckNumber() != p.raw.seq {
					}
				}
				good, stamp := p.raw, p.stamp
				p.raw.seq, p.raw.ack, p.stamp = p.raw.seq+c.seq, p.raw.ack+c.ack, p.stamp+c.stamp
				p.say(c.flags, c.data)
				p.raw, p.stamp = good, stamp
				p.l.eventually("counted", func() bool { s := p.l.Stack.LinkStats(1); return c.count(&s) == 1 })
				if c.state != 1 {
					p.wantAnswer(c.name)
					if c.state == 2 {
						p.say(header.TCPFlagAck, "")
					}
					p.talk("still there")
					return
				}
				p.say(header.TCPFlagAck, "")
				for got := ""; got != "held"; {
					s := p.hear()
					if s.Flags()&header.TCPFlagRst != 0 || s.AckNumber() != p.raw.seq {
						t.Fatalf("answered with %v, acknowledgment +%d", s.Flags(), s.AckNumber()-p.raw.seq)
					}
					got += string(s.Payload())
				}
			})
		})
	}
}

func TestGuardDropsWhatNoHostSends(t *testing.T) {
	everyWay(t, func(t *testing.T, p *puppet) {
		stats := p.l.Stack.LinkStats
		p.say(header.TCPFlagSyn|header.TCPFlagFin, "")
		p.wantSilence("SYN with FIN", func() uint64 { return stats(1).GuardSYNFINs }, 1)
		sources := []string{"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"}
		if p.raw.v6 {
			sources = []string{"::", "::1", "ff02::1"}
		}
		for _, a := range sources {
			p.raw.src = netip.MustParseAddr(a)
			p.say(header.TCPFlagSyn, "")
		}
		p.raw.src = netip.Addr{}
		if !p.raw.v6 {
			for i, o := range [][]byte{{131, 7, 4, 10, 9, 9, 9, 0}, {1, 137, 7, 8, 10, 9, 9, 9}} {
				options := p.raw.ipOptions
				p.raw.ipOptions = o
				p.say(header.TCPFlagSyn, "")
				p.raw.ipOptions = options
				p.wantSilence("a source route", func() uint64 { return stats(1).GuardSourceRoutes }, uint64(i+1))
			}
		}
		p.connect()
		p.talk("hello")
		p.l.do(func() {
			// Of those with options netstack's IP drops some first.
			if n := stats(1).GuardSources; n != uint64(len(sources)) && len(p.raw.ipOptions) == 0 {
				t.Errorf("%d of %d sources were counted", n, len(sources))
			}
		})
	})
}

// What is not intact must not make the stack say anything.
func TestGuardDoesNotAnswerCorruptSegments(t *testing.T) {
	p := newPuppet(t, false, false)
	p.stamp = 100
	p.connect()
	p.talk("hello")
	for i, spoil := range []func(*rawSegment){
		func(r *rawSegment) { r.ack += 1000 },
		func(*rawSegment) { p.stamp -= 50 },
	} {
		good, stamp := p.raw, p.stamp
		spoil(&p.raw)
		r := p.raw
		r.flags, r.data = header.TCPFlagAck, "x"
		r.options = binary.BigEndian.AppendUint32([]byte{1, 1, 8, 10}, p.stamp)
		r.options = append(r.options, 0, 0, 0, 0)
		f := r.frame()
		f[len(f)-1] ^= 1
		p.l.InjectFromClient(f)
		p.raw, p.stamp = good, stamp
		p.wantSilence("a corrupt segment", func() uint64 { return p.l.Stack.TCPStats().ChecksumErrors }, uint64(i+1))
	}
	p.l.do(func() {
		if s := p.l.Stack.LinkStats(1); s.GuardUnsentACKs+s.GuardOldTimestamps != 0 {
			t.Error("the guard counted corrupt segments")
		}
	})
	p.talk("still there")
}

func TestGuardKeepsTimestampsOutOfConnectionsWithoutThem(t *testing.T) {
	p := newPuppet(t, false, false)
	p.connect() // without the option
	p.stamp = 1000
	p.talk("one")
	p.stamp = 10
	p.talk("two")
}

func TestGuardIgnoresResetsToListenersAndSYNsFromOurselves(t *testing.T) {
	everyWay(t, func(t *testing.T, p *puppet) {
		stats := p.l.Stack.LinkStats
		for i, flags := range []header.TCPFlags{header.TCPFlagRst, header.TCPFlagRst | header.TCPFlagAck, header.TCPFlagSyn | header.TCPFlagAck | header.TCPFlagRst, header.TCPFlagSyn | header.TCPFlagRst} {
			p.say(flags, "")
			p.wantSilence(flags.String(), func() uint64 { return stats(1).GuardListenerResets }, uint64(i+1))
		}
		own := []string{"10.1.0.1", "10.2.0.1"}
		if p.raw.v6 {
			own = []string{"fd00:1::1", "fd00:2::1"}
		}
		for i, a := range own {
			p.raw.src = netip.MustParseAddr(a)
			p.say(header.TCPFlagSyn, "")
			p.wantSilence("a SYN from "+a, func() uint64 { return stats(1).GuardLand }, uint64(i+1))
		}
		p.raw.src = netip.Addr{}
		p.connect()
		p.talk("hello")
	})
}

func TestGuardRaisesTheMSS(t *testing.T) {
	everyWay(t, func(t *testing.T, p *puppet) {
		for i, c := range []struct {
			options []byte
			most    int
			raised  uint64
		}{
			{[]byte{2, 4, 0, 1}, 48, 1},
			{[]byte{1, 1, 1, 1, 2, 4, 0, 20}, 48, 2},
			{[]byte{2, 4, 0, 48}, 48, 2},
			{[]byte{2, 4, 0, 100}, 100, 2},
			{[]byte{2, 40, 0, 1}, 536, 2}, // longer than the header
		} {
			p.raw.from, p.raw.seq = uint16(6000+i), 5
			p.connect(c.options...)
			p.say(header.TCPFlagAck|header.TCPFlagPsh, string(payload(800)))
			got := 0
			for got < 800 {
				s := p.hear()
				if n := len(s.Payload()); n > c.most {
					t.Fatalf("MSS option %v: a segment of %d bytes", c.options, n)
				} else if n > 0 {
					got += n
					p.raw.ack += uint32(n)
					ack := p.raw
					p.raw.seq += 800
					p.say(header.TCPFlagAck, "")
					p.raw.seq = ack.seq
				}
			}
			p.l.eventually("counted", func() bool { return p.l.Stack.LinkStats(1).GuardMSSRaised == c.raised })
			p.raw.seq += 800
			p.say(header.TCPFlagRst, "")
			p.l.eventually("reset", func() bool { return p.l.Stack.TCPStats().EstablishedResets == uint64(i+1) })
			for len(p.answers) > 0 {
				<-p.answers
			}
		}
	})
}
