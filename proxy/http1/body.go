package http1

import "math"

// bodyState is where a Body stands between two calls of Next. The chunked states
// follow the grammar of RFC 9112, 7.1.
type bodyState uint8

const (
	bodyDone       bodyState = iota
	bodyFixed                // Content-Length bytes
	bodyRaw                  // until close, or a tunnel
	bodySizeFirst            // at the first digit of a chunk size
	bodySize                 // behind a digit of a chunk size
	bodyExtension            // behind ";"
	bodyExtName              // in the name of an extension
	bodyExtNameEnd           // in whitespace behind the name
	bodyExtEqual             // behind "="
	bodyExtToken             // in a value that is a token
	bodyExtQuoted            // in a quoted value
	bodyExtEscape            // behind a backslash
	bodyExtEnd               // behind a value
	bodyExtSpace             // in whitespace behind a value
	bodySizeLF               // behind the CR of a chunk's first line
	bodyChunk                // in chunk data
	bodyChunkCR              // behind chunk data
	bodyChunkLF              // behind the CR that follows chunk data
	bodyTrailers             // in the trailer section
)

// maxSizeDigits bounds a chunk size with its leading zeros.
const maxSizeDigits = 16

// Body decodes the body of one message. The zero value is a body that is done.
type Body struct {
	state   bodyState
	framing Framing
	digits  uint8 // of the chunk size so far
	request bool
	collect bool
	failed  bool

	left     int64 // payload bytes of a fixed body or the chunk
	received int64
	offset   int64 // consumed bytes of all kinds
	ext      int   // extension bytes of this chunk
	extTotal int   // extension bytes of all chunks

	limits   *Limits
	trailers *trailers // nil until a message has some; then kept
	err      Error
}

// trailers holds a trailer section that did not come at once.
type trailers struct {
	buf   []byte // the section so far
	s     section
	lines []byte // canonical
}

func (b *Body) reset(f Framing, length int64, l *Limits, request bool) {
	*b = Body{framing: f, limits: l, request: request, trailers: b.trailers}
	if b.trailers != nil {
		b.trailers.lines = b.trailers.lines[:0]
		b.trailers.buf = b.trailers.buf[:0]
	}
	switch f {
	case FramingLength:
		b.left = length
		if length > 0 {
			b.state = bodyFixed
		}
	case FramingChunked:
		b.state = bodySizeFirst
	case FramingClose, FramingTunnel:
		b.state = bodyRaw
	}
}

// ResetRequest prepares for the body of r. Call it before r is reset. CONNECT has
// none: what follows it is the tunnel's, if there comes to be one; see ResetTunnel.
func (b *Body) ResetRequest(r *Request) {
	f := r.Framing
	if f == FramingTunnel {
		f = FramingNone
	}
	b.reset(f, r.ContentLength, r.s.limits, true)
}

// ResetTunnel prepares for the bytes of the client in a tunnel: all until it closes.
func (b *Body) ResetTunnel() { b.reset(FramingTunnel, -1, &defaultLimits, true) }

// ResetResponse prepares for the body of r. Call it before r is reset.
func (b *Body) ResetResponse(r *Response) { b.reset(r.Framing, r.ContentLength, r.s.limits, false) }

// CollectTrailers makes the body keep its trailer section for Trailers; by
// default it is checked and discarded. To be called after the reset.
func (b *Body) CollectTrailers() { b.collect = true }

// Done tells that the body is complete.
func (b *Body) Done() bool { return b.state == bodyDone && !b.failed }

// Framing is the framing of the body.
func (b *Body) Framing() Framing { return b.framing }

// Remaining is the number of payload bytes known to follow: the rest of a
// FramingLength body or of the current chunk; 0 when that is not known.
func (b *Body) Remaining() int64 {
	if b.state == bodyFixed || b.state == bodyChunk {
		return b.left
	}
	return 0
}

// Received is the number of payload bytes so far.
func (b *Body) Received() int64 { return b.received }

