package dataplane

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ringOver lays a ring of the given number of entries over mapped memory whose words are at the kernel's offsets.
//
// Preconditions: entries is a power of two; mem reaches to the end of the last slot and stays mapped while the ring
// is in use.
func ringOver[T uint64 | unix.XDPDesc](mem []byte, o unix.XDPRingOffset, entries int) ring[T] {
	base := unsafe.Pointer(unsafe.SliceData(mem))
	r := ring[T]{
		producer: (*uint32)(unsafe.Add(base, o.Producer)),
		consumer: (*uint32)(unsafe.Add(base, o.Consumer)),
		flags:    (*uint32)(unsafe.Add(base, o.Flags)),
		slots:    unsafe.Slice((*T)(unsafe.Add(base, o.Desc)), entries),
		mask:     uint32(entries - 1),
	}
	return r
}

// ringSizes asks where the words and slots of the four rings are in their mappings, and tells how many bytes each takes, by
// the page offset that it is mapped at.
func ringSizes(fd, entries int) (o unix.XDPMmapOffsets, sizes map[int64]int, err error) {
	if err := getsockopt(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&o), unsafe.Sizeof(o)); err != nil {
		return o, nil, err
	}
	addresses, descriptors := entries*int(unsafe.Sizeof(uint64(0))), entries*int(unsafe.Sizeof(unix.XDPDesc{}))
	return o, map[int64]int{
		unix.XDP_UMEM_PGOFF_FILL_RING:       int(o.Fr.Desc) + addresses,
		unix.XDP_UMEM_PGOFF_COMPLETION_RING: int(o.Cr.Desc) + addresses,
		unix.XDP_PGOFF_RX_RING:              int(o.Rx.Desc) + descriptors,
		unix.XDP_PGOFF_TX_RING:              int(o.Tx.Desc) + descriptors,
	}, nil
}

// memory is what is mapped, which is not Go's.
func (m mapping) memory() []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&m.start)), m.end-m.start)
}

// kernelStatistics reads XDP_STATISTICS.
func kernelStatistics(fd int) (unix.XDPStatistics, error) {
	var s unix.XDPStatistics
	return s, getsockopt(fd, unix.XDP_STATISTICS, unsafe.Pointer(&s), unsafe.Sizeof(s))
}

func getsockopt(fd, option int, p unsafe.Pointer, size uintptr) error {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option),
		uintptr(p), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return fmt.Errorf("getsockopt SOL_XDP %d: %w", option, errno)
	}
	return nil
}

// wakeTX makes the kernel look at the TX ring: sendto without data (xsk_sendmsg).
//
// It is a raw system call, which keeps the P. The call never blocks (MSG_DONTWAIT), but on veth it runs the peer's
// receive work: 45 us for 32 frames, measured, and more with a busy peer. An ordinary system call of that length may
// lose its P to sysmon, which starts a second thread for netstack's goroutines while the loop waits to come back. With
// other goroutines always runnable and GOMAXPROCS=1, ordinary calls made three to five times as many voluntary context
// switches; with few runnable, neither CPU time nor switches differed. The price is that a stop-the-world waits for
// the call to end.
func wakeTX(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// wakeDriver wakes a zero-copy driver to send, without polling it: poll(2) does so (xsk_poll) where sendto does not because
// the socket prefers busy polling (xsk_no_wakeup). Raw for the reason of wakeTX.
func wakeDriver(fd int) unix.Errno {
	p := unix.PollFd{Fd: int32(fd)}
	var now unix.Timespec
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno
}

// poll makes the kernel look at the fill ring, and poll the driver where busy polling is on: recvfrom without data
// (xsk_recvmsg). Raw for the reason of wakeTX.
func poll(fd int) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

// yield lets others that are ready have the processor (sched_yield), where there are some. Raw, as the loop goes on at once where
// not.
func yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) } //nolint:errcheck // it never fails
