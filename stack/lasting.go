package stack

import "sync/atomic"

// netstack keeps a map of the segments in its list of unacknowledged ones, to find mistakes in its own use of the list
// (protectedWriteList). To look up, add and take out each segment made 5 % of the worker's user time for small requests. So a
// connection sends its short messages, one at a time, with a segment that lasts: it goes on the list and off, and stays in
// the map, which only netstack's own functions look at. When netstack takes it off, it is out of both.

// lasting is that segment of a connection. While it is in the list it has two references, one of them the list's. Loop only,
// under the endpoint's lock.
type lasting struct {
	segment *netSegment // nil: it has sent one short message at most
	sent    bool        // it has sent one: connections for one request need no such segment
}

// What the checksum of a segment says, which netstack does not use in those it sends.
const (
	lastingListed = 1 + iota // it is a lasting one, which was put into list and map
	lastingIdle              // and which was taken off the list by us
)

// take is a segment for a copy of data, which is not empty.
func (l *lasting) take(free *spares, data []byte) *netSegment {
	s := l.segment
	if s == nil {
		s = free.take(data)
		if l.sent {
			l.segment = s
			s.segmentRefs, s.csum = 2, lastingListed
		}
		l.sent = true
		return s
	}
	if atomic.LoadInt64(&s.segmentRefs) != 1 {
		return free.take(data)
	}
	if s.pkt != nil { // netstack took it off
		free.freePacket(s.pkt)
	}
	packet := free.packet(data)
	*s = netSegment{segmentRefs: 2, csum: s.csum, pkt: packet, dataMemSize: packet.MemSize()}
	return s
}

// list puts s at the end of the list of c.
func (c *connection) list(s *netSegment) {
	if s.csum != lastingIdle {
		c.pushUnacknowledged(s)
		return
	}
	s.csum = lastingListed
	c.unacknowledged().pushBack(s)
}

// unlist takes s off the list of c, in which it is alone, and gives up the reference.
func (c *connection) unlist(s *netSegment, free *spares) {
	if s.csum != lastingListed {
		c.removeUnacknowledged(s)
		free.free(s)
		return
	}
	*c.unacknowledged() = segmentList{}
	s.csum = lastingIdle
	atomic.AddInt64(&s.segmentRefs, -1)
	free.freePacket(s.pkt)
	s.pkt = nil
}
