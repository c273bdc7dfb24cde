package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The short way in is for what most segments of a proxy are: the next one of an
// established connection, intact, with no other flags than ACK and PSH and no other
// options than timestamps (the header prediction of tcp_rcv_established in the kernel).
// The loop has netstack's TCP process such a segment at once, instead of queueing it
// for netstack's goroutine, which takes eight locks, a hash and a second packet buffer.
// What it does to the connection is the same, but for the ACK, which netstack makes
// for every batch: here it is owed, and made only when no data carries it in time
// (ackhold.go). Everything else goes through netstack's queue.

// timestampBytes is what timestamps take in a header, aligned (RFC 7323 appendix A).
const timestampBytes = header.TCPOptionTSLength + 2

// timestampOption is how they begin.
const timestampOption = header.TCPOptionNOP<<24 | header.TCPOptionNOP<<16 | header.TCPOptionTS<<8 | header.TCPOptionTSLength

// enter has TCP process s at once if it is a segment for the short way.
func (l *link) enter(s *segment, ep *tcp.Endpoint) bool {
	if l.suspects() {
		return false // the guard looks at acknowledgments (undo.go)
	}
	c, ok := l.predict(ep, s.tcp, len(s.payload))
	if !ok {
		return false
	}
	if !l.intact(s) {
		ep.ResumeWork()
		return false // netstack counts it
	}
	o := netstack.PacketBufferOptions{}
	if len(s.payload) > 0 {
		o.Payload = buffer.MakeWithView(l.viewOf(s.payload))
	}
	l.process(&c, s.id, s.tcp, netstack.NewPacketBuffer(o))
	return true
}

// enterMerged is enter for a merged segment, which is known to be intact. It takes
// over the packet.
func (l *link) enterMerged(m *merge) bool {
	ep, ok := m.endpoint.(*tcp.Endpoint)
	if !ok {
		return false
	}
	c, ok := l.predict(ep, m.tcp, m.bytes)
	if !ok {
		return false
	}
	l.process(&c, m.id, m.tcp, m.packet)
	return true
}

// readShort reads all that was received into p if that is one short segment of an
// established connection, or returns 0 and does nothing. Endpoint.Read would take six
// locks for it.
func (c *Conn) readShort(p []byte) int {
	ep, ok := c.endpoint.(*tcp.Endpoint)
	if !ok || !ep.TryLock() {
		return 0
	}
	defer ep.ResumeWork()
	s := onlySegment(ep)
	if s == nil || tcp.EndpointState(ep.State()) != tcp.StateEstablished {
		return 0
	}
	data := s.pkt.Data()
	n := data.Size()
	if n > len(p) || n >= tuneBytes {
		return 0
	}
	b, ok := data.PullUp(n)
	if !ok {
		return 0
	}
	copy(p, b)
	if emptyReceiveQueue(ep, s, n) {
		if k, ok := connectionOf(ep); ok {
			sendACK(k.snd)
		}
	}
	decRef(s)
	return n
}

// predict locks ep and looks whether a segment with the header t and n bytes of data
// is one for the short way; if not, the lock is released again.
func (l *link) predict(ep *tcp.Endpoint, t header.TCP, n int) (c connection, ok bool) {
	if t[header.TCPFlagsOffset]&^byte(header.TCPFlagPsh) != byte(header.TCPFlagAck) || !ep.TryLock() {
		return c, false
	}
	if c, ok = connectionOf(ep); ok && c.predicts(t, n) {
		return c, true
	}
	ep.ResumeWork()
	return c, false
}

// predicts reports whether a segment is the expected one. What the guard looks for is not.
func (c *connection) predicts(t header.TCP, n int) bool {
	ep, next, ack := c.endpoint, c.receive.state.RcvNxt, seqnum.Value(t.AckNumber())
	if tcp.EndpointState(ep.State()) != tcp.StateEstablished || queued(ep) ||
		seqnum.Value(t.SequenceNumber()) != next || ack.LessThan(c.send.SndUna) || c.send.SndNxt.LessThan(ack) {
		return false
	}
	if ep.SendTSOk {
		if len(t) != header.TCPMinimumSize+timestampBytes || binary.BigEndian.Uint32(t[header.TCPMinimumSize:]) != timestampOption ||
			int32(binary.BigEndian.Uint32(t[header.TCPMinimumSize+4:])-ep.RecentTS) < 0 {
			return false
		}
	} else if len(t) != header.TCPMinimumSize {
		return false
	}
	// Data within the window that was announced, and within the memory: netstack's queue has the same limit.
	return n == 0 || next.Add(seqnum.Size(n)).LessThanEq(c.receive.state.RcvAcc) &&
		receiveMemory(ep) <= ep.SocketOptions().GetReceiveBufferSize()
}

// process has TCP process a segment that predict let pass, and releases the lock. It
// takes over the packet, whose data is the payload.
func (l *link) process(c *connection, id netstack.TransportEndpointID, t header.TCP, p *netstack.PacketBuffer) {
	l.stats.RXLean++
	l.stats.RXEstablished++
	l.stack.received.Increment()
	ep := c.endpoint
	s := newNetSegment()
	s.id, s.pkt, s.csumValid = id, p, true
	s.sequenceNumber, s.ackNumber = seqnum.Value(t.SequenceNumber()), seqnum.Value(t.AckNumber())
	s.flags, s.window = t.Flags(), seqnum.Size(t.WindowSize())
	if ep.SendTSOk {
		s.parsedOptions.TS = true
		s.parsedOptions.TSVal = binary.BigEndian.Uint32(t[header.TCPMinimumSize+4:])
		s.parsedOptions.TSEcr = binary.BigEndian.Uint32(t[header.TCPMinimumSize+8:])
	}
	s.rcvdTime = l.stack.clock.NowMonotonic()
	s.dataMemSize = p.MemSize()
	setOwner(s, ep, receiveQueue)
	_, _ = handleSegment(ep, s) // fails only for resets and connections that are being closed
	decRef(s)
	if c.receive.state.RcvNxt != c.send.MaxSentAck && !l.owe(c) {
		sendACK(c.snd)
	}
	ep.ResumeWork()
}
