package proxy

import (
	"io"

	"ringroad/proxy/http1"
	"ringroad/stack"
)

const (
	// chunkRoom is what the framing of a piece of a chunked body takes at most:
	// the size line, the end of the chunk, and the last chunk.
	chunkRoom = 8 + 2 + 2 + 5
	// minRoom is the least room worth a read. A buffer that has less is written
	// first.
	minRoom = 4 << 10
)

// flow is one direction of an exchange: a message on its way from one peer to
// the other. The zero flow has not begun.
type flow struct {
	body http1.Body // decoder of the message's body as it comes
	flowState
}

// flowState is what begins as zero in every message.
type flowState struct {
	out buffer // serialised and not yet written

	chunked  bool // the body is chunked on the way out
	complete bool // the whole message is in out, or was
	excess   bool // the peer sent more than the message
	closed   bool // in a tunnel: the end was passed on

	moved uint64 // payload bytes put into out

	remove []http1.FieldName // fields that the trailer section loses
}

// begin prepares for a body that leaves with the given framing. f.body was reset.
func (f *flow) begin(out http1.Framing) {
	f.chunked = out == http1.FramingChunked
	if f.chunked && f.body.Framing() == http1.FramingChunked {
		f.body.CollectTrailers()
	}
}

// straight tells whether body bytes leave as they come, so that they can be read
// into the buffer that they are written from.
func (f *flow) straight() bool {
	return !f.chunked && f.body.Framing() != http1.FramingChunked
}

// space makes sure that out has room for a piece of the body. It reports false
// when out must be written first.
func (f *flow) space(w *Worker) bool {
	if f.out.b == nil {
		w.buffers.relay(&f.out)
	}
	return f.out.room() >= minRoom
}

// fill moves the body from in, and when that is empty from the connection src, to
// out, until the body is complete, nothing more has come, there is no room, or
// budget is used up. floor is the first byte of in that may be overwritten. exact
// tells that what follows the body must stay in the connection.
//
// A large body that leaves as it comes it hands on to dst, with what out holds before it, where that can be done; nil: nothing
// can be written yet.
//
// It returns how many bytes it read from src, and wrote to dst. One of bad and err may be set: bad
// when the body is malformed, err when src failed; a premature end is
// io.ErrUnexpectedEOF.
func (f *flow) fill(w *Worker, src, dst *peer, in *buffer, floor int, exact bool, budget *int) (read, written int, bad *http1.Error, err error) {
	for {
		if bad := f.decode(w, in, floor); bad != nil || f.complete {
			return read, written, bad, nil
		}
		if in.len() > 0 || !src.readable || *budget <= 0 {
			return read, written, nil, nil
		}
		if w.congested {
			w.stats.Congestions++
			*budget = 0
			return read, written, nil, nil
		}
		straight := f.straight()
		if straight && dst != nil {
			if n, k := f.hand(src, dst, *budget); n > 0 {
				read += n
				written += k
				*budget -= n
				continue
			}
		}
		if !f.space(w) || straight && f.waits(dst) && f.out.len() > 0 {
			return read, written, nil, nil
		}
		var n int
		if straight {
			n, bad, err = f.readStraight(src, dst, exact)
		} else {
			n, err = w.readInto(in, src, floor)
		}
		read += n
		*budget -= n
		switch {
		case bad != nil:
			return read, written, bad, nil
		case err == nil:
		case err == stack.ErrWouldBlock:
			return read, written, nil, nil
		case err == io.EOF:
			if f.body.EOF() != nil {
				return read, written, nil, io.ErrUnexpectedEOF
			}
			f.finish()
			return read, written, nil, nil
		default:
			return read, written, nil, err
		}
	}
}

// hand has src hand body bytes on to dst, as many as budget permits.
func (f *flow) hand(src, dst *peer, budget int) (read, written int) {
	most := max(budget, stack.MoveBytes)
	if f.body.Framing() == http1.FramingLength {
		most = int(min(int64(most), f.body.Remaining()))
	}
	if !dst.writable || most < stack.MoveBytes {
		return 0, 0
	}
	read, written = src.move(dst, &f.out, most)
	f.body.Skip(read)
	f.moved += uint64(read)
	return read, written
}

// waits tells whether the rest of a straight body is better left in the connection, to be handed on, because dst takes nothing
// for now, and the rest does not fit into out.
func (f *flow) waits(dst *peer) bool {
	return dst != nil && !dst.writable && (f.body.Framing() != http1.FramingLength || f.body.Remaining() > int64(f.out.room()))
}

// decode moves what in holds of the body to out.
func (f *flow) decode(w *Worker, in *buffer, floor int) *http1.Error {
	for !f.body.Done() {
		p := in.pending()
		if len(p) == 0 || !f.space(w) {
			return nil
		}
		// The room limits the input: what is decoded never is longer.
		p = p[:min(len(p), f.out.room()-chunkRoom)]
		n, data, bad := f.body.Next(p)
		if bad != nil {
			return bad
		}
		f.append(data)
		in.take(n, floor)
	}
	f.finish()
	return nil
}

// append puts a piece of payload into out.
func (f *flow) append(data []byte) {
	if len(data) == 0 {
		return
	}
	b := f.out.b[:f.out.w]
	if f.chunked {
		b = http1.AppendChunkHeader(b, len(data))
		b = append(b, data...)
		b = append(b, http1.ChunkEnd...)
	} else {
		b = append(b, data...)
	}
	f.out.grew(b)
	f.moved += uint64(len(data))
}

// finish puts the end of the message into out.
func (f *flow) finish() {
	if f.complete {
		return
	}
	f.complete = true
	if f.chunked {
		trailers := f.body.Trailers()
		if len(f.remove) > 0 && len(trailers) > 0 {
			trailers = withoutFields(trailers, f.remove)
		}
		f.out.grew(http1.AppendLastChunk(f.out.b[:f.out.w], trailers))
	}
}

// readStraight reads body bytes into out.
func (f *flow) readStraight(src, dst *peer, exact bool) (n int, bad *http1.Error, err error) {
	p := f.out.b[f.out.w:]
	if f.waits(dst) {
		p = p[:minRoom] // so that dst is waited for
	}
	if f.body.Framing() == http1.FramingLength {
		// One byte more shows whether something follows the body.
		limit := f.body.Remaining()
		if !exact {
			limit++
		}
		if limit < int64(len(p)) {
			p = p[:limit]
		}
	}
	n, err = src.read(p)
	for p = p[:n]; len(p) > 0; {
		if f.body.Done() {
			f.excess = true
			break
		}
		k, _, bad := f.body.Next(p)
		if bad != nil {
			return n, bad, nil
		}
		f.out.w += k
		f.moved += uint64(k)
		p = p[k:]
	}
	return n, nil, err
}

// readInto reads raw bytes into in. A body that needs decoding comes in pieces as
// large as a relay buffer; what lies below floor stays where it is.
func (w *Worker) readInto(in *buffer, src *peer, floor int) (int, error) {
	if in.b == nil {
		w.buffers.relay(in)
	} else if in.len() == 0 {
		w.buffers.grow(in, floor)
		in.r, in.w = floor, floor
	}
	n, err := src.read(in.b[in.w:])
	in.w += n
	return n, err
}
