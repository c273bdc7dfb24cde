package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack believes every ICMP error that names a connection. So whoever knows its
// addresses and ports could end handshakes, and have it sent a byte a segment. The
// guard lets through (RFC 5927):
//
//   - of a handshake that we began, what quotes its SYN, because a backend that is not
//     there should be noticed at once (RFC 5461 3);
//   - of a connection, "packet too big" that quotes data on their way: an attacker has
//     to guess a number between SND.UNA and SND.NXT. The MTU is at least leastMTU4. One
//     of IPv6 below its least MTU is ignored, as RFC 8201 4 has it.
//
// All others are ignored: none may end a connection (RFC 1122 4.2.3.9), and a client's
// handshake ends by itself. netstack has verified the checksum of the error.

const (
	// leastMTU4 is the least path MTU of IPv4 that is believed, as the kernel's
	// net.ipv4.route.min_pmtu.
	leastMTU4 = 552
	// quotedBytes of the transport header are in every error (RFC 792).
	quotedBytes = 8
)

// DeliverTransportError implements netstack.TransportDispatcher.
func (d *plainDispatcher) DeliverTransportError(local, remote tcpip.Address, n tcpip.NetworkProtocolNumber, t tcpip.TransportProtocolNumber, e netstack.TransportError, p *netstack.PacketBuffer) {
	quoted, ok := p.Data().PullUp(quotedBytes)
	if !ok || t != tcp.ProtocolNumber {
		return
	}
	id := netstack.TransportEndpointID{
		LocalPort: binary.BigEndian.Uint16(quoted), LocalAddress: local,
		RemotePort: binary.BigEndian.Uint16(quoted[2:]), RemoteAddress: remote,
	}
	if e = d.link.guardError(n, id, binary.BigEndian.Uint32(quoted[4:]), e); e != nil {
		d.TransportDispatcher.DeliverTransportError(local, remote, n, t, e, p)
	}
}

// guardError judges an error about the segment of a flow with this sequence number. It
// returns what netstack may see of it, nil for nothing.
func (l *link) guardError(n tcpip.NetworkProtocolNumber, id netstack.TransportEndpointID, seq uint32, e netstack.TransportError) netstack.TransportError {
	if h := l.stack.synQueue.find(&id); h != nil && h.iss == seq {
		l.stats.GuardICMPIgnored++
		return nil
	}
	ep, ok := l.stack.net.FindTransportEndpoint(n, tcp.ProtocolNumber, id, l.id).(*tcp.Endpoint)
	if !ok {
		return nil
	}
	at, ok := numbersOf(ep)
	if !ok || seq-at.una >= at.sent-at.una {
		l.stats.GuardICMPForged++
		return nil
	}
	tooBig := e.Kind() == netstack.PacketTooBigTransportError
	if at.state == tcp.StateSynSent {
		if tooBig { // no SYN is
			return nil
		}
		return e
	}
	least := uint32(header.IPv6MinimumMTU - header.IPv6MinimumSize)
	if n == header.IPv4ProtocolNumber {
		least = leastMTU4 - header.IPv4MinimumSize
	}
	mtu := e.Info()
	if !tooBig || at.state == tcp.StateSynRecv || n == header.IPv6ProtocolNumber && mtu < least {
		l.stats.GuardICMPIgnored++
		return nil
	}
	l.stats.PathMTUs++
	return pathMTU{e, max(mtu, least) + uint32(sackRoom(ep))} // netstack takes that off again: see fullsegment.go
}

// pathMTU is a "packet too big" that reports another MTU, without the IP header.
type pathMTU struct {
	netstack.TransportError
	mtu uint32
}

// Info implements tcpip.SockErrorCause.
func (e pathMTU) Info() uint32 { return e.mtu }
