package dataplane

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sender makes the kicks of many frames in copy mode on a thread of its own. There the kernel makes an sk_buff of each frame, copies
// it, and on veth runs the peer's TCP, all inside the call: three quarters of a worker's time with bodies of 1 MB, which another
// processor can take (1.33x of the requests/s on two).
//
// The rings stay the loop's: it publishes descriptors and reaps, the sender makes the system calls alone. Two of them at a time
// are serialised by the kernel (xs->mutex). Between the two stands one word, a futex. The loop publishes descriptors, and then asks; the
// sender goes idle only if it was not asked since it last began to look at the ring, so that no descriptor stays behind.
//
// The thread has no P of the runtime, which would let netstack's goroutines go to another thread: from beginning to end
// it is within one system call, as the runtime sees it.
type sender struct {
	state    uint32  // futex; atomic
	stuck    uint32  // the kernel took nothing, which is the loop's to find out about; atomic
	calls    uint64  // system calls not yet counted; atomic
	producer *uint32 // of the TX ring, as consumer
	consumer *uint32
	fd       int
	ended    chan struct{}
}

// States of a sender.
const (
	senderIdle    uint32 = iota // it sleeps, or is about to
	senderAsked                 // there are descriptors, and it has not begun to look
	senderSending               // it looks at the ring again before it is idle
	senderClosed
)

const (
	futexWaitPrivate = 128 // FUTEX_WAIT | FUTEX_PRIVATE_FLAG
	futexWakePrivate = 129
)

func newSender(fd int, tx *ring[unix.XDPDesc]) *sender {
	s := &sender{producer: tx.producer, consumer: tx.consumer, fd: fd, ended: make(chan struct{})}
	go s.run()
	return s
}

func (s *sender) run() {
	runtime.LockOSThread() // for good: the thread ends with the goroutine
	s.send()
	close(s.ended)
}

// send kicks whenever it is asked to, until close. Nothing in it may grow the stack, be preempted, or allocate.
//
//go:nosplit
//go:norace
func (s *sender) send() {
	if !senderHasP {
		enterSyscallBlock()
	}
	for {
		switch atomic.LoadUint32(&s.state) {
		case senderClosed:
			if !senderHasP {
				exitSyscall()
			}
			return
		case senderIdle:
			senderCall(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.state)), futexWaitPrivate, uintptr(senderIdle), 0)
			continue
		}
		atomic.CompareAndSwapUint32(&s.state, senderAsked, senderSending)
		for {
			taken := atomic.LoadUint32(s.consumer)
			if atomic.LoadUint32(s.producer) == taken {
				break
			}
			senderCall(unix.SYS_SENDTO, uintptr(s.fd), 0, 0, unix.MSG_DONTWAIT)
			atomic.AddUint64(&s.calls, 1)
			if atomic.LoadUint32(s.consumer) == taken { // most errors come with progress too: see wakeKernel
				atomic.StoreUint32(&s.stuck, 1)
				break
			}
		}
		atomic.CompareAndSwapUint32(&s.state, senderSending, senderIdle)
	}
}

// ask makes the sender look at the TX ring. What it shall see was published before.
func (s *sender) ask() { s.set(senderAsked) }

func (s *sender) set(state uint32) {
	if atomic.SwapUint32(&s.state, state) == senderIdle {
		unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.state)), futexWakePrivate, 1, 0, 0, 0) //nolint:errcheck // it cannot fail
	}
}

// close ends the thread; a call that it is in is waited for.
func (s *sender) close() {
	s.set(senderClosed)
	<-s.ended
}

// enterSyscallBlock and exitSyscall are what the runtime does around a system call that blocks: it gives the P away, and waits for one.
// gVisor is linked to them too (pkg/rawfile).
//
//go:linkname enterSyscallBlock runtime.entersyscallblock
func enterSyscallBlock()

//go:linkname exitSyscall runtime.exitsyscall
func exitSyscall()
