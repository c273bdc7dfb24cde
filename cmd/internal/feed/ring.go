package feed

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The memory of a ring: a page with words, and then the bytes of the ring. The
// worker alone stores the tail and the counters, the master alone the head.
// Positions count bytes for ever.
const (
	pageBytes = 4096

	tailAt     = 0
	headAt     = 128 // processors prefetch lines in pairs
	countersAt = 256

	// MaxCounters is how many counters a ring has.
	MaxCounters = (pageBytes - countersAt) / 8

	// headBytes is what stands before a record: its length and its kind. Records
	// begin at multiples of 8.
	headBytes = 8

	kindPadding = 0 // nothing follows up to the end of the ring
	kindRecord  = 1
)

// align is the room of n bytes.
func align(n uint64) uint64 { return (n + 7) &^ 7 }

// Ring is one process's view of the memory. One goroutine at a time may write, and
// one read.
type Ring struct {
	mem        []byte
	data       []byte
	size       uint64
	tail, head *atomic.Uint64
	next       uint64 // position behind the record that Peek returned
}

// NewRing makes the memory of a ring of size bytes, a power of two. The name shows in
// /proc.
func NewRing(name string, size int) (*Ring, *os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("make the buffer %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err = f.Truncate(int64(pageBytes + size)); err == nil {
		// Whoever reads memory that was cut off dies.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	var r *Ring
	if err == nil {
		r, err = OpenRing(f)
	}
	if err != nil {
		f.Close() //nolint:errcheck // the other error says more
		return nil, nil, fmt.Errorf("make the buffer %s: %w", name, err)
	}
	return r, f, nil
}

// OpenRing maps the memory. All its pages are there at once: the loop should not
// have to wait for the kernel to find them.
func OpenRing(f *os.File) (*Ring, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size() - pageBytes
	if size <= 0 || size&(size-1) != 0 {
		return nil, fmt.Errorf("a buffer of %d bytes", size)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map a buffer: %w", err)
	}
	return &Ring{mem: mem, data: mem[pageBytes:], size: uint64(size), tail: word(mem, tailAt), head: word(mem, headAt)}, nil
}

// Close unmaps the memory.
func (r *Ring) Close() error { return unix.Munmap(r.mem) }

// Counter is a counter that the worker keeps for the master.
func (r *Ring) Counter(i int) *atomic.Uint64 { return word(r.mem, countersAt+8*i) }

// Count adds to a counter. It has one writer at a time: there is no need to lock.
func (r *Ring) Count(i int, n uint64) {
	c := r.Counter(i)
	c.Store(c.Load() + n)
}

// Put writes a record, which is head with body behind it; false: there is no room.
// Only the worker calls it.
func (r *Ring) Put(head, body []byte) bool {
	tail := r.tail.Load()
	at := tail & (r.size - 1)
	length := len(head) + len(body)
	n := align(headBytes + uint64(length))
	pad := uint64(0)
	if rest := r.size - at; n > rest {
		pad = rest
	}
	// Acquire: the reader is done with what is before its head.
	if tail-r.head.Load()+pad+n > r.size {
		return false
	}
	if pad > 0 {
		putHead(r.data[at:], 0, kindPadding)
		tail += pad
		at = 0
	}
	putHead(r.data[at:], length, kindRecord)
	copy(r.data[at+headBytes:], head)
	copy(r.data[at+headBytes+uint64(len(head)):], body)
	// Release: the record is complete before the tail says so.
	r.tail.Store(tail + n)
	return true
}

func putHead(b []byte, length int, kind uint32) {
	binary.NativeEndian.PutUint32(b, uint32(length))
	binary.NativeEndian.PutUint32(b[4:], kind)
}

// Peek returns the oldest record, which is valid until Take. ok is false when there
// is none. Whatever a broken worker has written, it stays within the ring: what
// cannot be right is skipped to the tail. Only the master calls it.
func (r *Ring) Peek() (record []byte, ok bool) {
	head, tail := r.head.Load(), r.tail.Load()
	for head != tail {
		if tail-head > r.size || head%8 != 0 || tail%8 != 0 {
			break
		}
		at := head & (r.size - 1)
		rest := r.size - at
		length := uint64(binary.NativeEndian.Uint32(r.data[at:]))
		if binary.NativeEndian.Uint32(r.data[at+4:]) == kindPadding {
			head += rest
			if int64(tail-head) < 0 {
				break
			}
			r.head.Store(head)
			continue
		}
		end := headBytes + length
		if align(end) > min(rest, tail-head) {
			break
		}
		r.next = head + align(end)
		return r.data[at+headBytes : at+end : at+end], true
	}
	if head != tail {
		r.head.Store(tail &^ 7)
	}
	return nil, false
}

// Take gives the room of the record that Peek returned back.
func (r *Ring) Take() {
	// Release: it was read before the worker may overwrite it.
	r.head.Store(r.next)
}
