package http1

// Body decodes the body of one message. The zero value is a body that is done.
type Body struct{}

// ResetRequest prepares for the body of r. Call it before r is reset.
func (b *Body) ResetRequest(r *Request) {}

// ResetResponse prepares for the body of r. Call it before r is reset.
func (b *Body) ResetResponse(r *Response) {}

// CollectTrailers makes the body keep its trailer section for Trailers; by
// default it is checked and discarded. To be called after the reset.
func (b *Body) CollectTrailers() {}

// Next takes bytes from p, which continues where the last call stopped: n bytes
// are consumed, data is the part of them that is payload (a sub-slice of p, often
// empty). It stops after one piece of payload, at the end of the body, or at
// the end of p; call it while p is not empty and the body is not Done.
func (b *Body) Next(p []byte) (n int, data []byte, err *Error) { return 0, nil, nil }

// Done tells that the body is complete.
func (b *Body) Done() bool { return true }

// EOF tells the body that the sender has closed. It completes a FramingClose body;
// in the middle of any other it is an error: the message is truncated.
func (b *Body) EOF() *Error { return nil }

// Framing is the framing of the body.
func (b *Body) Framing() Framing { return FramingNone }

// Remaining is the number of payload bytes known to follow: the rest of a
// FramingLength body or of the current chunk; 0 when that is not known.
func (b *Body) Remaining() int64 { return 0 }

// Received is the number of payload bytes so far.
func (b *Body) Received() int64 { return 0 }

// Trailers returns the collected trailer fields as canonical lines, each with its
// CRLF, without those that must not be trailers. Valid when Done, until the next
// reset; goes into AppendLastChunk.
func (b *Body) Trailers() []byte { return nil }
