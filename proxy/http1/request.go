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

	Framing       Framing // FramingNone, FramingLength, FramingChunked; FramingTunnel with CONNECT
	ContentLength int64   // -1 without a Content-Length

	KeepAlive bool // the client allows another request on this connection
	Expect100 bool // HTTP/1.1, Expect: 100-continue, and a body to wait for
	Trailers  bool // TE: trailers

	// Upgrade is true iff the client asks for another protocol in a way that
	// may be granted: HTTP/1.1, one Upgrade field, Connection: upgrade, and the
	// protocol is not h2c, which would let requests pass the proxy unseen
	// (RFC 9113, 3.1 no longer defines it). UpgradeProtocol is that field's value.
	Upgrade         bool
	UpgradeProtocol Span

	s          section
	emptyLines int
}

// maxMethodBytes is more than twice the longest registered method.
const maxMethodBytes = 40

// Reset prepares for the next request. nil limits are the defaults.
func (r *Request) Reset(l *Limits) {
	fields := r.s.fields
	*r = Request{}
	r.s.fields = fields
	r.s.reset(l, requestSection, stateEmptyLine)
	r.ContentLength = -1
}

// Started tells whether a request has begun: a byte other than tolerated empty
// lines has been parsed. Before that, the client closing is no error.
func (r *Request) Started() bool { return r.s.state > stateEmptyLineLF || r.s.failed }

