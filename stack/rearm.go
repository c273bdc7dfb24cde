package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack can lose its retransmission timer. It arms one only while its count of
// packets in flight is above zero (postXmit in snd.go), and after a loss that
// count reaches zero too early: SetPipe leaves out of it what was selectively
// acknowledged or lost, packet by packet, while a cumulative acknowledgment takes
// whole segments off again, of up to 64 KB. Once the tail loss probe (RFC 8985 7.3)
// is sent then, or a selective acknowledgment stops its timer, no timer is left:
// what is lost now is never sent again, unless the peer speaks. With 2 % of the
// frames lost on every wire, one of 230 transfers of 1 MiB came into this state and
// one of 900 stalled for good.
//
// So the stack looks at every connection with output that is not acknowledged each
// rearmInterval, and arms the timer where there is none.

// rearmInterval is the default of the minimum RTO: a connection whose timer was
// lost resends at most so much later than it should have.
const rearmInterval = 200 * time.Millisecond

// watched is a place in the queue of connections to look at.
type watched struct {
	conn *Conn
	due  time.Duration
}

// watchQueue orders connections by due time, which is the order of entering
// because the interval is one constant. It keeps closed ones, too, until all they
// have to send is acknowledged.
type watchQueue struct {
	entries []watched
	head    int
	first   uint64 // number of entries[0]; all that were ever pushed are counted
}

// push returns the number of the entry.
func (q *watchQueue) push(w watched) uint64 {
	if q.head > 0 && len(q.entries) == cap(q.entries) {
		n := copy(q.entries, q.entries[q.head:])
		clear(q.entries[n:])
		q.first += uint64(q.head)
		q.entries, q.head = q.entries[:n], 0
	}
	q.entries = append(q.entries, w)
	return q.first + uint64(len(q.entries)-1)
}

// forget empties an entry. Its connection need not be kept in memory until it is due.
func (q *watchQueue) forget(number uint64) {
	q.entries[number-q.first].conn = nil
	for q.head < len(q.entries) && q.entries[q.head].conn == nil {
		q.pop()
	}
}

// next is when the first connection is due; ok is false when there is none.
func (q *watchQueue) next() (at time.Duration, ok bool) {
	if q.head == len(q.entries) {
		return 0, false
	}
	return q.entries[q.head].due, true
}

// pop takes the first entry off; nil: it was forgotten.
func (q *watchQueue) pop() *Conn {
	c := q.entries[q.head].conn
	q.entries[q.head] = watched{}
	if q.head++; q.head == len(q.entries) {
		q.first += uint64(q.head)
		q.entries, q.head = q.entries[:0], 0
	}
	return c
}

// watch is told of output of c.
func (s *Stack) watch(c *Conn) {
	if !c.watched {
		c.watched = true
		c.spot = s.watched.push(watched{c, s.Now() + rearmInterval})
	}
}

// unwatch forgets a closed connection if nothing of it is on its way. Of tens of thousands
// that are closed a second, each would be kept for the rest of its interval otherwise, with
// 8 KB that the garbage collector has to look through.
func (s *Stack) unwatch(c *Conn) {
	if c.watched && c.Delivered() {
		c.watched = false
		s.watched.forget(c.spot)
	}
}

// rearm looks at the connections that are due, a batch at a time.
func (s *Stack) rearm(now time.Duration) {
	for range s.batch {
		if at, ok := s.watched.next(); !ok || at > now {
			return
		}
		c := s.watched.pop()
		if c == nil {
			continue
		}
		acknowledged, armed := s.armRetransmission(c.endpoint.(*tcp.Endpoint))
		if armed {
			s.stats.TimersRearmed++
		}
		if c.watched = !acknowledged; c.watched {
			c.spot = s.watched.push(watched{c, now + rearmInterval})
		}
	}
}

// armRetransmission arms the retransmission timer of ep if none is armed that
// should be. acknowledged says that nothing is left to send or to send again.
func (s *Stack) armRetransmission(ep *tcp.Endpoint) (acknowledged, armed bool) {
	ep.LockUser()
	defer ep.UnlockUser()
	switch tcp.EndpointState(ep.State()) {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
	default:
		return true, false // its timers may be gone; with FIN acknowledged they are not needed
	}
	snd, ok := senderOf(ep)
	switch {
	case !ok || snd.state.SndUna == snd.state.SndNxt && !snd.unsent():
		return true, false
	case snd.resend.enabled() || snd.probe.enabled():
		return false, false
	}
	snd.resend.enable(s.clock.NowMonotonic(), snd.state.RTO)
	return false, true
}
