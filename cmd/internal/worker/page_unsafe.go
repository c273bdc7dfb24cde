package worker

import (
	"reflect"
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

// wordsIn are the words of a statistics struct, to which p points. It consists of
// uint64 words only (dataplane.StatFields).
func wordsIn(p any) []uint64 {
	v := reflect.ValueOf(p)
	return unsafe.Slice((*uint64)(v.UnsafePointer()), v.Elem().Type().Size()/8)
}
