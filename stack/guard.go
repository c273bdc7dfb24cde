package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The guard stands before netstack's TCP, on the lean way and on the stock way, and
// refuses what a TCP must not take and netstack (20260905) takes:
//
//   - a SYN from one of our own addresses (RFC 9293 3.10.7.2 leaves it open; the
//     answer would come back for ever: "land", CVE-1999-0016);
//   - RST to a listener, which has to be ignored (RFC 9293 3.10.7.2), while netstack
//     answers one with SYN and ACK by another;
//   - an MSS option that makes us send segments of a few bytes (CVE-2019-11479): a
//     smaller one than leastMSS counts as that;
//   - an acknowledgment of what was never sent, in ESTABLISHED (RFC 9293 3.10.7.4,
//     RFC 5961 5.2): the segment is dropped and answered;
//   - a timestamp older than the latest (PAWS, RFC 7323 5.3 R1): the same.
//
// The answer is the ACK that netstack sends for a segment out of the window, at most
// every 500 ms a connection.

// leastMSS is the least that a peer's MSS option counts for, as the kernel's
// tcp_min_snd_mss.
const leastMSS = 48

// ruling is what becomes of a segment.
type ruling int

const (
	take      ruling = iota
	refuse           // drop it
	displaced        // it is another segment now: see displace
)

// guard judges s, which is for ep.
func (l *link) guard(s *segment, ep netstack.TransportEndpoint) ruling {
	const syn, ack, rst = byte(header.TCPFlagSyn), byte(header.TCPFlagAck), byte(header.TCPFlagRst)
	flags := s.tcp[header.TCPFlagsOffset]
	e, ok := ep.(*tcp.Endpoint)
	if !ok {
		return take
	}
	if flags&syn != 0 {
		if l.stack.owns(s.id.RemoteAddress) {
			l.stats.GuardLand++
			return refuse
		}
		l.raiseMSS(s)
	}
	switch tcp.EndpointState(e.State()) {
	case tcp.StateListen:
		if flags&rst != 0 {
			l.stats.GuardListenerResets++
			return refuse
		}
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
		if flags&(syn|rst) == 0 && flags&ack != 0 {
			return l.guardConnection(s, e)
		}
	}
	return take
}

// guardConnection judges a segment of a connection that is established, or was.
func (l *link) guardConnection(s *segment, ep *tcp.Endpoint) ruling {
	n, ok := numbersOf(ep)
	if !ok {
		return take
	}
	var count *uint64
	if int32(s.tcp.AckNumber()-n.sent) > 0 {
		count = &l.stats.GuardUnsentACKs
	} else if stamp, _, ok := timestamps(s.tcp); ok && n.stamped && int32(stamp-n.stamp) < 0 {
		count = &l.stats.GuardOldTimestamps
	}
	if count == nil || !l.intact(s) {
		return take // what is not intact netstack drops and counts
	}
	*count++
	s.displace(&n)
	return displaced
}

// numbers is where a connection is.
type numbers struct {
	sent         uint32 // SND.NXT
	acknowledged uint32 // RCV.NXT as the peer was told it last
	stamp        uint32 // TS.Recent (RFC 7323 4.3); valid iff stamped
	stamped      bool
}

// numbersOf looks into ep, under its lock; ok is false when there is no connection.
func numbersOf(ep *tcp.Endpoint) (n numbers, ok bool) {
	ep.LockUser()
	defer ep.UnlockUser()
	snd, ok := senderOf(ep)
	if !ok {
		return n, false
	}
	return numbers{
		sent: uint32(snd.state.SndNxt), acknowledged: uint32(snd.state.MaxSentAck),
		stamp: ep.RecentTS, stamped: ep.SendTSOk,
	}, true
}

// displace makes s, in its frame, a segment that netstack answers with an ACK and takes
// nothing of: one without data, before the window (RFC 9293 3.10.7.4, first check).
func (s *segment) displace(n *numbers) {
	s.tcp.SetSequenceNumber(n.acknowledged - 1)
	s.tcp.SetAckNumber(n.sent)
	s.tcp[header.TCPFlagsOffset] = byte(header.TCPFlagAck)
	s.packet, s.payload = s.packet[:s.ipBytes+len(s.tcp)], nil
	if s.ipBytes == header.IPv4MinimumSize {
		header.IPv4(s.packet).SetTotalLength(uint16(len(s.packet)))
	} else {
		header.IPv6(s.packet).SetPayloadLength(uint16(len(s.tcp)))
	}
	putTCPChecksum(s.packet)
}

// raiseMSS makes an MSS option (RFC 9293 3.7.1) in s, in its frame, say leastMSS if it
// says less.
func (l *link) raiseMSS(s *segment) {
	options := s.tcp[header.TCPMinimumSize:]
	for len(options) > 1 && options[0] != header.TCPOptionEOL {
		if options[0] == header.TCPOptionNOP {
			options = options[1:]
			continue
		}
		n := int(options[1])
		if n < 2 || n > len(options) {
			return
		}
		if options[0] == header.TCPOptionMSS && n == header.TCPOptionMSSLength && binary.BigEndian.Uint16(options[2:]) < leastMSS && l.intact(s) {
			binary.BigEndian.PutUint16(options[2:], leastMSS)
			putTCPChecksum(s.packet)
			l.stats.GuardMSSRaised++
		}
		options = options[n:]
	}
}

// owns reports whether a is an address of any link.
func (s *Stack) owns(a tcpip.Address) bool {
	ip := netipOf(a)
	for _, l := range s.links {
		if _, ok := l.addresses[ip]; ok {
			return true
		}
	}
	return false
}
