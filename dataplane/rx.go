package dataplane

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Peek makes received frames readable, at most limit, and returns how many: those peeked before and not yet released,
// and then new ones. A packet in several frames ([Queue.Chained]) is there with all of them: the last does not go on,
// and the limit is exceeded where the first packet alone has more.
func (q *Queue) Peek(limit int) (n int) {
	m := q.look(uint32(limit))
	if m == 0 && q.busyPoll {
		q.stats.BusyPolls++
		poll(q.fd) // whatever it answers, the ring tells
		m = q.look(uint32(limit))
	}
	if m <= q.peeked {
		return int(m)
	}
	packets := m - q.peeked
	bytes := uint64(0)
	for i := q.peeked; i < m; i++ {
		d := q.rx.at(i)
		q.frames.received(d.Addr)
		bytes += uint64(d.Len)
		packets -= d.Options & unix.XDP_PKT_CONTD // a bit of value 1, never set on a queue without chains
	}
	if h := q.hooks.Load(); h != nil {
		h.Peeked(int((q.rx.head+q.peeked)&q.rx.mask), int(m-q.peeked), int(q.rx.seen-q.rx.head-m))
	}
	q.stats.RXBatches++
	q.stats.RXFrames += uint64(packets)
	q.stats.RXBytes += bytes
	q.stats.RXRingHighWater = max(q.stats.RXRingHighWater, uint64(q.rx.seen-q.rx.head))
	q.peeked = m
	return int(m)
}

// look is what the ring has to peek at.
func (q *Queue) look(limit uint32) uint32 {
	if q.chains {
		return q.lookAtChains(limit)
	}
	return q.rx.peek(limit)
}

// Frame is the i-th peeked frame from its Ethernet header on, or from where the one before ended if that goes on
// ([Queue.More]), valid until it is released.
//
// Preconditions: i is less than what Peek returned.
func (q *Queue) Frame(i int) []byte {
	d := q.rx.at(uint32(i))
	end := d.Addr + uint64(d.Len)
	return q.umem[d.Addr:end:end]
}

// Release gives the first n peeked frames back to the kernel to receive into.
//
// Preconditions: n is at most what Peek returned, and the n-th frame ends a packet.
func (q *Queue) Release(n int) {
	if n == 0 {
		return
	}
	if uint32(n) > q.peeked {
		panic(fmt.Sprintf("dataplane: release of %d frames, %d peeked", n, q.peeked))
	}
	for i := range uint32(n) {
		q.fill.put(q.frames.refilled(q.rx.at(i).Addr))
	}
	q.rx.release(uint32(n))
	q.peeked -= uint32(n)
	q.refill()
}

// refill publishes what was put on the fill ring.
func (q *Queue) refill() {
	q.fill.submit()
	// Set by zero-copy drivers that ran out of frames, as all do that were bound to an empty fill ring; they wait for
	// this call. Never seen in copy mode.
	if q.fill.needsWakeup() {
		q.stats.FillWakeups++
		poll(q.fd) // a link that is down gets its frames when it comes up
	}
}