// Trailers returns the collected trailer fields as canonical lines, each with its
// CRLF. Left out are the fields that this package knows: those that must not be
// trailers (RFC 9110, 6.5.1) and those that a backend trusts. Valid when Done,
// until the next reset; goes into AppendLastChunk.
func (b *Body) Trailers() []byte {
	if b.trailers == nil {
		return nil
	}
	return b.trailers.lines
}

// EOF tells the body that the sender has closed. It completes a FramingClose body
// and a tunnel; in the middle of any other the message is truncated.
func (b *Body) EOF() *Error {
	if b.failed {
		return &b.err
	}
	switch b.state {
	case bodyDone:
	case bodyRaw:
		b.state = bodyDone
	default:
		return b.fail(KindTruncated, 0)
	}
	return nil
}

// fail notes why and where: at bytes into the slice being consumed.
func (b *Body) fail(k Kind, at int) *Error {
	b.failed = true
	b.err = Error{Kind: k, Offset: int(b.offset) + at, Status: 502}
	if b.request {
		b.err.Status = kinds[k].status
	}
	return &b.err
}

// Next takes bytes from p, which continues where the last call stopped: n bytes
// are consumed, data is the part of them that is payload (a sub-slice of p, often
// empty). It stops after one piece of payload, at the end of the body, or at
// the end of p; call it while p is not empty and the body is not Done. After an
// error, which is final, n is 0.
func (b *Body) Next(p []byte) (n int, data []byte, err *Error) {
	if b.failed {
		return 0, nil, &b.err
	}
	switch b.state {
	case bodyDone:
		return 0, nil, nil
	case bodyRaw:
		n, data = len(p), p
		b.received += int64(n)
	case bodyFixed:
		n, data = b.payload(p)
		if b.left == 0 {
			b.state = bodyDone
		}
	default:
		n, data, err = b.chunked(p)
		if err != nil {
			return 0, nil, err
		}
	}
	b.offset += int64(n)
	return n, data, nil
}

// Skip takes n bytes of payload that went another way than through Next, as Next would: of a FramingLength body that is not
// Done, at most Remaining, or of one whose end is that of the connection.
func (b *Body) Skip(n int) {
	b.offset += int64(n)
	b.received += int64(n)
	if b.state == bodyFixed {
		if b.left -= int64(n); b.left == 0 {
			b.state = bodyDone
		}
	}
}

// payload takes what p has of the b.left bytes.
func (b *Body) payload(p []byte) (n int, data []byte) {
	n = len(p)
	if int64(n) > b.left {
		n = int(b.left)
	}
	b.left -= int64(n)
	b.received += int64(n)
	return n, p[:n:n]
}

