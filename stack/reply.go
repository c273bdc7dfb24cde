package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// reply answers s, for which there is no connection, with a segment of its own making, if
// there is a frame and the neighbour is known: the peer asks again. The ports and the length
// of the header are filled in. Called under mu.
func (l *link) reply(s *segment, fields *header.TCPFields, options []byte) {
	hop := l.hopTo(s.id.RemoteAddress)
	mac, ok := l.resolve(&hop)
	if !ok {
		return
	}
	frame, b, ok := l.reserve()
	if !ok {
		return
	}
	n := header.TCPMinimumSize + len(options)
	ip := putIP(b[etherBytes:], &s.id, n)
	l.putEthernet(b, &mac, ip == header.IPv6MinimumSize)
	t := header.TCP(b[etherBytes+ip:])
	fields.SrcPort, fields.DstPort, fields.DataOffset = s.id.LocalPort, s.id.RemotePort, uint8(n)
	t.Encode(fields)
	copy(t[header.TCPMinimumSize:], options)
	l.submitTCP(frame, b, etherBytes+ip+n)
}
