package proxy

import (
	"io"
	"net/http"
	"net/netip"
	"time"

	"ringroad/proxy/clients"
	"ringroad/stack"
)

const (
	// turnBytes is what a session may read in a turn before the others come
	// first.
	turnBytes = 256 << 10
	// requestCost is what a request counts besides its bytes, so that a pipeline
	// of small ones is not served in one go.
	requestCost = 4 << 10
)

// sessionState is what a session does.
type sessionState uint8

const (
	awaiting    sessionState = iota // a request, or the rest of its head
	introducing                     // awaits its PROXY protocol header, before anything else
	exchanging                      // its exchange is with a backend, or being answered
	lingering                       // everything is written, the end too; what still comes is discarded
	ended
)

// session is a client connection.
type session struct {
	peer
	worker   *Worker
	listener *listener
	state    sessionState
	x        *exchange // from the first byte of a request; nil: idle
	in       buffer    // read and not yet relayed; holds the head of x while there is x

	client, target netip.AddrPort // as a PROXY protocol header named them; not valid: none did

	entry  clients.Entry // of the client in Worker.clients; 0: it has no limits
	excess bool          // it came when the client had too many connections

	noted  *noted // nil: nothing, there are no hooks
	noting bool   // noted has something of the request that comes

	number          uint64        // in the order of accepting, from 1
	accepted, since time.Duration // loop times: of accepting, and when it became idle or began to linger

	requests int           // begun
	served   bool          // a request has been answered
	resuming bool          // on the worker's list of sessions to run in the next turn
	heldAt   time.Duration // loop time since when it is on the list of those with something held; 0: it is not
	budget   int           // bytes that may still be read in this turn

	lingerUntil time.Duration // loop time, valid iff lingering
	discarded   int           // bytes read while lingering

	addr      [45]byte // client address as text, for the log and the backend
	addrBytes int

	next, prev *session // of all sessions of the worker
}

// clientAddr is the client's address as text, without the port.
func (s *session) clientAddr() []byte {
	if s.addrBytes == 0 {
		s.addrBytes = len(s.clientEnd().Addr().Unmap().WithZone("").AppendTo(s.addr[:0]))
	}
	return s.addr[:s.addrBytes]
}

// event takes an event of the poller.
func (s *session) event(e stack.Events) {
	if s.state == ended {
		return
	}
	s.note(e)
	if s.heeded() {
		s.awake()
	}
	s.run()
}

// run does all that can be done for the session now.
func (s *session) run() {
	w := s.worker
	w.congested = w.stack.Congested()
	s.budget = turnBytes
	for more := true; more; {
		if s.broken && s.state == exchanging && !s.x.tunnelled {
			s.x.clientGone() // nothing can be sent any more
			return
		}
		switch s.state {
		case awaiting:
			more = s.receive()
		case introducing:
			more = s.introduce()
		case exchanging:
			more = s.x.pump()
		case lingering:
			s.discard()
			return
		case ended:
			return
		}
		if more && s.budget <= 0 {
			w.resume(s)
			return
		}
	}
}

// receive reads and parses until a request head is complete. It reports false
// when more must come first, and when the session ended.
func (s *session) receive() bool {
	w := s.worker
	for {
		if s.in.len() > 0 {
			if s.x == nil {
				s.x = w.newExchange(s)
			}
			done, bad := s.x.req.Parse(s.in.pending())
			if bad != nil {
				s.reading.disarm()
				s.x.refuse(bad)
				return true
			}
			if done {
				s.reading.disarm()
				s.x.start()
				return true
			}
		}
		if !s.readable {
			s.await()
			return false
		}
		if !s.fetch() {
			return false
		}
	}
}

// fetch reads more of a head. It reports false when that must wait, and when the
// session ended.
func (s *session) fetch() bool {
	w := s.worker
	if w.congested {
		w.stats.Congestions++
		w.resume(s)
		return false
	}
	s.makeRoom()
	n, err := s.read(s.in.b[s.in.w:])
	s.in.w += n
	s.budget -= n
	w.stats.ClientBytesIn += uint64(n)
	if w.fine() {
		s.noteRead(n, true)
	}
	if err != nil && err != stack.ErrWouldBlock {
		// Between requests this is how connections end; in the middle of a
		// head there is nobody left to answer.
		if err != io.EOF || s.x != nil && s.x.req.Started() {
			s.abandon()
		} else {
			s.close()
		}
		return false
	}
	return true
}