// chunked goes on with a chunked body until one piece of payload, the end of the
// body, or the end of p.
func (b *Body) chunked(p []byte) (n int, data []byte, err *Error) {
	for i := 0; i < len(p); {
		c := p[i]
		switch b.state {
		case bodySizeFirst, bodySize:
			if class[c]&classHex != 0 {
				// The shift cannot overflow as long as the digits
				// are bounded and the top bit stays clear.
				if b.digits++; b.digits > maxSizeDigits || b.left > math.MaxInt64>>4 {
					return 0, nil, b.fail(KindChunkSize, i)
				}
				b.left = b.left<<4 | int64(hexValue(c))
				b.state = bodySize
				break
			}
			if b.state == bodySizeFirst {
				return 0, nil, b.fail(KindChunkSize, i)
			}
			switch c {
			case '\r':
				b.state = bodySizeLF
			case ';':
				b.state = bodyExtension
			default:
				// Whitespace too: the grammar lets it stand in front of
				// ";", but readers differ about it (RFC 9112, 7.1.1).
				return 0, nil, b.fail(KindChunkSize, i)
			}

		case bodyExtension, bodyExtName, bodyExtNameEnd, bodyExtEqual, bodyExtToken,
			bodyExtQuoted, bodyExtEscape, bodyExtEnd, bodyExtSpace:
			next := extensionState(b.state, c)
			if next == bodyDone {
				return 0, nil, b.fail(KindChunkExtension, i)
			}
			b.ext++
			b.extTotal++
			if b.ext > orDefault(b.limits.ChunkExtensionBytes, 256) ||
				b.extTotal > orDefault(b.limits.ChunkOverheadBytes, 16384) {
				return 0, nil, b.fail(KindChunkExtensionsTooLong, i)
			}
			b.state = next

		case bodySizeLF:
			if c != '\n' {
				return 0, nil, b.fail(KindBareCR, i)
			}
			if maxBody := b.limits.BodyBytes; b.request && maxBody > 0 && b.left > maxBody-b.received {
				return 0, nil, b.fail(KindBodyTooLarge, i)
			}
			b.digits, b.ext = 0, 0
			b.state = bodyChunk
			if b.left == 0 {
				b.state = bodyTrailers
			}

		case bodyChunk:
			n, data = b.payload(p[i:])
			if b.left == 0 {
				b.state = bodyChunkCR
			}
			return i + n, data, nil

		case bodyChunkCR:
			if c != '\r' {
				return 0, nil, b.fail(KindChunkEnd, i)
			}
			b.state = bodyChunkLF

		case bodyChunkLF:
			if c != '\n' {
				return 0, nil, b.fail(KindChunkEnd, i)
			}
			b.state = bodySizeFirst

		case bodyTrailers:
			n, err = b.trailer(p[i:], i)
			return i + n, nil, err

		default:
			panic("http1: chunked body read in the wrong state")
		}
		i++
	}
	return len(p), nil, nil
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// extensionState is the state behind c in a chunk extension (RFC 9112, 7.1.1),
// whitespace of RFC 9110, 5.6.3 included, or bodyDone when c must not be there.
func extensionState(s bodyState, c byte) bodyState {
	space := c == ' ' || c == '\t'
	switch s {
	case bodyExtension:
		switch {
		case isToken(c):
			return bodyExtName
		case space:
			return s
		}
	case bodyExtName, bodyExtNameEnd:
		switch {
		case c == '=':
			return bodyExtEqual
		case c == ';':
			return bodyExtension
		case space:
			return bodyExtNameEnd
		case s == bodyExtName && isToken(c):
			return s
		case s == bodyExtName && c == '\r':
			return bodySizeLF
		}
	case bodyExtEqual:
		switch {
		case isToken(c):
			return bodyExtToken
		case c == '"':
			return bodyExtQuoted
		case space:
			return s
		}
	case bodyExtQuoted:
		switch {
		case c == '"':
			return bodyExtEnd
		case c == '\\':
			return bodyExtEscape
		case class[c]&classQuoted != 0:
			return s
		}
	case bodyExtEscape:
		if class[c]&classQuoted != 0 || c == '"' || c == '\\' {
			return bodyExtQuoted
		}
	case bodyExtToken, bodyExtEnd, bodyExtSpace:
		switch {
		case c == ';':
			return bodyExtension
		case space:
			return bodyExtSpace
		case s == bodyExtToken && isToken(c):
			return s
		case s != bodyExtSpace && c == '\r':
			return bodySizeLF
		}
	}
	return bodyDone
}

// trailer goes on with the trailer section (RFC 9112, 7.1.2); p begins at bytes
// into what Next was given. Nearly always the section is just the CRLF.
func (b *Body) trailer(p []byte, at int) (n int, err *Error) {
	t := b.trailers
	if (t == nil || len(t.buf) == 0) && len(p) >= 2 && p[0] == '\r' && p[1] == '\n' {
		b.state = bodyDone
		return 2, nil
	}
	if t == nil {
		t = new(trailers)
		b.trailers = t
	}
	had := len(t.buf)
	if had == 0 {
		t.s.reset(b.limits, trailerSection, stateField)
	}
	// A byte more than the limit cannot be needed.
	n = min(len(p), orDefault(b.limits.TrailerBytes, 8192)-had)
	t.buf = append(t.buf, p[:n]...)
	if k := t.s.parse(t.buf); k != 0 {
		return 0, b.fail(k, at+t.s.pos-had)
	}
	if t.s.state != stateComplete {
		return n, nil
	}
	b.state = bodyDone
	n = t.s.pos - had
	if b.collect {
		for i := range t.s.fields {
			if f := &t.s.fields[i]; f.ID == FieldOther {
				t.lines = appendField(t.lines, f, t.buf)
			}
		}
	}
	return n, nil
}
