package http1

import "encoding/binary"

// FieldID is a field name that this package knows.
type FieldID uint8

// Known field names. FieldOther is any other.
const (
	FieldOther FieldID = iota
	FieldHost
	FieldContentLength
	FieldTransferEncoding
	FieldConnection
	FieldProxyConnection
	FieldKeepAlive
	FieldTE
	FieldTrailer
	FieldUpgrade
	FieldExpect
	FieldProxyAuthenticate
	FieldProxyAuthorization
	FieldForwarded
	FieldXForwardedFor
	FieldXForwardedProto
	FieldXForwardedHost
	FieldVia
	FieldDate
	FieldServer
	FieldLocation
	FieldUserAgent
	FieldReferer
	FieldCookie
	FieldAuthorization
	FieldContentType
	FieldContentEncoding
	numFields
)

var fieldNames = [numFields]string{
	FieldHost:               "host",
	FieldContentLength:      "content-length",
	FieldTransferEncoding:   "transfer-encoding",
	FieldConnection:         "connection",
	FieldProxyConnection:    "proxy-connection",
	FieldKeepAlive:          "keep-alive",
	FieldTE:                 "te",
	FieldTrailer:            "trailer",
	FieldUpgrade:            "upgrade",
	FieldExpect:             "expect",
	FieldProxyAuthenticate:  "proxy-authenticate",
	FieldProxyAuthorization: "proxy-authorization",
	FieldForwarded:          "forwarded",
	FieldXForwardedFor:      "x-forwarded-for",
	FieldXForwardedProto:    "x-forwarded-proto",
	FieldXForwardedHost:     "x-forwarded-host",
	FieldVia:                "via",
	FieldDate:               "date",
	FieldServer:             "server",
	FieldLocation:           "location",
	FieldUserAgent:          "user-agent",
	FieldReferer:            "referer",
	FieldCookie:             "cookie",
	FieldAuthorization:      "authorization",
	FieldContentType:        "content-type",
	FieldContentEncoding:    "content-encoding",
}

// hopByHop marks the fields that are for one connection only (RFC 9110, 7.6.1,
// 10.1.4 and 11.7). The proxy credentials are among them because ringroad is
// the proxy they would be meant for: a backend must not learn them.
var hopByHop = [numFields]bool{
	FieldTransferEncoding:   true,
	FieldConnection:         true,
	FieldProxyConnection:    true,
	FieldKeepAlive:          true,
	FieldTE:                 true,
	FieldTrailer:            true,
	FieldUpgrade:            true,
	FieldProxyAuthenticate:  true,
	FieldProxyAuthorization: true,
}

// lookupField recognises a name, which must be a token, in any case, by its length
// and first letter.
func lookupField(name []byte) FieldID {
	var id FieldID
	switch len(name) {
	case 2:
		id = FieldTE
	case 3:
		id = FieldVia
	case 4:
		switch name[0] | 0x20 {
		case 'h':
			id = FieldHost
		case 'd':
			id = FieldDate
		}
	case 6:
		switch name[0] | 0x20 {
		case 'c':
			id = FieldCookie
		case 'e':
			id = FieldExpect
		case 's':
			id = FieldServer
		}
	case 7:
		switch name[0] | 0x20 {
		case 'r':
			id = FieldReferer
		case 't':
			id = FieldTrailer
		case 'u':
			id = FieldUpgrade
		}
	case 8:
		id = FieldLocation
	case 9:
		id = FieldForwarded
	case 10:
		switch name[0] | 0x20 {
		case 'c':
			id = FieldConnection
		case 'k':
			id = FieldKeepAlive
		case 'u':
			id = FieldUserAgent
		}
	case 12:
		id = FieldContentType
	case 13:
		id = FieldAuthorization
	case 14:
		id = FieldContentLength
	case 15:
		id = FieldXForwardedFor
	case 16:
		switch name[0] | 0x20 {
		case 'c':
			id = FieldContentEncoding
		case 'p':
			id = FieldProxyConnection
		case 'x':
			id = FieldXForwardedHost
		}
	case 17:
		switch name[0] | 0x20 {
		case 't':
			id = FieldTransferEncoding
		case 'x':
			id = FieldXForwardedProto
		}
	case 18:
		id = FieldProxyAuthenticate
	case 19:
		id = FieldProxyAuthorization
	}
	known := fieldNames[id]
	if len(name) != len(known) {
		return FieldOther
	}
	// No tchar but a letter becomes one of those in known.
	if len(name) >= 8 {
		if wordsOf(name) != fieldWords[id] {
			return FieldOther
		}
		return id
	}
	for i := range known {
		if name[i]|0x20 != known[i] {
			return FieldOther
		}
	}
	return id
}

