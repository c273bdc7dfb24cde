package dataplane

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// A worker that falls behind shows as an RX ring that fills while the fill ring empties, and what comes then is lost. The
// kernel's stack has memory for that which is taken as it is needed (socket buffers, netdev_max_backlog). More frames would be
// pinned from the start, and have 2 KB for a packet of a hundred bytes.
//
// So a crowded ring is emptied into a backlog: each packet is copied into as many bytes as it has, and its frames go back to
// the fill ring at once. The order stays: while there is a backlog that is what is peeked at, and the ring comes behind it.
//
// A copy of a request costs 0.1 us, and sixteen of them take the room of one frame. A full segment costs several times that and
// takes two thirds of a frame: it waits on the ring, as long as half of the frames are left. Peers are kept from sending more of
// those than there are frames for by their windows.

const (
	// crowdedPart: the RX ring is crowded when one in so many of the frames that receive waits there. The others are for
	// what comes during a turn, or while the loop waits for its processor.
	crowdedPart = 16

	// smallPacket is how many bytes a packet has at most that is always taken from a crowded ring.
	smallPacket = 512

	// crammedPart: where one in so many of the frames waits on the ring, all packets are taken.
	crammedPart = 2

	// setAsideBatch is how many frames are moved before the kernel is told that it has them back.
	setAsideBatch = 64

	backlogHeadBytes = 8
	backlogAlign     = 8
	backlogWrap      = 1<<64 - 1 // in place of a length
)

// backlog is a queue of received packets in memory of its own, which takes pages as they are written.
//
// Positions count bytes; a byte's place is its position modulo the size, a multiple of 8. A record is 8 bytes of head,
// the length of the packet, then the packet, and up to 7 bytes so that the next record starts at a multiple of 8. It never
// wraps: one that does not fit before the end leaves a head of backlogWrap there.
type backlog struct {
	data   []byte       // nil: there is none
	head   uint64       // of the oldest record that is not released
	look   uint64       // of the first that is not peeked
	tail   uint64       // where the next one goes
	frames int          // packets
	peeked []backlogged // the first of them

	written uint64 // bytes of data, from the first on, that may have pages
	used    bool   // since the last trim
}

// backlogged is a packet of a backlog.
type backlogged struct {
	packet []byte
	end    uint64 // position behind its record
}

// newBacklog returns one of size bytes, a multiple of 8; 0: it takes nothing.
func newBacklog(size int) (b backlog, err error) {
	if size > 0 {
		if b.data, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
			return b, fmt.Errorf("map a backlog of %d bytes: %w", size, err)
		}
	}
	return b, nil
}

func (b *backlog) close() error {
	data := b.data
	*b = backlog{}
	if data == nil {
		return nil
	}
	return unix.Munmap(data)
}

func (b *backlog) empty() bool { return b.frames == 0 }

// level is how many bytes are in use.
func (b *backlog) level() int { return int(b.tail - b.head) }

// backlogBytes is the room that a record of a packet of n bytes takes.
func backlogBytes(n uint64) uint64 {
	return (backlogHeadBytes + n + backlogAlign - 1) &^ (backlogAlign - 1)
}

// add appends a packet of n bytes and returns its place, to be filled; nil: there is no room.
func (b *backlog) add(n int) []byte {
	size, need := uint64(len(b.data)), backlogBytes(uint64(n))
	at, unused := b.tail%size, uint64(0)
	if rest := size - at; need > rest {
		unused = rest
	}
	if b.tail-b.head+unused+need > size {
		return nil
	}
	if unused > 0 {
		binary.NativeEndian.PutUint64(b.data[at:], backlogWrap)
		b.written = size
		at = 0
	}
	binary.NativeEndian.PutUint64(b.data[at:], uint64(n))
	b.tail += unused + need
	b.written = max(b.written, at+need)
	b.frames++
	b.used = true
	return b.data[at+backlogHeadBytes:][:n:n]
}

// peek makes packets readable, at most limit, and returns how many: those peeked before and not released, and then more.
func (b *backlog) peek(limit int) int {
	for len(b.peeked) < limit && b.look != b.tail {
		at := b.look % uint64(len(b.data))
		n := binary.NativeEndian.Uint64(b.data[at:])
		if n == backlogWrap {
			b.look += uint64(len(b.data)) - at
			continue
		}
		b.look += backlogBytes(n)
		b.peeked = append(b.peeked, backlogged{b.data[at+backlogHeadBytes:][:n:n], b.look})
	}
	return min(limit, len(b.peeked))
}

// release frees the first n packets.
//
// Preconditions: n is positive and at most what peek returned.
func (b *backlog) release(n int) {
	b.head = b.peeked[n-1].end
	b.peeked = b.peeked[:copy(b.peeked, b.peeked[n:])]
	if b.frames -= n; b.frames == 0 {
		b.head, b.look, b.tail = 0, 0, 0 // the pages written last are used first
	}
}

// trim gives pages back if nothing was added since the last trim.
func (b *backlog) trim() {
	if !b.used && b.empty() && b.written > 0 {
		// It can only fail for memory that is not mapped.
		_ = unix.Madvise(b.data[:b.written], unix.MADV_DONTNEED)
		b.written = 0
	}
	b.used = false
}

// smallOnRing is how many of the packets next on the RX ring, of n frames that wait there, are small.
func (q *Queue) smallOnRing(n int) int {
	for i := range n {
		if d := q.rx.at(uint32(i)); d.Len > smallPacket || d.Options&unix.XDP_PKT_CONTD != 0 {
			return i
		}
	}
	return n
}

// setAside empties the RX ring into the backlog, as far as there is room, or up to the first large packet while there are frames.
//
// Preconditions: the backlog is not empty, or nothing is peeked.
func (q *Queue) setAside() {
	if q.backlog.data == nil {
		return
	}
	left := int(q.rx.waiting())
	for large := left > int(q.crammed); left > 0; {
		most := min(left, setAsideBatch)
		if !large {
			if most = q.smallOnRing(most); most == 0 {
				break
			}
		}
		n, done := q.peekRing(most), 0
		for done < n {
			end, bytes := done+1, len(q.onRing(done))
			for ; q.goesOn(end - 1); end++ {
				bytes += len(q.onRing(end))
			}
			place := q.backlog.add(bytes)
			if place == nil {
				q.stats.BacklogFull++
				break
			}
			for ; done < end; done++ {
				place = place[copy(place, q.onRing(done)):]
			}
			q.stats.Backlogged++
		}
		q.releaseRing(done)
		left -= done
		if done < n || n == 0 {
			break
		}
	}
	q.untold = q.peeked
	q.stats.BacklogHighWater = max(q.stats.BacklogHighWater, uint64(q.backlog.level()))
}

// Trim gives the memory of the backlog back that has not been used since the last call. Its owner calls it about once a
// second; it makes a system call if there is some.
func (q *Queue) Trim() { q.backlog.trim() }
