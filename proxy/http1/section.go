package http1

// state is where a head parser stands between two calls of Parse. Request and
// Response have their own states for the first line, then share those of the
// field section.
type state uint8

const (
	stateEmptyLine   state = iota // in front of the request line
	stateEmptyLineLF              // behind the CR of an empty line
	stateMethod                   // in the method
	stateTarget                   // in the request target
	stateVersion                  // in the version of a request
	stateStatusLine               // at any byte of "HTTP/1.x nnn "
	stateReason                   // in the reason phrase
	stateFirstLineLF              // behind the CR of the first line
	stateField                    // at the first byte of a field line
	stateName                     // in a field name
	stateNameSpace                // in whitespace between name and colon (responses)
	stateBeforeValue              // in whitespace in front of the value
	stateValue                    // in the value or the whitespace behind it
	stateFieldLF                  // behind the CR of a field line
	stateSectionLF                // behind the CR of the empty line that ends the section
	stateComplete
)

// What a section belongs to; the rules differ.
type sectionKind uint8

const (
	requestSection sectionKind = iota
	responseSection
	trailerSection
)

// Connection options and codings seen so far.
const (
	sawClose         = 1 << iota // Connection: close
	sawKeepAlive                 // Connection: keep-alive
	sawUpgradeOption             // Connection: upgrade
	sawOtherOption               // Connection with an option that names a field
	sawUpgrade                   // one Upgrade field
	sawUpgradeAgain              // more than one
	sawChunked                   // Transfer-Encoding whose last coding is chunked
	sawOtherCoding               // Transfer-Encoding with a coding that is not chunked
	sawTransfer                  // any Transfer-Encoding field
	sawContinue                  // Expect: 100-continue
	sawOtherExpect               // any other expectation
	sawTrailers                  // TE: trailers
	sawDate                      // Date
	sawH2C                       // Upgrade: h2c
	sawLength                    // Content-Length
	sawHost                      // Host
)

// maxOptions bounds the Connection options, each of which may be looked for among
// all fields.
const maxOptions = 32

// section parses a field section and notes what the fields mean for the framing
// and the connection. It is the common part of Request, Response and the trailer
// section of a Body.
type section struct {
	limits *Limits
	fields []Field

	state   state
	kind    sectionKind
	options uint8  // Connection options so far
	failed  bool   // err is set
	seen    uint32 // saw bits

	pos   int // next byte to look at
	mark  int // first byte of the element being parsed
	start int // first byte of the first line; later of the first field line

	nameEnd int     // end of the name of the field being parsed
	id      FieldID // of the field being parsed

	length   int64 // Content-Length, -1 without
	host     Span
	hostName Span
	upgrade  Span

	err Error
}

var defaultLimits Limits

// reset prepares for a section; what was noted of the last one is gone.
func (s *section) reset(l *Limits, kind sectionKind, first state) {
	if l == nil {
		l = &defaultLimits
	}
	fields := s.fields[:0]
	*s = section{}
	s.limits, s.fields, s.kind, s.state, s.length = l, fields, kind, first, -1
}

// fail notes why and where (s.pos).
func (s *section) fail(k Kind) *Error {
	s.failed = true
	s.err = Error{Kind: k, Offset: s.pos, Status: kinds[k].status}
	if s.kind == responseSection {
		s.err.Status = 502
	}
	return &s.err
}

