package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// reply answers s, for which there is no connection, with a segment of its own making, if
// there is a frame and the neighbour is known: the peer asks again. The ports and the length
// of the header are filled in. Called under mu.
func (l *link) reply(s *segment, fields *header.TCPFields, options []byte) {
	hop := hopBytes(s.id.RemoteAddress)
	if r, err := l.stack.net.FindRoute(l.id, s.id.LocalAddress, s.id.RemoteAddress, s.number, false); err == nil {
		if r.NextHop().BitLen() != 0 {
			hop = hopBytes(r.NextHop())
		}
		r.Release()
	}
	mac, ok := l.resolve(&hop)
	if !ok {
		return
	}
	frame, b, ok := l.reserve()
	if !ok {
		return
	}
	v6 := s.number == header.IPv6ProtocolNumber
	l.putEthernet(b, &mac, v6)
	packet := b[etherBytes : etherBytes+s.ipBytes+header.TCPMinimumSize+len(options)]
	clear(packet)
	if v6 {
		header.IPv6(packet).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(packet) - s.ipBytes), TransportProtocol: header.TCPProtocolNumber, HopLimit: 64,
			SrcAddr: s.id.LocalAddress, DstAddr: s.id.RemoteAddress,
		})
	} else {
		h := header.IPv4(packet)
		h.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(packet)), Flags: header.IPv4FlagDontFragment, TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr: s.id.LocalAddress, DstAddr: s.id.RemoteAddress,
		})
		h.SetChecksum(^h.CalculateChecksum())
	}
	t := header.TCP(packet[s.ipBytes:])
	fields.SrcPort, fields.DstPort = s.id.LocalPort, s.id.RemotePort
	fields.DataOffset = uint8(header.TCPMinimumSize + len(options))
	t.Encode(fields)
	copy(t[header.TCPMinimumSize:], options)
	l.submitTCP(frame, b, etherBytes+len(packet))
}
