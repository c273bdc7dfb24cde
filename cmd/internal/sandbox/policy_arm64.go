package sandbox

import "golang.org/x/sys/unix"

const architecture = unix.AUDIT_ARCH_AARCH64

// This architecture has nothing beyond what all have.
var (
	unconditionalHere []uintptr
	rulesHere         []rule
)
