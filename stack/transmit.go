package stack

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ringroad/dataplane"
	"ringroad/dataplane/checksum"
)

// outgoing is a packet on its way to the TX ring. sent counts the payload bytes
// of a large segment that already left.
type outgoing struct {
	packet *netstack.PacketBuffer
	hop    [16]byte
	sent   int
	flow   *flow            // nil unless it is written at once
	twice  header.SACKBlock // to be reported; valid iff not empty
	until  time.Duration    // valid iff it waits for a neighbour
}

// send takes a packet from netstack (step 6). Called under mu.
func (l *link) send(p *netstack.PacketBuffer, hop tcpip.Address) {
	o := outgoing{packet: p, hop: hopBytes(hop)}
	if p.TransportProtocolNumber == header.TCPProtocolNumber && l.carryACK(&o) {
		return
	}
	// Behind a backlog every packet queues: segments keep their order.
	if !l.backlog.empty() || !l.write(&o) {
		l.stats.TXBackpressure++
		o.flow = nil
		l.backlog.push(o)
	}
}

// carryACK keeps the flow's acknowledgment state. It reports true when the
// packet was a pure ACK that is held.
func (l *link) carryACK(o *outgoing) bool {
	p := o.packet
	ip, t := p.NetworkHeader().Slice(), header.TCP(p.TransportHeader().Slice())
	flags := t.Flags()
	var key flowKey
	flowOf(&key, ip, t)
	if flags&(header.TCPFlagSyn|header.TCPFlagRst) != 0 {
		l.forget(&key)
	}
	if flags&header.TCPFlagSyn != 0 {
		if l.stack.flows != nil {
			l.stack.flows.mark(&key)
		}
		if flags&header.TCPFlagAck == 0 {
			l.flows.slots[l.flows.get(&key, p.Hash, l.stack.Now())].dialled = true
		}
		return false
	}
	if flags&header.TCPFlagRst != 0 {
		return false
	}
	slot := l.flows.get(&key, p.Hash, l.stack.Now())
	f := &l.flows.slots[slot]
	if f.finCame && t.AckNumber() == f.finEnd {
		l.noteFINAnswered(f)
		if f.ended && p.Data().Size() == 0 && flags&header.TCPFlagFin == 0 {
			// TIME_WAIT: nothing more will be sent that could carry this ACK.
			l.cancel(f)
			l.flows.drop(slot)
			return false
		}
	}
	n := p.Data().Size()
	l.noteWindow(f, t, n == 0 && flags == header.TCPFlagAck)
	if n == 0 && flags == header.TCPFlagAck && f.shrunk {
		f.keepWithin(t)
	}
	if f.dialled { // the first segment: of what it acknowledges, the peer's SYN, nothing was told before
		f.dialled, f.known, f.lastACK = false, true, t.AckNumber()-1
	}
	if n == 0 && l.stack.tcp.AckDelay > 0 && !l.paying && f.mayHold(t, l.atOnce(f, len(ip)+len(t))) {
		l.hold(slot, p, &o.hop)
		return true
	}
	if n == 0 && flags == header.TCPFlagAck {
		o.twice = f.twice
	}
	f.gap, f.twice = hasSACK(t), header.SACKBlock{}
	l.cancel(f)
	if n > 0 {
		l.noteAnswer(f)
		l.noteSent(f, t, n, payloadLimit(p))
	}
	f.known, f.lastACK = true, t.AckNumber()
	if flags&header.TCPFlagFin != 0 {
		f.ended = true
		l.noteOurFIN(f, t, n)
		return n == 0 && l.mergeFIN(f, t)
	}
	o.flow = f
	return false
}

// forget is told of a SYN or a reset that leaves: of key there is a new connection, or
// none, and nothing known of an older one holds. Called under mu.
func (l *link) forget(key *flowKey) {
	if w := l.timeWait.find(key); w != nil {
		l.timeWait.kill(w)
	}
	if slot, ok := l.flows.index[*key]; ok {
		if l.flows.slots[slot].held.active {
			l.stats.AcksHolding--
		}
		l.flows.drop(slot)
	}
}

