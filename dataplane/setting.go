package dataplane

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/safchain/ethtool"
)

// Setting is something of a network device that can be changed and put back. Its value is a text, as the command has it
// that changes it ([Setting.Command]).
type Setting string

// The settings by which interrupts stay off while a socket polls; files in sysfs.
const (
	// SettingDeferHardIRQs is how often in a row a poll may find nothing before the interrupt is enabled again.
	SettingDeferHardIRQs Setting = "napi_defer_hard_irqs"
	// SettingGROFlushTimeout is when the kernel polls if nobody else does, in nanoseconds.
	SettingGROFlushTimeout Setting = "gro_flush_timeout"
)

// The settings of ethtool.
const (
	// SettingLRO and SettingGROHW are "on" or "off": the NIC joins frames, which no XDP program can take.
	SettingLRO   Setting = "lro"
	SettingGROHW Setting = "rx-gro-hw"
	// SettingChannels are queues: "combined 4", or "rx 4 tx 4" where they are apart.
	SettingChannels Setting = "channels"
	// SettingRings are slots of the NIC's own rings: "rx 1024 tx 1024".
	SettingRings Setting = "rings"
	// SettingRSS is the indirection table: "equal 4", "weight 1 0 3", or "table 0 2 2 1 ..." when it is neither.
	SettingRSS Setting = "rss"
	// SettingTXChecksum is "on" or "off": whoever sends by the interface leaves the checksums of TCP to it. On a veth
	// that means: unfilled.
	SettingTXChecksum Setting = "tx-checksum-ip-generic"
)

// features are the kernel's names of settings that are on or off.
var features = map[Setting]string{SettingLRO: "rx-lro", SettingGROHW: "rx-gro-hw", SettingTXChecksum: "tx-checksum-ip-generic"}

// Command is the command that sets the value on the interface of that name.
func (s Setting) Command(name, value string) string {
	switch s {
	case SettingLRO, SettingGROHW, SettingTXChecksum:
		return fmt.Sprintf("ethtool -K %s %s %s", name, s, value)
	case SettingChannels:
		return fmt.Sprintf("ethtool -L %s %s", name, value)
	case SettingRings:
		return fmt.Sprintf("ethtool -G %s %s", name, value)
	case SettingRSS:
		if table, ok := strings.CutPrefix(value, "table "); ok {
			return fmt.Sprintf("(no command of ethtool) indirection table of %s: %s", name, table)
		}
		return fmt.Sprintf("ethtool -X %s %s", name, value)
	default:
		return fmt.Sprintf("echo %s > /sys/class/net/%s/%s", value, name, s)
	}
}

// ReadSetting reads a setting of the interface with this index. The error wraps [ErrNoInterface] where there is none,
// and [ErrUnsupported] where it has no such setting or sysfs does not show it.
func ReadSetting(ifindex int, s Setting) (value string, err error) {
	err = withEthtool(ifindex, s, func(e *ethtool.Ethtool, i *net.Interface) error {
		value, err = read(e, i, s)
		return err
	})
	return value, err
}

func read(e *ethtool.Ethtool, i *net.Interface, s Setting) (string, error) {
	switch s {
	case SettingLRO, SettingGROHW, SettingTXChecksum:
		all, err := e.Features(i.Name)
		on, known := all[features[s]]
		if err == nil && !known {
			err = ErrUnsupported
		}
		if on {
			return "on", err
		}
		return "off", err
	case SettingChannels:
		c, err := e.GetChannels(i.Name)
		if c.CombinedCount > 0 && c.RxCount == 0 && c.TxCount == 0 {
			return fmt.Sprintf("combined %d", c.CombinedCount), err
		}
		return fmt.Sprintf("rx %d tx %d", c.RxCount, c.TxCount), err
	case SettingRings:
		r, err := e.GetRing(i.Name)
		return fmt.Sprintf("rx %d tx %d", r.RxPending, r.TxPending), err
	case SettingRSS:
		table, err := ethtoolTable(i.Name)
		if err != nil {
			return "", err
		}
		return table.String(), nil
	default:
		path, err := settingPath(i, s)
		if err != nil {
			return "", err
		}
		b, err := os.ReadFile(path)
		return strings.TrimSpace(string(b)), err
	}
}

