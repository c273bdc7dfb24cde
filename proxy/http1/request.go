package http1

// Request parses request heads (RFC 9112, 3). The zero value is not ready: call
// Reset first. The exported fields are results, valid when Parse said done, and
// not to be written.
type Request struct {
	HeadBytes int // bytes of the head with all line ends; the body starts there

	Method   Span
	MethodID Method
	Target   Span // as it came
	Form     TargetForm
	Path     Span  // path and query of Target; empty for authority-form, asterisk-form and absolute-form without either
	Minor    uint8 // HTTP/1.Minor: 0 or 1

	// Host is the authority the request is for: of an absolute-form or
	// authority-form target, otherwise the value of the Host field. Empty iff
	// an HTTP/1.0 request names none. HostName is the part in front of the
	// port, an IPv6 address with its brackets.
	Host     Span
	HostName Span

	Fields []Field // in order; reused by the next message

	Framing       Framing // FramingNone, FramingLength or FramingChunked
	ContentLength int64   // -1 without a Content-Length

	KeepAlive bool // the client allows another request on this connection
	Expect100 bool // HTTP/1.1 and Expect: 100-continue
	Trailers  bool // TE: trailers

	// Upgrade is true iff the client asks for another protocol in a way that
	// may be granted: HTTP/1.1, an Upgrade field, Connection: upgrade, and the
	// protocol is not h2c, which would let requests pass the proxy unseen
	// (RFC 9113, 3.1 no longer defines it). UpgradeProtocol is that field's value.
	Upgrade         bool
	UpgradeProtocol Span
}

// Reset prepares for the next request. nil limits are the defaults.
func (r *Request) Reset(l *Limits) {}

// Parse goes on with the head. buf holds all bytes received since Reset, always
// from the same first byte; each byte is looked at once, whatever the delivery.
// It returns done when the head is complete and acceptable (bytes from
// buf[r.HeadBytes] on belong to the body or the next request), neither when more
// bytes are needed, and the same error again when called after one.
func (r *Request) Parse(buf []byte) (done bool, err *Error) { return false, nil }

// Started tells whether a request has begun: a byte other than tolerated empty
// lines has been parsed. Before that, the client closing is no error.
func (r *Request) Started() bool { return false }
