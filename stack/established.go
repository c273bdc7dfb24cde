package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
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
	if l.suspects(s) {
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
	var n *netSegment
	switch {
	case len(s.payload) == 0:
		n = segmentWith(netstack.NewPacketBuffer(netstack.PacketBufferOptions{}))
	case l.joined != nil:
		n = segmentWith(packetWith(l.viewOf(s.payload)))
	default:
		n = l.stack.spares.take(s.payload)
	}
	n.fill(&s.id, s.tcp, ep.SendTSOk)
	l.process(&c, n, 0)
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
	memory := popReceived(ep, s)
	c.stack.spares.free(s)
	if noteRead(ep, n, memory) {
		if k, ok := connectionOf(ep); ok {
			sendACK(k.snd)
		}
	}
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
	ep, next := c.endpoint, c.receive.state.RcvNxt
	// Data within the window that was announced, and within the memory: netstack's queue has the same limit.
	return tcp.EndpointState(ep.State()) == tcp.StateEstablished && c.follows(t) && c.congestion() != tcpip.RTORecovery && !c.shrinks(t) &&
		(n == 0 || next.Add(seqnum.Size(n)).LessThanEq(c.receive.state.RcvAcc) && receiveMemory(ep) <= ep.SocketOptions().GetReceiveBufferSize())
}

// follows reports whether a segment is the next one, acknowledges what was sent and has no
// other options than the timestamp that it has to have.
func (c *connection) follows(t header.TCP) bool {
	ep, ack := c.endpoint, seqnum.Value(t.AckNumber())
	if queued(ep) || seqnum.Value(t.SequenceNumber()) != c.receive.state.RcvNxt || ack.LessThan(c.send.SndUna) || c.send.SndNxt.LessThan(ack) {
		return false
	}
	if !ep.SendTSOk {
		return len(t) == header.TCPMinimumSize
	}
	return len(t) == header.TCPMinimumSize+timestampBytes && binary.BigEndian.Uint32(t[header.TCPMinimumSize:]) == timestampOption &&
		int32(binary.BigEndian.Uint32(t[header.TCPMinimumSize+4:])-ep.RecentTS) >= 0
}

// process has TCP process a segment that predict let pass, and releases the lock. It
// takes over s; full is how much data the peer's full segments have, 0: it is not known.
func (l *link) process(c *connection, s *netSegment, full int) {
	l.stats.RXLean++
	l.stats.RXEstablished++
	l.stack.received.Increment()
	ep := c.endpoint
	s.rcvdTime = l.stack.clock.NowMonotonic()
	size := s.pkt.Data().Size()
	advanced := c.advance(s, size, &l.stack.spares)
	if !advanced {
		own(s, ep)
		_, _ = handleSegment(ep, s) // fails only for resets and connections that are being closed
	}
	if !advanced || s.ep == nil { // it is not in the receive queue
		decRef(s)
	}
	if c.receive.state.RcvNxt != c.send.MaxSentAck && !l.owe(c, full) {
		sendACK(c.snd)
	}
	ep.ResumeWork()
}

// fill makes s, which has its packet, the segment with the header t, whose only option is the
// timestamp, if it is stamped.
func (s *netSegment) fill(id *netstack.TransportEndpointID, t header.TCP, stamped bool) {
	s.id, s.csumValid = *id, true
	s.sequenceNumber, s.ackNumber = seqnum.Value(t.SequenceNumber()), seqnum.Value(t.AckNumber())
	s.flags, s.window = t.Flags(), seqnum.Size(t.WindowSize())
	if stamped {
		s.parsedOptions.TS = true
		s.parsedOptions.TSVal = binary.BigEndian.Uint32(t[header.TCPMinimumSize+4:])
		s.parsedOptions.TSEcr = binary.BigEndian.Uint32(t[header.TCPMinimumSize+8:])
	}
}

// advance does what handleSegment would do with s, which predict let pass, when that is
// little: nothing is in flight behind what s acknowledges, which is one segment at most,
// and nothing was lost, reordered or kept from being sent. It reports false, and has done
// nothing, otherwise. If there are data in s, of so many bytes, it takes s over, which has an
// endpoint then, or has put them into the segment before it.
//
// One thing it does not: the congestion window does not grow while one segment at a time
// is all that fills it, as in tcp_is_cwnd_limited in the kernel (RFC 7661 4.1).
func (c *connection) advance(s *netSegment, size int, free *spares) bool {
	k, ep := c.internals(), c.endpoint
	snd, rcv, buf := c.send, c.receive.state, c.sendBuffer()
	sent := c.unacknowledged()
	acked := int(snd.SndUna.Size(s.ackNumber))
	if s.ackNumber != snd.SndNxt || acked > snd.MaxPayloadSize || !c.nothingWaits() || !c.calm() || snd.FastRecovery.Active ||
		*k.zeroWindowProbing || *k.probeOut || *k.sacked > 0 || k.sack.NumBlocks > 0 || len(*c.receive.pending) > 0 ||
		s.window == 0 || ep.SocketOptions().GetKeepAlive() || buf.SndBufUsed >= int(ep.SocketOptions().GetSendBufferSize())/2 {
		return false
	}
	if acked > 0 && (sent.head != sent.tail || sent.head.xmitCount != 1 || sent.head.pkt.Data().Size() != acked) {
		return false
	}

	// The receiver's part: receiver.handleRcvdSegment and consumeSegment.
	*k.lastACK = s.rcvdTime
	if size > 0 {
		c.queueReceived(s, size)
		rcv.RcvNxt.UpdateForward(seqnum.Size(size))
		c.noteReceived(s.rcvdTime)
	}

	// The sender's: sender.handleRcvdSegment.
	if ep.SendTSOk && s.sequenceNumber.LessThanEq(snd.MaxSentAck) {
		ep.RecentTS = s.parsedOptions.TSVal // not older: see predicts
	}
	snd.DupAckCount = 0
	snd.SndWnd = s.window << snd.SndWndScale
	if acked == 0 {
		return true
	}
	if ep.SendTSOk && s.parsedOptions.TSEcr != 0 {
		c.noteRTT(ep.TSOffset.Elapsed(s.rcvdTime, s.parsedOptions.TSEcr))
	} else if !ep.SendTSOk && snd.RTTMeasureSeqNum.LessThan(s.ackNumber) {
		c.noteRTT(sinceStart(s.rcvdTime) - sinceStart(snd.RTTMeasureTime))
		snd.RTTMeasureSeqNum = snd.SndNxt
	}
	snd.SndUna = s.ackNumber
	if ep.SACKPermitted {
		k.noteDelivered(sent.head, s.rcvdTime)
	}
	c.unlist(sent.head, free)
	buf.SndBufUsed -= acked
	snd.Outstanding, snd.SackedOut = 0, 0
	*k.firstResent = tcpip.MonotonicTime{}
	k.resend.disable()
	k.probe.disable()
	return true
}

// noteDelivered is told at the time that s arrived, which was sent once: rackControl.update
// and detectReorder.
func (k *internals) noteDelivered(s *netSegment, at tcpip.MonotonicTime) {
	end := s.sequenceNumber.Add(seqnum.Size(s.pkt.Data().Size()))
	k.rack.RTT = sinceStart(at) - sinceStart(s.xmitTime)
	if *k.minRTT == 0 || k.rack.RTT < *k.minRTT {
		*k.minRTT = k.rack.RTT
	}
	if k.rack.XmitTime.Before(s.xmitTime) {
		k.rack.XmitTime, k.rack.EndSequence = s.xmitTime, end
	}
	if k.rack.FACK.LessThan(end) {
		k.rack.FACK = end
	}
}
