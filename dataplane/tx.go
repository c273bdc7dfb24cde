package dataplane

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// kickCalls bounds the system calls of one kick. The kernel takes up to 32 frames a call in copy mode
	// (TX_BATCH_SIZE), so this covers a full ring of the default size; every call must make progress anyway.
	kickCalls = 256

	// What a kick left behind is kicked again after these times, and a lack of free frames is looked at again: a device
	// queue or socket buffer drains in well under a millisecond, a link stays down for longer.
	retryBusy     = time.Millisecond
	retryLinkDown = 50 * time.Millisecond

	// senderFrames is how many descriptors a kick leaves to the sender: more than two calls take. Waking a thread costs what some
	// frames do, and short answers to some tens of connections are better sent at once.
	senderFrames = 65
)

// TXFrame is a frame reserved for sending, or a group of adjacent ones where a packet may need several: its address in
// the UMEM.
type TXFrame uint64

// Reserve takes a free frame for sending and returns all of it that data may have as a slice, valid until Submit or Discard. False is
// back-pressure: every TX frame is in use, even after reaping. [Waiter.Wait] then returns when some are free again.
func (q *Queue) Reserve() (TXFrame, []byte, bool) {
	addr, ok := q.frames.reserved()
	if !ok {
		q.Reap()
		if addr, ok = q.frames.reserved(); !ok {
			// What was submitted this turn is not even published yet. An error shows at the turn's own kick.
			if q.tx.unpublished() > 0 {
				_ = q.Kick()
				addr, ok = q.frames.reserved()
			}
			if !ok {
				q.stats.TXNoFrame++
				q.starved = true
				return 0, nil, false
			}
		}
	}
	if used := uint64(q.frames.count[stateTX]); used > q.stats.TXFramesHighWater {
		q.stats.TXFramesHighWater = used
	}
	end := addr + uint64(q.frames.span)<<q.frames.shift
	return TXFrame(addr), q.umem[addr+uint64(q.metadata) : end : end], true
}

// Submit puts the first n bytes of a reserved frame on the TX ring; the next kick publishes it, whole. A length that the
// interface cannot send (zero, or above the MTU) is refused and counted, and the frame is free again: the kernel would
// never give it back.
func (q *Queue) Submit(f TXFrame, n int) { q.submit(f, n, 0) }

func (q *Queue) submit(f TXFrame, n int, options uint32) {
	if n <= 0 || n > q.maxFrame {
		q.stats.TXRefused++
		q.Discard(f)
		return
	}
	if q.frames.span > 1 {
		q.putChain(uint64(f), n)
	} else {
		q.tx.put(unix.XDPDesc{Addr: uint64(f) + uint64(q.metadata), Len: uint32(n), Options: options})
	}
	q.stats.TXFrames++
	q.stats.TXBytes += uint64(n)
}

// Discard frees a reserved frame that is not to be sent.
func (q *Queue) Discard(f TXFrame) { q.frames.discarded(uint64(f)) }

// Pending is the number of submitted descriptors that the kernel has not taken yet.
func (q *Queue) Pending() int { return int(q.tx.pending()) }

// Unpublished is the number of submitted frames that no kick has published yet: the last ones submitted. Their bytes may
// still be changed.
func (q *Queue) Unpublished() int { return int(q.tx.unpublished()) - q.continued }

// Kick publishes what was submitted, wakes the kernel until it has taken all or takes no more, and reaps. What is left
// then ([Queue.Pending]) is sent by the next kick, for which [Waiter.Wait] returns in time, or by the sender, to which it may
// leave all of it. An error means that the socket is of no use any more: [ErrInterfaceGone], or an errno nobody expects.
func (q *Queue) Kick() error {
	q.tx.submit()
	q.continued, q.retry = 0, 0
	pending := q.tx.pending()
	if pending == 0 {
		q.Reap() // the sender has taken the last
		return nil
	}
	q.stats.Kicks++
	q.stats.TXRingHighWater = max(q.stats.TXRingHighWater, uint64(pending))
	h := q.hooks.Load()
	if q.leave(pending) {
		if h != nil {
			h.Kicking(q.stats.TXFrames, int(pending))
			h.Kicked(0, int(pending), true)
		}
		return nil
	}
	if h == nil {
		return q.wakeKernel(pending)
	}
	h.Kicking(q.stats.TXFrames, int(pending))
	calls := q.stats.KickCalls
	err := q.wakeKernel(pending)
	h.Kicked(int(q.stats.KickCalls-calls), int(q.tx.pending()), false)
	return err
}

