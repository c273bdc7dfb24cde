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
)

// What a bulk transfer brings in one batch costs TCP once: consecutive segments of a flow with data are one large segment
// (the kernel's tcp_gro_receive), and of consecutive pure ACKs the last one counts (its tcp_add_backlog). Data stay in
// the frames until the batch is delivered, and are then copied together.

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
	pieces   [][]byte      // those of them that are still in frames
	pending  int           // their bytes
	view     *buffer.View  // of those before, the ones of the last batch, with room for more; nil: none
	data     buffer.Buffer // the ones before these
}

// tcp is the header of the merged segment.
func (m *merge) tcp() header.TCP { return m.headers[m.ipBytes : m.ipBytes+m.tcpBytes] }

// add adds the payload of s, which continues m.
func (l *link) add(m *merge, s *segment) {
	m.next += uint32(len(s.payload))
	m.bytes += len(s.payload)
	if l.joined != nil { // memory of netstack's already
		m.collect()
		m.close()
		_ = m.data.Append(l.viewOf(s.payload)) // cannot fail
		return
	}
	m.pieces = append(m.pieces, s.payload)
	m.pending += len(s.payload)
}

// collect copies what is still in frames, first into the room that the memory of the last batch has: Buffer.Append would copy it
// there once more.
func (m *merge) collect() {
	for _, p := range m.pieces {
		for len(p) > 0 {
			if m.view.Full() { // or nil
				m.close()
				m.view = newView(m.pending)
			}
			n := min(len(p), m.view.AvailableSize())
			_, _ = m.view.Write(p[:n]) // cannot fail
			p = p[n:]
			m.pending -= n
		}
	}
	m.pieces = m.pieces[:0]
}

// close adds what collect has copied to the data.
func (m *merge) close() {
	if m.view != nil {
		_ = m.data.Append(m.view) // cannot fail
		m.view = nil
	}
}

// mergeSegment merges s into its flow's open segment, or opens one. It reports
// false when s has to go by itself.
func (l *link) mergeSegment(s *segment) bool {
	const push = byte(header.TCPFlagPsh)
	flags := s.tcp[header.TCPFlagsOffset]
	data := len(s.payload) > 0 && flags&^push == byte(header.TCPFlagAck)
	for i, m := range l.merges {
		if m.id != s.id {
			continue
		}
		// As the kernel's tcp_gro_receive: in order, with the same
		// acknowledgment and options.
		t := m.tcp()
		if !data || s.tcp.SequenceNumber() != m.next || m.bytes+len(s.payload) > maxMergeBytes ||
			s.tcp.AckNumber() != t.AckNumber() ||
			!bytes.Equal(s.tcp[header.TCPMinimumSize:], t[header.TCPMinimumSize:]) || !l.intact(s) {
			l.flushMerge(i)
			break
		}
		t.SetWindowSize(s.tcp.WindowSize())
		t[header.TCPFlagsOffset] |= flags
		l.add(m, s)
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
	l.add(m, s)
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
	for _, m := range l.merges {
		m.collect()
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
	m.collect()
	m.close()
	if !l.enterMerged(m) {
		l.noteTwice(m.endpoint, seqnum.Value(m.tcp().SequenceNumber()), m.bytes, func() bool { return true })
		p := m.packet()
		l.stats.RXLean++
		l.queueAtOnce(m.endpoint, m.id, p)
		p.DecRef()
	}
	m.endpoint, m.data = nil, buffer.Buffer{}
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
	judged, joined := l.judged, l.joined // of the segment that this one has to be out of the way of
	l.judged, l.joined = true, nil
	if !l.queueSegment(&s) {
		l.fillChecksum(&s)
		l.deliverStock(s.number, s.packet)
	}
	l.judged, l.joined = judged, joined
}