// mergeFIN lets the FIN t leave with the flow's last data, when these still wait
// for the kick of this turn.
func (l *link) mergeFIN(f *flow, t header.TCP) bool {
	packet, data := l.unpublished(f)
	if packet == nil {
		return false
	}
	payload := len(data) - int(data.DataOffset())
	if int(data.DataOffset()) != len(t) || data.SequenceNumber()+uint32(payload) != t.SequenceNumber() {
		return false
	}
	// The FIN's header is the newer one, but for the sequence number.
	sequence, flags := data.SequenceNumber(), data.Flags()
	copy(data, t)
	data.SetSequenceNumber(sequence)
	data.SetFlags(uint8(flags | t.Flags()))
	l.putChecksum(packet)
	l.noteMerged(packet)
	return true
}

// unpublished is the frame of the flow's last data, from the IP header on, and the TCP
// segment in it; nil: it is not on the TX ring, or published.
func (l *link) unpublished(f *flow) (packet []byte, t header.TCP) {
	packet = f.tail.packet
	if packet == nil || l.submitted-f.tail.count >= uint64(l.Device.Unpublished()) {
		return nil, nil
	}
	return packet, header.TCP(packet[ipBytes(packet):])
}

// noteMerged accounts for a FIN that leaves with the data in packet, and shows it.
func (l *link) noteMerged(packet []byte) {
	l.stats.FinsMerged++
	if l.hooks != nil {
		l.showSegment(packet, true)
	}
}

// submitTCP is submit for a frame that holds a TCP segment, whose checksum it puts.
func (l *link) submitTCP(f dataplane.TXFrame, b []byte, n int) {
	packet := b[etherBytes:n]
	l.putChecksum(packet)
	if l.leavesChecksum(packet) {
		l.Device.SubmitPartial(f, n, etherBytes+ipBytes(packet), header.TCPChecksumOffset)
	} else {
		l.Device.Submit(f, n)
	}
	l.noteSubmitted(b, n)
}

// submit puts a frame of n bytes, whose memory is b, on the TX ring.
func (l *link) submit(f dataplane.TXFrame, b []byte, n int) {
	l.Device.Submit(f, n)
	l.noteSubmitted(b, n)
}

// noteSubmitted accounts for the frame just submitted, and shows it.
func (l *link) noteSubmitted(b []byte, n int) {
	l.submitted++
	l.stats.TXFrames++
	if l.tap != nil {
		l.untapped = append(l.untapped, b[:n])
	}
	if l.hooks != nil {
		l.showSegment(b[etherBytes:n], false)
	}
}

// noteTail remembers the frame just submitted as its flow's last one.
func (l *link) noteTail(o *outgoing, packet []byte) {
	if o.flow != nil {
		o.flow.tail = tail{packet, l.submitted}
	}
}

// write puts the packet, or what is left of it, into TX frames. It reports
// false when frames ran out; o.sent then says how far it came.
func (l *link) write(o *outgoing) bool {
	mac, ok := l.resolve(&o.hop)
	if !ok {
		l.await(o)
		return true
	}
	if o.packet.GSOOptions.Type != netstack.GSONone && o.packet.Data().Size() > payloadLimit(o.packet) {
		return l.segment(o, &mac)
	}
	frame, b, ok := l.reserve()
	if !ok {
		return false
	}
	l.putEthernet(b, &mac, o.packet.NetworkProtocolNumber == header.IPv6ProtocolNumber)
	n := gather(b[etherBytes:], o.packet)
	if o.twice != (header.SACKBlock{}) {
		n = reportTwice(b[etherBytes:], n, o.twice)
	}
	if o.packet.TransportProtocolNumber == header.TCPProtocolNumber {
		l.submitTCP(frame, b, etherBytes+n)
	} else {
		l.submit(frame, b, etherBytes+n)
	}
	l.noteTail(o, b[etherBytes:etherBytes+n])
	return true
}

// reserve returns a free TX frame, after a kick if there is none.
func (l *link) reserve() (dataplane.TXFrame, []byte, bool) {
	f, b, ok := l.Device.Reserve()
	if len(l.untapped) > 0 && l.Device.Unpublished() == 0 {
		l.showSent() // the device has kicked, and b may be one of them
	}
	if ok {
		return f, b, true
	}
	l.kick()
	return l.Device.Reserve()
}

// kick hands the submitted frames to the kernel. An error means that the
// interface is gone; the loop finds out by its statistics and netlink.
func (l *link) kick() {
	if len(l.untapped) > 0 {
		l.showSent()
	}
	if err := l.Device.Kick(); err != nil {
		l.stats.KickErrors++
	}
}