// leave leaves a kick to the sender if it is worthwhile, and reports whether it has. The sender begins with the first kick, when
// the process has given up its rights, which every thread has to.
func (q *Queue) leave(pending uint32) bool {
	if !q.mayLeave {
		return false
	}
	if q.sender == nil {
		q.sender = newSender(q.fd, &q.tx)
	}
	s := q.sender
	if atomic.LoadUint64(&s.calls) != 0 {
		q.stats.KickCalls += atomic.SwapUint64(&s.calls, 0)
	}
	switch atomic.LoadUint32(&s.state) {
	case senderAsked: // in the turn before: there is no processor for it
		return false
	case senderIdle:
		if pending < senderFrames {
			return false
		}
	}
	if len(q.frames.free) == 0 || atomic.SwapUint32(&s.stuck, 0) != 0 {
		return false // nothing else can be done meanwhile; or to learn why
	}
	s.ask()
	q.stats.KickLeft++
	q.retry = retryBusy // nobody tells when it is stuck
	q.Reap()
	return true
}

// processors is how many processors the calling thread may use.
func processors() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 1
	}
	return set.Count()
}

// wakeKernel is Kick for so many frames on the TX ring.
func (q *Queue) wakeKernel(pending uint32) error {
	for range kickCalls {
		// In copy mode only system calls send. A zero-copy driver that is at it sees the new index by itself.
		if q.zeroCopy && !q.tx.needsWakeup() {
			q.stats.KickSaved++
			return nil
		}
		errno := wakeTX(q.fd)
		q.stats.KickCalls++
		before := pending
		pending = q.tx.pending()
		q.Reap()
		if err := q.countKick(errno); err != nil {
			return err
		}
		if pending == 0 {
			return nil
		}
		if errno == 0 && q.zeroCopy {
			// The driver has been told; or polled, which does not reach a TX ring that has an interrupt of its own, as
			// those of igb with four queues or less.
			if q.busyPoll {
				q.stats.KickCalls++
				return q.countKick(wakeDriver(q.fd))
			}
			return nil
		}
		if q.retry != 0 {
			return nil // link down
		}
		// EBUSY and EAGAIN come with and without progress: EBUSY after a frame that the device dropped (taken and
		// completed), EAGAIN after each full batch. Without progress another call would get the same answer.
		if pending == before {
			break
		}
	}
	q.stats.KickStalled++
	q.retry = retryBusy
	return nil
}

// countKick sorts the answers to a kick. It schedules a retry for a link that is down, and returns an error for a
// socket that is broken.
func (q *Queue) countKick(errno unix.Errno) error {
	switch errno {
	case 0, unix.EINTR:
	case unix.EAGAIN:
		q.stats.KickAgain++
	case unix.EBUSY:
		q.stats.KickBusy++
	case unix.ENOBUFS, unix.ENOMEM:
		q.stats.KickNoBuffers++
	case unix.ENETDOWN, unix.ENXIO:
		// ENETDOWN: the interface is down. ENXIO: the socket lost its interface, or a driver is resetting.
		q.stats.KickLinkDown++
		q.retry = retryLinkDown
		return q.Check()
	default:
		return fmt.Errorf("kick %s: %w", q.name, errno)
	}
	return nil
}

// Reap frees the frames that the kernel has sent and returns how many it gave back.
func (q *Queue) Reap() int {
	n := q.completion.peek(uint32(len(q.frames.state)))
	if n == 0 {
		return 0
	}
	free := len(q.frames.free)
	for i := range n {
		q.frames.completed(q.completion.at(i))
	}
	// They are reserved again in the order that they were sent in, which leads upwards through memory: a frame that is written is
	// preceded by the one below, and the processor has begun to fetch it.
	slices.Reverse(q.frames.free[free:])
	q.completion.release(n)
	sent := len(q.frames.free) - free
	q.stats.TXCompletions += uint64(sent)
	if h := q.hooks.Load(); h != nil && sent > 0 {
		h.Reaped(q.stats.TXCompletions, sent)
	}
	q.stats.CompletionRingHighWater = max(q.stats.CompletionRingHighWater, uint64(n))
	return int(n)
}

// patience tells the waiter how long the queue can be left alone (0: for ever), and whether it can not at all because
// frames that were lacking are free again.
func (q *Queue) patience() (d time.Duration, relieved bool) {
	if !q.starved {
		return q.retry, false
	}
	q.Reap()
	if q.frames.count[stateFree] == 0 {
		return retryBusy, false
	}
	q.starved = false
	return 0, true
}
