package stack

import (
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"

	"gvisor.dev/gvisor/pkg/buffer"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// netstack clears the memory of every view that it makes, as much again as a body takes. A view that is
// filled at once need not be.

// getChunkPool is the pool of the smallest chunks that hold size bytes, at most buffer.MaxChunkSize.
//
//go:linkname getChunkPool gvisor.dev/gvisor/pkg/buffer.getChunkPool
func getChunkPool(size int) *sync.Pool

// viewPool is where views come from and go to.
//
//go:linkname viewPool gvisor.dev/gvisor/pkg/buffer.viewPool
var viewPool sync.Pool

// newView is buffer.NewView, but for what the memory holds that nothing was written to yet.
func newView(size int) *buffer.View {
	if size > buffer.MaxChunkSize {
		return buffer.NewView(size)
	}
	c := getChunkPool(size).Get()
	chunk := (*[2]unsafe.Pointer)(unsafe.Pointer(&c))[1] // the pointer that the interface holds
	(*atomic.Int64)(chunk).Store(1)
	v := viewPool.Get().(*buffer.View)
	*v = buffer.View{}
	*(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(v), viewChunkField.Offset)) = chunk
	return v
}

// viewWith is buffer.NewViewWithData.
func viewWith(data []byte) *buffer.View {
	v := newView(len(data))
	_, _ = v.Write(data) // cannot fail
	return v
}

// sharesChunk reports whether another view has the memory of v too: View.sharesChunk.
func sharesChunk(v *buffer.View) bool {
	chunk := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(v), viewChunkField.Offset))
	return (*atomic.Int64)(chunk).Load() > 1
}

// setPacketSize makes a packet one of size bytes, which its only view has.
func setPacketSize(p *netstack.PacketBuffer, size int) {
	*(*int64)(unsafe.Add(unsafe.Pointer(p), packetDataField.Offset+bufferSizeField.Offset)) = int64(size)
}

var (
	packetDataField = typedField[buffer.Buffer](reflect.TypeFor[netstack.PacketBuffer](), "buf")
	bufferSizeField = fieldOf(packetDataField.Type, "size", reflect.Int64)

	viewChunkField = fieldOf(reflect.TypeFor[buffer.View](), "chunk", reflect.Pointer)
	_              = sameLayout(reflect.TypeFor[struct {
		chunkRefs struct{ refCount atomic.Int64 }
		data      []byte
	}](), viewChunkField.Type.Elem())
)
