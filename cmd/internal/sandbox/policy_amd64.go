package sandbox

import "golang.org/x/sys/unix"

const architecture = unix.AUDIT_ARCH_X86_64

// unconditionalHere are older calls, which newer architectures do not have.
var unconditionalHere = []uintptr{
	unix.SYS_EPOLL_WAIT,
	unix.SYS_POLL,
	unix.SYS_TIME,
}

// rulesHere are those that only this architecture needs.
var rulesHere = []rule{
	// The runtime gives each new thread its thread-local storage.
	{number: unix.SYS_ARCH_PRCTL, any: [][]condition{{is(0, archSetFS)}}},
	{number: unix.SYS_OPEN, errno: unix.EACCES},
	{number: unix.SYS_CREAT, errno: unix.EACCES},
}

const archSetFS = 0x1002 // asm/prctl.h
