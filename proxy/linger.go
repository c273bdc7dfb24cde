package proxy

import (
	"time"

	"ringroad/stack"
)

// Bounds of a lingering close: the client gets this long to read its answer while
// what it still sends is thrown away.
const (
	lingerIdle  = 5 * time.Second  // between two reads
	lingerTotal = 30 * time.Second // from the first
	lingerBytes = 64 << 20
)

// linger ends the sending direction and goes on reading, so that the client can
// read the answer to a request whose body it is still sending: closing at once
// would answer that body with RST (RFC 9112 9.6).
func (s *session) linger() {
	w := s.worker
	s.state = lingering
	w.buffers.drop(&s.in)
	s.conn.CloseWrite()
	s.lingerUntil = w.now + lingerTotal
	w.wheel.arm(&s.reading, waitLinger, w.now+lingerIdle)
}

// discard reads and forgets. The end of the client, an error, or too much of it
// closes the connection.
func (s *session) discard() {
	w := s.worker
	for !s.eof {
		if !s.readable {
			return
		}
		if s.budget <= 0 {
			w.resume(s)
			return
		}
		n, err := s.read(w.scratch)
		if err == stack.ErrWouldBlock {
			return
		}
		s.budget -= n
		s.discarded += n
		w.stats.ClientBytesIn += uint64(n)
		if err != nil || s.discarded > lingerBytes {
			break
		}
		w.wheel.arm(&s.reading, waitLinger, min(w.now+lingerIdle, s.lingerUntil))
	}
	s.close()
}