// flush is the link's end of a turn (steps 6 to 8): due ACKs, waiting packets,
// one kick. It returns when the link wants the next turn at the latest.
func (l *link) flush(now time.Duration) (next time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retryUnresolved(now)
	next, ok = l.expire(now)
	if at, more := l.repeatUpdates(now); more && (!ok || at < next) {
		next, ok = at, true
	}
	// Completions come with the kick in copy mode, so a backlog larger than
	// the free frames drains in a few rounds of the same turn.
	for rounds := 0; ; rounds++ {
		l.drain()
		l.kick()
		if l.backlog.empty() || rounds == 8 {
			break
		}
	}
	l.flows.sweep(now, 4)
	l.timeWait.expire(millis(now))
	if !l.backlog.empty() || l.Device.Pending() > 0 || !l.unresolved.empty() {
		// Nothing announces a completion, and a neighbour only the resolver.
		if at := now + time.Millisecond; !ok || at < next {
			next, ok = at, true
		}
	}
	return next, ok
}

// drain writes the backlog while frames last.
func (l *link) drain() {
	for !l.backlog.empty() && l.write(l.backlog.front()) {
		l.backlog.pop()
	}
}

// await keeps a packet until its neighbour is known, or unresolvedWait passes.
func (l *link) await(o *outgoing) {
	l.stack.resolver.Provoke(l.Index, netip.AddrFrom16(o.hop).Unmap())
	if l.unresolved.len() >= maxUnresolved {
		l.unresolved.pop()
		l.stats.TXUnresolvedDropped++
	}
	l.stats.TXUnresolved++
	w := *o
	w.flow = nil
	w.until = l.stack.Now() + unresolvedWait
	l.unresolved.push(w)
}

func (l *link) retryUnresolved(now time.Duration) {
	for n := l.unresolved.len(); n > 0; n-- {
		o := l.unresolved.front()
		_, ok := l.resolve(&o.hop)
		switch {
		case ok:
			l.backlog.push(*o)
		case o.until <= now:
			l.stats.TXUnresolvedDropped++
		default:
			l.unresolved.push(*o)
		}
		l.unresolved.pop()
	}
}

// neighbourCache holds the last answer of the resolver. Nearly every packet of
// a link goes to the same gateway or backend.
type neighbourCache struct {
	generation uint64
	until      time.Duration
	hop        [16]byte
	mac        [6]byte
}

// neighbourRefresh bounds how long the resolver is not asked, so that it knows
// which neighbours are in use.
const neighbourRefresh = time.Second

func (l *link) resolve(hop *[16]byte) (mac [6]byte, ok bool) {
	c, now := &l.neighbours, l.stack.Now()
	generation := l.stack.resolver.Generation()
	if c.hop == *hop && c.generation == generation && now < c.until {
		return c.mac, true
	}
	mac, ok = l.stack.resolver.Lookup(l.Index, netip.AddrFrom16(*hop).Unmap())
	if ok {
		*c = neighbourCache{generation, now + neighbourRefresh, *hop, mac}
	}
	return mac, ok
}

func (l *link) putEthernet(b []byte, mac *[6]byte, v6 bool) {
	copy(b[0:6], mac[:])
	copy(b[6:12], l.MAC[:])
	b[12], b[13] = etherTypeIPv4>>8, etherTypeIPv4&0xff
	if v6 {
		b[12], b[13] = etherTypeIPv6>>8, etherTypeIPv6&0xff
	}
}

// leaveFromBytes is the length of a packet from which on its checksum is left to the device. With metadata before every
// frame a small request took more CPU on veth in five of six pairs, by 0.2 to 1.2 us.
const leaveFromBytes = 512

// leavesChecksum reports whether the device completes the checksum of a packet.
func (l *link) leavesChecksum(packet []byte) bool {
	return l.leaveChecksums && len(packet) >= leaveFromBytes
}

// putChecksum puts into the TCP checksum of a whole IP packet what the device wants there: the checksum, or the sum of the
// pseudo-header, which it adds to that of the segment.
func (l *link) putChecksum(packet []byte) {
	if !l.leavesChecksum(packet) {
		putTCPChecksum(packet)
		return
	}
	segment := packet[ipBytes(packet):]
	binary.BigEndian.PutUint16(segment[header.TCPChecksumOffset:], tcpPseudoSum(packet, len(segment)))
}

