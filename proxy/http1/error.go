package http1

// Error says why a message was refused. It is stored in the parser that reports
// it and valid until that is reset, so reporting does not allocate.
type Error struct {
	Kind   Kind
	Offset int // of the byte that decided, from the start of the head; for a Body, from the start of the body
	Status int // what to answer the client: 4xx or 5xx for a request, 502 for a response
}

// Error implements error.
func (e *Error) Error() string { return e.Kind.String() }

// Kind is a reason for refusal. The zero Kind is none.
type Kind uint8

// Reasons, in the order in which a message can meet them.
const (
	_ Kind = iota
	KindEmptyLines
	KindMethod
	KindMethodTooLong
	KindTarget
	KindFragment
	KindTargetForm
	KindScheme
	KindMisdirected
	KindUserinfo
	KindConnect
	KindVersionMissing
	KindVersion
	KindVersionUnsupported
	KindRequestLineTooLong
	KindStatusLine
	KindStatusLineTooLong
	KindFieldName
	KindSpaceBeforeColon
	KindNoColon
	KindFold
	KindFieldValue
	KindBareCR
	KindBareLF
	KindFieldsTooLarge
	KindTooManyFields
	KindHostMissing
	KindHostRepeated
	KindHost
	KindContentLength
	KindContentLengthRepeated
	KindTransferEncoding
	KindTransferCoding
	KindTransferEncodingVersion
	KindTwoFramings
	KindContentForbidden
	KindConnectionOption
	KindConnectionNominates
	KindExpect
	KindUpgradeUnasked
	KindBodyTooLarge
	KindChunkSize
	KindChunkExtension
	KindChunkExtensionsTooLong
	KindChunkEnd
	KindTrailer
	KindTrailersTooLarge
	KindTooManyTrailers
	KindTruncated
	numKinds
)

// kinds holds what the methods of Kind say. The status is the one for requests.
var kinds = [numKinds]struct {
	text, section string
	status        int
}{
	KindEmptyLines:              {"too many empty lines in front of the request", "RFC 9112, 2.2", 400},
	KindMethod:                  {"method is not a token", "RFC 9112, 3.1", 400},
	KindMethodTooLong:           {"method is longer than any that is known", "RFC 9112, 3", 501},
	KindTarget:                  {"invalid request target", "RFC 9112, 3.2", 400},
	KindFragment:                {"fragment in the request target", "RFC 9112, 3.2.1", 400},
	KindTargetForm:              {"form of the request target does not fit the method", "RFC 9112, 3.2.3 and 3.2.4", 400},
	KindScheme:                  {"scheme of the request target is not http", "RFC 9112, 3.2.2", 400},
	KindMisdirected:             {"https target on a connection without TLS", "RFC 9110, 7.4", 421},
	KindUserinfo:                {"user information in the request target", "RFC 9110, 4.2.4", 400},
	KindConnect:                 {"CONNECT is not enabled", "RFC 9110, 9.3.6", 501},
	KindVersionMissing:          {"no HTTP version in the request line", "RFC 9112, 2.3", 400},
	KindVersion:                 {"malformed HTTP version", "RFC 9112, 2.3", 400},
	KindVersionUnsupported:      {"HTTP version is neither 1.0 nor 1.1", "RFC 9110, 15.6.6", 505},
	KindRequestLineTooLong:      {"request line is too long", "RFC 9112, 3", 414},
	KindStatusLine:              {"malformed status line", "RFC 9112, 4", 502},
	KindStatusLineTooLong:       {"status line is too long", "RFC 9112, 4", 502},
	KindFieldName:               {"field name is not a token", "RFC 9110, 5.1", 400},
	KindSpaceBeforeColon:        {"whitespace between field name and colon", "RFC 9112, 5.1", 400},
	KindNoColon:                 {"field line without a colon", "RFC 9112, 5", 400},
	KindFold:                    {"line begins with whitespace", "RFC 9112, 2.2 and 5.2", 400},
	KindFieldValue:              {"control character in a field value", "RFC 9110, 5.5", 400},
	KindBareCR:                  {"CR without LF", "RFC 9112, 2.2", 400},
	KindBareLF:                  {"LF without CR", "RFC 9112, 2.2", 400},
	KindFieldsTooLarge:          {"field section is too large", "RFC 6585, 5", 431},
	KindTooManyFields:           {"too many fields", "RFC 6585, 5", 431},
	KindHostMissing:             {"no Host field", "RFC 9112, 3.2", 400},
	KindHostRepeated:            {"more than one Host field", "RFC 9112, 3.2", 400},
	KindHost:                    {"invalid host", "RFC 9112, 3.2", 400},
	KindContentLength:           {"invalid Content-Length", "RFC 9112, 6.3", 400},
	KindContentLengthRepeated:   {"more than one Content-Length", "RFC 9112, 6.3", 400},
	KindTransferEncoding:        {"invalid Transfer-Encoding", "RFC 9112, 6.1 and 6.3", 400},
	KindTransferCoding:          {"transfer coding other than chunked", "RFC 9112, 6.1", 501},
	KindTransferEncodingVersion: {"Transfer-Encoding in an HTTP/1.0 message", "RFC 9112, 6.1", 400},
	KindTwoFramings:             {"both Transfer-Encoding and Content-Length", "RFC 9112, 6.1 and 6.3", 400},
	KindContentForbidden:        {"content where none is defined", "RFC 9110, 9.3.6, 9.3.8 and 15.2", 400},
	KindConnectionOption:        {"invalid Connection field", "RFC 9110, 7.6.1", 400},
	KindConnectionNominates:     {"Connection names a field that decides the framing or the route", "RFC 9110, 7.6.1", 400},
	KindExpect:                  {"expectation other than one 100-continue", "RFC 9110, 10.1.1", 417},
	KindUpgradeUnasked:          {"101 without a request to upgrade", "RFC 9110, 15.2.2", 502},
	KindBodyTooLarge:            {"body is too large", "RFC 9110, 15.5.14", 413},
	KindChunkSize:               {"invalid chunk size", "RFC 9112, 7.1", 400},
	KindChunkExtension:          {"invalid chunk extension", "RFC 9112, 7.1.1", 400},
	KindChunkExtensionsTooLong:  {"chunk extensions are too long", "RFC 9112, 7.1.1", 400},
	KindChunkEnd:                {"chunk data is not followed by CRLF", "RFC 9112, 7.1", 400},
	KindTrailer:                 {"trailer field that must not be one", "RFC 9110, 6.5.1", 400},
	KindTrailersTooLarge:        {"trailer section is too large", "RFC 9112, 7.1.2", 431},
	KindTooManyTrailers:         {"too many trailer fields", "RFC 9112, 7.1.2", 431},
	KindTruncated:               {"connection closed in the middle of the body", "RFC 9112, 8", 400},
}

// String names the reason in lower-case words.
func (k Kind) String() string {
	if k < numKinds {
		return kinds[k].text
	}
	return ""
}

// Section names the section of the RFC that the reason rests on.
func (k Kind) Section() string {
	if k < numKinds {
		return kinds[k].section
	}
	return ""
}
