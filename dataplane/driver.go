package dataplane

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// driverOf asks ethtool for an interface's driver; "unknown" when it does not answer.
func driverOf(name string) string {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "unknown"
	}
	defer unix.Close(s)
	info, err := unix.IoctlGetEthtoolDrvinfo(s, name)
	if err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// countRXQueues counts the receive queues in use, to which sockets can be bound.
func countRXQueues(a *netlink.LinkAttrs) (int, error) {
	// ethtool -l answers for the thread's own network namespace, where sysfs shows the one it was mounted in.
	if n, err := ethtoolRXChannels(a.Name); err == nil && n > 0 {
		return n, nil
	}
	if dir, ok := sysfsOf(a.Name, a.Index, a.HardwareAddr); ok {
		if queues, err := filepath.Glob(filepath.Join(dir, "queues", "rx-*")); err == nil && len(queues) > 0 {
			return len(queues), nil
		}
	}
	if a.NumRxQueues < 1 {
		return 0, fmt.Errorf("count its receive queues: neither ethtool nor sysfs nor netlink tells")
	}
	return a.NumRxQueues, nil // allocated, perhaps more than in use: binding to one too many says so
}

// runningKernel is the release of the running kernel; zero when it cannot be read, which no policy trusts.
var runningKernel = sync.OnceValue(func() (k kernelRelease) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return kernelRelease{}
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &k.major, &k.minor); err != nil {
		return kernelRelease{}
	}
	return k
})
