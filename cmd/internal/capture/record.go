package capture

import (
	"encoding/binary"

	"ringroad/cmd/internal/feed"
)

// MaxLinks is how many interfaces have room for their two counters.
const MaxLinks = feed.MaxCounters / 2

// accepted and dropped are the counters of a link: frames that the filter accepted,
// and those of them that found no room.
func accepted(link int) int { return 2 * link }
func dropped(link int) int  { return 2*link + 1 }

// record is what the ring holds of a frame, in 24 bytes before the frame's.
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
	received kind = 1 + iota
	handed
	sent
)

const recordBytes = 24

func (r *record) put(b *[recordBytes]byte) {
	binary.NativeEndian.PutUint64(b[:], r.time)
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

// peek returns the oldest frame of a ring, which is valid until the ring's Take. What
// no worker writes is left out.
func peek(from *feed.Ring, r *record) (frame []byte, ok bool) {
	for {
		b, ok := from.Peek()
		if !ok {
			return nil, false
		}
		if len(b) >= recordBytes {
			r.get(b)
			if frame := b[recordBytes:]; int(r.kept) == len(frame) && r.kept <= r.length {
				return frame, true
			}
		}
		from.Take()
	}
}
