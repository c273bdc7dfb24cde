package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/dataplane/checksum"
)

// Receiving (step 3) goes the lean way for plain TCP: no IP options or extension
// headers, not a fragment, to one of the link's addresses. Such a segment goes
// straight to the queue of its endpoint, and consecutive segments of a flow in
// one batch are merged first (merge.go). Everything else takes netstack's stock way,
// and so does anything that is not exactly as expected, to be judged there.

const (
	// mergedBatches is how many batches of frames a turn takes at most from a queue
	// when most cost little.
	mergedBatches = 4
)

// segmentQueuer is the part of netstack's TCP protocol that the path needs.
type segmentQueuer interface {
	QueuePacket(netstack.TransportEndpoint, netstack.TransportEndpointID, *netstack.PacketBuffer)
	HandleUnknownDestinationPacket(netstack.TransportEndpointID, *netstack.PacketBuffer) netstack.UnknownDestinationPacketDisposition
}

// establishedPlace has two connections that were established, or about to be, when they were looked up, the newer one first.
// Each holds until the connection has ended: an endpoint has another one only when finish has cleared the place, so that its ID
// need not be kept here, and a place takes a quarter of a line of the processor's cache. nil: none.
type establishedPlace [2]*tcp.Endpoint

// establishedBits makes the cache 2048 places: for 1,000 clients and as many connections to backends. The last segment of a
// connection clears its place, so that few dead endpoints are kept from the collector.
const establishedBits = 11

// segment is a plain TCP segment in a received frame. Its slices are the frame's.
type segment struct {
	id      netstack.TransportEndpointID
	number  tcpip.NetworkProtocolNumber
	frame   []byte
	packet  []byte // from the IP header to the end of the payload
	ipBytes int
	tcp     header.TCP // header with options
	payload []byte
}

// receive delivers a batch of max frames from each queue and returns how many
// packets came. A frame that is merged with one before or belongs to a flood costs
// little, and does not count.
func (l *link) receive(max int) (work int) {
	for k, d := range l.devices {
		frames := 0
		for left := max; left > 0 && frames < mergedBatches*max; {
			n := d.Peek(left)
			if n == 0 {
				l.owed[k] = 0
				break
			}
			l.crowded = l.mayShed() && d.Waiting() > crowdedFrames
			cheap := l.cheap()
			work += l.deliverBatch(k, d, n)
			l.flushFrames()
			d.Release(n)
			l.owed[k] -= n
			frames += n
			left -= n - int(l.cheap()-cheap)
		}
		l.flushMerges()
	}
	l.stats.RXFrames += uint64(work)
	return work
}

// cheap is how many of the frames received cost little.
func (l *link) cheap() uint64 {
	return l.stats.RXMerged + l.stats.SynsShed + l.stats.StraysShed + l.stats.StrangeShed
}

// deliverBatch delivers the n peeked frames of the k-th device and returns how many
// packets they were.
func (l *link) deliverBatch(k int, d Device, n int) (packets int) {
	if d.Chained() {
		return l.deliverChains(k, d, n)
	}
	for i := range n {
		l.device, l.index = k, i
		if l.tap != nil {
			l.deliverTapped(k, d.Frame(i))
			continue
		}
		l.deliver(d.Frame(i))
	}
	return n
}

