package dataplane

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The memory of a handover between N workers, in pages of 4096 bytes:
//
//	page 0        magic and layout version, N, bytes of a ring (8 bytes each)
//	page 1        64 bytes for each worker: ready and asleep (8 bytes each)
//	from page 2   ring i*N+j from worker i to worker j: one page with its tail at 0 and its head at 128, and then its
//	              bytes. The rings from a worker to itself are not used.
//
// Numbers are in the machine's byte order. ready, asleep, tail and head are accessed atomically.
const (
	handoverPageBytes  = 4096
	handoverLineBytes  = 64
	handoverHeadAt     = 2 * handoverLineBytes // processors prefetch lines in pairs
	maxHandoverWorkers = handoverPageBytes / handoverLineBytes

	handoverMagic       = 0x72696e67_72640001 // "ringrd", version 1
	handoverHeaderBytes = 3 * 8

	defaultHandoverRingBytes                   = 256 << 10
	minHandoverRingBytes, maxHandoverRingBytes = 4 << 10, 16 << 20
)

// handoverGeometry says where things are in the memory of a handover.
type handoverGeometry struct{ workers, ringBytes int }

func (g handoverGeometry) check() error {
	switch {
	case g.workers < 1 || g.workers > maxHandoverWorkers:
		return fmt.Errorf("%w: %d workers: want 1 to %d", ErrOptions, g.workers, maxHandoverWorkers)
	case g.ringBytes < minHandoverRingBytes || g.ringBytes > maxHandoverRingBytes || bits.OnesCount(uint(g.ringBytes)) != 1:
		return fmt.Errorf("%w: rings of %d bytes: want a power of two from %d to %d", ErrOptions, g.ringBytes, minHandoverRingBytes, maxHandoverRingBytes)
	}
	return nil
}

