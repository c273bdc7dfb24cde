package stack

import (
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A flood of packets without a connection must leave connections the processor. What
// netstack does for one costs 5 to 20 us, so that 50,000 a second are enough to starve a
// worker. Therefore:
//
//   - A SYN that finds the SYN queue full is answered here with a SYN cookie, straight into
//     a TX frame. Like netstack's, the answer has no window scale and no SACK; it has no
//     timestamps either. From then on XDP answers the SYNs of the queue in the same way, if
//     it can. After floodTime the next one comes here again, and says whether the SYN queue
//     is still full: so that ends by itself, also when the worker does.
//   - Of these SYNs no more are answered than there is time for: they are dropped while
//     frames wait, for the segments of connections are among those. Who meant one sends
//     it again, and from then on XDP lets those pass that are sent again, and of the
//     others as many as the loop can answer (open.go). None of those is dropped here: it
//     would be the second one of a client, and the third comes two seconds later.
//   - Segments of no connection are taken in numbers only: those that go round the workers
//     (handover.go) or are answered with RST, which RFC 9293 3.10.7.1 asks for and FreeBSD
//     limits as well (net.inet.icmp.icmplim). What completes a handshake by a valid cookie
//     is not one of them.
//   - So are SYNs of a client that has as many connections as it may have, of those that are
//     answered with RST.
//   - So are packets that the lean path does not take: fragments, IP options, ICMP errors.
//   - When there are more than that the XDP program drops them (open.go).

// Limits of a link, a second. What they allow costs some percent of a processor.
var (
	strayLimit   = limit{perSecond: 50_000, burst: 5_000}
	refusalLimit = limit{perSecond: 5_000, burst: 1_000}
	strangeLimit = limit{perSecond: 2_000, burst: 1_000}
)

const (
	// crowdedFrames is how many frames on an RX ring keep SYNs from being answered in a
	// flood of them. At 200,000 a second it takes 0.3 ms to have so many.
	crowdedFrames = 2 * defaultBatch
	// floodTime is how long a full SYN queue counts as a flood.
	floodTime = 100 * time.Millisecond
)

type limit struct{ perSecond, burst time.Duration }

// allowance counts against a limit (the generic cell rate algorithm of ITU-T I.371).
type allowance struct{ until time.Duration }

func (a *allowance) take(l limit, now time.Duration) bool {
	each := time.Second / l.perSecond
	next := max(a.until, now) + each
	if next > now+each*l.burst {
		return false
	}
	a.until = next
	return true
}

// isStray reports whether s, for which there is no connection, does not belong to one that
// is being opened either: it is no SYN to a listener, and has no valid cookie.
func (l *link) isStray(s *segment, listener *tcp.Endpoint) bool {
	if listener == nil {
		return true
	}
	switch s.tcp[header.TCPFlagsOffset] & (syn | ack | rst) {
	case syn:
		return false
	case ack:
		return !l.stack.cookies.Valid(s.cookieFlow(), s.tcp.AckNumber()-1, s.tcp.SequenceNumber()-1, l.stack.cookieTime())
	}
	return true
}

// refusesStray drops s, for which there is no connection, if it is a stray and one too many.
func (l *link) refusesStray(s *segment, listener *tcp.Endpoint) bool {
	if !l.isStray(s, listener) {
		if l.stack.flows != nil && s.tcp[header.TCPFlagsOffset]&syn == 0 {
			key := s.flowKey()
			l.stack.flows.mark(&key) // of a cookie; netstack is about to make the connection
		}
		return false
	}
	a, most := &l.refused, refusalLimit
	if p := l.stack.peers; p != nil && l.origin != p.self && p.owner(s.id.LocalPort) == nobody {
		a, most = &l.strays, strayLimit
	}
	if a.take(most, l.stack.Now()) {
		return false
	}
	l.stats.StraysShed++
	return true
}

// mayShed reports whether SYNs may come faster than they can be answered.
func (l *link) mayShed() bool {
	now, flows := l.stack.Now(), l.stack.flows
	return now < l.flooded && (flows == nil || now >= flows.synsFew)
}

// refusesClient answers a SYN with RST if its listener does not admit who sends it. Of a flood of them, which that would only
// hasten, the others are dropped.
func (l *link) refusesClient(s *segment, ep *tcp.Endpoint) bool {
	listener := l.stack.listenerOf(ep)
	if s.tcp[header.TCPFlagsOffset]&(syn|ack) != syn || listener == nil || listener.Admits == nil || l.stack.refuses(ep) ||
		listener.Admits(netip.AddrPortFrom(netipOf(s.id.RemoteAddress), s.id.RemotePort)) {
		return false
	}
	if l.countIntact(s) && l.unwanted.take(refusalLimit, l.stack.Now()) {
		l.replyTo(&s.id, &header.TCPFields{AckNum: s.end() + 1, Flags: header.TCPFlagRst | header.TCPFlagAck}, nil)
		l.stack.net.Stats().TCP.ResetsSent.Increment()
	}
	return true
}

// answerSYNs has XDP answer what comes on the queues of l until a loop time; 0: no more.
func (s *Stack) answerSYNs(l *link, until time.Duration) {
	if l.AnswerSYNs == nil {
		return
	}
	if until > 0 {
		until += s.epoch
	}
	l.AnswerSYNs(until)
}

// answerCookie answers a SYN to a listener whose SYN queue is full. It reports false when
// netstack has to judge it.
func (l *link) answerCookie(s *segment, ep *tcp.Endpoint) bool {
	listener := l.stack.listenerOf(ep)
	if s.tcp[header.TCPFlagsOffset]&(syn|ack) != syn || listener == nil || listener.handshakes < listener.backlog || l.stack.refuses(ep) {
		return false
	}
	l.flooded = l.stack.Now() + floodTime
	if !l.countIntact(s) {
		return true
	}
	counters := l.stack.net.Stats().TCP
	if acceptQueueFull(ep) {
		counters.ListenOverflowSynDrop.Increment()
		l.stack.answerSYNs(l, 0)
		return true
	}
	if len(l.stack.refusing) == 0 {
		l.stack.answerSYNs(l, l.flooded)
	}
	mss := encodeMSS(header.ParseSynOptions(s.tcp[header.TCPMinimumSize:], false).MSS)
	cookie := l.stack.cookies.Cookie(s.cookieFlow(), s.tcp.SequenceNumber(), l.stack.cookieTime(), mss)
	own := l.Link.MTU - s.ipBytes - header.TCPMinimumSize
	option := [header.TCPOptionMSSLength]byte{header.TCPOptionMSS, header.TCPOptionMSSLength, byte(own >> 8), byte(own)}
	key := s.flowKey()
	l.mu.Lock()
	l.forget(&key)
	l.reply(s, &header.TCPFields{
		SeqNum: cookie, AckNum: s.tcp.SequenceNumber() + 1, Flags: header.TCPFlagSyn | header.TCPFlagAck,
		WindowSize: uint16(min(l.stack.tcp.ReceiveBuffer.Default, 65535)),
	}, option[:])
	l.mu.Unlock()
	counters.ListenOverflowSynCookieSent.Increment()
	return true
}
