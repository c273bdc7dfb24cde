package dataplane

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// registerUMEM gives memory to a socket as its UMEM, with room for metadata before each frame that is sent. The memory
// must stay mapped until the socket is closed.
func registerUMEM(fd int, umem []byte, frameBytes, metadataBytes int) error {
	r := unix.XDPUmemReg{
		Addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(umem)))), Len: uint64(len(umem)), Size: uint32(frameBytes),
		Flags: unix.XDP_UMEM_TX_METADATA_LEN, Tx_metadata_len: uint32(metadataBytes),
	}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&r)), unsafe.Sizeof(r), 0)
	if errno != 0 {
		return fmt.Errorf("register the UMEM: %w", errno)
	}
	return nil
}
