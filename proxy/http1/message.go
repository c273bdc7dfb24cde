package http1

// Span is a range of bytes of a message head: offsets from its first byte.
// The zero Span is empty and stands for an element that is not there.
type Span struct{ Start, End uint32 }

// Of returns the bytes of the span; buf starts with the first byte of the head.
func (s Span) Of(buf []byte) []byte { return buf[s.Start:s.End] }

// Len is the length in bytes.
func (s Span) Len() int { return int(s.End - s.Start) }

// Field is one field line of a message head (RFC 9112, 5).
type Field struct {
	Name  Span    // a token, in the sender's case
	Value Span    // without the whitespace around it; may be empty
	ID    FieldID // FieldOther when the name is none that this package knows

	// Hop is true iff the field is for this connection only: a hop-by-hop
	// field, or one that a Connection option names (RFC 9110, 7.6.1). It is
	// valid when the head is complete.
	Hop bool
}

// Method is a method that this package or its callers treat specially.
type Method uint8

// Methods. MethodOther is any other token; it is relayed like POST.
const (
	MethodOther Method = iota
	MethodGet
	MethodHead
	MethodPost
	MethodPut
	MethodDelete
	MethodConnect
	MethodOptions
	MethodTrace
	MethodPatch
)

// Idempotent tells whether a request with the method may be sent a second time
// when nobody knows what became of the first (RFC 9110, 9.2.2).
func (m Method) Idempotent() bool {
	switch m {
	case MethodGet, MethodHead, MethodPut, MethodDelete, MethodOptions, MethodTrace:
		return true
	}
	return false
}

// TargetForm is the form of a request target (RFC 9112, 3.2).
type TargetForm uint8

// The four forms.
const (
	FormOrigin    TargetForm = iota // /path?query
	FormAbsolute                    // http://host/path?query
	FormAuthority                   // host:port, only with CONNECT
	FormAsterisk                    // *, only with OPTIONS
)

// Framing says where the body of a message ends (RFC 9112, 6.3).
type Framing uint8

// The framings.
const (
	FramingNone    Framing = iota // no body
	FramingLength                 // Content-Length bytes, possibly 0
	FramingChunked                // up to and including the last chunk and the trailer section
	FramingClose                  // until the sender closes; responses only
	FramingTunnel                 // no end: 101, or 2xx to CONNECT
)

// Limits bound what a message may cost. They also hold the few permissions that
// a parser needs. One Limits may serve any number of parsers; it must not
// change while one of them is in the middle of a message.
type Limits struct {
	RequestLineBytes    int   // request line without its CRLF; beyond: 414. 0: 8192
	FieldsBytes         int   // all field lines with their CRLF; beyond: 431. 0: 32768
	FieldCount          int   // field lines; beyond: 431. 0: 100
	EmptyLines          int   // CRLFs tolerated in front of a request (RFC 9112, 2.2); beyond: 400. 0: 4; <0: none
	BodyBytes           int64 // request body; beyond: 413. 0: no limit
	ChunkExtensionBytes int   // chunk extensions of one chunk; beyond: 400. 0: 256
	ChunkOverheadBytes  int   // chunk extensions of one body; beyond: 400. 0: 16384
	TrailerBytes        int   // trailer section with its CRLFs; beyond: 431. 0: 8192
	TrailerCount        int   // trailer field lines; beyond: 431. 0: 32
	AllowConnect        bool  // otherwise CONNECT: 501
}
