package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// After a time-out netstack sends the first packet again, and by its acknowledgment RACK finds all lost that was sent
// before. That begins a recovery of another kind, by selective acknowledgments, in which what RACK found lost still counts
// as in flight (SetPipe in snd.go): a packet or two are sent, and the next time-out brings the next ones. A window of 40
// packets that was lost while a link was down took ten time-outs.
//
// So after a time-out RACK is off until all that had been sent by then is acknowledged. netstack sends it again in slow
// start, as the kernel in CA_Loss (RFC 5681 3.1, RFC 6675 5.1). What it leaves undone then is done before it sees an
// acknowledgment: what is selectively acknowledged is not in flight, and what was sent again and is lost once more is
// sent once more (RFC 8985 6.2), which at 5 % loss saves one of five time-outs.

// timedOut reports whether c, which has RACK, recovers from a time-out.
func (c *connection) timedOut() bool {
	return c.endpoint.SACKPermitted && (c.congestion() == tcpip.RTORecovery || *lossDetectionOf(c.endpoint) == 0)
}

// goOn has the recovery from a time-out go on by a segment with the header t, which acknowledges the blocks
// selectively. netstack sees it next.
func (l *link) goOn(c *connection, t header.TCP, sacked []header.SACKBlock) {
	snd, ack, board := c.send, seqnum.Value(t.AckNumber()), scoreboardOf(c.endpoint)
	if snd.FastRecovery.Last.LessThan(ack) {
		*lossDetectionOf(c.endpoint) = tcpip.TCPRACKLossDetection // from this segment on
		return
	}
	*lossDetectionOf(c.endpoint) = 0
	for _, b := range sacked {
		board.Insert(b) // then it is nothing new to netstack, which counts no duplicate acknowledgment: that would end the recovery
	}
	_, echo, stamped := timestamps(t)
	k := c.internals()
	unsent, end, now := *k.writeNext, snd.SndUna.Add(snd.SndWnd), l.stack.clock.NowMonotonic()
	again := true // g was sent again
	snd.Outstanding, snd.SackedOut = 0, 0
	for g := c.firstSegment(); g != nil && g.xmitCount > 0; g = g.next() {
		again = again && g != unsent
		b := header.SACKBlock{Start: g.sequenceNumber, End: g.sequenceNumber.Add(g.length())}
		g.acked = board.IsSACKED(b)
		switch {
		case g.acked:
			snd.SackedOut += c.packets(g)
			continue
		case b.End.LessThanEq(ack): // netstack takes it out of what is in flight
			if again && (!stamped || int32(echo-c.endpoint.TSOffset.TSVal(g.xmitTime)) >= 0) {
				l.noteArrival(c, g)
			}
		case !again:
			continue // netstack sends it when the window lets it
		case g.xmitTime.Before(k.rack.XmitTime) && now.Sub(g.xmitTime) > k.rack.RTT+k.rack.ReoWnd:
			maybeSend(c.snd, g, snd.MaxPayloadSize, end)
		}
		snd.Outstanding += c.packets(g)
	}
}