// deliver injects one received frame, or hands it over. The frame is copied.
func (l *link) deliver(frame []byte) {
	if len(frame) < etherBytes {
		l.stats.RXMalformed++
		return
	}
	proto, offset := binary.BigEndian.Uint16(frame[12:]), etherBytes
	for proto == etherTypeVLAN || proto == etherTypeQinQ {
		if len(frame) < offset+vlanTagBytes {
			l.stats.RXMalformed++
			return
		}
		// VID 0 is a priority tag on the interface's own network (IEEE 802.1Q
		// 9.6); any other VID is another network, which has an interface of
		// its own in the kernel.
		if binary.BigEndian.Uint16(frame[offset:])&0x0fff != 0 {
			l.stats.RXForeignVLAN++
			return
		}
		proto = binary.BigEndian.Uint16(frame[offset+2:])
		offset += vlanTagBytes
	}
	packet := frame[offset:]
	var s segment
	var plain bool
	switch proto {
	case etherTypeIPv4:
		s.number = header.IPv4ProtocolNumber
		plain = s.parseIPv4(packet)
	case etherTypeIPv6:
		s.number = header.IPv6ProtocolNumber
		plain = s.parseIPv6(packet)
	default:
		l.stats.RXMalformed++
		return
	}
	peers := l.stack.peers
	l.judged = plain && l.owns(s.id.LocalAddress)
	if l.judged {
		if !plausibleSource(s.id.RemoteAddress) {
			l.stats.GuardSources++
			return
		}
		s.frame = frame
		if peers != nil && l.handToOwner(s.id.LocalPort, frame, &peers.stats.Owner) {
			return
		}
		if l.hooks != nil {
			l.showReceived(&s)
		}
		if l.mergeACK(&s) || l.mergeSegment(&s) || l.queueSegment(&s) {
			return
		}
		l.fillChecksum(&s)
	} else if !l.strange.take(strangeLimit, l.stack.Now()) {
		l.stats.StrangeShed++
		return
	} else if sourceRouted(packet) {
		l.stats.GuardSourceRoutes++
		return
	} else if peers != nil && l.handError(s.number, packet, frame) {
		return
	}
	// It may belong to a flow that is being merged, and must not overtake it.
	l.flushMerges()
	l.deliverStock(s.number, packet)
}

// deliverStock takes a packet the stock way.
func (l *link) deliverStock(number tcpip.NetworkProtocolNumber, packet []byte) {
	p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{
		Payload: buffer.MakeWithView(l.viewOf(packet)),
	})
	l.stack.queued = true
	l.dispatcher.DeliverNetworkPacket(number, p)
	p.DecRef()
}

// parseIPv4 reports whether packet is a plain TCP segment.
func (s *segment) parseIPv4(packet []byte) bool {
	h := packet
	if len(h) < header.IPv4MinimumSize+header.TCPMinimumSize ||
		h[0] != header.IPv4Version<<4|header.IPv4MinimumSize/4 ||
		h[9] != byte(header.TCPProtocolNumber) ||
		h[6]&0x3f|h[7] != 0 || // a fragment (RFC 791 3.1)
		checksum.IPv4((*[checksum.IPv4Bytes]byte)(h)) != 0xffff {
		return false
	}
	s.id = netstack.TransportEndpointID{
		LocalPort:     binary.BigEndian.Uint16(h[22:]),
		LocalAddress:  tcpip.AddrFrom4([4]byte(h[16:20])),
		RemotePort:    binary.BigEndian.Uint16(h[20:]),
		RemoteAddress: tcpip.AddrFrom4([4]byte(h[12:16])),
	}
	return s.cut(packet, header.IPv4MinimumSize, int(binary.BigEndian.Uint16(h[2:])))
}

// parseIPv6 reports whether packet is a plain TCP segment.
func (s *segment) parseIPv6(packet []byte) bool {
	h := packet
	if len(h) < header.IPv6MinimumSize+header.TCPMinimumSize || h[0]>>4 != header.IPv6Version ||
		h[6] != byte(header.TCPProtocolNumber) {
		return false
	}
	s.id = netstack.TransportEndpointID{
		LocalPort:     binary.BigEndian.Uint16(h[42:]),
		LocalAddress:  tcpip.AddrFrom16([16]byte(h[24:40])),
		RemotePort:    binary.BigEndian.Uint16(h[40:]),
		RemoteAddress: tcpip.AddrFrom16([16]byte(h[8:24])),
	}
	return s.cut(packet, header.IPv6MinimumSize, header.IPv6MinimumSize+int(binary.BigEndian.Uint16(h[4:])))
}

