package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The guard stands before netstack's TCP, on the lean way and on the stock way, and
// refuses what a TCP must not take and netstack (20260905) takes. To a listener:
//
//   - a SYN from one of our own addresses (RFC 9293 3.10.7.2 leaves it open; the
//     answer would come back for ever: "land", CVE-1999-0016);
//   - RST, which has to be ignored (RFC 9293 3.10.7.2), while netstack answers one with
//     SYN and ACK by another;
//   - SYN with FIN, which no TCP sends; Linux drops it, too;
//   - an MSS option that makes us send segments of a few bytes (CVE-2019-11479): a
//     smaller one than leastMSS counts as that, and 0 as none.
//
// To a connection, or a handshake:
//
//   - an acknowledgment of what was never sent (RFC 9293 3.10.7.4), or one older than
//     any window of the peer (RFC 5961 5.2): else data could be injected by guessing
//     one number;
//   - a timestamp older than the latest (PAWS, RFC 7323 5.3 R1);
//   - SYN with data, whose answers netstack does not limit (RFC 5961 7);
//   - during the handshake, RST that is in the window but not at its beginning
//     (RFC 5961 3.2).
//
// These are answered with the ACK that netstack sends for a segment out of the window, at
// most every 500 ms a connection. Behind the peer's FIN, data and another FIN are taken
// off a segment (RFC 9293 3.10.7.4, seventh and eighth check): netstack takes the one and
// resets the connection for the others.

// leastMSS is the least that a peer's MSS option counts for, as the kernel's
// tcp_min_snd_mss.
const leastMSS = 48

// ruling is what becomes of a segment.
type ruling int

const (
	take      ruling = iota
	refuse           // drop it
	displaced        // it is another segment now, and intact: see displace and strip
)

const fin, syn, rst, ack = byte(header.TCPFlagFin), byte(header.TCPFlagSyn), byte(header.TCPFlagRst), byte(header.TCPFlagAck)

// guard judges s, which is for ep.
func (l *link) guard(s *segment, ep netstack.TransportEndpoint) ruling {
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
		switch {
		case flags&rst != 0:
			l.stats.GuardListenerResets++
			return refuse
		case flags&(syn|fin) == syn|fin:
			l.stats.GuardSYNFINs++
			return refuse
		}
	case tcp.StateSynRecv, tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
		return l.guardConnection(s, e)
	}
	return take
}

// guardConnection judges a segment of a connection, or of a handshake that the peer began.
func (l *link) guardConnection(s *segment, ep *tcp.Endpoint) ruling {
	n, ok := numbersOf(ep)
	if !ok {
		return take
	}
	flags := s.tcp[header.TCPFlagsOffset]
	opening := n.state == tcp.StateSynRecv
	var count *uint64
	switch {
	case flags&rst != 0:
		if ahead := s.tcp.SequenceNumber() - n.acknowledged; opening && ahead != 0 && ahead < n.window {
			count = &l.stats.GuardInexactResets
		}
	case flags&syn != 0:
		if !opening && len(s.payload) > 0 {
			count = &l.stats.GuardSYNs
		}
	case flags&ack == 0: // netstack drops it
	case !opening && int32(s.tcp.AckNumber()-n.sent) > 0:
		count = &l.stats.GuardUnsentACKs
	case !opening && int32(s.tcp.AckNumber()-(n.una-n.offered)) < 0:
		count = &l.stats.GuardOldACKs
	default:
		if stamp, _, ok := timestamps(s.tcp); ok && n.stamped && int32(stamp-n.stamp) < 0 {
			count = &l.stats.GuardOldTimestamps
			break
		}
		switch n.state {
		case tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
			if s.end() != s.tcp.SequenceNumber() && int32(s.end()-n.acknowledged) > 0 && l.intact(s) {
				l.stats.GuardBehindFIN++
				s.strip()
				return displaced
			}
		}
	}
	if count == nil && l.suspects(s) && l.intact(s) {
		l.judgeRecovery(s, ep)
	}
	if count == nil && !opening && flags&(rst|syn|ack) == ack {
		if n.timedOut && !l.stack.tcp.NoRACK || sackBlocks(s.tcp) != nil {
			l.markSACKed(s, ep)
		}
		l.noteEdge(s, &n)
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
	state        tcp.EndpointState
	una, sent    uint32 // SND.UNA and SND.NXT
	scale        uint8  // of the peer's window; valid unless it is a handshake
	offered      uint32 // the largest window that the peer can have offered; valid unless it is a handshake
	acknowledged uint32 // RCV.NXT as the peer was told it last
	window       uint32 // RCV.WND; valid iff it is a handshake
	stamp        uint32 // TS.Recent (RFC 7323 4.3); valid iff stamped
	stamped      bool
	timedOut     bool // the connection recovers from a time-out
}

// numbersOf looks into ep, under its lock; ok is false when there is no connection and
// no handshake.
func numbersOf(ep *tcp.Endpoint) (n numbers, ok bool) {
	ep.LockUser()
	defer ep.UnlockUser()
	n = numbers{state: tcp.EndpointState(ep.State()), stamp: ep.RecentTS, stamped: ep.SendTSOk}
	if snd, ok := senderOf(ep); ok {
		n.una, n.sent = uint32(snd.state.SndUna), uint32(snd.state.SndNxt)
		n.scale = snd.state.SndWndScale
		n.offered = 0xffff << n.scale
		n.acknowledged = uint32(snd.state.MaxSentAck)
		if c, ok := connectionOf(ep); ok {
			n.timedOut = c.timedOut()
		}
		return n, true
	}
	if h, ok := handshakeOf(ep); ok {
		n.una, n.sent = uint32(*h.iss), uint32(*h.iss)+1
		n.acknowledged, n.window = uint32(*h.ackNum), uint32(*h.rcvWnd)
		return n, true
	}
	return n, false
}

// displace makes s, in its frame, a segment that netstack answers with an ACK and takes
// nothing of: one without data, before the window (RFC 9293 3.10.7.4, first check).
func (s *segment) displace(n *numbers) {
	s.tcp.SetSequenceNumber(n.acknowledged - 1)
	s.tcp.SetAckNumber(n.sent)
	s.strip()
}

// strip makes s, in its frame, a pure ACK.
func (s *segment) strip() {
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
// says less, and the default if it says 0.
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
			mss := uint16(leastMSS)
			if options[2]|options[3] == 0 {
				mss = s.defaultMSS()
			}
			binary.BigEndian.PutUint16(options[2:], mss)
			putTCPChecksum(s.packet)
			l.stats.GuardMSSRaised++
		}
		options = options[n:]
	}
}

// defaultMSS is what holds for a peer that names none (RFC 9293 3.7.1).
func (s *segment) defaultMSS() uint16 {
	if s.ipBytes == header.IPv4MinimumSize {
		return header.TCPDefaultMSS
	}
	return header.IPv6MinimumMTU - header.IPv6MinimumSize - header.TCPMinimumSize
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
