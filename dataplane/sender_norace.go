//go:build !race

package dataplane

import "golang.org/x/sys/unix"

// senderHasP: a sender is known to the runtime as another goroutine is.
const senderHasP = false

// senderCall makes a system call of a sender.
//
//go:nosplit
func senderCall(trap, a1, a2, a3, a4 uintptr) {
	unix.RawSyscall6(trap, a1, a2, a3, a4, 0, 0) //nolint:errcheck // the state and the ring tell
}