// cut takes the packet of total bytes apart; behind it may be Ethernet padding.
func (s *segment) cut(packet []byte, ipBytes, total int) bool {
	if total > len(packet) || total < ipBytes+header.TCPMinimumSize {
		return false
	}
	tcpBytes := int(packet[ipBytes+12]>>4) * 4
	if tcpBytes < header.TCPMinimumSize || ipBytes+tcpBytes > total {
		return false
	}
	s.packet, s.ipBytes = packet[:total], ipBytes
	s.tcp = packet[ipBytes : ipBytes+tcpBytes]
	s.payload = packet[ipBytes+tcpBytes : total]
	return true
}

// intact verifies the TCP checksum, as far as the link does.
func (l *link) intact(s *segment) bool {
	if l.Checksums == ChecksumsAny {
		return true
	}
	sum := tcpPseudoSum(s.packet, len(s.packet)-s.ipBytes)
	return l.Checksums == ChecksumsUnfilled && s.tcp.Checksum() == sum || checksum.Checksum(s.packet[s.ipBytes:], sum) == 0xffff
}

// takesUnverified reports whether the link takes s with a checksum that need not be right.
// One of a frame that was on a wire looks unfilled once in 65536.
func (l *link) takesUnverified(s *segment) bool {
	switch l.Checksums {
	case ChecksumsAny:
		return true
	case ChecksumsUnfilled:
		return s.tcp.Checksum() == tcpPseudoSum(s.packet, len(s.packet)-s.ipBytes)
	}
	return false
}

// fillChecksum fills the checksum of s where it was left to do, for netstack, which verifies it.
func (l *link) fillChecksum(s *segment) {
	if l.Checksums == ChecksumsUnfilled && l.takesUnverified(s) {
		putTCPChecksum(s.packet)
	}
}

// queueSegment queues s for its endpoint, the connection's or the listener's, or
// passes it on. It reports false when there is none: the stock way answers it.
func (l *link) queueSegment(s *segment) bool {
	if l.crowded && s.tcp[header.TCPFlagsOffset]&(syn|ack) == syn {
		l.stats.SynsShed++
		return true
	}
	if l.takeHandshake(s) {
		return true
	}
	ep := l.endpointOf(s)
	var listener *tcp.Endpoint
	if isListener(ep) {
		listener = ep.(*tcp.Endpoint)
	}
	if ep == nil || listener != nil {
		if l.answerTimeWait(s) || l.refusesStray(s, listener) {
			return true
		}
	}
	if l.stack.peers != nil && l.passStray(s, ep) {
		return true
	}
	if ep == nil {
		return false
	}
	if e, ok := ep.(*tcp.Endpoint); ok && listener == nil && (l.enter(s, e) || l.finish(s, e)) {
		return true
	}
	r := l.guard(s, ep)
	if r == take && listener != nil && (l.refusesClient(s, listener) || l.answerCookie(s, listener) || l.answerSYN(s, listener)) {
		return true
	}
	if e, ok := ep.(*tcp.Endpoint); ok && r == take && l.takeSYNACK(s, e) {
		return true
	}
	l.queueJudged(s, ep, r)
	return true
}

// queueJudged queues s for ep as the guard ruled.
func (l *link) queueJudged(s *segment, ep netstack.TransportEndpoint, r ruling) {
	if r == refuse {
		return
	}
	if s.tcp[header.TCPFlagsOffset]&(fin|syn|rst|ack) == fin|ack {
		l.notePeerFIN(s, ep)
	}
	if r == take {
		l.noteTwice(ep, seqnum.Value(s.tcp.SequenceNumber()), len(s.payload), func() bool { return l.intact(s) })
	}
	p := l.packetOf(s)
	p.RXChecksumValidated = r == displaced || l.takesUnverified(s)
	if s.tcp[header.TCPFlagsOffset]&(syn|ack) == syn && l.stack.refuses(ep) {
		l.queue.HandleUnknownDestinationPacket(s.id, p) // answers with RST
	} else {
		l.queueAtOnce(ep, s.id, p)
	}
	p.DecRef()
}

