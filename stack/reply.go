package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// reply answers s, for which there is no connection, with a segment of its own making, if
// there is a frame and the neighbour is known: the peer asks again. The ports and the length
// of the header are filled in. Called under mu.
func (l *link) reply(s *segment, fields *header.TCPFields, options []byte) {
	l.writeReply(&s.id, fields, options)
}

// replyTo is reply for the flow of id. It reports false when there is no frame, or no neighbour: that is asked for then.
func (l *link) replyTo(id *netstack.TransportEndpointID, fields *header.TCPFields, options []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.backlog.empty() || !l.writeReply(id, fields, options) {
		hop := l.hopTo(id.RemoteAddress)
		if _, ok := l.resolve(&hop); !ok {
			l.stack.resolver.Provoke(l.Index, netip.AddrFrom16(hop).Unmap())
		}
		return false
	}
	l.stack.sent.Increment()
	return true
}

func (l *link) writeReply(id *netstack.TransportEndpointID, fields *header.TCPFields, options []byte) bool {
	hop := l.hopTo(id.RemoteAddress)
	mac, ok := l.resolve(&hop)
	if !ok {
		return false
	}
	frame, b, ok := l.reserve()
	if !ok {
		return false
	}
	n := header.TCPMinimumSize + len(options)
	ip := putIP(b[etherBytes:], id, n)
	l.putEthernet(b, &mac, ip == header.IPv6MinimumSize)
	t := header.TCP(b[etherBytes+ip:])
	fields.SrcPort, fields.DstPort, fields.DataOffset = id.LocalPort, id.RemotePort, uint8(n)
	t.Encode(fields)
	copy(t[header.TCPMinimumSize:], options)
	l.submitTCP(frame, b, etherBytes+ip+n)
	return true
}