func (g handoverGeometry) encode() (b []byte) {
	for _, v := range []uint64{handoverMagic, uint64(g.workers), uint64(g.ringBytes)} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

// decodeHandoverGeometry is the opposite of encode.
func decodeHandoverGeometry(b []byte) (handoverGeometry, error) {
	if magic := binary.NativeEndian.Uint64(b); magic != handoverMagic {
		return handoverGeometry{}, fmt.Errorf("%w: not the memory of a handover of this version: it starts with %#x, want %#x", ErrOptions, magic, uint64(handoverMagic))
	}
	g := handoverGeometry{workers: int(binary.NativeEndian.Uint64(b[8:])), ringBytes: int(binary.NativeEndian.Uint64(b[16:]))}
	return g, g.check()
}

func (g handoverGeometry) readyAt(worker int) int {
	return handoverPageBytes + worker*handoverLineBytes
}
func (g handoverGeometry) asleepAt(worker int) int { return g.readyAt(worker) + 8 }

// ringAt is where the positions of a ring are; its bytes are a page behind.
func (g handoverGeometry) ringAt(from, to int) int {
	return 2*handoverPageBytes + (from*g.workers+to)*(handoverPageBytes+g.ringBytes)
}

func (g handoverGeometry) bytes() int { return g.ringAt(g.workers, 0) }

// A record is 8 bytes of head, the frame, and up to 7 bytes so that the next record starts at a multiple of 8. It never
// wraps: one that does not fit before the end of the ring leaves a padding record there. The head holds, from the low
// bits up: the bytes that follow (32 bits), link (16), origin (8), kind (8).
const (
	recordHeadBytes = 8
	recordAlign     = 8

	kindFrame   = 0xf5 // unlikely values, so that what is no record is seldom taken for one
	kindPadding = 0xa9
)

// recordBytes is the room that a record of n bytes takes.
func recordBytes(n int) uint64 { return alignRecord(recordHeadBytes + uint64(n)) }

func alignRecord(n uint64) uint64 { return (n + recordAlign - 1) &^ (recordAlign - 1) }

func recordHead(kind uint8, link, origin, n int) uint64 {
	return uint64(uint32(n)) | uint64(uint16(link))<<32 | uint64(uint8(origin))<<48 | uint64(kind)<<56
}

func recordLength(head uint64) int { return int(uint32(head)) }
func recordLink(head uint64) int   { return int(uint16(head >> 32)) }
func recordOrigin(head uint64) int { return int(uint8(head >> 48)) }
func recordKind(head uint64) uint8 { return uint8(head >> 56) }

// handoverRing is a ring of bytes with one sender and one receiver. Positions count bytes for ever; a byte's place is
// its position & (size-1), since size is a power of two. The receiver owns those from head to tail.
type handoverRing struct {
	sharedTail *sharedWord // stored by the sender only
	sharedHead *sharedWord // stored by the receiver only
	data       []byte
	size       uint64
}

func newHandoverRing(mem []byte, g handoverGeometry, from, to int) handoverRing {
	at := g.ringAt(from, to)
	first, end := at+handoverPageBytes, at+handoverPageBytes+g.ringBytes
	return handoverRing{
		sharedTail: word(mem, at), sharedHead: word(mem, at+handoverHeadAt),
		data: mem[first:end:end], size: uint64(g.ringBytes),
	}
}

// level is how many bytes wait on the ring as published.
func (r *handoverRing) level() uint64 {
	head := r.sharedHead.Load() // first: the other way round a level could be negative
	return min(r.sharedTail.Load()-head, r.size)
}

// sendRing is the sender's end.
type sendRing struct {
	handoverRing
	tail uint64 // where the next record goes; what is before may be unpublished
	head uint64 // the receiver's, when last looked at
}

// adoptSendRing goes on where a predecessor stopped.
func adoptSendRing(mem []byte, g handoverGeometry, from, to int) sendRing {
	r := sendRing{handoverRing: newHandoverRing(mem, g, from, to)}
	r.tail = alignRecord(r.sharedTail.Load())
	r.look()
	return r
}

// look asks the receiver where it is, and returns how many bytes are on the ring.
func (r *sendRing) look() (used uint64) {
	// Acquire: the receiver is done with what is before its head.
	r.head = r.sharedHead.Load()
	if used = r.tail - r.head; used > r.size {
		// That cannot be. Taken for full: the receiver stores the right one when it looks at the ring.
		r.head, used = r.tail-r.size, r.size
	}
	return used
}

// put writes a record; false: there is no room. Any record of up to half the ring finds room when the ring is empty.
func (r *sendRing) put(head uint64, frame []byte) bool {
	at := r.tail & (r.size - 1)
	n := recordBytes(len(frame))
	padding := uint64(0)
	if rest := r.size - at; n > rest {
		padding = rest
	}
	if r.tail-r.head+padding+n > r.size && r.look()+padding+n > r.size {
		return false
	}
	if padding > 0 {
		binary.NativeEndian.PutUint64(r.data[at:], recordHead(kindPadding, 0, 0, int(padding)-recordHeadBytes))
		r.tail += padding
		at = 0
	}
	binary.NativeEndian.PutUint64(r.data[at:], head)
	copy(r.data[at+recordHeadBytes:], frame)
	r.tail += n
	return true
}

// publish makes what was put visible, and returns how many bytes wait on the ring.
func (r *sendRing) publish() (used uint64) {
	// Release: the records are complete before the tail says so.
	r.sharedTail.Store(r.tail)
	return r.look()
}

// receiveRing is the receiver's end.
type receiveRing struct {
	handoverRing
	head     uint64 // the next record to look at
	held     uint64 // bytes of the record at head, if it was returned last
	tail     uint64 // the sender's, when last looked at
	released uint64 // head as last published
}

// adoptReceiveRing skips what a predecessor left.
func adoptReceiveRing(mem []byte, g handoverGeometry, from, to int) receiveRing {
	r := receiveRing{handoverRing: newHandoverRing(mem, g, from, to)}
	r.skip()
	return r
}

// skip gives up on what is on the ring.
func (r *receiveRing) skip() {
	r.tail = r.sharedTail.Load()
	r.head, r.held = alignRecord(r.tail), 0
	r.release()
}

// ringState is what a receiver found.
type ringState uint8

const (
	ringEmpty  ringState = iota
	ringFrame            // a frame
	ringBroken           // what cannot be right; the ring was skipped to its end
)

// next returns the next frame and its head, valid until the next call. It neither trusts the positions nor the records:
// whatever they say, it reads within the ring and comes to an end.
func (r *receiveRing) next() (head uint64, frame []byte, s ringState) {
	r.head += r.held
	r.held = 0
	for {
		if r.head == r.tail {
			// Acquire: the records are read after the tail.
			r.tail = r.sharedTail.Load()
			if r.head == r.tail {
				return 0, nil, ringEmpty
			}
		}
		at := r.head & (r.size - 1)
		ready := min(r.tail-r.head, r.size-at)
		if r.tail-r.head > r.size || ready < recordHeadBytes {
			break
		}
		// Once: whoever writes here by mistake may write again.
		head = binary.NativeEndian.Uint64(r.data[at:])
		n := recordBytes(recordLength(head))
		if n > ready {
			break
		}
		switch recordKind(head) {
		case kindPadding:
			r.head += n
			continue
		case kindFrame:
			// A sender of long frames should not wait for the end of a turn.
			if r.head-r.released >= r.size/4 {
				r.release()
			}
			r.held = n
			end := at + recordHeadBytes + uint64(recordLength(head))
			return head, r.data[at+recordHeadBytes : end : end], ringFrame
		}
		break
	}
	r.skip()
	return 0, nil, ringBroken
}

// release gives the room of what was received back to the sender, that of the frame returned last too.
func (r *receiveRing) release() {
	r.head += r.held
	r.held = 0
	r.released = r.head
	// Release: what was read is read before the sender may overwrite it.
	r.sharedHead.Store(r.head)
}
