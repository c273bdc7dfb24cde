package http1

import "strconv"

// ChunkEnd follows the data of a chunk.
const ChunkEnd = "\r\n"

// AppendChunkHeader appends the line in front of n bytes of chunk data (RFC 9112,
// 7.1). n must be positive: a chunk of no bytes would end the body.
func AppendChunkHeader(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, "\r\n"...)
}

// AppendLastChunk appends the end of a chunked body with the trailer lines given (see
// Body.Trailers; may be nil).
func AppendLastChunk(dst, trailers []byte) []byte {
	dst = append(dst, "0\r\n"...)
	dst = append(dst, trailers...)
	return append(dst, "\r\n"...)
}
