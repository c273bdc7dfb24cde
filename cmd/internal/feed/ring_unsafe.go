package feed

import (
	"sync/atomic"
	"unsafe"
)

// word is the word at an offset, a multiple of 8, of mapped memory, which begins on a
// page boundary.
func word(mem []byte, at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(mem[at : at+8])))
}
