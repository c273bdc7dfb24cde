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

// ethtoolClassifier is struct ethtool_rxnfc up to its data: the fields of ETHTOOL_GRXFH, the number of ETHTOOL_GRXRINGS.
type ethtoolClassifier struct {
	cmd, flow uint32
	data      uint64
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
	hash := ethtoolClassifier{cmd: unix.ETHTOOL_GRXFH, flow: flow}
	if err := askEthtool(name, unsafe.Pointer(&hash)); err != nil {
		return 0, err
	}
	return hash.data, nil
}

// ethtoolRings is the number of queues that an indirection table may name.
func ethtoolRings(name string) (int, error) {
	rings := ethtoolClassifier{cmd: unix.ETHTOOL_GRXRINGS}
	if err := askEthtool(name, unsafe.Pointer(&rings)); err != nil {
		return 0, err
	}
	return int(rings.data), nil
}

// ethtoolTable is the indirection table, as `ethtool -x` shows it. EOPNOTSUPP: the driver has none.
func ethtoolTable(name string) (Indirection, error) {
	// struct ethtool_rxfh_indir: command, size, entries. Of size 0 it is asked for the size.
	head := [2]uint32{unix.ETHTOOL_GRXFHINDIR}
	if err := askEthtool(name, unsafe.Pointer(&head)); err != nil {
		return nil, err
	}
	if head[1] == 0 {
		return nil, unix.EOPNOTSUPP
	}
	table := make(Indirection, len(head)+int(head[1]))
	table[0], table[1] = unix.ETHTOOL_GRXFHINDIR, head[1]
	if err := askEthtool(name, unsafe.Pointer(&table[0])); err != nil {
		return nil, err
	}
	return table[len(head):], nil
}

// setEthtoolTable is `ethtool -X`. No table is that of the kernel, which then follows the number of channels.
func setEthtoolTable(name string, table Indirection) error {
	request := append([]uint32{unix.ETHTOOL_SRXFHINDIR, uint32(len(table))}, table...)
	return askEthtool(name, unsafe.Pointer(&request[0]))
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
