package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/dataplane/checksum"
)

// The short way out is for what fits in one segment that may leave now: nothing waits
// before it, nothing is being recovered, and both windows have room. Its headers and
// data are written straight into a TX frame, and netstack's list of unacknowledged
// segments gets a copy of the data; past a second packet buffer, two views, the route's
// locks and the options' pool. Everything else netstack sends.

// wayOut is how the segments of a connection leave; the first short one finds it.
type wayOut struct {
	link  *link // nil: not found yet
	hop   [16]byte
	key   flowKey
	hash  uint32
	stamp uint32 // offset of the connection's timestamps

	lasting lasting
}

// find fills the way of an endpoint that is connected.
func (w *wayOut) find(s *Stack, ep *tcp.Endpoint) bool {
	r := routeOf(ep)
	if r == nil {
		return false
	}
	hop := r.NextHop()
	if hop.BitLen() == 0 {
		hop = r.RemoteAddress()
	}
	id := &ep.ID
	*w = wayOut{lasting: w.lasting, link: s.links[r.NICID()-1], hop: hopBytes(hop), key: flowKeyOf(id), hash: hashOf(ep), stamp: ep.TSOffset.TSVal(tcpip.MonotonicTime{})}
	return true
}

// flowKeyOf is the key of the flow that the endpoint of id sends.
func flowKeyOf(id *netstack.TransportEndpointID) flowKey {
	k := flowKey{ports: uint32(id.LocalPort)<<16 | uint32(id.RemotePort)}
	putHop(&k.local, &id.LocalAddress)
	putHop(&k.remote, &id.RemoteAddress)
	return k
}

// writeShort sends p the short way, all of it, or reports false and does nothing.
func (c *Conn) writeShort(p []byte) bool {
	ep := c.endpoint.(*tcp.Endpoint)
	if !ep.TryLock() {
		return false
	}
	k, ok := connectionOf(ep)
	now := c.stack.clock.NowMonotonic()
	ok = ok && k.sends(len(p), now) && (c.out.link != nil || c.out.find(c.stack, ep)) && c.out.link.sendShort(&k, &c.out, p, now)
	ep.ResumeWork()
	return ok
}

// writeLong queues of p what there is room for, or returns 0 and does nothing: what Endpoint.Write does, past a reader
// and the clearing of memory that is written to at once.
func (c *Conn) writeLong(p []byte) int {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	k, ok := connectionOf(ep)
	if !ok || tcp.EndpointState(ep.State()) != tcp.StateEstablished || k.sendBuffer().SndClosed {
		return 0
	}
	n := min(len(p), buffer.MaxChunkSize, int(ep.SocketOptions().GetSendBufferSize())-k.sendBuffer().SndBufUsed)
	if n <= 0 {
		return 0
	}
	v := newView(n)
	_, _ = v.Write(p[:n]) // cannot fail
	k.queueLong(segmentWith(packetWith(v)), c.stack.clock.NowMonotonic())
	return n
}

// queueLong puts s, which has its packet, into the send buffer, and sends what may leave.
func (c *connection) queueLong(s *netSegment, now tcpip.MonotonicTime) {
	s.id, s.rcvdTime = c.endpoint.ID, now
	c.sendBuffer().SndBufUsed += s.pkt.Data().Size()
	c.pushUnacknowledged(s)
	sendData(c.endpoint, s)
}

// sends reports whether n bytes may leave now, in one segment, as sender.sendData and
// maybeSendSegment would have it.
func (c *connection) sends(n int, now tcpip.MonotonicTime) bool {
	snd, buf := c.send, c.sendBuffer()
	return tcp.EndpointState(c.endpoint.State()) == tcp.StateEstablished && !buf.SndClosed &&
		n <= snd.MaxPayloadSize && buf.SndBufUsed+n <= int(c.endpoint.SocketOptions().GetSendBufferSize()) &&
		c.nothingWaits() && c.calm() && !snd.FastRecovery.Active && len(*c.receive.pending) == 0 &&
		snd.Outstanding < snd.SndCwnd && snd.SndNxt.Add(seqnum.Size(n)).LessThanEq(snd.SndUna.Add(snd.SndWnd)) &&
		(snd.SndCwnd <= tcp.InitialCwnd || sinceStart(now)-sinceStart(snd.LastSendTime) <= snd.RTO) // else the window is reduced first
}