// parse goes on with the field section (RFC 9112, 5) until it is complete, buf ends,
// or it finds a reason to refuse.
func (s *section) parse(buf []byte) Kind {
	maxBytes, maxCount := s.maxima()
	end := min(len(buf), s.start+maxBytes)
	i := s.pos
	for i < end {
		switch s.state {
		case stateField:
			switch c := buf[i]; {
			case isToken(c):
				if len(s.fields) == maxCount {
					return s.stop(i, s.tooMany())
				}
				s.mark = i
				s.state = stateName
			case c == '\r':
				i++
				s.state = stateSectionLF
				continue
			case c == ' ' || c == '\t':
				return s.stop(i, KindFold)
			case c == '\n':
				return s.stop(i, KindBareLF)
			default:
				return s.stop(i, KindFieldName)
			}
			fallthrough

		case stateName:
			i = scanToken(buf[:end], i)
			if i == end {
				continue
			}
			s.nameEnd = i
			s.id = lookupField(buf[s.mark:i])
			switch buf[i] {
			case ':':
				i++
				s.state = stateBeforeValue
			case ' ', '\t':
				// A proxy removes it from a response and refuses it in a
				// request (RFC 9112, 5.1).
				if s.kind != responseSection {
					return s.stop(i, KindSpaceBeforeColon)
				}
				s.state = stateNameSpace
			case '\r':
				return s.stop(i, KindNoColon)
			case '\n':
				return s.stop(i, KindBareLF)
			default:
				return s.stop(i, KindFieldName)
			}

		case stateNameSpace:
			switch buf[i] {
			case ' ', '\t':
				i++
			case ':':
				i++
				s.state = stateBeforeValue
			default:
				return s.stop(i, KindNoColon)
			}

		case stateBeforeValue:
			for i < end && (buf[i] == ' ' || buf[i] == '\t') {
				i++
			}
			if i == end {
				continue
			}
			// The name is stored at once, the value behind it: s.mark is
			// free for the value then.
			s.fields = append(s.fields, Field{
				Name: Span{uint32(s.mark), uint32(s.nameEnd)},
				ID:   s.id,
				Hop:  hopByHop[s.id],
			})
			s.mark = i
			s.state = stateValue
			fallthrough

		case stateValue:
			i = scanValue(buf[:end], i)
			for i < end && buf[i] == '\t' {
				i = scanValue(buf[:end], i+1)
			}
			if i == end {
				continue
			}
			switch buf[i] {
			case '\r':
			case '\n':
				return s.stop(i, KindBareLF)
			default:
				return s.stop(i, KindFieldValue)
			}
			last := i
			for last > s.mark && (buf[last-1] == ' ' || buf[last-1] == '\t') {
				last--
			}
			s.fields[len(s.fields)-1].Value = Span{uint32(s.mark), uint32(last)}
			i++
			s.state = stateFieldLF
			if i == end {
				continue
			}
			fallthrough

		case stateFieldLF:
			if buf[i] != '\n' {
				return s.stop(i, KindBareCR)
			}
			if s.id != FieldOther {
				if k := s.field(&s.fields[len(s.fields)-1], buf); k != 0 {
					return s.stop(i, k)
				}
			}
			i++
			s.state = stateField

		case stateSectionLF:
			if buf[i] != '\n' {
				return s.stop(i, KindBareCR)
			}
			i++
			s.pos = i
			s.state = stateComplete
			return 0

		default:
			panic("http1: field section parsed in the wrong state")
		}
	}
	s.pos = i
	if end == s.start+maxBytes {
		if s.kind == trailerSection {
			return KindTrailersTooLarge
		}
		return KindFieldsTooLarge
	}
	return 0
}

// stop notes where a reason to refuse was found.
func (s *section) stop(at int, k Kind) Kind {
	s.pos = at
	return k
}

func (s *section) tooMany() Kind {
	if s.kind == trailerSection {
		return KindTooManyTrailers
	}
	return KindTooManyFields
}

// maxima returns the limits of bytes and fields.
func (s *section) maxima() (maxBytes, maxCount int) {
	if s.kind == trailerSection {
		return orDefault(s.limits.TrailerBytes, 8192), orDefault(s.limits.TrailerCount, 32)
	}
	return orDefault(s.limits.FieldsBytes, 32768), orDefault(s.limits.FieldCount, 100)
}

func orDefault(n, def int) int {
	if n == 0 {
		return def
	}
	return n
}

// field notes what a complete field with a known name means.
func (s *section) field(f *Field, buf []byte) Kind {
	if s.kind == trailerSection {
		// Framing, routing and connection control cannot come after the
		// body (RFC 9110, 6.5.1).
		if f.ID <= FieldExpect {
			return KindTrailer
		}
		return 0
	}
	value := f.Value.Of(buf)
	switch f.ID {
	case FieldHost:
		if s.kind != requestSection {
			return 0
		}
		if s.seen&sawHost != 0 {
			return KindHostRepeated
		}
		n, ok := splitHost(value)
		if !ok {
			return KindHost
		}
		s.seen |= sawHost
		s.host = f.Value
		s.hostName = Span{f.Value.Start, f.Value.Start + uint32(n)}
	case FieldContentLength:
		if s.seen&sawLength != 0 {
			return KindContentLengthRepeated
		}
		n, ok := parseLength(value)
		if !ok {
			return KindContentLength
		}
		s.seen |= sawLength
		s.length = n
	case FieldTransferEncoding:
		return s.transferEncoding(value)
	case FieldConnection:
		return s.connection(value)
	case FieldUpgrade:
		if s.seen&sawUpgrade != 0 {
			s.seen |= sawUpgradeAgain
		}
		s.seen |= sawUpgrade
		s.upgrade = f.Value
		for rest := value; rest != nil; {
			var protocol []byte
			protocol, rest = nextElement(rest)
			if equalFold(protocol, "h2c") {
				s.seen |= sawH2C
			}
		}
	case FieldExpect:
		// A second one is refused like a list of two: readers differ about
		// which counts.
		if s.seen&sawContinue == 0 && equalFold(value, "100-continue") {
			s.seen |= sawContinue
		} else {
			s.seen |= sawOtherExpect
		}
	case FieldTE:
		for rest := value; rest != nil; {
			var coding []byte
			coding, rest = nextElement(rest)
			if equalFold(coding, "trailers") {
				s.seen |= sawTrailers
			}
		}
	case FieldDate:
		s.seen |= sawDate
	}
	return 0
}

