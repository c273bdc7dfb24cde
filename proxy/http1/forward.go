package http1

import "strconv"

// Edits are changes of fields on the way through, the same for both directions.
type Edits struct {
	Remove []FieldName // every field with one of the names is left out
	Add    []byte      // complete lines, "Name: value\r\n" each, put behind the others; see AppendField
}

// removes tells whether f is to be left out.
func (e *Edits) removes(f *Field, buf []byte) bool {
	for _, n := range e.Remove {
		if n.matches(f, buf) {
			return true
		}
	}
	return false
}

// removesID is removes for a field of our own that has a known name.
func (e *Edits) removesID(id FieldID) bool {
	for _, n := range e.Remove {
		if n.id == id {
			return true
		}
	}
	return false
}

// ForwardOptions say how AppendRequest writes a request. The zero value writes the
// request as it is. All slices are only read.
type ForwardOptions struct {
	Target      []byte // in place of the path and query; nil: the client's
	Host        []byte // in place of the client's Host; nil: the client's
	DefaultHost []byte // the Host of a request that names none (HTTP/1.0); nil: an empty one

	ForwardedFor   []byte // client address, appended to X-Forwarded-For; nil: the field is left alone
	ForwardedProto []byte // X-Forwarded-Proto is set to it; nil: left alone
	ForwardedHost  bool   // X-Forwarded-Host is set to the client's Host
	DropForwarded  bool   // what the client sent in X-Forwarded-For is discarded, not appended to

	Upgrade    bool // ask for the client's upgrade too; ignored unless Request.Upgrade
	Close      bool // tell the backend that this is the last request
	Trailers   bool // the trailer section is going to be relayed: Trailer and TE: trailers are kept
	DropExpect bool // the proxy answers 100 itself

	Edits
}

// AppendRequest appends the canonical head of r for a backend and returns the
// extended slice. buf is what r was parsed from. The framing is that of r: a
// FramingChunked body must be chunked again. Neither Remove nor anything in the
// request can take away Host or the framing field.
func AppendRequest(dst []byte, r *Request, buf []byte, o *ForwardOptions) []byte {
	dst = append(dst, r.Method.Of(buf)...)
	dst = append(dst, ' ')
	dst = appendTarget(dst, r, buf, o)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	switch {
	case o.Host != nil:
		dst = append(dst, o.Host...)
	case r.Host.Len() > 0:
		dst = append(dst, r.Host.Of(buf)...)
	default:
		dst = append(dst, o.DefaultHost...)
	}
	dst = append(dst, "\r\n"...)

	upgrade := o.Upgrade && r.Upgrade
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID == FieldOther && !f.Hop && len(o.Remove) == 0 {
			dst = appendField(dst, f, buf)
			continue
		}
		switch f.ID {
		case FieldHost:
			continue
		case FieldContentLength:
			if r.Framing == FramingLength {
				dst = appendLength(dst, r.ContentLength)
			}
			continue
		case FieldTransferEncoding: // an accepted head has at most one
			dst = append(dst, transferChunked...)
			continue
		case FieldUpgrade:
			if upgrade {
				dst = appendField(dst, f, buf)
			}
			continue
		case FieldTrailer:
			if o.Trailers && !o.removes(f, buf) {
				dst = appendField(dst, f, buf)
			}
			continue
		case FieldExpect:
			if o.DropExpect || !r.Expect100 { // without content it must not be sent
				continue
			}
		case FieldXForwardedFor:
			if o.ForwardedFor != nil {
				continue
			}
		case FieldXForwardedProto:
			if o.ForwardedProto != nil {
				continue
			}
		case FieldXForwardedHost:
			if o.ForwardedHost {
				continue
			}
		}
		if !f.Hop && !o.removes(f, buf) {
			dst = appendField(dst, f, buf)
		}
	}

	if o.ForwardedFor != nil {
		dst = appendForwardedFor(dst, r, buf, o)
	}
	if o.ForwardedProto != nil {
		dst = AppendField(dst, "X-Forwarded-Proto", o.ForwardedProto)
	}
	if o.ForwardedHost && r.Host.Len() > 0 {
		dst = AppendField(dst, "X-Forwarded-Host", r.Host.Of(buf))
	}
	trailers := o.Trailers && r.Trailers
	if trailers {
		dst = append(dst, "TE: trailers\r\n"...)
	}
	dst = appendConnection(dst, o.Close && !upgrade, false, upgrade, trailers)
	dst = append(dst, o.Add...)
	return append(dst, "\r\n"...)
}

// appendTarget writes the target in origin-form or, where that is the one, in
// authority-form or asterisk-form (RFC 9112, 3.2).
func appendTarget(dst []byte, r *Request, buf []byte, o *ForwardOptions) []byte {
	path := r.Path.Of(buf)
	switch {
	case o.Target != nil:
		return append(dst, o.Target...)
	case r.Form == FormAuthority || r.Form == FormAsterisk:
		return append(dst, r.Target.Of(buf)...)
	case len(path) == 0 && r.MethodID == MethodOptions:
		return append(dst, '*') // RFC 9112, 3.2.4
	case len(path) == 0 || path[0] == '?':
		dst = append(dst, '/') // RFC 9112, 3.2.1
	}
	return append(dst, path...)
}

