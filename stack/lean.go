package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The lean path stands in front of netstack's IP endpoints. A plain TCP packet
// (no IP options or extension headers, not a fragment, to one of the link's
// addresses) goes straight to the TCP protocol's queue, and a TCP segment from
// it straight to the link: no filtering hooks, no forwarding, no second look-up
// of addresses. Everything else takes netstack's stock way, and so does
// anything that is not exactly as expected, to be judged there.

// segmentQueuer is the part of netstack's TCP protocol that the path needs.
type segmentQueuer interface {
	QueuePacket(netstack.TransportEndpoint, netstack.TransportEndpointID, *netstack.PacketBuffer)
}

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
	stock := p.NetworkProtocol.NewEndpoint(nic, d)
	e := &leanEndpoint{
		NetworkEndpoint:     stock,
		AddressableEndpoint: stock.(netstack.AddressableEndpoint),
		stack:               p.stack,
		id:                  nic.ID(),
		link:                p.stack.links[nic.ID()-1],
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
	id    tcpip.NICID
	queue segmentQueuer // filled at the first packet: TCP starts after IP
}

type leanIPv4 struct{ *leanEndpoint }

type leanIPv6 struct{ *leanEndpoint }

// HandlePacket implements netstack.NetworkEndpoint.
func (e *leanIPv4) HandlePacket(p *netstack.PacketBuffer) {
	size := p.Data().Size()
	h, ok := p.Data().PullUp(min(size, header.IPv4MinimumSize+header.TCPMinimumSize))
	if !ok || len(h) < header.IPv4MinimumSize+header.TCPMinimumSize ||
		h[0] != header.IPv4Version<<4|header.IPv4MinimumSize/4 ||
		h[9] != byte(header.TCPProtocolNumber) ||
		h[6]&0x3f|h[7] != 0 || // a fragment (RFC 791 3.1)
		checksum.Checksum(h[:header.IPv4MinimumSize], 0) != 0xffff {
		e.NetworkEndpoint.HandlePacket(p)
		return
	}
	total := int(binary.BigEndian.Uint16(h[2:]))
	id := netstack.TransportEndpointID{
		LocalPort:     binary.BigEndian.Uint16(h[22:]),
		LocalAddress:  tcpip.AddrFrom4([4]byte(h[16:20])),
		RemotePort:    binary.BigEndian.Uint16(h[20:]),
		RemoteAddress: tcpip.AddrFrom4([4]byte(h[12:16])),
	}
	if !e.deliver(p, id, header.IPv4ProtocolNumber, header.IPv4MinimumSize, total, size, h[32]>>4) {
		e.NetworkEndpoint.HandlePacket(p)
	}
}

// HandlePacket implements netstack.NetworkEndpoint.
func (e *leanIPv6) HandlePacket(p *netstack.PacketBuffer) {
	size := p.Data().Size()
	h, ok := p.Data().PullUp(min(size, header.IPv6MinimumSize+header.TCPMinimumSize))
	if !ok || len(h) < header.IPv6MinimumSize+header.TCPMinimumSize || h[0]>>4 != header.IPv6Version ||
		h[6] != byte(header.TCPProtocolNumber) {
		e.NetworkEndpoint.HandlePacket(p)
		return
	}
	total := header.IPv6MinimumSize + int(binary.BigEndian.Uint16(h[4:]))
	id := netstack.TransportEndpointID{
		LocalPort:     binary.BigEndian.Uint16(h[42:]),
		LocalAddress:  tcpip.AddrFrom16([16]byte(h[24:40])),
		RemotePort:    binary.BigEndian.Uint16(h[40:]),
		RemoteAddress: tcpip.AddrFrom16([16]byte(h[8:24])),
	}
	if !e.deliver(p, id, header.IPv6ProtocolNumber, header.IPv6MinimumSize, total, size, h[52]>>4) {
		e.NetworkEndpoint.HandlePacket(p)
	}
}

// deliver queues the segment for its endpoint, the connection's or the
// listener's. It reports false when the stock way has to judge the packet.
func (e *leanEndpoint) deliver(p *netstack.PacketBuffer, id netstack.TransportEndpointID, number tcpip.NetworkProtocolNumber, ipBytes, total, size int, offset byte) bool {
	tcpBytes := int(offset) * 4
	if tcpBytes < header.TCPMinimumSize || ipBytes+tcpBytes > total || total > size {
		return false
	}
	if !e.link.owns(id.LocalAddress) || !plausibleSource(id.RemoteAddress) {
		return false
	}
	if e.queue == nil {
		e.queue = e.stack.net.TransportProtocolInstance(tcp.ProtocolNumber).(segmentQueuer)
	}
	ep := e.stack.net.FindTransportEndpoint(number, tcp.ProtocolNumber, id, e.id)
	if ep == nil {
		return false
	}
	p.NetworkProtocolNumber = number
	p.TransportProtocolNumber = header.TCPProtocolNumber
	p.NICID = e.id
	if total < size {
		p.Data().CapLength(total) // Ethernet padding
	}
	if _, ok := p.NetworkHeader().Consume(ipBytes); !ok {
		return false
	}
	if _, ok := p.TransportHeader().Consume(tcpBytes); !ok {
		return false
	}
	e.link.stats.RXLean++
	e.queue.QueuePacket(ep, id, p)
	return true
}

// owns reports whether a is one of the link's addresses.
func (l *link) owns(a tcpip.Address) bool {
	if l.lastOwn == a {
		return true
	}
	if _, ok := l.addresses[netipOf(a)]; !ok {
		return false
	}
	l.lastOwn = a
	return true
}

// plausibleSource refuses what no TCP peer can have (RFC 1122 3.2.1.3); the
// stock path counts it.
func plausibleSource(a tcpip.Address) bool {
	if a.BitLen() == header.IPv4AddressSizeBits {
		b := a.As4()
		return b[0] != 0 && b[0] != 127 && b[0] < 224
	}
	ip := netipOf(a)
	return !ip.IsMulticast() && !ip.IsUnspecified() && !ip.IsLoopback()
}

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
	return p.GSOOptions.Type != netstack.GSONone && p.Data().Size() > int(p.GSOOptions.MSS) || ipBytes+p.Size() <= e.link.Link.MTU
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
