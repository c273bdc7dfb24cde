package dataplane

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewOutsideHeap returns a zero T outside the Go heap, and the function that gives it back. What is on the heap, the collector lets as
// much garbage grow beside as it is large (GOGC); a T here takes its own pages, and those not before they are written. It must hold
// no pointers, which the collector would not see.
func NewOutsideHeap[T any]() (value *T, free func() error, err error) {
	size := int(unsafe.Sizeof(*value))
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return (*T)(unsafe.Pointer(&memory[0])), func() error { return unix.Munmap(memory) }, nil
}
