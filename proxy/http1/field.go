package http1

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
)

// FieldName is a name prepared for comparison.
type FieldName struct {
	lower string
	id    FieldID
}

// NewFieldName prepares a name; ok is false unless it is a token (RFC 9110, 5.6.2).
func NewFieldName(name string) (n FieldName, ok bool) { return FieldName{}, false }

// String is the name in lower case.
func (n FieldName) String() string { return n.lower }

// Find returns the value of the first field with the given ID; buf is what the fields
// were parsed from.
func Find(fields []Field, buf []byte, id FieldID) (value []byte, ok bool) { return nil, false }

// ValidFieldValue tells whether b may be sent as a field value: no control
// characters except HTAB, no whitespace at either end (RFC 9110, 5.5).
func ValidFieldValue(b []byte) bool { return false }
