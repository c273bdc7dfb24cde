//go:build race

package dataplane

import "golang.org/x/sys/unix"

// senderHasP: the race detector keeps what it knows with the P.
const senderHasP = true

//go:nosplit
func senderCall(trap, a1, a2, a3, a4 uintptr) {
	unix.Syscall6(trap, a1, a2, a3, a4, 0, 0) //nolint:errcheck // as without the detector
}