// sendShort sends p as the next segment of c, whose lock is held. It reports false, and
// has done nothing, when it cannot leave at once.
func (l *link) sendShort(c *connection, way *wayOut, p []byte, now tcpip.MonotonicTime) bool {
	ep := c.endpoint
	id := &ep.ID
	if !l.owns(id.LocalAddress) {
		return false
	}
	l.mu.Lock()
	mac, ok := l.resolve(&way.hop)
	if !ok || !l.backlog.empty() {
		l.mu.Unlock()
		return false
	}
	frame, b, ok := l.reserve()
	if !ok {
		l.mu.Unlock()
		return false
	}
	sequence := c.send.SndNxt
	next, window := c.sendParameters()
	packet := b[etherBytes:]
	ip := putIP(packet, id, len(p)+c.headerBytes())
	l.putEthernet(b, &mac, ip == header.IPv6MinimumSize)
	t := header.TCP(packet[ip:])
	t.Encode(&header.TCPFields{
		SrcPort: id.LocalPort, DstPort: id.RemotePort, SeqNum: uint32(sequence), AckNum: uint32(next),
		DataOffset: uint8(c.headerBytes()), Flags: header.TCPFlagAck | header.TCPFlagPsh, WindowSize: uint16(window),
	})
	if ep.SendTSOk {
		binary.BigEndian.PutUint32(t[header.TCPMinimumSize:], timestampOption)
		binary.BigEndian.PutUint32(t[header.TCPMinimumSize+4:], way.stamp+uint32(sinceStart(now).Milliseconds())) // TSOffset.TSVal
		binary.BigEndian.PutUint32(t[header.TCPMinimumSize+8:], ep.RecentTS)
	}
	n := ip + c.headerBytes() + copy(t[c.headerBytes():], p)
	l.submitTCP(frame, b, etherBytes+n)
	f := &l.flows.slots[l.flows.get(&way.key, way.hash, l.stack.Now())]
	l.cancel(f)
	l.noteAnswer(f)
	l.noteSent(f, t, len(p), 0)
	f.known, f.lastACK, f.closed = true, uint32(next), window == 0
	f.tail = tail{packet[:n], l.submitted}
	l.stats.TXLean++
	l.stats.TXEstablished++
	l.mu.Unlock()
	l.stack.sent.Increment()
	c.noteSent(way.lasting.take(&l.stack.spares, p), len(p), sequence, next, now)
	c.armAfterSending(now, !l.stack.tcp.NoRACK)
	return true
}

// closeShort sends FIN the short way, with the data before it in their frame, or reports
// false and does nothing.
func (c *Conn) closeShort() bool {
	ep := c.endpoint.(*tcp.Endpoint)
	if c.out.link == nil || !ep.TryLock() {
		return false
	}
	k, ok := connectionOf(ep)
	now := c.stack.clock.NowMonotonic()
	ok = ok && k.sends(0, now) && c.out.link.addFIN(&k, &c.out)
	if ok {
		s := segmentWith(netstack.NewPacketBuffer(netstack.PacketBufferOptions{}))
		k.noteSent(s, 0, k.send.SndNxt, k.receive.state.RcvNxt, now)
		k.closeSending()
		if snd, ok := senderOf(ep); ok {
			c.stack.delayProbeOf(&snd)
		}
	}
	ep.ResumeWork()
	return ok
}

// addFIN makes the last data of c, whose frame waits for the kick of this turn, end with FIN.
func (l *link) addFIN(c *connection, way *wayOut) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.flows.slots[l.flows.get(&way.key, way.hash, l.stack.Now())]
	packet, t := l.unpublished(f)
	if packet == nil || seqnum.Value(t.AckNumber()) != c.receive.state.RcvNxt {
		return false
	}
	payload := len(t) - int(t.DataOffset())
	if seqnum.Value(t.SequenceNumber()).Add(seqnum.Size(payload)) != c.send.SndNxt {
		return false
	}
	t.SetFlags(uint8(t.Flags() | header.TCPFlagFin))
	l.putChecksum(packet)
	f.ended = true
	l.noteOurFIN(f, t, payload)
	l.noteMerged(packet)
	l.stack.sent.Increment() // as netstack counts it
	return true
}

