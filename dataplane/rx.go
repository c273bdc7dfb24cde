package dataplane

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A driver may hand out a frame that it did not have. igb's does so in zero-copy mode under Linux 7.3 when it runs out of frames
// to receive into: in hack/vm 59 times with rings of 128 entries, for 17,200 frames received and 748 fill wake-ups, and in one of
// some thirty runs with rings of 1024. While such a frame is read, the NIC may receive into it again. What becomes of it:
//
//   - A descriptor of a frame that is not with the kernel, of none, or of more bytes than a frame holds is dropped and
//     counted (RXInvalid). The frame that it names stays what it is, and is given back once.
//   - A frame that was given back in between looks like any other. It is then on its way twice, until both come in at
//     the same time and one is dropped.
//   - From the first such descriptor on, and with a driver that is known for it from the start, the loop reads a copy made
//     when frames are peeked. So what it verifies is what it goes on with: bytes of two packets in one frame, or a packet
//     with the length of another, are a bad checksum at worst, and TCP sends the segment again. That takes rx_checksum
//     not to be trust.

// Peek makes received frames readable, at most limit, and returns how many: those peeked before and not yet released,
// and then new ones. A packet in several frames ([Queue.Chained]) is there with all of them: the last does not go on,
// and the limit is exceeded where the first packet alone has more. A crowded ring is emptied into the backlog, from which
// every packet comes in one piece.
func (q *Queue) Peek(limit int) int {
	h := q.hooks.Load()
	if q.peeked == 0 || !q.backlog.empty() { // the caller has none of the ring's
		if q.rx.peek(uint32(limit)) == uint32(limit) && q.rx.waiting() > q.crowded {
			q.setAside()
		}
	}
	if !q.backlog.empty() {
		known, n := len(q.backlog.peeked), q.backlog.peek(limit)
		if h != nil && n > known {
			h.Peeked(-1, n-known, q.Waiting()-n)
		}
		return n
	}
	known := int(q.peeked - q.untold)
	n := q.peekRing(limit)
	if n > known {
		q.untold = q.peeked - uint32(n)
		if h != nil {
			h.Peeked(int((q.rx.head+uint32(known))&q.rx.mask), n-known, int(q.rx.seen-q.rx.head)-n)
		}
	}
	return n
}

// peekRing is Peek at the RX ring.
func (q *Queue) peekRing(limit int) int {
	m := q.look(uint32(limit))
	if m == 0 && q.busyPoll {
		q.stats.BusyPolls++
		poll(q.fd) // whatever it answers, the ring tells
		m = q.look(uint32(limit))
	}
	if m <= q.peeked {
		return int(m)
	}
	i, packets, bytes := q.peeked, uint32(0), uint64(0)
	for i < m {
		d := q.rx.at(i)
		if !q.chains && !q.frames.received(d.Addr, d.Len) { // chains were taken by the look at them
			q.drop(i)
			m--
			continue
		}
		bytes += uint64(d.Len)
		packets += 1 - d.Options&unix.XDP_PKT_CONTD // a bit of value 1, never set on a queue without chains
		i++
	}
	if m == q.peeked {
		return int(m)
	}
	if q.distrusted {
		q.copyOut(q.peeked, m)
	}
	q.stats.RXBatches++
	q.stats.RXFrames += uint64(packets)
	q.stats.RXBytes += bytes
	q.stats.RXRingHighWater = max(q.stats.RXRingHighWater, uint64(q.rx.seen-q.rx.head))
	q.peeked = m
	return int(m)
}

// drop takes the i-th entry off the RX ring, behind what was peeked, which moves up and so stays where it is to its readers.
func (q *Queue) drop(i uint32) {
	q.stats.RXInvalid++
	q.distrust()
	for ; i > 0; i-- {
		q.rx.set(i, q.rx.at(i-1))
	}
	q.rx.release(1)
}

// distrust has frames read from a copy from now on.
func (q *Queue) distrust() {
	if q.distrusted {
		return
	}
	q.distrusted = true
	q.readable = make([]byte, q.frames.rx<<q.frames.shift)
	q.copyOut(0, q.peeked)
}

// copyOut makes the copies of the frames of some entries of the RX ring.
func (q *Queue) copyOut(from, to uint32) {
	for i := from; i < to; i++ {
		d := q.rx.at(i)
		copy(q.readable[d.Addr:d.Addr+uint64(d.Len)], q.umem[d.Addr:])
	}
}

// Waiting is how many received frames are on the RX ring or in the backlog, those peeked included.
func (q *Queue) Waiting() int { return q.backlog.frames + int(q.rx.waiting()) }

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
	if !q.backlog.empty() {
		return q.backlog.peeked[i].packet
	}
	return q.onRing(i)
}

// onRing is the i-th frame peeked at the RX ring.
func (q *Queue) onRing(i int) []byte {
	d := q.rx.at(uint32(i))
	end := d.Addr + uint64(d.Len)
	return q.readable[d.Addr:end:end]
}

// Release gives the first n peeked frames back to the kernel to receive into.
//
// Preconditions: n is at most what Peek returned, and the n-th frame ends a packet.
func (q *Queue) Release(n int) {
	if n == 0 {
		return
	}
	if !q.backlog.empty() {
		q.backlog.release(n)
		return
	}
	q.releaseRing(n)
}

// releaseRing is Release of frames of the RX ring.
func (q *Queue) releaseRing(n int) {
	if uint32(n) > q.peeked {
		panic(fmt.Sprintf("dataplane: release of %d frames, %d peeked", n, q.peeked))
	}
	for i := range uint32(n) {
		q.fill.put(q.frames.refilled(q.rx.at(i).Addr))
	}
	q.rx.release(uint32(n))
	q.peeked -= uint32(n)
	if q.chains {
		q.taken -= uint32(n)
	}
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
