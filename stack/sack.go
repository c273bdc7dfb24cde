package stack

import (
	"encoding/binary"
	"time"

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

// markSACKed prepares ep for the SACK blocks of s.
func (l *link) markSACKed(s *segment, ep *tcp.Endpoint) {
	blocks := sackBlocks(s.tcp)
	if len(blocks) == 0 || !l.intact(s) {
		return
	}
	ep.LockUser()
	defer ep.UnlockUser()
	c, ok := connectionOf(ep)
	if !ok || !ep.SACKPermitted {
		return
	}
	for ; len(blocks) >= sackBlockBytes; blocks = blocks[sackBlockBytes:] {
		start, end := seqnum.Value(binary.BigEndian.Uint32(blocks)), seqnum.Value(binary.BigEndian.Uint32(blocks[4:]))
		if c.send.SndUna.LessThan(start) && start.LessThan(end) && end.LessThanEq(c.send.SndNxt) {
			l.markBlock(&c, start, end)
		}
	}
}

// markBlock does it for one block, of data that were sent and are not acknowledged.
func (l *link) markBlock(c *connection, start, end seqnum.Value) {
	mss := c.send.MaxPayloadSize
	for g := c.firstSegment(); g != nil && g.xmitCount > 0 && g.sequenceNumber.LessThan(end); g = g.next() {
		n := g.pkt.Data().Size()
		if g.acked || n == 0 || !start.LessThan(g.sequenceNumber.Add(seqnum.Size(n))) {
			continue
		}
		// In whole packets: a peer shall not make segments of a few bytes (CVE-2019-11478).
		from, to := 0, n
		if g.sequenceNumber.LessThan(start) {
			from = (int(g.sequenceNumber.Size(start)) + mss - 1) / mss * mss
		}
		if size := int(g.sequenceNumber.Size(end)); size < n {
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

// split cuts g behind size bytes. No two pieces have the same time, nor that of another
// segment: see clock.recent.
func (c *connection) split(g *netSegment, size int) {
	rest := (g.pkt.Data().Size() - size + c.send.MaxPayloadSize - 1) / c.send.MaxPayloadSize
	splitSegment(c.snd, g, size)
	g.xmitTime = g.xmitTime.Add(-min(time.Duration(rest), clockStep-1))
}

// noteArrival notes that all of g has arrived (RFC 8985 6.2, step 2). What was sent again
// less than a round trip ago may be the first transmission.
func (l *link) noteArrival(c *connection, g *netSegment) {
	rack, least := c.rack()
	rtt := l.stack.clock.NowMonotonic().Sub(g.xmitTime)
	if g.xmitCount > 1 && rtt < least || !rack.XmitTime.Before(g.xmitTime) {
		return
	}
	rack.XmitTime, rack.RTT = g.xmitTime, rtt
	rack.EndSequence = g.sequenceNumber.Add(seqnum.Size(g.pkt.Data().Size()))
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
