package dataplane

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// sharedWord is a word in memory that other processes have mapped too. An [atomic.Uint64] is nothing but its value, and
// its operations are the processor's, which know no processes.
type sharedWord = atomic.Uint64

// word returns the word at an offset of mapped memory.
//
// Preconditions: at is a multiple of 8; mem stays mapped while the word is in use.
func word(mem []byte, at int) *sharedWord {
	b := mem[at : at+8]
	if at%8 != 0 {
		panic(fmt.Sprintf("dataplane: shared word at odd offset %d", at))
	}
	return (*sharedWord)(unsafe.Pointer(unsafe.SliceData(b)))
}
