package http1

// Edits are changes of fields on the way through, the same for both directions.
type Edits struct {
	Remove []FieldName // every field with one of the names is left out
	Add    []byte      // complete lines, "Name: value\r\n" each, put behind the others; see AppendField
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

	Upgrade    bool // ask for the client's upgrade too: iff Request.Upgrade
	Close      bool // tell the backend that this is the last request
	Trailers   bool // the trailer section is going to be relayed: Trailer and TE: trailers are kept
	DropExpect bool // the proxy answers 100 itself

	Edits
}

// AppendRequest appends the canonical head of r for a backend and returns the
// extended slice. buf is what r was parsed from. The framing is that of r: a
// FramingChunked body must be chunked again.
func AppendRequest(dst []byte, r *Request, buf []byte, o *ForwardOptions) []byte { return dst }

// AnswerOptions say how AppendResponse writes a response. All slices are only read.
type AnswerOptions struct {
	Minor     uint8  // the client's version, HTTP/1.Minor
	KeepAlive bool   // the client connection stays open; ignored where FramingFor says FramingClose
	Upgrade   bool   // a 101 goes on as such: iff Response.Upgrade
	Trailers  bool   // the trailer section is going to be relayed: Trailer is kept
	Date      []byte // added when the response has none (RFC 9110, 6.6.1 wants it); nil: not added

	Edits
}

// AppendResponse appends the canonical head of r for the client and returns the
// extended slice. buf is what r was parsed from. The body must follow with
// the framing r.FramingFor(o.Minor).
func AppendResponse(dst []byte, r *Response, buf []byte, o *AnswerOptions) []byte { return dst }

// AppendChunkHeader appends the line in front of n bytes of chunk data, n > 0.
func AppendChunkHeader(dst []byte, n int) []byte { return dst }

// ChunkEnd follows the data of a chunk.
const ChunkEnd = "\r\n"

// Continue is the interim response that asks the client for its body.
const Continue = "HTTP/1.1 100 Continue\r\n\r\n"

// AppendLastChunk appends the end of a chunked body with the trailer lines given (see
// Body.Trailers; may be nil).
func AppendLastChunk(dst, trailers []byte) []byte { return dst }

// PageOptions say how AppendErrorPage writes an answer of the proxy's own.
type PageOptions struct {
	Minor     uint8  // the client's version, HTTP/1.Minor
	KeepAlive bool   // the connection stays open
	Head      bool   // the request was a HEAD: no body
	Date      []byte // nil: no Date
	Add       []byte // complete lines, as in Edits
}

// AppendErrorPage appends a complete answer, head and small HTML page, for the status.
func AppendErrorPage(dst []byte, status int, o *PageOptions) []byte { return dst }

// AppendDate appends the time in the format of the Date field (RFC 9110, 5.6.7).
func AppendDate(dst []byte, unixSeconds int64) []byte { return dst }

// AppendField appends one field line. Name and value must be valid.
func AppendField(dst []byte, name string, value []byte) []byte { return dst }

// StatusText is the reason phrase of the status, "" if it is unknown.
func StatusText(status int) string { return "" }
