package guest

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setTable is ETHTOOL_SRXFHINDIR of linux/ethtool.h: the indirection table.
const setTable = 0x39

// ethtoolRequest is struct ifreq as SIOCETHTOOL reads it.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data *uint32
	_    [16]byte
}

// ethtool passes a structure of linux/ethtool.h that consists of 32-bit words, the command first, to the kernel, which may change it.
func ethtool(name string, words []uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request := &ethtoolRequest{data: &words[0]}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(request))); errno != 0 {
		return fmt.Errorf("ethtool command %#x on %s: %w", words[0], name, errno)
	}
	return nil
}

// setChannels is `ethtool -L NAME combined N`.
func setChannels(name string, combined int) error {
	channels := make([]uint32, 9) // struct ethtool_channels: command, four limits, four numbers of which the last is combined
	channels[0] = unix.ETHTOOL_GCHANNELS
	if err := ethtool(name, channels); err != nil {
		return err
	}
	if channels[8] == uint32(combined) {
		return nil
	}
	channels[0], channels[8] = unix.ETHTOOL_SCHANNELS, uint32(combined)
	return ethtool(name, channels)
}

// setIndirection is `ethtool -X NAME` with a table.
func setIndirection(name string, table []uint32) error {
	return ethtool(name, append([]uint32{setTable, uint32(len(table))}, table...))
}

// fillChecksums is `ethtool -K NAME tx off`.
func fillChecksums(name string) error { return ethtool(name, []uint32{unix.ETHTOOL_STXCSUM, 0}) }
