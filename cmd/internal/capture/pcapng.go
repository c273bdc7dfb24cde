package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The blocks and options of pcapng (draft-ietf-opsawg-pcapng) that are written. A
// library for it would bring its decoders of all protocols into every worker's memory.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6

	byteOrderMagic = 0x1a2b3c4d
	linkEthernet   = 1

	optionComment     = 1
	optionApplication = 4 // of a section
	optionName        = 2 // of an interface
	optionMAC         = 6
	optionResolution  = 9
	optionFilter      = 11
	optionStart       = 2 // of statistics
	optionEnd         = 3
	optionReceived    = 4
	optionDropped     = 5
	optionFlags       = 2 // of a packet
	optionQueue       = 6
	optionVerdict     = 7

	flagInbound, flagOutbound = 1, 2

	verdictXDP  = 2 // the kind of verdict
	xdpRedirect = 4 // linux/bpf.h

	maxBlockBytes = 1 << 20
)

// encoder appends blocks to b, little-endian.
type encoder struct {
	b     []byte
	start int // of the present block
}

func (e *encoder) begin(kind uint32) {
	e.start = len(e.b)
	e.u32(kind)
	e.u32(0)
}

func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }

// time is a time in ns, which pcapng writes with its upper half first.
func (e *encoder) time(ns uint64) {
	e.u32(uint32(ns >> 32))
	e.u32(uint32(ns))
}

func (e *encoder) padded(b []byte) {
	e.b = append(e.b, b...)
	for len(e.b)%4 != e.start%4 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) option(code uint16, value ...byte) {
	e.u16(code)
	e.u16(uint16(len(value)))
	e.padded(value)
}

func (e *encoder) text(code uint16, text string) {
	const most = 1 << 15
	e.option(code, []byte(text[:min(len(text), most)])...)
}

func (e *encoder) number(code uint16, v uint64) {
	e.option(code, binary.LittleEndian.AppendUint64(nil, v)...)
}

func (e *encoder) timeOption(code uint16, ns uint64) {
	e.u16(code)
	e.u16(8)
	e.time(ns)
}

// end closes the options, if there are any, and the block.
func (e *encoder) end(options bool) {
	if options {
		e.u32(0)
	}
	n := uint32(len(e.b) - e.start + 4)
	e.u32(n)
	binary.LittleEndian.PutUint32(e.b[e.start+4:], n)
}

// header writes what a file begins with.
func (e *encoder) header(o *Options, links []Link) {
	e.begin(blockSection)
	e.u32(byteOrderMagic)
	e.u16(1)
	e.u16(0)
	e.u32(0xffffffff) // the section's length is not known
	e.u32(0xffffffff)
	e.text(optionApplication, "ringroad "+o.Version)
	e.end(true)
	for i := range links {
		l := &links[i]
		e.begin(blockInterface)
		e.u16(linkEthernet)
		e.u16(0)
		e.u32(uint32(o.SnapLen))
		e.text(optionName, l.Name)
		e.option(optionMAC, l.MAC[:]...)
		e.option(optionResolution, 9) // ns
		if o.Filter != "" {
			e.text(optionFilter, "\x00"+o.Filter) // 0: as libpcap writes it
		}
		e.end(true)
	}
}

// packet writes a frame. queue is where it came in or went out.
func (e *encoder) packet(r *record, ns uint64, frame []byte, comment string) {
	e.begin(blockPacket)
	e.u32(uint32(r.link))
	e.time(ns)
	e.u32(uint32(len(frame)))
	e.u32(r.length)
	e.padded(frame)
	e.text(optionComment, comment)
	flags := uint32(flagInbound)
	if r.kind == sent {
		flags = flagOutbound
	}
	e.u16(optionFlags)
	e.u16(4)
	e.u32(flags)
	e.u16(optionQueue)
	e.u16(4)
	e.u32(uint32(r.queue))
	if r.kind == received {
		e.option(optionVerdict, verdictXDP, xdpRedirect, 0, 0, 0, 0, 0, 0, 0)
	}
	e.end(true)
}

// statistics writes what a link's filter accepted and what was lost.
func (e *encoder) statistics(link int, start, end, accepted, dropped uint64) {
	e.begin(blockStatistics)
	e.u32(uint32(link))
	e.time(end)
	e.timeOption(optionStart, start)
	e.timeOption(optionEnd, end)
	e.number(optionReceived, accepted)
	e.number(optionDropped, dropped)
	e.end(true)
}

// Reader takes a stream of blocks apart.
type Reader struct {
	r *bufio.Reader
	b []byte
}

// NewReader reads what a [Session] writes.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 1<<16)} }

// Block is a block as it was read, from its kind to its length at the end.
type Block []byte

// Next returns the next block, valid until the call after. io.EOF: there is none.
func (r *Reader) Next() (Block, error) {
	head, err := r.r.Peek(8)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n < 12 || n%4 != 0 || n > maxBlockBytes {
		return nil, fmt.Errorf("read the capture: a block of %d bytes", n)
	}
	if cap(r.b) < int(n) {
		r.b = make([]byte, n)
	}
	r.b = r.b[:n]
	if _, err := io.ReadFull(r.r, r.b); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return r.b, nil
}

// Buffered reports whether more has arrived already.
func (r *Reader) Buffered() bool { return r.r.Buffered() > 0 }

func (b Block) kind() uint32 { return binary.LittleEndian.Uint32(b) }

// body is what is between the lengths.
func (b Block) body() []byte { return b[8 : len(b)-4] }

// options calls f with each option from an offset of the body.
func (b Block) options(from int, f func(code uint16, value []byte)) {
	rest := b.body()
	if from > len(rest) {
		return
	}
	for rest = rest[from:]; len(rest) >= 4; {
		code, n := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		rest = rest[4:]
		if code == 0 || n > len(rest) {
			return
		}
		f(code, rest[:n])
		rest = rest[min((n+3)&^3, len(rest)):]
	}
}