// makeRoom makes sure that in has room for more of a head.
func (s *session) makeRoom() {
	switch {
	case s.in.b == nil:
		s.worker.buffers.head(&s.in)
	case s.in.room() > 0:
	case s.in.r > 0:
		n := copy(s.in.b, s.in.pending())
		s.in.r, s.in.w = 0, n
	default:
		// The limits end a head before it outgrows the larger buffer.
		s.worker.buffers.grow(&s.in, s.in.w)
	}
}

// await arms the timer for the next request, or for the rest of its head.
func (s *session) await() {
	w := s.worker
	kind := waitClientHeader
	if s.in.len() == 0 {
		w.buffers.drop(&s.in)
		if s.served {
			kind = waitKeepAlive
		}
		if s.eof {
			s.close()
			return
		}
		if s.served && s.leaving() {
			w.waitFor(lastCall, &s.reading, waitKeepAlive, true, false)
			return
		}
	} else if s.eof {
		s.abandon()
		return
	}
	// Not re-armed by progress: the whole head has one timeout.
	w.wait(&s.reading, kind, true, false)
}

// done goes on after an exchange: its response is written.
func (s *session) done(x *exchange) {
	s.served, s.since = true, s.worker.now
	s.writing.disarm()
	s.reading.disarm()
	switch {
	case x.keepAlive:
		s.state = awaiting
		s.budget -= requestCost
	case s.eof:
		s.close() // nothing can come any more
	default:
		s.linger()
	}
}

// expired takes the end of a wait.
func (s *session) expired(kind wait) {
	w := s.worker
	switch kind {
	case waitKeepAlive:
		s.expireIdle()
	case waitClientHeader:
		w.stats.TimeoutsClientHeader++
		if s.x == nil || !s.x.req.Started() {
			s.close()
			return
		}
		s.state = exchanging
		if w.hooks != nil {
			s.x.follow()
		}
		s.x.fail(Error{Source: Client, Phase: PhaseHead, Status: http.StatusRequestTimeout, Err: timedOut[waitClientHeader]})
		s.run()
	case waitClientBody:
		w.stats.TimeoutsClientBody++
		s.x.fail(Error{Source: Client, Phase: PhaseBody, Status: http.StatusRequestTimeout, Err: timedOut[waitClientBody]})
		s.run()
	case waitClientSend:
		w.stats.TimeoutsClientSend++
		s.x.fail(Error{Source: Client, Phase: PhaseDeliver, Err: timedOut[waitClientSend]})
	case waitTunnel:
		w.stats.TimeoutsTunnel++
		s.x.cut(Client, timedOut[waitTunnel])
	case waitLinger:
		s.lingered()
	}
}

// expireIdle closes a session that waited for a request in vain, but looks once
// more: one may have come whose event has not, and would be answered with RST.
func (s *session) expireIdle() {
	w := s.worker
	w.congested, s.budget, s.readable = w.stack.Congested(), turnBytes, true
	switch {
	case !s.fetch():
	case s.in.len() > 0:
		s.run()
	default:
		if !s.leaving() {
			w.stats.TimeoutsKeepAlive++
		}
		s.close()
	}
}

// leaving tells that the session gets no more requests than those that are on their
// way already.
func (s *session) leaving() bool { return s.listener.removed() }

// last tells that the request being answered is the last one: behind it nothing
// has come yet.
func (s *session) last() bool { return s.leaving() && s.in.len() == 0 }

// close ends the session with FIN.
func (s *session) close() { s.end((*stack.Conn).Close) }

// abandon ends the session with RST: the client must not take what it got for
// complete, or is gone anyway.
func (s *session) abandon() {
	s.worker.stats.ClientsAborted++
	s.end((*stack.Conn).Abort)
}

func (s *session) end(how func(*stack.Conn)) {
	w := s.worker
	s.state = ended
	if s.x != nil {
		s.x.drop()
	}
	w.buffers.drop(&s.in)
	w.wheel.remove(&s.reading)
	w.wheel.remove(&s.writing)
	s.leave()
	how(s.conn)
	w.forget(s)
}