func isListener(ep netstack.TransportEndpoint) bool {
	e, ok := ep.(*tcp.Endpoint)
	return ok && tcp.EndpointState(e.State()) == tcp.StateListen
}

// endpointOf finds the endpoint of s, nil if there is none. Established
// connections are found in a cache of the link's own first: netstack's look-up
// takes two locks and two maps.
func (l *link) endpointOf(s *segment) netstack.TransportEndpoint {
	place := l.placeOf(s)
	for i, e := range place {
		if e == nil || e.ID != s.id {
			continue
		}
		if state := tcp.EndpointState(e.State()); state == tcp.StateSynRecv || sendsACKs(state) {
			return e
		}
		place[i] = nil
	}
	ep := l.stack.net.FindTransportEndpoint(s.number, tcp.ProtocolNumber, s.id, l.id)
	if t, ok := ep.(*tcp.Endpoint); ok && (tcp.EndpointState(t.State()) == tcp.StateEstablished || tcp.EndpointState(t.State()) == tcp.StateSynRecv) {
		place[1] = place[0]
		place[0] = t
	}
	return ep
}

// placeOf is where the connection of s is in the cache.
func (l *link) placeOf(s *segment) *establishedPlace {
	remote := s.packet[20:24] // of an IPv6 source, its last four bytes
	if s.ipBytes == header.IPv4MinimumSize {
		remote = s.packet[12:16]
	}
	// Ports and the low bytes of addresses vary most; the multiplier mixes them
	// (Knuth's, 2^32 over the golden ratio).
	h := (binary.BigEndian.Uint32(remote) ^ uint32(s.id.RemotePort)<<16 ^ uint32(s.id.LocalPort)) * 2654435769
	return &l.established[h>>(32-establishedBits)]
}

// packetOf copies s into a packet of netstack, as its IP layer hands it to TCP.
func (l *link) packetOf(s *segment) *netstack.PacketBuffer {
	l.stats.RXLean++
	p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{
		Payload: buffer.MakeWithView(l.viewOf(s.packet)),
	})
	p.NetworkProtocolNumber = s.number
	p.TransportProtocolNumber = header.TCPProtocolNumber
	p.NICID = l.id
	// Cannot fail: the packet was just filled with both headers.
	p.NetworkHeader().Consume(s.ipBytes)
	p.TransportHeader().Consume(len(s.tcp))
	return p
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

// plausibleSource refuses what no TCP peer can have (RFC 1122 3.2.1.3).
func plausibleSource(a tcpip.Address) bool {
	if a.BitLen() == header.IPv4AddressSizeBits {
		b := a.As4()
		return b[0] != 0 && b[0] != 127 && b[0] < 224
	}
	ip := netipOf(a)
	return !ip.IsMulticast() && !ip.IsUnspecified() && !ip.IsLoopback()
}

// sourceRouted reports whether an IPv4 packet has a source route option, with which the
// sender, not routing, says where answers go (RFC 7126 4.3 and 4.4).
func sourceRouted(packet []byte) bool {
	if len(packet) < header.IPv4MinimumSize || packet[0]>>4 != header.IPv4Version {
		return false
	}
	options := packet[header.IPv4MinimumSize:max(header.IPv4MinimumSize, min(int(packet[0]&0xf)*4, len(packet)))]
	for len(options) > 1 && options[0] != byte(header.IPv4OptionListEndType) {
		switch options[0] {
		case byte(header.IPv4OptionNOPType):
			options = options[1:]
			continue
		case looseSourceRoute, strictSourceRoute:
			return true
		}
		n := int(options[1])
		if n < 2 || n > len(options) {
			return false // netstack drops it
		}
		options = options[n:]
	}
	return false
}

// IPv4 options (RFC 791 3.1).
const looseSourceRoute, strictSourceRoute = 131, 137
