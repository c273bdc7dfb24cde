package sandbox

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// setAffinity changes every thread.
func setAffinity(set unix.CPUSetDynamic) error {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_SCHED_SETAFFINITY, 0, uintptr(len(set))*unsafe.Sizeof(set[0]), uintptr(unsafe.Pointer(&set[0])))
	return errorOf(errno)
}

// dropCapabilities empties the permitted, effective and inheritable sets of
// every thread. The ambient set is never larger than those.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // version 3 splits the set in two words
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
	return errorOf(errno)
}

// installFilter installs a system call filter on every thread.
//
// SPEC_ALLOW: kernels before 5.16 slow a process with a filter down (speculative
// store bypass disabled), to protect secrets from code that runs inside it and
// is not trusted. A worker runs its own code only.
func installFilter(filter []bpf.RawInstruction) error {
	// struct sock_filter is laid out as RawInstruction is.
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: (*unix.SockFilter)(unsafe.Pointer(&filter[0]))}
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	thread, _, errno := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	if thread != 0 {
		return fmt.Errorf("thread %d has a filter of its own", thread)
	}
	return nil
}
