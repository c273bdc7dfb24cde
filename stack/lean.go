package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ringroad/dataplane/checksum"
)

// The lean path out stands in front of netstack's IP endpoints: a TCP segment that
// needs neither fragmentation nor header options goes straight to the link, past
// filtering hooks and a second look-up of addresses. receive.go is the way in.

// leanProtocol makes the endpoints of a stock IP protocol lean.
type leanProtocol struct {
	netstack.NetworkProtocol
	stack *Stack
}

// lean wraps the factory of an IP protocol.
func (s *Stack) lean(f netstack.NetworkProtocolFactory) netstack.NetworkProtocolFactory {
	return func(n *netstack.Stack) netstack.NetworkProtocol {
		return &leanProtocol{f(n), s}
	}
}

// NewEndpoint implements netstack.NetworkProtocol.
func (p *leanProtocol) NewEndpoint(nic netstack.NetworkInterface, d netstack.TransportDispatcher) netstack.NetworkEndpoint {
	l := p.stack.links[nic.ID()-1]
	stock := p.NetworkProtocol.NewEndpoint(nic, &plainDispatcher{d, l})
	e := &leanEndpoint{
		NetworkEndpoint:     stock,
		AddressableEndpoint: stock.(netstack.AddressableEndpoint),
		stack:               p.stack,
		link:                l,
	}
	if p.Number() == header.IPv6ProtocolNumber {
		return &leanIPv6{e}
	}
	return &leanIPv4{e}
}

// leanEndpoint is what both IP versions share.
type leanEndpoint struct {
	netstack.NetworkEndpoint
	netstack.AddressableEndpoint
	stack *Stack
	link  *link
}

type leanIPv4 struct{ *leanEndpoint }

type leanIPv6 struct{ *leanEndpoint }

// WritePacket implements netstack.NetworkEndpoint.
func (e *leanIPv4) WritePacket(r *netstack.Route, params netstack.NetworkHeaderParams, p *netstack.PacketBuffer) tcpip.Error {
	if !e.plain(params, p, header.IPv4MinimumSize) {
		return e.NetworkEndpoint.WritePacket(r, params, p)
	}
	h := p.NetworkHeader().Push(header.IPv4MinimumSize)
	h[0], h[1] = header.IPv4Version<<4|header.IPv4MinimumSize/4, params.TOS
	binary.BigEndian.PutUint16(h[2:], uint16(p.Size()))
	// An atomic datagram's identification means nothing (RFC 6864 4.1).
	h[4], h[5], h[6], h[7] = 0, 0, 0x40, 0
	h[8], h[9], h[10], h[11] = params.TTL, byte(header.TCPProtocolNumber), 0, 0
	local, remote := r.LocalAddress(), r.RemoteAddress()
	copy(h[12:16], local.AsSlice())
	copy(h[16:20], remote.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^checksum.Checksum(h[:header.IPv4MinimumSize], 0))
	p.NetworkProtocolNumber = header.IPv4ProtocolNumber
	e.write(r, p)
	return nil
}

// WritePacket implements netstack.NetworkEndpoint.
func (e *leanIPv6) WritePacket(r *netstack.Route, params netstack.NetworkHeaderParams, p *netstack.PacketBuffer) tcpip.Error {
	if !e.plain(params, p, header.IPv6MinimumSize) {
		return e.NetworkEndpoint.WritePacket(r, params, p)
	}
	payload := p.Size()
	h := p.NetworkHeader().Push(header.IPv6MinimumSize)
	binary.BigEndian.PutUint32(h, header.IPv6Version<<28|uint32(params.TOS)<<20)
	binary.BigEndian.PutUint16(h[4:], uint16(payload))
	h[6], h[7] = byte(header.TCPProtocolNumber), params.TTL
	local, remote := r.LocalAddress(), r.RemoteAddress()
	copy(h[8:24], local.AsSlice())
	copy(h[24:40], remote.AsSlice())
	p.NetworkProtocolNumber = header.IPv6ProtocolNumber
	e.write(r, p)
	return nil
}

// plain reports whether p is a TCP segment that may go the lean way: it needs
// no IP fragmentation and no header options.
func (e *leanEndpoint) plain(params netstack.NetworkHeaderParams, p *netstack.PacketBuffer, ipBytes int) bool {
	if params.Protocol != header.TCPProtocolNumber || params.ExperimentOptionValue != 0 {
		return false
	}
	return p.GSOOptions.Type != netstack.GSONone && p.Data().Size() > payloadLimit(p) || ipBytes+p.Size() <= e.link.Link.MTU
}

// write hands the packet to the link.
func (e *leanEndpoint) write(r *netstack.Route, p *netstack.PacketBuffer) {
	hop := r.NextHop()
	if hop.BitLen() == 0 {
		hop = r.RemoteAddress()
	}
	e.link.mu.Lock()
	e.link.stats.TXLean++
	e.link.send(p, hop)
	e.link.mu.Unlock()
	e.stack.wakeIfAsleep()
}
