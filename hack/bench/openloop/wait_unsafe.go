package openloop

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wait is epoll_pwait2(2): epoll_wait knows only milliseconds. There is nothing else that the runtime could do meanwhile, so it is not
// told (RawSyscall); a signal of its own ends the wait.
func wait(epoll int, events []unix.EpollEvent, d time.Duration) (int, error) {
	timeout := unix.NsecToTimespec(max(d.Nanoseconds(), 0))
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