// fieldWords are the names of 8 to 24 letters; there are no longer ones.
var fieldWords = func() (words [numFields][3]uint64) {
	for id, name := range fieldNames {
		if len(name) > 24 {
			panic("http1: wordsOf leaves out a part of " + name)
		}
		if len(name) >= 8 {
			words[id] = wordsOf([]byte(name))
		}
	}
	return words
}()

// wordsOf is a name of 8 to 24 letters in small ones, in words of 8 that overlap.
func wordsOf(name []byte) [3]uint64 {
	const small = 0x2020202020202020
	last := len(name) - 8
	return [3]uint64{
		binary.LittleEndian.Uint64(name) | small,
		binary.LittleEndian.Uint64(name[min(8, last):]) | small,
		binary.LittleEndian.Uint64(name[last:]) | small,
	}
}

// lookupMethod recognises a method; methods are case-sensitive (RFC 9110, 9.1).
func lookupMethod(m []byte) Method {
	switch string(m) {
	case "GET":
		return MethodGet
	case "HEAD":
		return MethodHead
	case "POST":
		return MethodPost
	case "PUT":
		return MethodPut
	case "DELETE":
		return MethodDelete
	case "CONNECT":
		return MethodConnect
	case "OPTIONS":
		return MethodOptions
	case "TRACE":
		return MethodTrace
	case "PATCH":
		return MethodPatch
	}
	return MethodOther
}

// FieldName is a name prepared for comparison.
type FieldName struct {
	lower string
	id    FieldID
	alike bool // names that CGI takes for it count too
}

// NewFieldName prepares a name; ok is false unless it is a token (RFC 9110, 5.6.2).
func NewFieldName(name string) (n FieldName, ok bool) {
	b := []byte(name)
	if len(b) == 0 || scanToken(b, 0) < len(b) {
		return FieldName{}, false
	}
	for i, c := range b {
		b[i] = lower(c)
	}
	return FieldName{lower: string(b), id: lookupField(b)}, true
}

// String is the name in lower case.
func (n FieldName) String() string { return n.lower }

// LookAlikes is n together with every name that CGI and what came after it cannot
// tell from it, because they make HTTP_X_A of X-A as well as of X_A (RFC 3875,
// 4.1.18).
func (n FieldName) LookAlikes() FieldName {
	n.alike = true
	return n
}

// Is tells whether name is this one, in any case.
func (n FieldName) Is(name []byte) bool {
	if !n.alike {
		return equalFold(name, n.lower)
	}
	if len(name) != len(n.lower) {
		return false
	}
	for i, c := range name {
		if c, l := lower(c), n.lower[i]; c != l && (c != '-' && c != '_' || l != '-' && l != '_') {
			return false
		}
	}
	return true
}

// matches compares with the name of f.
func (n FieldName) matches(f *Field, buf []byte) bool {
	if n.alike {
		return n.Is(f.Name.Of(buf))
	}
	return n.id == f.ID && (n.id != FieldOther || equalFold(f.Name.Of(buf), n.lower))
}

// Find returns the value of the first field with the given known ID; buf is what
// the fields were parsed from.
func Find(fields []Field, buf []byte, id FieldID) (value []byte, ok bool) {
	for i := range fields {
		if fields[i].ID == id {
			return fields[i].Value.Of(buf), true
		}
	}
	return nil, false
}

// FindName is Find for any name.
func FindName(fields []Field, buf []byte, name FieldName) (value []byte, ok bool) {
	for i := range fields {
		if name.matches(&fields[i], buf) {
			return fields[i].Value.Of(buf), true
		}
	}
	return nil, false
}

// ValidFieldValue tells whether b may be sent as a field value: no control
// characters except HTAB, no whitespace at either end (RFC 9110, 5.5).
func ValidFieldValue(b []byte) bool {
	for i := scanValue(b, 0); i < len(b); i = scanValue(b, i+1) {
		if b[i] != '\t' {
			return false
		}
	}
	return len(trimSpace(b)) == len(b)
}
