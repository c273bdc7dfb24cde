package worker

import (
	"sync/atomic"
	"unsafe"

	"ringroad/proxy"
)

// wordsOf is mapped memory, which begins on a page boundary, as words.
func wordsOf(mem []byte) []atomic.Uint64 {
	return unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/8)
}

// pulseAt is the pulse at the beginning of mem, which is mapped memory at a
// multiple of eight.
func pulseAt(mem []byte) *proxy.Pulse {
	return (*proxy.Pulse)(unsafe.Pointer(unsafe.SliceData(mem[:unsafe.Sizeof(proxy.Pulse{})])))
}
