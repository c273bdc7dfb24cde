package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// A peer may take back some of the window that it offered, as Linux does since 6.6 when its receive buffer is full (it announces
// none). What was sent then ends behind the window, and so does the sequence number of an ACK, SND.NXT: such a peer drops the ACK
// unread (RFC 9293 3.10.7.4, first check). When a segment of its own was lost too, it sends that again and again, and never learns
// that it came: where both sides send and the peer reads only what answers, the connection stands until it is given up.
//
// So the ACKs that netstack sends to such a peer say where its window ends (tcp_acceptable_seq in the kernel).

// shrinks reports whether the window of c, as it is or as a segment with the header t makes it, ends before the end of what was sent.
func (c *connection) shrinks(t header.TCP) bool {
	snd := c.send
	edge := seqnum.Value(t.AckNumber()).Add(seqnum.Size(t.WindowSize()) << snd.SndWndScale)
	return edge.LessThan(snd.SndNxt) || snd.SndUna.Add(snd.SndWnd).LessThan(snd.SndNxt)
}

// noteEdge is told of a segment for the connection at n, before netstack is.
func (l *link) noteEdge(s *segment, n *numbers) {
	number := s.tcp.AckNumber()
	edge := number + uint32(s.tcp.WindowSize())<<n.scale
	shrunk := int32(edge-n.sent) < 0
	if int32(number-n.una) < 0 || !shrunk && !l.shrank.Load() || !l.intact(s) {
		return
	}
	l.shrank.Store(true)
	key := s.flowKey()
	l.mu.Lock()
	// Netstack may not have seen yet what was noted before, so an older segment is told by that.
	if slot, ok := l.flows.index[key]; ok {
		if f := &l.flows.slots[slot]; !f.shrunk || int32(number-f.edgeACK) >= 0 {
			f.shrunk, f.edge, f.edgeACK = shrunk, edge, number
		}
	}
	l.mu.Unlock()
}

// keepWithin makes the pure ACK t of f, whose window is shrunk, end within it.
func (f *flow) keepWithin(t header.TCP) {
	if int32(t.SequenceNumber()-f.edge) > 0 {
		t.SetSequenceNumber(f.edge)
	}
}
