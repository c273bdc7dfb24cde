package stack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack's loss detection (RFC 8985) knows whole segments of its list, which hold up to
// 64 KB, and learns of one that is selectively acknowledged only when all of it is. Of two
// packets that were one segment, with the first lost, it so learns nothing, sends no probe
// either, and waits for the retransmission time-out. The same of a probe that was
// selectively acknowledged: the acknowledgment echoes the timestamp of what came in order
// before (RFC 7323 4.3), and netstack takes it for one of the first transmission. At 5 %
// loss 1 MB took ten time-outs.
//
// So a segment is split in packets that are selectively acknowledged and others before
// netstack sees the acknowledgment, as in tcp_match_skb_to_sack of the kernel, and the
// time of the latest that arrived is noted as in tcp_rack_advance.

// markSACKed prepares ep for s, which has SACK blocks, or comes after a time-out.
func (l *link) markSACKed(s *segment, ep *tcp.Endpoint) {
	blocks := sackBlocks(s.tcp)
	if !l.intact(s) {
		return
	}
	ep.LockUser()
	defer ep.UnlockUser()
	c, ok := connectionOf(ep)
	if !ok || !ep.SACKPermitted {
		return
	}
	if snd, ok := senderOf(ep); ok {
		snd.cubic() // from here on it is ours
	}
	var list [header.TCPMaxSACKBlocks]header.SACKBlock
	sacked := list[:0]
	for ; len(blocks) >= sackBlockBytes && len(sacked) < len(list); blocks = blocks[sackBlockBytes:] {
		b := header.SACKBlock{Start: seqnum.Value(binary.BigEndian.Uint32(blocks)), End: seqnum.Value(binary.BigEndian.Uint32(blocks[4:]))}
		if c.send.SndUna.LessThan(b.Start) && b.Start.LessThan(b.End) && b.End.LessThanEq(c.send.SndNxt) {
			l.markBlock(&c, b)
			sacked = append(sacked, b)
		}
	}
	if !l.stack.tcp.NoRACK && c.timedOut() {
		l.goOn(&c, s.tcp, sacked)
		return
	}
	c.settle(sacked)
}

// markBlock does it for one block, of data that were sent and are not acknowledged.
func (l *link) markBlock(c *connection, b header.SACKBlock) {
	mss := c.send.MaxPayloadSize
	for g := c.firstSegment(); g != nil && g.xmitCount > 0 && g.sequenceNumber.LessThan(b.End); g = g.next() {
		n := int(g.length())
		if g.acked || !b.Start.LessThan(g.sequenceNumber.Add(seqnum.Size(n))) {
			continue
		}
		// In whole packets: a peer shall not make segments of a few bytes (CVE-2019-11478).
		from, to := 0, n
		if g.sequenceNumber.LessThan(b.Start) {
			from = (int(g.sequenceNumber.Size(b.Start)) + mss - 1) / mss * mss
		}
		if size := int(g.sequenceNumber.Size(b.End)); size < n {
			to = size / mss * mss
		}
		if from >= to {
			continue
		}
		if from > 0 {
			c.split(g, from)
			g = g.next()
		}
		if to < n {
			c.split(g, to-from)
		}
		l.noteArrival(c, g)
	}
}

// settle splits what is not acknowledged before the last block in packets, so that loss
// detection finds all that are lost at once, and counts what is in flight. netstack takes
// what is selectively acknowledged off only in a recovery; before, the acknowledgments of
// what came behind a loss have to let new data out (RFC 6675 4), whose acknowledgments
// then tell of a retransmission that is lost, too.
func (c *connection) settle(sacked []header.SACKBlock) {
	top, flight := c.send.SndUna, 0
	for _, b := range sacked {
		if top.LessThan(b.End) {
			top = b.End
		}
	}
	for g := c.firstSegment(); g != nil && g.xmitCount > 0; g = g.next() {
		if g.acked || g.covered(sacked) {
			continue
		}
		if g.sequenceNumber.LessThan(top) && c.packets(g) > 1 {
			c.split(g, c.send.MaxPayloadSize)
		}
		flight += c.packets(g)
	}
	if s := c.congestion(); s == tcpip.Open || s == tcpip.Disorder {
		c.send.Outstanding = flight
	}
}

// covered reports whether one of the blocks has all of s.
func (s *netSegment) covered(sacked []header.SACKBlock) bool {
	for _, b := range sacked {
		if b.Start.LessThanEq(s.sequenceNumber) && s.sequenceNumber.Add(s.length()).LessThanEq(b.End) {
			return true
		}
	}
	return false
}

// packets is how many g is sent as.
func (c *connection) packets(g *netSegment) int {
	return (int(g.length()) + c.send.MaxPayloadSize - 1) / c.send.MaxPayloadSize
}

// length is how many sequence numbers s has. A segment without data is a FIN.
func (s *netSegment) length() seqnum.Size { return seqnum.Size(max(1, s.pkt.Data().Size())) }

// split cuts g behind size bytes. No two pieces have the same time, nor that of another
// segment: see clock.recent.
func (c *connection) split(g *netSegment, size int) {
	splitSegment(c.snd, g, size)
	rest := c.packets(g.next())
	g.xmitTime = g.xmitTime.Add(-min(time.Duration(rest), clockStep-1))
}

// noteArrival notes that all of g has arrived (RFC 8985 6.2, step 2). What was sent again
// less than a round trip ago may be the first transmission.
func (l *link) noteArrival(c *connection, g *netSegment) {
	k := c.internals()
	rtt := l.stack.clock.NowMonotonic().Sub(g.xmitTime)
	if g.xmitCount > 1 && rtt < *k.minRTT || !k.rack.XmitTime.Before(g.xmitTime) {
		return
	}
	k.rack.XmitTime, k.rack.RTT = g.xmitTime, rtt
	k.rack.EndSequence = g.sequenceNumber.Add(g.length())
}

// sackBlockBytes is the size of a SACK block.
const sackBlockBytes = 8

// sackBlocks returns the SACK blocks of t, nil when there are none.
func sackBlocks(t header.TCP) []byte {
	options := t[header.TCPMinimumSize:]
	for len(options) > 1 && options[0] != header.TCPOptionEOL {
		if options[0] == header.TCPOptionNOP {
			options = options[1:]
			continue
		}
		n := int(options[1])
		if n < 2 || n > len(options) {
			return nil
		}
		if options[0] == header.TCPOptionSACK {
			return options[2:n]
		}
		options = options[n:]
	}
	return nil
}
