package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A TCP packet with IP options, extension headers or in fragments takes netstack's stock
// way in, and is made plain where that ends, so that the guard and the handover between
// workers see what they see on the lean way.

// plainDispatcher stands behind netstack's IP layer: what comes here took the stock
// way, and has no fragments or options any more. From here on it is treated as what
// never had any.
type plainDispatcher struct {
	netstack.TransportDispatcher
	link *link
}

// DeliverTransportPacket implements netstack.TransportDispatcher.
func (d *plainDispatcher) DeliverTransportPacket(n tcpip.TransportProtocolNumber, p *netstack.PacketBuffer) netstack.TransportPacketDisposition {
	if n == header.TCPProtocolNumber && d.link.takePlain(p) {
		return netstack.TransportPacketHandled
	}
	return d.TransportDispatcher.DeliverTransportPacket(n, p)
}

// takePlain is what deliver does with a plain segment, for a packet of netstack.
func (l *link) takePlain(p *netstack.PacketBuffer) bool {
	if l.judged {
		return false
	}
	s, ok := l.plainSegment(p)
	if !ok || !l.owns(s.id.LocalAddress) {
		return false
	}
	if !plausibleSource(s.id.RemoteAddress) {
		l.stats.GuardSources++
		return true
	}
	if peers := l.stack.peers; peers != nil && l.handToOwner(s.id.LocalPort, s.frame, &peers.stats.Owner) {
		return true
	}
	return l.queueSegment(&s)
}

// plainSegment rewrites a packet as one without options and fragments, in memory
// that the next one overwrites.
func (l *link) plainSegment(p *netstack.PacketBuffer) (s segment, ok bool) {
	ip, t := p.NetworkHeader().Slice(), p.TransportHeader().Slice()
	v6 := p.NetworkProtocolNumber == header.IPv6ProtocolNumber
	size := header.IPv4MinimumSize
	if v6 {
		size = header.IPv6MinimumSize
	}
	data := p.Data()
	payload := len(t) + data.Size()
	if len(ip) < size || len(t) < header.TCPMinimumSize || etherBytes+size+payload > maxHandedBytes {
		return s, false
	}
	if l.plain == nil {
		l.plain = make([]byte, maxHandedBytes)
	}
	frame := l.plain[:etherBytes+size+payload]
	l.putEthernet(frame, &l.MAC, v6)
	packet := frame[etherBytes:]
	copy(packet, ip[:size])
	copy(packet[size:], t)
	w := tcpip.SliceWriter(packet[size+len(t):])
	if _, err := data.ReadTo(&w, true); err != nil {
		return s, false // cannot fail: it has room for all
	}
	if v6 {
		h := header.IPv6(packet)
		h.SetPayloadLength(uint16(payload))
		h.SetNextHeader(uint8(header.TCPProtocolNumber))
		s.number, ok = header.IPv6ProtocolNumber, s.parseIPv6(packet)
	} else {
		h := header.IPv4(packet)
		h.SetHeaderLength(header.IPv4MinimumSize)
		h.SetTotalLength(uint16(len(packet)))
		h.SetFlagsFragmentOffset(0, 0)
		h.SetChecksum(0)
		h.SetChecksum(^h.CalculateChecksum())
		s.number, ok = header.IPv4ProtocolNumber, s.parseIPv4(packet)
	}
	s.frame = frame
	return s, ok
}
