package capture

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
	ringPageBytes = 4096

	tailAt     = 0
	headAt     = 128 // processors prefetch lines in pairs
	countersAt = 256 // two words for each link: accepted, dropped

	// MaxLinks is how many interfaces have room for counters.
	MaxLinks = (ringPageBytes - countersAt) / 16
)

// record is what the ring holds of a frame, in 24 bytes and then the frame's, up to a
// multiple of 8.
type record struct {
	time   uint64 // ns, of the capture's clock
	length uint32 // of the frame on the wire
	kept   uint32 // bytes of it that follow
	queue  uint16
	link   uint8
	kind   kind
	from   int16 // worker that handed it over; valid iff kind is handed
	fate   int16 // stack.Fate of a received frame
}

type kind uint8

const (
	padding kind = iota // nothing follows up to the end of the ring
	received
	handed
	sent
)

const recordBytes = 24

func (r *record) put(b []byte) {
	binary.NativeEndian.PutUint64(b, r.time)
	binary.NativeEndian.PutUint32(b[8:], r.length)
	binary.NativeEndian.PutUint32(b[12:], r.kept)
	binary.NativeEndian.PutUint16(b[16:], r.queue)
	b[18], b[19] = r.link, uint8(r.kind)
	binary.NativeEndian.PutUint16(b[20:], uint16(r.from))
	binary.NativeEndian.PutUint16(b[22:], uint16(r.fate))
}

func (r *record) get(b []byte) {
	r.time = binary.NativeEndian.Uint64(b)
	r.length = binary.NativeEndian.Uint32(b[8:])
	r.kept = binary.NativeEndian.Uint32(b[12:])
	r.queue = binary.NativeEndian.Uint16(b[16:])
	r.link, r.kind = b[18], kind(b[19])
	r.from = int16(binary.NativeEndian.Uint16(b[20:]))
	r.fate = int16(binary.NativeEndian.Uint16(b[22:]))
}

// align is the room of n bytes.
func align(n uint64) uint64 { return (n + 7) &^ 7 }

// ring is one process's view of the memory.
type ring struct {
	mem        []byte
	data       []byte
	size       uint64
	tail, head *atomic.Uint64
}

// newRing makes the memory of a ring of size bytes, a power of two.
func newRing(size int) (*ring, *os.File, error) {
	fd, err := unix.MemfdCreate("ringroad-capture", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("make a capture buffer: %w", err)
	}
	f := os.NewFile(uintptr(fd), "capture")
	if err = f.Truncate(int64(ringPageBytes + size)); err == nil {
		// Whoever reads memory that was cut off dies.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	var r *ring
	if err == nil {
		r, err = openRing(f)
	}
	if err != nil {
		f.Close() //nolint:errcheck // the other error says more
		return nil, nil, fmt.Errorf("make a capture buffer: %w", err)
	}
	return r, f, nil
}

// openRing maps the memory. All its pages are there at once: the loop should not
// have to wait for the kernel to find them.
func openRing(f *os.File) (*ring, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size() - ringPageBytes
	if size <= 0 || size&(size-1) != 0 {
		return nil, fmt.Errorf("a capture buffer of %d bytes", size)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map a capture buffer: %w", err)
	}
	return &ring{mem: mem, data: mem[ringPageBytes:], size: uint64(size), tail: word(mem, tailAt), head: word(mem, headAt)}, nil
}

func (r *ring) close() error { return unix.Munmap(r.mem) }

// accepted and dropped are the counters of a link: frames that the filter accepted,
// and those of them that found no room.
func (r *ring) accepted(link int) *atomic.Uint64 { return word(r.mem, countersAt+16*link) }
func (r *ring) dropped(link int) *atomic.Uint64  { return word(r.mem, countersAt+16*link+8) }

// put writes a record with what is kept of the frame; false: there is no room. Only
// the worker calls it.
func (r *ring) put(rec *record, frame []byte) bool {
	tail := r.tail.Load()
	at := tail & (r.size - 1)
	n := align(recordBytes + uint64(len(frame)))
	pad := uint64(0)
	if rest := r.size - at; n > rest {
		pad = rest
	}
	// Acquire: the reader is done with what is before its head.
	if tail-r.head.Load()+pad+n > r.size {
		return false
	}
	if pad > 0 {
		if pad >= recordBytes { // what is shorter can be nothing else
			(&record{kind: padding}).put(r.data[at:])
		}
		tail += pad
		at = 0
	}
	rec.put(r.data[at:])
	copy(r.data[at+recordBytes:], frame)
	// Release: the record is complete before the tail says so.
	r.tail.Store(tail + n)
	return true
}

// peek reads the oldest record; its frame is valid until take. ok is false when there
// is none. Whatever a broken worker has written, it stays within the ring: what
// cannot be right is skipped to the tail. Only the master calls it.
func (r *ring) peek(rec *record) (frame []byte, ok bool) {
	head, tail := r.head.Load(), r.tail.Load()
	for head != tail {
		if tail-head > r.size || head%8 != 0 || tail%8 != 0 {
			break
		}
		at := head & (r.size - 1)
		rest := r.size - at
		if rest >= recordBytes {
			rec.get(r.data[at:])
		}
		if rest < recordBytes || rec.kind == padding {
			head += rest
			if int64(tail-head) < 0 {
				break
			}
			r.head.Store(head)
			continue
		}
		end := recordBytes + uint64(rec.kept)
		if align(end) > min(rest, tail-head) || rec.kept > rec.length {
			break
		}
		return r.data[at+recordBytes : at+end : at+end], true
	}
	if head != tail {
		r.head.Store(tail &^ 7)
	}
	return nil, false
}

// take gives the room of the record that peek read back.
func (r *ring) take(rec *record) {
	// Release: it was read before the worker may overwrite it.
	r.head.Store(r.head.Load() + align(recordBytes+uint64(rec.kept)))
}
