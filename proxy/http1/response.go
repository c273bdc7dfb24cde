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

	s       section
	method  Method
	upgrade bool // a 101 is expected
}

// maxStatusLineBytes bounds a status line without its CRLF. No limit of the
// configuration is meant for it, and a reason phrase is of no use beyond.
const maxStatusLineBytes = 4096

// ResetFor prepares for the response to a request with the given method; HEAD and
// CONNECT decide about the framing. upgrade tells that the request was forwarded
// with Upgrade: without it a 101 is refused. nil limits are the defaults.
func (r *Response) ResetFor(l *Limits, method Method, upgrade bool) {
	fields := r.s.fields
	*r = Response{}
	r.s.fields = fields
	r.s.reset(l, responseSection, stateStatusLine)
	r.ContentLength, r.method, r.upgrade = -1, method, upgrade
}

// Interim tells that another response to the same request follows: 1xx except 101
// (RFC 9110, 15.2). It must not be sent to an HTTP/1.0 client.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }

// Parse goes on with the head; as Request.Parse, except that every error has
// status 502.
func (r *Response) Parse(buf []byte) (done bool, err *Error) {
	s := &r.s
	if s.failed {
		return false, &s.err
	}
	if s.state < stateField {
		if k := r.statusLine(buf); k != 0 {
			return false, s.fail(k)
		}
		if s.state < stateField {
			return false, nil
		}
	}
	if s.state == stateComplete {
		return true, nil
	}
	if k := s.parse(buf); k != 0 {
		return false, s.fail(k)
	}
	if s.state != stateComplete {
		return false, nil
	}
	if k := r.finish(buf); k != 0 {
		return false, s.fail(k)
	}
	return true, nil
}

// statusLine goes on with the status line (RFC 9112, 4). The space in front of an
// absent reason phrase may be missing, as many servers have it.
func (r *Response) statusLine(buf []byte) Kind {
	const (
		minorAt  = len("HTTP/1.")
		statusAt = len("HTTP/1.1 ")
		reasonAt = len("HTTP/1.1 200 ")
	)
	s := &r.s
	end := min(len(buf), maxStatusLineBytes+len("\r\n"))
	i := s.pos
	for i < end {
		switch s.state {
		case stateStatusLine:
			switch c := buf[i]; {
			case i < minorAt:
				if c != "HTTP/1."[i] {
					return s.stop(i, KindStatusLine)
				}
			case i == minorAt:
				if c > '1' || c < '0' {
					return s.stop(i, KindStatusLine)
				}
				r.Minor = c - '0'
			case i == minorAt+1:
				if c != ' ' {
					return s.stop(i, KindStatusLine)
				}
			case i < reasonAt-1:
				// Three digits, the first a class (RFC 9110, 15).
				if class[c]&classDigit == 0 || i == statusAt && (c < '1' || c > '5') {
					return s.stop(i, KindStatusLine)
				}
				r.Status = r.Status*10 + int(c-'0')
			case c == ' ':
				s.state = stateReason
				r.Reason.Start = uint32(reasonAt)
			case c == '\r':
				s.state = stateFirstLineLF
			default:
				return s.stop(i, KindStatusLine)
			}
			i++

		case stateReason:
			i = scanValue(buf[:end], i)
			if i == end {
				continue
			}
			switch buf[i] {
			case '\t':
			case '\r':
				r.Reason.End = uint32(i)
				s.state = stateFirstLineLF
			case '\n':
				return s.stop(i, KindBareLF)
			default:
				return s.stop(i, KindStatusLine)
			}
			i++

		case stateFirstLineLF:
			if buf[i] != '\n' {
				return s.stop(i, KindBareCR)
			}
			i++
			s.pos = i
			s.start = i
			s.state = stateField
			return 0

		default:
			panic("http1: status line parsed in the wrong state")
		}
	}
	s.pos = i
	if end == maxStatusLineBytes+len("\r\n") {
		return KindStatusLineTooLong
	}
	return 0
}

// finish decides what the complete head means (RFC 9112, 6.3).
func (r *Response) finish(buf []byte) Kind {
	s := &r.s
	r.HeadBytes = s.pos
	r.Fields = s.fields
	tunnel := r.method == MethodConnect && r.Status >= 200 && r.Status < 300
	if !tunnel { // Content-Length and Transfer-Encoding mean nothing there
		if k := s.framing(r.Minor); k != 0 {
			return k
		}
		r.ContentLength = s.length
	}
	hasBody := s.seen&sawTransfer != 0 || s.length > 0

	clean := true
	switch {
	case tunnel:
		r.Framing = FramingTunnel
	case r.Status == 101:
		r.Upgrade = r.upgrade && s.seen&(sawUpgrade|sawUpgradeAgain) == sawUpgrade && r.Minor > 0
		if !r.Upgrade {
			return KindUpgradeUnasked
		}
		if hasBody {
			return KindContentForbidden
		}
		r.Framing = FramingTunnel
	case r.Status < 200:
		// A body where none can be would be read as the final response.
		if hasBody {
			return KindContentForbidden
		}
	case r.Status == 204:
		// Harmless to the client, which gets no framing field; but who
		// announces a body may send one.
		clean = !hasBody
	case r.Status == 304 || r.method == MethodHead:
	case s.seen&sawTransfer != 0:
		r.Framing = FramingChunked
	case s.length >= 0:
		r.Framing = FramingLength
	default:
		r.Framing = FramingClose
	}

	r.KeepAlive = clean && r.Framing != FramingClose && r.Framing != FramingTunnel &&
		s.seen&sawClose == 0 && (r.Minor > 0 || s.seen&sawKeepAlive != 0)
	if s.seen&sawOtherOption != 0 {
		s.nominate(buf)
	}
	return 0
}

// FramingFor is the framing of the body on the way to a client of HTTP/1.minor. A
// body without a known length is chunked to HTTP/1.1 and ends with the connection
// to HTTP/1.0: FramingClose obliges the caller to close after the body.
func (r *Response) FramingFor(minor uint8) Framing {
	switch r.Framing {
	case FramingChunked, FramingClose:
		if minor == 0 {
			return FramingClose
		}
		return FramingChunked
	}
	return r.Framing
}
