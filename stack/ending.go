package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// The last segment of a connection takes a short way, too: the peer's FIN, where ours came
// first, that acknowledges all that was sent, and the ACK of our FIN, where the peer's came
// first. Nothing is left for the endpoint to do then but to end, and what it would answer
// the table of TIME_WAIT answers: netstack's way to there is two packet buffers, two state
// machines, an ACK, and a timer that is stopped at once.

// finish ends the connection of ep if s is its last segment.
func (l *link) finish(s *segment, ep *tcp.Endpoint) bool {
	flags := s.tcp[header.TCPFlagsOffset]
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateFinWait1, tcp.StateFinWait2:
		if flags != fin|ack {
			return false
		}
	case tcp.StateLastAck:
		if flags != ack {
			return false
		}
	default:
		return false
	}
	if len(s.payload) > 0 || l.suspects(s) || !l.intact(s) || !ep.TryLock() {
		return false
	}
	c, ok := connectionOf(ep)
	if !ok || !c.follows(s.tcp) || !c.delivers(s.tcp) || !l.forgetEnded(s, ep) {
		ep.ResumeWork()
		return false
	}
	l.stats.RXLean++
	l.stats.RXEstablished++
	l.stack.received.Increment()
	c.send.SndUna = c.send.SndNxt // for Buffered
	c.stopTimers()
	r := reusableOf(ep)
	if r != nil {
		l.stack.unregister(r, s.number)
	}
	endConnection(ep)
	ep.ResumeWork()
	for i, place := 0, l.placeOf(s); i < len(place); i++ {
		if place[i] == ep {
			place[i] = nil
		}
	}
	waiterQueueOf(ep).Notify(waiter.ReadableEvents | waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	if r != nil {
		if r.ended = true; r.conn != nil && r.conn.closed {
			l.stack.release(r)
		}
	}
	return true
}

// delivers reports whether t acknowledges all that was to be sent, our FIN too, and nothing
// waits to be put in order. All states that finish is for have FIN in the send buffer.
func (c *connection) delivers(t header.TCP) bool {
	return c.nothingWaits() && seqnum.Value(t.AckNumber()) == c.send.SndNxt && len(*c.receive.pending) == 0
}

// forgetEnded has the link forget a connection that s ends: its flow, and if s has FIN all
// but the entry in TIME_WAIT, from which it is answered. It reports false when there is
// none.
func (l *link) forgetEnded(s *segment, ep *tcp.Endpoint) bool {
	key := s.flowKey()
	l.mu.Lock()
	defer l.mu.Unlock()
	slot := l.flows.get(&key, hashOf(ep), l.stack.Now())
	f := &l.flows.slots[slot]
	if s.tcp[header.TCPFlagsOffset]&fin != 0 {
		w := l.timeWait.near(f.waiting, &key)
		if w == nil || w.complete || w.sendNxt != s.tcp.AckNumber() {
			return false
		}
		stamp, _, stamped := timestamps(s.tcp)
		w.recvNxt, w.recent, w.complete = s.end(), stamp, true
		l.ackTimeWait(s, w, stamp, stamped, millis(l.stack.Now()))
		l.stack.sent.Increment()
		l.restartTimeWait(w)
	}
	l.cancel(f)
	l.flows.drop(slot)
	return true
}
