package http1

// Response parses response heads (RFC 9112, 4). The zero value is not ready: call
// ResetFor first. The exported fields are results, valid when Parse said done,
// and not to be written.
type Response struct {
	HeadBytes int // bytes of the head with all line ends; the body starts there

	Status int
	Reason Span  // may be empty
	Minor  uint8 // HTTP/1.Minor: 0 or 1

	Fields []Field // in order; reused by the next message

	Framing       Framing
	ContentLength int64 // -1 without a Content-Length; with FramingNone (HEAD, 304) it does not describe a body that follows

	// KeepAlive is true iff the backend connection may carry another request
	// after this response, if the body ends cleanly and nothing follows it.
	KeepAlive bool

	Upgrade bool // 101 with an Upgrade field, asked for: the connection becomes a tunnel
}

// ResetFor prepares for the response to a request with the given method; HEAD and
// CONNECT decide about the framing. upgrade tells that the request was forwarded
// with Upgrade: without it a 101 is refused. nil limits are the defaults.
func (r *Response) ResetFor(l *Limits, method Method, upgrade bool) {}

// Parse goes on with the head; as Request.Parse.
func (r *Response) Parse(buf []byte) (done bool, err *Error) { return false, nil }

// Interim tells that another response to the same request follows: 1xx except 101
// (RFC 9110, 15.2). It must not be sent to an HTTP/1.0 client.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// FramingFor is the framing of the body on the way to a client of HTTP/1.minor.
// FramingClose obliges the caller to close after the body.
func (r *Response) FramingFor(minor uint8) Framing { return FramingNone }
