package dataplane

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolChannels is struct ethtool_channels.
type ethtoolChannels struct {
	cmd                                 uint32
	maxRX, maxTX, maxOther, maxCombined uint32
	rx, tx, other, combined             uint32
}

// ethtoolRequest is struct ifreq with a pointer.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// ethtoolHash is struct ethtool_rxnfc as far as ETHTOOL_GRXFH has it.
type ethtoolHash struct {
	cmd, flow uint32
	fields    uint64
}

// ethtoolRXChannels is the number of channels that receive, as `ethtool -l` shows it.
func ethtoolRXChannels(name string) (int, error) {
	channels := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	if err := askEthtool(name, unsafe.Pointer(&channels)); err != nil {
		return 0, err
	}
	return int(channels.rx + channels.combined), nil
}

// ethtoolHashFields is the set of fields (RXH_*) by which frames of a kind of flow are hashed, as
// `ethtool -n NAME rx-flow-hash` shows it.
func ethtoolHashFields(name string, flow uint32) (uint64, error) {
	hash := ethtoolHash{cmd: unix.ETHTOOL_GRXFH, flow: flow}
	if err := askEthtool(name, unsafe.Pointer(&hash)); err != nil {
		return 0, err
	}
	return hash.fields, nil
}

// askEthtool passes a structure of <linux/ethtool.h> that begins with its command to the kernel, which fills it in.
func askEthtool(name string, data unsafe.Pointer) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	request := ethtoolRequest{data: data}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
