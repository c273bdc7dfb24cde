package lab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolSetTXChecksum is ETHTOOL_STXCSUM of linux/ethtool.h.
const ethtoolSetTXChecksum = 0x17

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct {
	command uint32
	data    uint32
}

// ethtoolRequest is struct ifreq as SIOCETHTOOL reads it: a name and a pointer, in 40 bytes.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data *ethtoolValue
	_    [16]byte
}

// setTransmitChecksum turns the transmit checksum offload of an interface of the calling thread's namespace on or off, as
// `ethtool -K NAME tx on|off` does. Off, the kernel fills checksums in, and scatter-gather and segmentation offload go off with it.
func setTransmitChecksum(name string, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket for ethtool: %w", err)
	}
	defer unix.Close(fd)
	value := &ethtoolValue{command: ethtoolSetTXChecksum}
	if on {
		value.data = 1
	}
	request := &ethtoolRequest{data: value}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(request))); errno != 0 {
		return fmt.Errorf("set transmit checksum offload of %s: %w", name, errno)
	}
	return nil
}
