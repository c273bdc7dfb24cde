package proxy

import "ringroad/stack"

// Bounds of a lingering close, while which what the client still sends is thrown away.
const (
	lingerTimes = 6 // timeouts.linger in all, as nginx's lingering_timeout and lingering_time
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
	s.lingerUntil = w.now + lingerTimes*w.timeouts[waitLinger]
	s.lingerOn()
}

// lingered ends the wait, unless the answer is still on its way to a slow reader.
func (s *session) lingered() {
	w := s.worker
	if s.conn.Delivered() || w.now >= s.lingerUntil {
		s.close()
		return
	}
	s.lingerOn()
}

// lingerOn waits for the client once more, within what the close may take in all.
func (s *session) lingerOn() {
	w := s.worker
	w.wheel.arm(&s.reading, waitLinger, min(w.now+w.timeouts[waitLinger], s.lingerUntil))
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
		s.lingerOn()
	}
	s.close()
}