// ipBytes is the length of the IP header of a packet, in which IPv6 has no extensions.
func ipBytes(packet []byte) int {
	if packet[0]>>4 == header.IPv6Version {
		return header.IPv6MinimumSize
	}
	return int(packet[0]&0xf) * 4
}

// putLength puts the length of a packet into its IP header.
func putLength(packet []byte) {
	if packet[0]>>4 == header.IPv6Version {
		header.IPv6(packet).SetPayloadLength(uint16(len(packet) - header.IPv6MinimumSize))
		return
	}
	h := header.IPv4(packet)
	h.SetTotalLength(uint16(len(packet)))
	h.SetChecksum(0)
	h.SetChecksum(^h.CalculateChecksum())
}

// putTCPChecksum fills the TCP checksum of a whole IP packet.
func putTCPChecksum(packet []byte) {
	segment := packet[ipBytes(packet):]
	binary.BigEndian.PutUint16(segment[header.TCPChecksumOffset:], 0)
	sum := checksum.Checksum(segment, tcpPseudoSum(packet, len(segment)))
	binary.BigEndian.PutUint16(segment[header.TCPChecksumOffset:], ^sum)
}

// tcpPseudoSum is the sum of the pseudo-header of a TCP segment of n bytes in an
// IP packet (RFC 9293 3.1, RFC 8200 8.1).
func tcpPseudoSum(packet []byte, n int) uint16 {
	if packet[0]>>4 == header.IPv6Version {
		return checksum.Combine(checksum.Checksum(packet[8:40], uint16(header.TCPProtocolNumber)), uint16(n))
	}
	addresses := binary.BigEndian.Uint64(packet[12:20])
	return checksum.Fold(addresses>>32 + addresses&0xffffffff + uint64(header.TCPProtocolNumber) + uint64(n))
}

// gather copies the packet, network header first, into b: the one copy of the
// transmit side.
func gather(b []byte, p *netstack.PacketBuffer) int {
	c := cursorAt(p, 0)
	return c.read(b[:p.Size()])
}

// cursor reads a packet's views in order.
type cursor struct {
	view   *buffer.View
	offset int
}

// cursorAt is a cursor at the given offset from the network header.
func cursorAt(p *netstack.PacketBuffer, offset int) cursor {
	list, start := p.AsViewList()
	c := cursor{list.Front(), start + offset}
	for c.view != nil && c.offset >= c.view.Size() {
		c.offset -= c.view.Size()
		c.view = c.view.Next()
	}
	return c
}

// read fills b as far as the packet goes and returns how many bytes.
func (c *cursor) read(b []byte) int {
	n := 0
	for c.view != nil && n < len(b) {
		k := copy(b[n:], c.view.AsSlice()[c.offset:])
		n += k
		if c.offset += k; c.offset == c.view.Size() {
			c.view, c.offset = c.view.Next(), 0
		}
	}
	return n
}

// hopBytes is the next hop as 16 bytes, IPv4 mapped.
func hopBytes(a tcpip.Address) (b [16]byte) {
	putHop(&b, &a)
	return b
}

// putHop puts a into b, which is zero, as hopBytes has it. Unlike a.As4 it copies no more than
// the bytes.
func putHop(b *[16]byte, a *tcpip.Address) {
	if s := a.AsSlice(); len(s) == header.IPv4AddressSize {
		b[10], b[11] = 0xff, 0xff
		*(*[4]byte)(b[12:]) = [4]byte(s)
	} else {
		*b = [16]byte(s)
	}
}

// packetQueue is a FIFO of packets, each with a reference of its own.
type packetQueue struct {
	list []outgoing
	head int
	some atomic.Bool // it is not empty, for those who have not the lock
}

func (q *packetQueue) empty() bool      { return q.head == len(q.list) }
func (q *packetQueue) len() int         { return len(q.list) - q.head }
func (q *packetQueue) front() *outgoing { return &q.list[q.head] }

func (q *packetQueue) push(o outgoing) {
	o.packet.IncRef()
	if q.head > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, o)
	q.some.Store(true)
}

func (q *packetQueue) pop() {
	q.list[q.head].packet.DecRef()
	q.list[q.head] = outgoing{}
	if q.head++; q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
		q.some.Store(false)
	}
}