// parseLength reads a Content-Length: digits only, no list (RFC 9112, 6.3 would
// let a list of equal values pass; nobody sends one in good faith). Leading
// zeros are valid; what goes on has none.
func parseLength(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	for _, c := range b {
		if class[c]&classDigit == 0 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
		if n < 0 {
			return 0, false
		}
	}
	return n, true
}

// transferEncoding reads one Transfer-Encoding field; several make one list (RFC
// 9112, 6.1). chunked must be the last coding, may be applied once, and has no
// parameters (RFC 9112, 7). Empty elements are refused: what is left out by one
// reader is an unknown coding to another.
func (s *section) transferEncoding(value []byte) Kind {
	s.seen |= sawTransfer
	for rest := value; rest != nil; {
		var coding []byte
		coding, rest = nextElement(rest)
		if s.seen&sawChunked != 0 {
			return KindTransferEncoding
		}
		if equalFold(coding, "chunked") {
			s.seen |= sawChunked
			continue
		}
		name := scanToken(coding, 0)
		parameters := trimSpace(coding[name:])
		if name == 0 || len(parameters) > 0 && parameters[0] != ';' || equalFold(coding[:name], "chunked") {
			return KindTransferEncoding
		}
		s.seen |= sawOtherCoding
	}
	return 0
}

// connection reads one Connection field (RFC 9110, 7.6.1).
func (s *section) connection(value []byte) Kind {
	for rest := value; rest != nil; {
		var option []byte
		option, rest = nextElement(rest)
		if len(option) == 0 {
			continue
		}
		if s.options == maxOptions || scanToken(option, 0) < len(option) {
			return KindConnectionOption
		}
		s.options++
		switch {
		case equalFold(option, "close"):
			s.seen |= sawClose
			continue
		case equalFold(option, "keep-alive"):
			s.seen |= sawKeepAlive
			continue
		case equalFold(option, "upgrade"):
			s.seen |= sawUpgradeOption
			continue
		}
		switch lookupField(option) {
		case FieldHost, FieldContentLength, FieldExpect:
			return KindConnectionNominates
		case FieldTransferEncoding:
			// Old servers name it, and it is for this connection only. In
			// a request it would make a reader that takes it literally
			// lose the framing.
			if s.kind == requestSection {
				return KindConnectionNominates
			}
			continue
		}
		s.seen |= sawOtherOption
	}
	return 0
}

// nominate marks the fields that Connection names as hop-by-hop.
func (s *section) nominate(buf []byte) {
	for i := range s.fields {
		if s.fields[i].ID != FieldConnection {
			continue
		}
		for rest := s.fields[i].Value.Of(buf); rest != nil; {
			var option []byte
			if option, rest = nextElement(rest); len(option) == 0 {
				continue
			}
			for j := range s.fields {
				f := &s.fields[j]
				if !f.Hop && f.Name.Len() == len(option) && equalFoldBytes(f.Name.Of(buf), option) {
					f.Hop = true
				}
			}
		}
	}
}

// framing checks what both directions refuse alike.
func (s *section) framing(minor uint8) Kind {
	switch {
	case s.seen&sawTransfer == 0:
		return 0
	case minor == 0:
		return KindTransferEncodingVersion
	case s.seen&sawLength != 0:
		return KindTwoFramings
	case s.seen&sawChunked == 0:
		return KindTransferEncoding // chunked is not the last coding
	case s.seen&sawOtherCoding != 0:
		return KindTransferCoding
	}
	return 0
}
