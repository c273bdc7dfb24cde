package stack

import (
	"container/list"
	"crypto/sha1"
	"hash"
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/sync"
	"gvisor.dev/gvisor/pkg/tcpip"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/bpf"
)

// netstack tells how many endpoints it has by copying the list of them, with a lock
// for each: 32 ms for 40,000, ten times a second (BenchmarkTCPStats). Its maps know.

// endpointTable is the map of netstack's demultiplexer that has the endpoints of one
// network protocol, with its lock.
type endpointTable struct {
	number tcpip.NetworkProtocolNumber
	mu     *sync.RWMutex
	all    *map[netstack.TransportEndpointID]unsafe.Pointer
}

// endpointTables returns all maps of s.
func endpointTables(s *netstack.Stack) (list []endpointTable) {
	protocols := reflect.ValueOf(s).Elem().FieldByIndex(demuxField.Index).Elem().FieldByIndex(protocolField.Index)
	for i := protocols.MapRange(); i.Next(); {
		p := i.Value().UnsafePointer()
		list = append(list, endpointTable{
			number: tcpip.NetworkProtocolNumber(i.Key().FieldByIndex(networkField.Index).Uint()),

			mu:  (*sync.RWMutex)(unsafe.Add(p, tableLockField.Offset)),
			all: (*map[netstack.TransportEndpointID]unsafe.Pointer)(unsafe.Add(p, tableField.Offset)),
		})
	}
	return list
}

// len is how many endpoints there are.
func (t endpointTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(*t.all)
}

// each calls f with each of them, under the lock.
func (t endpointTable) each(f func(id *netstack.TransportEndpointID)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id := range *t.all {
		f(&id)
	}
}

// add puts an entry that was taken in the table again. It reports false when id has one.
func (t endpointTable) add(id *netstack.TransportEndpointID, entry unsafe.Pointer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := (*t.all)[*id]; ok {
		return false
	}
	(*t.all)[*id] = entry
	return true
}

// take takes the entry of id out of the table.
func (t endpointTable) take(id *netstack.TransportEndpointID) (entry unsafe.Pointer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry = (*t.all)[*id]
	delete(*t.all, *id)
	return entry
}

// tableOf is the table of a network protocol.
func (s *Stack) tableOf(number tcpip.NetworkProtocolNumber) endpointTable {
	for _, t := range s.tables {
		if t.number == number {
			return t
		}
	}
	panic("netstack has no TCP over a network protocol")
}

// acceptQueueFull reports whether the accept queue of a listener is full, which holds one connection more than the backlog.
func acceptQueueFull(ep *tcp.Endpoint) bool {
	mu := (*sync.Mutex)(unsafe.Add(unsafe.Pointer(ep), acceptLockField.Offset))
	queue := unsafe.Add(unsafe.Pointer(ep), acceptQueueField.Offset)
	mu.Lock()
	defer mu.Unlock()
	return (*list.List)(unsafe.Add(queue, acceptedField.Offset)).Len() >= *(*int)(unsafe.Add(queue, capacityField.Offset))
}

// listenContextOf is what a listener makes and judges SYN cookies with, tcp.listenContext.
func listenContextOf(ep *tcp.Endpoint) unsafe.Pointer {
	return *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), listenContextField.Offset))
}

// encodeMSS is the number of the largest MSS in a cookie that is not above mss.
//
//go:linkname encodeMSS gvisor.dev/gvisor/pkg/tcpip/transport/tcp.encodeMSS
func encodeMSS(mss uint16) uint32

// setHasher has a listener make and judge cookies with h, which is told by the first byte of
// its nonces which of the two hashes of a cookie it makes.
func setHasher(ep *tcp.Endpoint, h hash.Hash) {
	context := listenContextOf(ep)
	nonces := (*[2][sha1.BlockSize]byte)(unsafe.Add(context, nonceField.Offset))
	*nonces = [2][sha1.BlockSize]byte{{bpf.CookieOuter}, {bpf.CookieInner}}
	*(*hash.Hash)(unsafe.Add(context, hasherField.Offset)) = h
}

// Where the fields are. A netstack that has others makes the program panic at once.
var (
	demuxField     = fieldOf(reflect.TypeFor[netstack.Stack](), "demux", reflect.Pointer)
	protocolField  = fieldOf(demuxField.Type.Elem(), "protocol", reflect.Map)
	networkField   = fieldOf(protocolField.Type.Key(), "network", reflect.Uint32)
	tableField     = mapField(protocolField.Type.Elem().Elem(), "endpoints", reflect.TypeFor[netstack.TransportEndpointID]())
	tableLockField = lockField[sync.RWMutex](protocolField.Type.Elem().Elem(), "mu")

	acceptLockField  = lockField[sync.Mutex](reflect.TypeFor[tcp.Endpoint](), "acceptMu")
	acceptQueueField = fieldOf(reflect.TypeFor[tcp.Endpoint](), "acceptQueue", reflect.Struct)
	acceptedField    = fieldOf(acceptQueueField.Type, "endpoints", reflect.Struct)
	capacityField    = fieldOf(acceptQueueField.Type, "capacity", reflect.Int)

	listenContextField = fieldOf(reflect.TypeFor[tcp.Endpoint](), "listenCtx", reflect.Pointer)
	nonceField         = typedField[[2][sha1.BlockSize]byte](listenContextField.Type.Elem(), "nonce")
	hasherField        = typedField[hash.Hash](listenContextField.Type.Elem(), "hasher")
)

// mapField is a field with a map of that key.
func mapField(t reflect.Type, name string, key reflect.Type) reflect.StructField {
	f := fieldOf(t, name, reflect.Map)
	if f.Type.Key() != key {
		panic("netstack has another map than expected in " + name + ": endpoints_unsafe.go has to follow")
	}
	return f
}

// typedField is a field of type T.
func typedField[T any](t reflect.Type, name string) reflect.StructField {
	want := reflect.TypeFor[T]()
	f := fieldOf(t, name, want.Kind())
	if f.Type != want {
		panic("netstack has another type than expected in " + name + ": endpoints_unsafe.go has to follow")
	}
	return f
}

// lockField is a field with a lock of type L, alone or in a struct of its own.
func lockField[L any](t reflect.Type, name string) reflect.StructField {
	f := fieldOf(t, name, reflect.Struct)
	want := reflect.TypeFor[L]()
	if f.Type != want && (f.Type.NumField() != 1 || f.Type.Field(0).Type != want) {
		panic("netstack has another lock than expected in " + name + ": endpoints_unsafe.go has to follow")
	}
	return f
}