// WriteSetting changes a setting to a value like those that [ReadSetting] returns. Its errors are the same, and the
// kernel's.
func WriteSetting(ifindex int, s Setting, value string) error {
	return withEthtool(ifindex, s, func(e *ethtool.Ethtool, i *net.Interface) error { return write(e, i, s, value) })
}

func write(e *ethtool.Ethtool, i *net.Interface, s Setting, value string) (err error) {
	switch s {
	case SettingLRO, SettingGROHW, SettingTXChecksum:
		return e.Change(i.Name, map[string]bool{features[s]: value == "on"})
	case SettingChannels:
		c, err := e.GetChannels(i.Name)
		if err != nil {
			return err
		}
		if _, err = fmt.Sscanf(value, "combined %d", &c.CombinedCount); err != nil {
			if _, err = fmt.Sscanf(value, "rx %d tx %d", &c.RxCount, &c.TxCount); err != nil {
				return fmt.Errorf("%w: channels %q", ErrOptions, value)
			}
		}
		_, err = e.SetChannels(i.Name, c)
		return err
	case SettingRings:
		r, err := e.GetRing(i.Name)
		if err != nil {
			return err
		}
		if _, err = fmt.Sscanf(value, "rx %d tx %d", &r.RxPending, &r.TxPending); err != nil {
			return fmt.Errorf("%w: rings %q", ErrOptions, value)
		}
		_, err = e.SetRing(i.Name, r)
		return err
	case SettingRSS:
		return writeTable(i.Name, value)
	default:
		path, err := settingPath(i, s)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(value), 0)
	}
}

// ChannelsFor is the value of [SettingChannels] that gives an interface n receive queues, in the way that its driver
// counts them.
func ChannelsFor(ifindex, n int) (value string, err error) {
	err = withEthtool(ifindex, SettingChannels, func(e *ethtool.Ethtool, i *net.Interface) error {
		c, err := e.GetChannels(i.Name)
		switch {
		case err != nil:
			return err
		case c.CombinedCount > 0 && c.RxCount == 0 && n <= int(c.MaxCombined):
			value = fmt.Sprintf("combined %d", n)
		case c.CombinedCount == 0 && n <= int(min(c.MaxRx, c.MaxTx)):
			value = fmt.Sprintf("rx %d tx %d", n, n)
		default:
			return fmt.Errorf("%w: it has at most %d", ErrUnsupported, max(c.MaxCombined, c.MaxRx))
		}
		return nil
	})
	return value, err
}

// RingsFor is the value of [SettingRings] with n slots, or as many as the NIC has at most.
func RingsFor(ifindex, n int) (value string, err error) {
	err = withEthtool(ifindex, SettingRings, func(e *ethtool.Ethtool, i *net.Interface) error {
		r, err := e.GetRing(i.Name)
		value = fmt.Sprintf("rx %d tx %d", min(uint32(n), r.RxMaxPending), min(uint32(n), r.TxMaxPending))
		return err
	})
	return value, err
}

// withEthtool asks in the network namespace of the calling thread.
func withEthtool(ifindex int, s Setting, ask func(*ethtool.Ethtool, *net.Interface) error) error {
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("%w: index %d (%w)", ErrNoInterface, ifindex, err)
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	if err := ask(e, i); err != nil {
		return fmt.Errorf("%s of %s: %w", s, i.Name, err)
	}
	return nil
}

func settingPath(i *net.Interface, s Setting) (string, error) {
	dir, ok := sysfsOf(i.Name, i.Index, i.HardwareAddr)
	if !ok {
		return "", fmt.Errorf("%w: /sys is not that of this network namespace: mount sysfs there, as `ip netns exec` does", ErrUnsupported)
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
