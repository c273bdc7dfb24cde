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

// linger ends the sending direction and goes on reading until the client ends its
// own. Closing at once would answer what the client still sends with RST, be it the
// rest of a body or a request that it sent before it saw that its last one had been
// (RFC 9112 9.6). The RST could cost it the answer that it has not read, and would cost it
// what is still in the send buffer. Most clients close when they see the end, so it
// takes a round trip and one event.
func (s *session) linger() {
	w := s.worker
	s.state = lingering
	w.buffers.drop(&s.in)
	s.conn.CloseWrite()
	s.lingerUntil = w.now + lingerTotal
	w.wheel.arm(&s.reading, waitLinger, w.now+lingerIdle)
}

// lingered ends the wait, unless the answer is still on its way to a slow reader.
func (s *session) lingered() {
	w := s.worker
	if s.conn.Delivered() || w.now >= s.lingerUntil {
		s.close()
		return
	}
	w.wheel.arm(&s.reading, waitLinger, min(w.now+lingerIdle, s.lingerUntil))
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
