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

// mapRing maps one ring of the socket. The mapping holds the socket, and with it the queue, until it is unmapped.
func mapRing[T uint64 | unix.XDPDesc](fd int, pageOffset int64, o unix.XDPRingOffset, entries int) (ring[T], []byte, error) {
	var slot T
	mem, err := unix.Mmap(fd, pageOffset, int(o.Desc)+entries*int(unsafe.Sizeof(slot)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring[T]{}, nil, fmt.Errorf("map ring at offset %#x: %w", pageOffset, err)
	}
	return ringOver[T](mem, o, entries), mem, nil
}

// mmapOffsets asks where the words and slots of the four rings are in their mappings.
func mmapOffsets(fd int) (unix.XDPMmapOffsets, error) {
	var o unix.XDPMmapOffsets
	return o, getsockopt(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&o), unsafe.Sizeof(o))
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
