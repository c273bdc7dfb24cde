// Package http1 parses, frames and serialises HTTP/1.0 and HTTP/1.1 messages
// (RFC 9110, RFC 9112) for a reverse proxy. It is pure: no I/O, no goroutines,
// no clock, no dependency besides the standard library. In the way of a
// frame it is the inside of step 5 (a worker runs ready sessions: parse,
// route, write upstream).
//
// # Principle
//
// A message has exactly one reading or it is refused. What is relayed is
// re-serialised in one canonical form: CRLF line ends, one Host, one framing,
// no hop-by-hop field, every other field unchanged and in its order. A field
// that is malformed is an error and never left out in silence, because a
// look-alike that one side drops and another honours is how connections are
// desynchronised.
//
// # Flow of one exchange
//
//	var req http1.Request              // lives with the client connection
//	req.Reset(&limits)
//	done, err := req.Parse(in)         // again with more bytes until done or err
//	out = http1.AppendRequest(out, &req, in, &forward)
//	body.ResetRequest(&req)            // then feed it with in[req.HeadBytes:]
//	n, data, err := body.Next(p)       // until body.Done()
//	out = http1.AppendChunkHeader(out, len(data)) // when req.Framing is FramingChunked
//	...
//	out = http1.AppendLastChunk(out, body.Trailers())
//
//	resp.ResetFor(&limits, req.MethodID, forwardedUpgrade)
//	done, err = resp.Parse(in)         // resp.Interim(): pass on, ResetFor again
//	framing := resp.FramingFor(req.Minor)
//	out = http1.AppendResponse(out, &resp, in, &answer)
//	body.ResetResponse(&resp)          // ... then body.EOF() when the backend closes
//
// # Ownership
//
// Request, Response and Body belong to one connection and are used by one
// goroutine at a time; they are reset and reused, and after the first few
// messages nothing allocates. The head bytes belong to the caller. Parsed
// elements are Spans, offsets from the first byte of the head, so the caller
// may move or grow the buffer between calls as long as the bytes stay the same
// until the message has been serialised (and, when a retry is possible, until
// that is settled). Errors are stored inside the parser that reports them and
// are valid until its Reset.
//
// # Not done here
//
// Reading and writing, timeouts, routing, retry, buffering, logging, and the
// decision whether an upgrade or a CONNECT is tunnelled. HTTP/0.9, HTTP/2 and
// transfer codings other than chunked are refused.
package http1
