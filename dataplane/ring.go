package dataplane

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ring is one of the four single-producer single-consumer rings that the kernel shares with a socket. The loop
// produces on fill and TX and consumes RX and completion; the kernel has the other end.
//
// Indices count up for ever and wrap at 2^32; a slot is index & mask. That works because the number of entries is a
// power of two, and because producer-consumer, computed in uint32, is right across the wrap.
type ring[T uint64 | unix.XDPDesc] struct {
	// producer, consumer and flags are words in memory shared with the kernel: atomic access only. The loop stores
	// to the one of producer and consumer that is its own.
	producer, consumer, flags *uint32
	slots                     []T
	mask                      uint32

	// head is the loop's own index, valid before it is published: next slot to write (producing) or to read
	// (consuming).
	head uint32
	// seen is the last producer index loaded from the kernel (consuming rings only). It saves the load, which misses
	// the cache whenever the kernel has written, while known entries are left.
	seen uint32
	// published is the index last stored to the shared word.
	published uint32
}

// put writes v to the next slot, unpublished.
//
// Preconditions: the slot is free, which callers guarantee by the number of frames (see frames.go), not by asking
// the ring: the kernel publishes its consumer index late, so a ring can look full when it is not.
func (r *ring[T]) put(v T) {
	r.slots[r.head&r.mask] = v
	r.head++
}

// submit publishes all that was put.
func (r *ring[T]) submit() {
	if r.published == r.head {
		return
	}
	r.published = r.head
	// Release: the slots must be visible before the index. Pairs with smp_load_acquire in xskq_cons_get_entries.
	atomic.StoreUint32(r.producer, r.head)
}

// unpublished is the number of slots put and not yet submitted.
func (r *ring[T]) unpublished() uint32 { return r.head - r.published }

// pending is the number of submitted or put entries the kernel has not yet taken (producing rings).
func (r *ring[T]) pending() uint32 {
	// Acquire: slots up to this index are the loop's again. Pairs with smp_store_release in __xskq_cons_release.
	return r.head - atomic.LoadUint32(r.consumer)
}

// peek returns how many entries can be read, at most limit, without taking them (consuming rings).
func (r *ring[T]) peek(limit uint32) uint32 {
	n := r.seen - r.head
	if n < limit {
		// Acquire: the slots must be read after the index. Pairs with smp_store_release in __xskq_prod_submit.
		r.seen = atomic.LoadUint32(r.producer)
		n = r.seen - r.head
	}
	return min(n, limit)
}

// waiting returns how many entries can be read (consuming rings).
func (r *ring[T]) waiting() uint32 {
	r.seen = atomic.LoadUint32(r.producer) // acquire, as in peek
	return r.seen - r.head
}

// at returns the i-th entry not yet released.
//
// Preconditions: i is less than what peek returned.
func (r *ring[T]) at(i uint32) T { return r.slots[(r.head+i)&r.mask] }

// set replaces the i-th entry not yet released.
//
// Preconditions: i is less than what peek returned.
func (r *ring[T]) set(i uint32, v T) { r.slots[(r.head+i)&r.mask] = v }

// release gives the first n peeked slots back to the kernel.
func (r *ring[T]) release(n uint32) {
	r.head += n
	r.published = r.head
	// Release: all reads of the slots come before the kernel may overwrite them. Pairs with the load in
	// xskq_prod_nb_free.
	atomic.StoreUint32(r.consumer, r.head)
}

// level is the number of entries in the ring as both sides have published it. Any goroutine may ask.
func (r *ring[T]) level() uint32 {
	// The consumer first: read the other way round, a kernel that moves both in between makes the level negative.
	c := atomic.LoadUint32(r.consumer)
	return atomic.LoadUint32(r.producer) - c
}

// needsWakeup reports whether the kernel asks for a system call before it looks at the ring again.
func (r *ring[T]) needsWakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}
