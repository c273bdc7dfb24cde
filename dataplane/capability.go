package dataplane

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities are those that attaching and binding need, in the order in which they are needed.
var capabilities = []struct {
	bit     uint
	implied uint // a capability that stands in for it
	name    string
}{
	{unix.CAP_BPF, unix.CAP_SYS_ADMIN, "CAP_BPF"},
	{unix.CAP_NET_ADMIN, unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_NET_RAW, unix.CAP_NET_RAW, "CAP_NET_RAW"},
}

// effectiveCapabilities is the effective set of the calling thread, one bit a capability.
func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // version 3 splits the set in two words
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read the capability set: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// missingCapabilities names those not in the effective set.
func missingCapabilities(effective uint64) (missing []string) {
	for _, c := range capabilities {
		if effective&(1<<c.bit|1<<c.implied) == 0 {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// explainPermission turns an EPERM or EACCES into [ErrPermission] that says which capability is missing. Other errors
// come back as they are.
func explainPermission(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	effective, capErr := effectiveCapabilities()
	if capErr != nil {
		return errors.Join(err, capErr)
	}
	missing := missingCapabilities(effective)
	if len(missing) == 0 {
		return fmt.Errorf("%w, although no capability is missing: look for a security module, a container's seccomp profile, or kernel lockdown", err)
	}
	return fmt.Errorf("%w: %s: run as root, or grant it with setcap or AmbientCapabilities= (%w)",
		ErrPermission, strings.Join(missing, ", "), err)
}
