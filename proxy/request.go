package proxy

import (
	"io"
	"net/http"
	"time"

	"ringroad/stack"
)

// pumpRequest moves the request: from the client into the buffer, from there to
// the backend.
func (x *exchange) pumpRequest(p *progress) {
	if x.tunnelled {
		x.passRequest(p)
		return
	}
	if x.backend == nil || x.sent || x.lost {
		return
	}
	s := x.session
	w := s.worker
	f := &x.request
	if !f.complete {
		budget := s.budget
		before := f.moved
		var dst *peer
		if x.backend.connected {
			dst = &x.backend.peer
		}
		began := x.clock()
		n, handed, bad, err := f.fill(w, &s.peer, dst, &s.in, x.floor, true, &s.budget)
		w.stats.ClientBytesIn += uint64(n)
		if s.budget <= 0 && budget > 0 {
			w.resume(s)
		}
		if n > 0 {
			x.repeat = false // what was there before is being overwritten
			p.fromClient = true
		}
		if w.fine() {
			s.noteRead(n, false)
		}
		if x.follower != nil {
			x.filled(f, before, n, true)
			if f.complete {
				x.follower.Step(Step{Kind: StepFed})
			}
		}
		if handed > 0 {
			x.sentOn(handed, began, p)
		}
		p.other = p.other || f.complete || f.moved != before
		switch {
		case bad != nil:
			x.fail(Error{Source: Client, Phase: PhaseBody, Status: bad.Status, Err: bad})
			return
		case err == io.ErrUnexpectedEOF:
			// Whoever closes in the middle of a body does not wait for an answer,
			// but can read one (RFC 9112 8).
			x.fail(Error{Source: Client, Phase: PhaseBody, Status: http.StatusBadRequest, Err: errTruncated})
			return
		case err != nil:
			x.fail(Error{Source: Client, Phase: PhaseBody, Err: err})
			return
		}
	}
	x.send(p)
}

// send writes what is serialised of the request.
func (x *exchange) send(p *progress) {
	b := x.backend
	if !b.connected || !b.writable {
		return
	}
	w := b.worker
	f := &x.request
	if f.out.len() > 0 && (x.req.Expect100 || !x.gathers(f)) { // who expects 100 sends no body before it
		began := x.clock()
		n, err := b.write(&f.out)
		x.sentOn(n, began, p)
		if err != nil {
			x.refused(err)
			return
		}
	}
	if f.out.len() == 0 {
		w.buffers.drop(&f.out)
		if f.complete {
			x.sent, x.times.sent = true, w.now
			p.other = true
		}
	}
}

// sentOn accounts for n bytes written to the backend.
func (x *exchange) sentOn(n int, began time.Duration, p *progress) {
	b := x.backend
	b.worker.stats.BackendBytesOut += uint64(n)
	x.toBackend += uint64(n)
	if n > 0 {
		x.touched = true
		p.toBackend = true
	}
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepWritten, Conn: b.conn, Began: began, Bytes: n, Left: x.request.out.len()})
	}
}

// refused takes the failure of a write to the backend. It may have answered
// early and closed: that answer decides, and reading shows it.
func (x *exchange) refused(err error) {
	b := x.backend
	if !x.touched {
		x.fail(Error{Source: Backend, Phase: PhaseSend, Status: http.StatusBadGateway, Retryable: true, Err: err})
		return
	}
	x.lost = true
	x.session.worker.buffers.drop(&x.request.out)
	if !b.eof {
		b.readable = true
	}
}

// mayRepeat tells whether the request may be sent once more after the connection
// it was sent on failed without a byte of a response. On a connection that had
// served before, the usual cause is that the backend closed it while the request
// was under way (RFC 9112 9.3.1); then the request was not processed, but that is
// not certain, and only an idempotent one may be sent again (RFC 9110 9.2.2),
// unless nothing of it was.
func (x *exchange) mayRepeat() bool {
	return x.backend != nil && x.backend.reused && !x.fresh && x.repeat && !x.heard &&
		(!x.touched || x.req.MethodID.Idempotent())
}

// retry tries another connection after e. It reports false when there is none to
// try or the request cannot be sent again.
func (x *exchange) retry(e *Error) bool {
	s := x.session
	w := s.worker
	if e.Phase == PhaseConnect {
		// Nothing was sent, and the serialised request is still there.
		w.stats.BackendRefusals++
		if e.Source == Backend {
			x.server.Failed(w.now)
		}
		next := x.server.Group.After(x.server, w.now)
		if next == nil || x.attempts >= len(x.server.Group.Servers) {
			return false
		}
		x.again(e)
		x.hangUp()
		w.stats.BackendRetries++
		x.connect(next)
		return true
	}
	if !x.mayRepeat() {
		return false
	}
	x.again(e)
	x.hangUp()
	w.stats.BackendRetries++
	x.fresh = true
	x.rewind()
	x.connect(x.server)
	return true
}

// again tells the follower that another connection is tried.
func (x *exchange) again(e *Error) {
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepFailed, Err: e.Err, Again: true})
	}
}

// rewind makes the request as it was when its head was complete.
func (x *exchange) rewind() {
	s := x.session
	s.in.r, s.in.w = x.floor, x.tail
	s.worker.buffers.drop(&x.request.out)
	x.request.flowState = flowState{}
	x.request.body.ResetRequest(&x.req)
	x.request.begin(x.req.Framing)
	x.serialise()
}

// hangUp gives up the backend.
func (x *exchange) hangUp() {
	if x.backend != nil {
		x.backend.abort()
	}
	x.session.worker.buffers.drop(&x.in)
}

// clientGone ends the exchange after the client's connection failed.
func (x *exchange) clientGone() {
	err := x.session.conn.Err()
	if err == nil {
		err = stack.ErrReset
	}
	x.fail(Error{Source: Client, Phase: PhaseDeliver, Err: err})
}