// appendForwardedFor writes one X-Forwarded-For: the values of the client's, unless
// they are to be dropped, and the client's address behind them.
func appendForwardedFor(dst []byte, r *Request, buf []byte, o *ForwardOptions) []byte {
	dst = append(dst, "X-Forwarded-For: "...)
	if !o.DropForwarded {
		for i := range r.Fields {
			f := &r.Fields[i]
			if f.ID == FieldXForwardedFor && !f.Hop && f.Value.Len() > 0 {
				dst = append(dst, f.Value.Of(buf)...)
				dst = append(dst, ", "...)
			}
		}
	}
	dst = append(dst, o.ForwardedFor...)
	return append(dst, "\r\n"...)
}

// AnswerOptions say how AppendResponse writes a response. All slices are only read.
type AnswerOptions struct {
	Minor     uint8  // the client's version, HTTP/1.Minor
	KeepAlive bool   // the client connection stays open; ignored where FramingFor says FramingClose
	Trailers  bool   // the trailer section is going to be relayed: Trailer is kept
	Date      []byte // added when the response has none (RFC 9110, 6.6.1 wants it); nil: not added

	Edits
}

// AppendResponse appends the canonical head of r for the client and returns the
// extended slice. buf is what r was parsed from. The body must follow with
// the framing r.FramingFor(o.Minor). Nothing in Edits can take away the framing field.
func AppendResponse(dst []byte, r *Response, buf []byte, o *AnswerOptions) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, r.Reason.Of(buf)...)
	dst = append(dst, "\r\n"...)

	framing := r.FramingFor(o.Minor)
	// 1xx and 204 must not have Content-Length (RFC 9110, 8.6); to HEAD and in a
	// 304 it is a statement about another message.
	hasLength := r.Framing == FramingLength || r.Framing == FramingNone && r.Status >= 200 && r.Status != 204
	// The same for Transfer-Encoding (RFC 9112, 6.1), which is only for HTTP/1.1.
	hasTransfer := framing == FramingChunked ||
		r.method == MethodHead && r.Status >= 200 && r.Status != 204 && o.Minor > 0
	upgrade := r.Upgrade || r.Status == 426 // 426 has to name the protocols (RFC 9110, 15.5.22)

	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID == FieldOther && !f.Hop && len(o.Remove) == 0 {
			dst = appendField(dst, f, buf)
			continue
		}
		switch f.ID {
		case FieldContentLength:
			if hasLength {
				dst = appendLength(dst, r.ContentLength)
			}
			continue
		case FieldTransferEncoding: // an accepted head has at most one
			if hasTransfer {
				dst = append(dst, transferChunked...)
			}
			continue
		case FieldUpgrade:
			if upgrade {
				dst = appendField(dst, f, buf)
			}
			continue
		case FieldTrailer:
			if o.Trailers && !o.removes(f, buf) {
				dst = appendField(dst, f, buf)
			}
			continue
		}
		if !f.Hop && !o.removes(f, buf) {
			dst = appendField(dst, f, buf)
		}
	}
	if r.Framing == FramingClose && framing == FramingChunked {
		dst = append(dst, transferChunked...)
	}
	if r.s.seen&sawDate == 0 && o.Date != nil && !r.Interim() {
		dst = AppendField(dst, "Date", o.Date)
	}
	switch closes := !o.KeepAlive || framing == FramingClose; {
	case r.Interim() || framing == FramingTunnel && !r.Upgrade:
	case r.Upgrade:
		dst = appendConnection(dst, false, false, true, false)
	default:
		dst = appendConnection(dst, closes, !closes && o.Minor == 0, upgrade && r.s.seen&sawUpgrade != 0, false)
	}
	dst = append(dst, o.Add...)
	return append(dst, "\r\n"...)
}

const transferChunked = "Transfer-Encoding: chunked\r\n"

// appendField copies a field line. Behind the name stands ": " and behind the value
// CRLF, whatever it was before.
func appendField(dst []byte, f *Field, buf []byte) []byte {
	line := buf[f.Name.Start : f.Value.End+1]
	if f.Value.Start == f.Name.End+2 && line[f.Name.Len()+1] == ' ' && line[len(line)-1] == '\r' {
		dst = append(dst, line...)
		return append(dst, '\n')
	}
	dst = append(dst, f.Name.Of(buf)...)
	dst = append(dst, ": "...)
	dst = append(dst, f.Value.Of(buf)...)
	return append(dst, "\r\n"...)
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// appendConnection writes a Connection field with the options given, or none.
func appendConnection(dst []byte, closes, keepAlive, upgrade, te bool) []byte {
	if !closes && !keepAlive && !upgrade && !te {
		return dst
	}
	dst = append(dst, "Connection: "...)
	if closes {
		dst = append(dst, "close, "...)
	}
	if keepAlive {
		dst = append(dst, "keep-alive, "...)
	}
	if upgrade {
		dst = append(dst, "upgrade, "...)
	}
	if te {
		dst = append(dst, "TE, "...)
	}
	return append(dst[:len(dst)-len(", ")], "\r\n"...)
}

// AppendField appends one field line. Name and value must be valid.
func AppendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}