// headerBytes is the length of the TCP header of a segment with data.
func (c *connection) headerBytes() int {
	if c.endpoint.SendTSOk {
		return header.TCPMinimumSize + timestampBytes
	}
	return header.TCPMinimumSize
}

// ipHeaderBytes is the length of the IP header before it.
func (c *connection) ipHeaderBytes() int {
	if c.endpoint.ID.LocalAddress.BitLen() == header.IPv4AddressSizeBits {
		return header.IPv4MinimumSize
	}
	return header.IPv6MinimumSize
}

// noteSent does to the sending side what queueSegment, sendSegment and sendData do for a
// segment of size bytes that was just sent; 0: for FIN. It takes over s, which has the packet.
func (c *connection) noteSent(s *netSegment, size int, sequence, acknowledged seqnum.Value, now tcpip.MonotonicTime) {
	s.id = c.endpoint.ID
	n := seqnum.Size(size)
	s.sequenceNumber, s.flags = sequence, header.TCPFlagAck|header.TCPFlagPsh
	if n == 0 {
		s.flags, n = header.TCPFlagAck|header.TCPFlagFin, 1
	}
	s.rcvdTime, s.xmitTime, s.xmitCount = now, now, 1
	c.list(s)
	c.sendBuffer().SndBufUsed += size
	snd := c.send
	snd.LastSendTime = now
	if sequence == snd.RTTMeasureSeqNum {
		snd.RTTMeasureTime = now
	}
	snd.MaxSentAck = acknowledged
	snd.SndNxt = sequence.Add(n)
	snd.Outstanding++
}

// armAfterSending is sender.postXmit for a connection that sends returned true for and that
// has sent a segment: with RACK the probe is due after two round trips (sender.schedulePTO).
func (c *connection) armAfterSending(now tcpip.MonotonicTime, rack bool) {
	k, ep := c.internals(), c.endpoint
	if !rack || !ep.SACKPermitted || *k.sacked > 0 || !k.rtt.SRTTInited || ep.SocketOptions().GetKeepAlive() {
		afterSending(c.snd, true, true)
		return
	}
	due := 2 * k.rtt.SRTT
	if c.send.Outstanding == 1 {
		due += worstDelayedACK
	}
	if k.resend.enabled() {
		due = min(due, sinceStart(k.resend.target)-sinceStart(now))
		k.resend.disable()
	}
	k.probe.enable(now, due)
}

// putIP writes the IP header of a TCP segment of n bytes, as the lean endpoints do, and
// returns its length.
func putIP(b []byte, id *netstack.TransportEndpointID, n int) int {
	if id.LocalAddress.BitLen() == header.IPv4AddressSizeBits {
		h := b[:header.IPv4MinimumSize]
		h[0], h[1] = header.IPv4Version<<4|header.IPv4MinimumSize/4, 0
		binary.BigEndian.PutUint16(h[2:], uint16(header.IPv4MinimumSize+n))
		h[4], h[5], h[6], h[7] = 0, 0, 0x40, 0
		h[8], h[9], h[10], h[11] = ipv4.DefaultTTL, byte(header.TCPProtocolNumber), 0, 0
		*(*[4]byte)(h[12:]) = [4]byte(id.LocalAddress.AsSlice())
		*(*[4]byte)(h[16:]) = [4]byte(id.RemoteAddress.AsSlice())
		binary.BigEndian.PutUint16(h[10:], ^checksum.IPv4((*[checksum.IPv4Bytes]byte)(h)))
		return header.IPv4MinimumSize
	}
	h := b[:header.IPv6MinimumSize]
	binary.BigEndian.PutUint32(h, header.IPv6Version<<28)
	binary.BigEndian.PutUint16(h[4:], uint16(n))
	h[6], h[7] = byte(header.TCPProtocolNumber), ipv6.DefaultTTL
	*(*[16]byte)(h[8:]) = [16]byte(id.LocalAddress.AsSlice())
	*(*[16]byte)(h[24:]) = [16]byte(id.RemoteAddress.AsSlice())
	return header.IPv6MinimumSize
}
