package stack

import (
	"bytes"
	"slices"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/dataplane/checksum"
)

// What a bulk transfer brings in one batch costs TCP once: consecutive segments of a flow with data are one large segment
// (the kernel's tcp_gro_receive), and of consecutive pure ACKs the last one counts (its tcp_add_backlog). Data stay in
// the frames until the batch is delivered, and are then verified and copied together.

const (
	// openMerges is how many flows may be merged at a time, and of how many an ACK may be held back.
	openMerges = 8
	// maxMergeBytes keeps a merged segment below what an IPv4 packet can be.
	maxMergeBytes = 65535 - 256
	// minMergeBytes is the least payload worth the book-keeping.
	minMergeBytes = 512
)

// merge is a flow whose segments are being merged.
type merge struct {
	id       netstack.TransportEndpointID
	number   tcpip.NetworkProtocolNumber
	endpoint netstack.TransportEndpoint
	headers  [header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte // of the first segment, with what later ones change
	ipBytes  int
	tcpBytes int
	next     uint32        // sequence number that continues it
	first    int           // payload bytes of the first segment
	bytes    int           // payload bytes so far
	pieces   []piece       // those of them that are still in frames
	pending  int           // their bytes
	rest     []piece       // a damaged one, and what came behind it
	view     *buffer.View  // of those before, the ones of the last batch, with room for more; nil: none
	data     buffer.Buffer // the ones before these
}

// piece is a segment that continues a merge, in its frame.
type piece struct {
	frame, packet []byte
	intact        bool // its checksum was verified
}

// tcp is the header of the merged segment.
func (m *merge) tcp() header.TCP { return m.headers[m.ipBytes : m.ipBytes+m.tcpBytes] }

// add adds the payload of s, which continues m.
func (l *link) add(m *merge, s *segment, intact bool) {
	m.next += uint32(len(s.payload))
	m.bytes += len(s.payload)
	if l.joined != nil { // memory of netstack's already
		m.close() // all is collected
		m.note(s)
		_ = m.data.Append(l.viewOf(s.payload)) // cannot fail
		return
	}
	m.pieces = append(m.pieces, piece{s.frame, s.packet, intact})
	m.pending += len(s.payload)
}

// note takes over what changes from segment to segment.
func (m *merge) note(s *segment) {
	t := m.tcp()
	t.SetWindowSize(s.tcp.WindowSize())
	t[header.TCPFlagsOffset] |= s.tcp[header.TCPFlagsOffset]
}

// collect copies what is still in frames, and verifies it in the same pass: until then it only looked as if it continued m. From
// a damaged segment on it stays in rest, and collect reports false: m ends before.
func (l *link) collect(m *merge) bool {
	s := segment{id: m.id, number: m.number, ipBytes: m.ipBytes}
	for i := range m.pieces {
		p := &m.pieces[i]
		p.of(m, &s)
		if !l.copyTo(m, &s, p.intact) {
			m.rest = m.pieces[i:]
			m.bytes -= m.pending
			m.pieces, m.pending = m.pieces[:0], 0
			return false
		}
		m.pending -= len(s.payload)
		m.note(&s)
	}
	m.pieces = m.pieces[:0]
	return true
}

// of makes s, which has what all segments of m have, the one of p.
func (p *piece) of(m *merge, s *segment) {
	s.frame, s.packet = p.frame, p.packet
	s.tcp, s.payload = p.packet[m.ipBytes:m.ipBytes+m.tcpBytes], p.packet[m.ipBytes+m.tcpBytes:]
}

// copyTo copies the payload of s, first into the room that the memory of the last batch has: Buffer.Append would copy it there
// once more. It reports false when s is damaged.
func (l *link) copyTo(m *merge, s *segment, intact bool) bool {
	if m.view.Full() { // or nil
		m.close()
		m.view = newView(m.pending)
	}
	n := len(s.payload)
	if intact = intact || l.takesUnverified(s); !intact && n <= m.view.AvailableSize() {
		size := m.view.Size()
		m.view.Grow(n)
		sum := checksum.Checksum(s.tcp, tcpPseudoSum(s.packet, len(s.packet)-s.ipBytes))
		if checksum.Copy(m.view.AsSlice()[size:], s.payload, sum) != 0xffff {
			m.view.CapLength(size)
			return false
		}
		return true
	}
	if !intact && !l.intact(s) {
		return false
	}
	for p := s.payload; len(p) > 0; {
		if m.view.Full() {
			m.close()
			m.view = newView(m.pending - (n - len(p)))
		}
		k := min(len(p), m.view.AvailableSize())
		_, _ = m.view.Write(p[:k]) // cannot fail
		p = p[k:]
	}
	return true
}

// close adds what collect has copied to the data.
func (m *merge) close() {
	switch {
	case m.view == nil:
		return
	case m.view.Size() == 0: // the first piece was damaged
		m.view.Release()
	default:
		_ = m.data.Append(m.view) // cannot fail
	}
	m.view = nil
}

// mergeSegment merges s into its flow's open segment, or opens one. It reports
// false when s has to go by itself.
func (l *link) mergeSegment(s *segment) bool {
	const push = byte(header.TCPFlagPsh)
	flags := s.tcp[header.TCPFlagsOffset]
	data := len(s.payload) > 0 && flags&^push == byte(header.TCPFlagAck)
	// A tap is told at once what becomes of a frame, and what is joined will not be copied.
	now := l.tap != nil || l.joined != nil
	for i, m := range l.merges {
		if m.id != s.id {
			continue
		}
		// As the kernel's tcp_gro_receive: in order, with the same
		// acknowledgment and options.
		t := m.tcp()
		if !data || s.tcp.SequenceNumber() != m.next || m.bytes+len(s.payload) > maxMergeBytes ||
			s.tcp.AckNumber() != t.AckNumber() ||
			!bytes.Equal(s.tcp[header.TCPMinimumSize:], t[header.TCPMinimumSize:]) || now && !l.intact(s) {
			l.flushMerge(i)
			break
		}
		if l.joined != nil && !l.collect(m) { // it does not continue what ends before
			l.flushMerge(i)
			break
		}
		l.add(m, s, now)
		l.stats.RXMerged++
		if flags&push != 0 || len(s.payload) < m.first {
			l.flushMerge(i)
		}
		return true
	}
	// PSH ends what the sender had to say.
	if !data || flags&push != 0 || len(s.payload) < minMergeBytes || !l.intact(s) {
		return false
	}
	ep := l.endpointOf(s)
	if ep == nil || isListener(ep) {
		return false
	}
	if r := l.guard(s, ep); r != take {
		l.queueJudged(s, ep, r)
		return true
	}
	if len(l.merges) == openMerges {
		l.flushMerge(0)
	}
	l.merges = l.merges[:len(l.merges)+1]
	m := l.merges[len(l.merges)-1]
	m.id, m.number, m.endpoint = s.id, s.number, ep
	m.ipBytes, m.tcpBytes = s.ipBytes, len(s.tcp)
	copy(m.headers[:], s.packet[:s.ipBytes+len(s.tcp)])
	m.next, m.first, m.bytes = s.tcp.SequenceNumber(), len(s.payload), 0
	l.add(m, s, true)
	return true
}

// mergeACK holds s back if it is a pure ACK, until another segment of its flow or the end of the batch. A pure ACK behind
// it that acknowledges more takes its place. It reports false when s has to go by itself.
func (l *link) mergeACK(s *segment) bool {
	// Of what a tap sees it is told at once what becomes of it.
	pure := l.tap == nil && l.joined == nil && len(s.payload) == 0 && s.tcp[header.TCPFlagsOffset] == byte(header.TCPFlagAck) && len(s.tcp) <= header.TCPMinimumSize+timestampBytes
	for i := range l.acks {
		h := &l.acks[i]
		if h.id != s.id {
			continue
		}
		// As tcp_add_backlog: with the same options. The window is the newest one's, and one that acknowledges nothing new
		// is for TCP to count (RFC 5681 2).
		if pure && s.tcp.SequenceNumber() == h.tcp.SequenceNumber() && int32(s.tcp.AckNumber()-h.tcp.AckNumber()) > 0 &&
			bytes.Equal(s.tcp[header.TCPMinimumSize:], h.tcp[header.TCPMinimumSize:]) && l.intact(s) {
			*h = *s
			l.stats.RXMerged++
			return true
		}
		l.flushACK(i)
		break
	}
	if !pure || len(l.acks) == openMerges || slices.ContainsFunc(l.merges, func(m *merge) bool { return m.id == s.id }) {
		return false
	}
	l.acks = append(l.acks, *s)
	return true
}

// flushFrames lets go of the frames of the batch: the next one overwrites them.
func (l *link) flushFrames() {
	for len(l.acks) > 0 {
		l.flushACK(0)
	}
	for i := 0; i < len(l.merges); {
		if l.collect(l.merges[i]) {
			i++
		} else {
			l.flushMerge(i)
		}
	}
}

// flushMerges hands what is held to its endpoints: when there are no more frames, and before something that may belong
// behind it.
func (l *link) flushMerges() {
	l.flushFrames()
	for len(l.merges) > 0 {
		l.flushMerge(0)
	}
}

func (l *link) flushMerge(i int) {
	m := l.merges[i]
	last := len(l.merges) - 1
	copy(l.merges[i:], l.merges[i+1:])
	l.merges[last] = m // for the next one
	l.merges = l.merges[:last]
	l.collect(m)
	m.close()
	if !l.enterMerged(m) {
		l.noteTwice(m.endpoint, seqnum.Value(m.tcp().SequenceNumber()), m.bytes, func() bool { return true })
		p := m.packet()
		l.stats.RXLean++
		l.queueAtOnce(m.endpoint, m.id, p)
		p.DecRef()
	}
	m.endpoint, m.data = nil, buffer.Buffer{}
	if len(m.rest) > 0 {
		l.deliverRest(m)
	}
}

// deliverRest delivers what does not continue m after all, each segment by itself.
func (l *link) deliverRest(m *merge) {
	l.stats.RXMerged -= uint64(len(m.rest))
	for i := range m.rest {
		s := segment{id: m.id, number: m.number, ipBytes: m.ipBytes}
		m.rest[i].of(m, &s)
		l.deliverKept(&s)
	}
	m.rest = nil
}

// packet is m as netstack's IP layer hands a packet to TCP.
func (m *merge) packet() *netstack.PacketBuffer {
	b := buffer.MakeWithView(viewWith(m.headers[:m.ipBytes+m.tcpBytes]))
	b.Merge(&m.data)
	p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: b})
	p.NetworkProtocolNumber, p.TransportProtocolNumber = m.number, header.TCPProtocolNumber
	p.RXChecksumValidated = true
	// Cannot fail: they were just put there.
	p.NetworkHeader().Consume(m.ipBytes)
	p.TransportHeader().Consume(m.tcpBytes)
	return p
}

// enterMerged is enter for a merged segment, which is known to be intact.
func (l *link) enterMerged(m *merge) bool {
	ep, ok := m.endpoint.(*tcp.Endpoint)
	if !ok {
		return false
	}
	c, ok := l.predict(ep, m.tcp(), m.bytes)
	if !ok {
		return false
	}
	s := segmentWith(netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: m.data}))
	s.fill(&m.id, m.tcp(), ep.SendTSOk)
	l.process(&c, s, m.first) // it had no PSH: there was more to say
	return true
}

func (l *link) flushACK(i int) {
	s := l.acks[i]
	l.acks = slices.Delete(l.acks, i, i+1)
	l.deliverKept(&s)
}

// deliverKept delivers a segment that was kept until now, out of the way of the one that is being delivered.
func (l *link) deliverKept(s *segment) {
	judged, joined := l.judged, l.joined
	l.judged, l.joined = true, nil
	if !l.queueSegment(s) {
		l.fillChecksum(s)
		l.deliverStock(s.number, s.packet)
	}
	l.judged, l.joined = judged, joined
}
