package dataplane

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Setting is a number that a network device has in sysfs.
type Setting string

// The settings by which interrupts stay off while a socket polls.
const (
	// SettingDeferHardIRQs is how often in a row a poll may find nothing before the interrupt is enabled again.
	SettingDeferHardIRQs Setting = "napi_defer_hard_irqs"
	// SettingGROFlushTimeout is when the kernel polls if nobody else does, in nanoseconds.
	SettingGROFlushTimeout Setting = "gro_flush_timeout"
)

// ReadSetting reads a setting of the interface with this index. The error wraps [ErrNoInterface] where there is none,
// and [ErrUnsupported] where sysfs does not show it.
func ReadSetting(ifindex int, s Setting) (string, error) {
	path, err := settingPath(ifindex, s)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	return strings.TrimSpace(string(b)), err
}

// WriteSetting changes a setting. Its errors are those of [ReadSetting], and the kernel's.
func WriteSetting(ifindex int, s Setting, value string) error {
	path, err := settingPath(ifindex, s)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(value), 0)
}

func settingPath(ifindex int, s Setting) (string, error) {
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return "", fmt.Errorf("%w: index %d (%w)", ErrNoInterface, ifindex, err)
	}
	dir, ok := sysfsOf(i.Name, i.Index, i.HardwareAddr)
	if !ok {
		return "", fmt.Errorf("%w: /sys is not that of this network namespace, which %s is in: mount sysfs there, as `ip netns exec` does", ErrUnsupported, i.Name)
	}
	return filepath.Join(dir, string(s)), nil
}

// sysfsOf is the folder of an interface. Not ok: sysfs is missing, or was mounted in another network namespace than
// that of the calling thread.
func sysfsOf(name string, ifindex int, mac net.HardwareAddr) (dir string, ok bool) {
	dir = filepath.Join("/sys/class/net", name)
	index, err := os.ReadFile(filepath.Join(dir, "ifindex"))
	address, macErr := os.ReadFile(filepath.Join(dir, "address"))
	return dir, err == nil && macErr == nil && strings.TrimSpace(string(index)) == fmt.Sprint(ifindex) && strings.TrimSpace(string(address)) == mac.String()
}
