package dataplane

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// capability is one that opening an interface or a queue needs.
type capability struct {
	bit     uint
	implied uint // another one that stands in for it
	name    string
}

var (
	capBPF      = capability{unix.CAP_BPF, unix.CAP_SYS_ADMIN, "CAP_BPF"}
	capNetAdmin = capability{unix.CAP_NET_ADMIN, unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}
	capNetRaw   = capability{unix.CAP_NET_RAW, unix.CAP_NET_RAW, "CAP_NET_RAW"}
)

// CheckCapabilities refuses with [ErrPermission] when the calling thread lacks a capability that opening an interface and
// its queues takes.
func CheckCapabilities() error { return checkCapabilities(capBPF, capNetAdmin, capNetRaw) }

// checkCapabilities refuses with [ErrPermission] when the calling thread lacks one of those needed, before the kernel
// does so without saying which.
func checkCapabilities(needed ...capability) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 splits the set in two words
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capability set: %w", err)
	}
	effective := uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	var missing []string
	for _, c := range needed {
		if effective&(1<<c.bit|1<<c.implied) == 0 {
			missing = append(missing, c.name)
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w %s: run as root, or grant it (setcap, AmbientCapabilities=)", ErrPermission, strings.Join(missing, ", "))
}