// Parse goes on with the head. buf holds all bytes received since Reset, always
// from the same first byte; each byte is looked at once, whatever the delivery.
// It returns done when the head is complete and acceptable (bytes from
// buf[r.HeadBytes] on belong to the body or the next request), neither when more
// bytes are needed, and the same result again when called after done or an error.
func (r *Request) Parse(buf []byte) (done bool, err *Error) {
	s := &r.s
	if s.failed {
		return false, &s.err
	}
	if s.state < stateField {
		if k := r.requestLine(buf); k != 0 {
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

// requestLine goes on with the request line (RFC 9112, 3) and the empty lines in
// front of it.
func (r *Request) requestLine(buf []byte) Kind {
	s := &r.s
	maxBytes := orDefault(s.limits.RequestLineBytes, 8192) + len("\r\n")
	i := s.pos
	for i < len(buf) && s.state <= stateEmptyLineLF {
		switch c := buf[i]; {
		case s.state == stateEmptyLineLF:
			if c != '\n' {
				return s.stop(i, KindBareCR)
			}
			// Tolerated for clients that put a CRLF behind a body (RFC
			// 9112, 2.2).
			if r.emptyLines++; r.emptyLines > orDefault(s.limits.EmptyLines, 4) {
				return s.stop(i, KindEmptyLines)
			}
			i++
			s.state = stateEmptyLine
		case c == '\r':
			i++
			s.state = stateEmptyLineLF
		case c == '\n':
			return s.stop(i, KindBareLF)
		case isToken(c):
			s.start = i
			r.Method.Start = uint32(i)
			s.state = stateMethod
		default:
			return s.stop(i, KindMethod)
		}
	}

	end := min(len(buf), s.start+maxBytes)
	for i < end {
		switch s.state {
		case stateMethod:
			i = scanToken(buf[:end], i)
			if i-s.start > maxMethodBytes {
				return s.stop(s.start+maxMethodBytes, KindMethodTooLong)
			}
			if i == end {
				continue
			}
			if buf[i] != ' ' {
				return s.stop(i, KindMethod)
			}
			r.Method.End = uint32(i)
			i++
			r.Target.Start = uint32(i)
			s.state = stateTarget

		case stateTarget:
			i = scanTarget(buf[:end], i)
			if i == end {
				continue
			}
			switch buf[i] {
			case ' ':
			case '#':
				return s.stop(i, KindFragment)
			case '\r', '\n':
				return s.stop(i, KindVersionMissing)
			default:
				return s.stop(i, KindTarget)
			}
			if i == int(r.Target.Start) {
				return s.stop(i, KindTarget)
			}
			r.Target.End = uint32(i)
			i++
			s.mark = i
			s.state = stateVersion

		case stateVersion:
			switch k, c := i-s.mark, buf[i]; {
			case k < len("HTTP/"):
				if c != "HTTP/"[k] {
					return s.stop(i, KindVersion)
				}
			case k == len("HTTP/") || k == len("HTTP/1."):
				if class[c]&classDigit == 0 {
					return s.stop(i, KindVersion)
				}
			case k == len("HTTP/1"):
				if c != '.' {
					return s.stop(i, KindVersion)
				}
			case c == '\r':
				s.state = stateFirstLineLF
			case c == '\n':
				return s.stop(i, KindBareLF)
			default:
				return s.stop(i, KindVersion)
			}
			i++

		case stateFirstLineLF:
			if buf[i] != '\n' {
				return s.stop(i, KindBareCR)
			}
			major, minor := buf[s.mark+len("HTTP/")], buf[s.mark+len("HTTP/1.")]
			if major != '1' || minor > '1' {
				return s.stop(i, KindVersionUnsupported)
			}
			r.Minor = minor - '0'
			r.MethodID = lookupMethod(r.Method.Of(buf))
			if k := r.target(buf); k != 0 {
				return s.stop(i, k)
			}
			i++
			s.pos = i
			s.start = i
			s.state = stateField
			return 0

		default:
			panic("http1: request line parsed in the wrong state")
		}
	}
	s.pos = i
	if s.state > stateEmptyLineLF && end == s.start+maxBytes {
		return KindRequestLineTooLong
	}
	return 0
}

// target recognises the form of the request target and takes it apart (RFC 9112,
// 3.2).
func (r *Request) target(buf []byte) Kind {
	t := r.Target.Of(buf)
	if r.MethodID == MethodConnect {
		if !r.s.limits.AllowConnect {
			return KindConnect
		}
		r.Form = FormAuthority
		return r.authority(buf, r.Target, true)
	}
	switch {
	case t[0] == '/':
		r.Form = FormOrigin
		r.Path = r.Target
		return 0
	case len(t) == 1 && t[0] == '*':
		if r.MethodID != MethodOptions {
			return KindTargetForm
		}
		r.Form = FormAsterisk
		return 0
	}

	// absolute-form, or nothing that fits
	r.Form = FormAbsolute
	colon := 0
	for colon < len(t) && t[colon] != ':' {
		colon++
	}
	switch {
	case colon+2 >= len(t) || t[colon+1] != '/' || t[colon+2] != '/':
		return KindTargetForm
	case equalFold(t[:colon], "http"):
	case equalFold(t[:colon], "https"):
		return KindMisdirected
	default:
		return KindScheme
	}
	start := colon + len("://")
	end := start
	for end < len(t) && t[end] != '/' && t[end] != '?' {
		if t[end] == '@' {
			return KindUserinfo
		}
		end++
	}
	r.Path = Span{r.Target.Start + uint32(end), r.Target.End}
	return r.authority(buf, Span{r.Target.Start + uint32(start), r.Target.Start + uint32(end)}, false)
}

// authority takes the host of the request from its target. An authority-form
// needs a port (RFC 9112, 3.2.3).
func (r *Request) authority(buf []byte, a Span, needPort bool) Kind {
	n, ok := splitHost(a.Of(buf))
	if !ok || needPort && a.Len() < n+len(":1") {
		return KindHost
	}
	r.Host = a
	r.HostName = Span{a.Start, a.Start + uint32(n)}
	return 0
}

// finish decides what the complete head means.
func (r *Request) finish(buf []byte) Kind {
	s := &r.s
	r.HeadBytes = s.pos
	r.Fields = s.fields
	r.ContentLength = s.length
	if s.seen&sawHost == 0 && r.Minor > 0 {
		return KindHostMissing
	}
	if r.Form == FormOrigin || r.Form == FormAsterisk {
		r.Host, r.HostName = s.host, s.hostName
	}
	if k := s.framing(r.Minor); k != 0 {
		return k
	}

	switch {
	case s.seen&sawTransfer != 0:
		r.Framing = FramingChunked
	case s.length >= 0:
		r.Framing = FramingLength
	}
	switch hasBody := r.Framing == FramingChunked || s.length > 0; {
	case hasBody && (r.MethodID == MethodConnect || r.MethodID == MethodTrace):
		return KindContentForbidden
	case s.seen&sawContinue != 0:
		r.Expect100 = hasBody && r.Minor > 0
	}
	if r.MethodID == MethodConnect {
		r.Framing = FramingTunnel
	}
	if s.limits.BodyBytes > 0 && s.length > s.limits.BodyBytes {
		return KindBodyTooLarge
	}
	if s.seen&sawOtherExpect != 0 {
		return KindExpect
	}

	// An HTTP/1.0 client has to ask for persistence (RFC 9112, 9.3), and does
	// not take part in upgrades (RFC 9110, 7.8).
	r.KeepAlive = s.seen&sawClose == 0 && (r.Minor > 0 || s.seen&sawKeepAlive != 0)
	r.Trailers = s.seen&sawTrailers != 0
	const asked = sawUpgrade | sawUpgradeOption
	r.Upgrade = r.Minor > 0 && s.seen&(asked|sawUpgradeAgain|sawH2C) == asked && s.upgrade.Len() > 0
	r.UpgradeProtocol = s.upgrade
	if s.seen&sawOtherOption != 0 {
		s.nominate(buf)
	}
	return 0
}
