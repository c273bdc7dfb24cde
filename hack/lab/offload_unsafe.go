package lab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offload is something that ethtool turns on and off: the command that sets it, of linux/ethtool.h.
type offload struct {
	name    string // as in `ethtool -K NAME`
	command uint32
}

var (
	transmitChecksum    = offload{"tx", 0x17}  // ETHTOOL_STXCSUM; TCP segmentation offload goes off with it
	scatterGather       = offload{"sg", 0x19}  // ETHTOOL_SSG
	segmentation        = offload{"tso", 0x1f} // ETHTOOL_STSO
	genericSegmentation = offload{"gso", 0x24} // ETHTOOL_SGSO
	genericReceive      = offload{"gro", 0x2c} // ETHTOOL_SGRO
)

// turnedOff lists what is off.
func (o Offloads) turnedOff() []offload {
	switch o {
	case OffloadsOn:
		return nil
	case OffloadsOff:
		return []offload{transmitChecksum, segmentation, genericSegmentation, scatterGather, genericReceive}
	default:
		return []offload{transmitChecksum}
	}
}

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

// setOffload turns an offload of an interface of the calling thread's namespace on or off, as `ethtool -K` does.
func setOffload(name string, o offload, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket for ethtool: %w", err)
	}
	defer unix.Close(fd)
	value := &ethtoolValue{command: o.command}
	if on {
		value.data = 1
	}
	request := &ethtoolRequest{data: value}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(request))); errno != 0 {
		return fmt.Errorf("set offload %s of %s: %w", o.name, name, errno)
	}
	return nil
}
