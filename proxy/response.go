package proxy

import (
	"io"
	"net/http"
	"time"

	"ringroad/proxy/http1"
	"ringroad/stack"
)

// pumpResponse moves the response: from the backend into the buffer, from there to
// the client.
func (x *exchange) pumpResponse(p *progress) {
	s := x.session
	w := s.worker
	f := &x.response
	if x.backend != nil && x.touched && !x.tunnelled {
		if !x.hasResp {
			if x.listen(p); s.x != x {
				return
			}
		}
		if x.hasResp && !x.tunnelled {
			if x.relay(p); s.x != x {
				return
			}
		}
	}
	if x.tunnelled {
		x.passResponse(p)
		return
	}
	if f.out.len() > 0 && s.writable && (!x.hasResp || !x.gathers(f)) {
		began := x.clock()
		n, err := s.write(&f.out)
		x.answered(n, began, p)
		if err != nil {
			x.fail(Error{Source: Client, Phase: PhaseDeliver, Err: err})
			return
		}
	}
	if f.out.len() == 0 {
		w.buffers.drop(&f.out)
		if f.complete {
			x.over()
		}
	}
}

// answered accounts for n bytes written to the client.
func (x *exchange) answered(n int, began time.Duration, p *progress) {
	s := x.session
	x.written += uint64(n)
	s.worker.stats.ClientBytesOut += uint64(n)
	if n > 0 {
		p.toClient = true
	}
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepWritten, Client: true, Conn: s.conn, Began: began, Bytes: n, Left: x.response.out.len()})
	}
}

// listen reads and parses until the final response head is complete.
func (x *exchange) listen(p *progress) {
	s, b := x.session, x.backend
	w := s.worker
	for {
		// Interim responses leave before they outgrow the buffer: behind headBytes it
		// has room for the largest head.
		if f := &x.response; f.out.len() > 0 && (!s.writable || f.out.w >= headBytes) {
			return
		}
		if x.in.len() > 0 {
			done, bad := x.resp.Parse(x.in.pending())
			if bad != nil {
				x.fail(Error{Source: Backend, Phase: PhaseWait, Status: http.StatusBadGateway, Err: bad})
				return
			}
			if done && !x.resp.Interim() {
				if x.resp.Framing == http1.FramingTunnel {
					if err := x.mayTunnel(); err != nil {
						x.fail(Error{Source: Backend, Phase: PhaseWait, Status: http.StatusBadGateway, Err: err})
						return
					}
				}
				x.respond()
				p.other = true
				return
			}
			if done {
				x.interim()
				p.other = true
				continue
			}
		}
		if !b.readable {
			if b.eof {
				x.unanswered(errNoAnswer)
			}
			return
		}
		if w.congested {
			w.stats.Congestions++
			w.resume(s)
			return
		}
		if s.budget <= 0 {
			return
		}
		x.makeRoom()
		// Nearly every head is shorter, and what is read of a large body cannot be handed on.
		n, err := b.read(x.in.b[x.in.w:min(len(x.in.b), x.in.w+minRoom)])
		x.in.w += n
		s.budget -= n
		w.stats.BackendBytesIn += uint64(n)
		x.fromBackend += uint64(n)
		if n > 0 {
			if !x.heard {
				x.heard, x.times.heard = true, w.now
			}
			p.fromBackend = true
			if x.follower != nil {
				x.follower.Step(Step{Kind: StepRead, Conn: b.conn, Bytes: n})
			}
		}
		switch err {
		case nil:
		case stack.ErrWouldBlock:
			return
		case io.EOF:
			x.unanswered(errNoAnswer)
			return
		default:
			x.unanswered(err)
			return
		}
	}
}

// makeRoom makes sure that in has room for more of a head.
func (x *exchange) makeRoom() {
	w := x.session.worker
	switch {
	case x.in.b == nil:
		w.buffers.head(&x.in)
	case x.in.room() > 0:
	case x.in.r > 0:
		n := copy(x.in.b, x.in.pending())
		x.in.r, x.in.w = 0, n
	default:
		w.buffers.grow(&x.in, x.in.w)
	}
}

// unanswered takes the end of the backend's connection before its answer.
func (x *exchange) unanswered(err error) {
	x.fail(Error{Source: Backend, Phase: PhaseWait, Status: http.StatusBadGateway, Retryable: true, Err: err})
}

// interim passes on a 1xx response (RFC 9110 15.2); a client of HTTP/1.0 does not
// know them.
func (x *exchange) interim() {
	w := x.session.worker
	f := &x.response
	if x.req.Minor > 0 {
		f.space(w) // without room the head makes out grow
		before := f.out.w
		w.reply = http1.AnswerOptions{Minor: x.req.Minor, KeepAlive: true}
		f.out.grew(http1.AppendResponse(f.out.b[:f.out.w], &x.resp, x.in.pending(), &w.reply))
		x.headBytes += f.out.w - before
		w.stats.Responses1xx++
		if x.follower != nil {
			x.follower.Step(Step{Kind: StepInterim, Status: x.resp.Status})
			x.built(f.out.w-before, true)
		}
	}
	x.in.take(x.resp.HeadBytes, 0)
	x.continued = x.continued || x.resp.Status == http.StatusContinue
	x.resp.ResetFor(x.limits, x.req.MethodID, x.upgrade)
}

// respond begins the response to the client: its head is parsed.
func (x *exchange) respond() {
	s := x.session
	w := s.worker
	f := &x.response
	x.hasResp, x.began, x.status = true, true, x.resp.Status
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepResponse, Status: x.status, Bytes: x.resp.HeadBytes})
	}
	w.stats.response(x.status)
	framing := x.resp.FramingFor(x.req.Minor)
	f.body.ResetResponse(&x.resp)
	f.begin(framing)
	// A client that is still sending its request cannot go on with the next one:
	// the rest of this one is not read.
	x.keepAlive = x.keepAlive && x.request.complete && framing != http1.FramingClose && !s.last()
	f.space(w)
	before := f.out.w
	w.reply = http1.AnswerOptions{
		Minor:     x.req.Minor,
		KeepAlive: x.keepAlive,
		Trailers:  f.chunked && x.resp.Framing == http1.FramingChunked,
		Date:      w.date(),
		Edits:     http1.Edits{Remove: x.route.remove, Add: x.lines(w.via(x.resp.Minor), x.route.response)},
	}
	f.remove = x.route.remove
	f.out.grew(http1.AppendResponse(f.out.b[:f.out.w], &x.resp, x.in.pending(), &w.reply))
	x.headBytes += f.out.w - before
	if x.follower != nil {
		x.built(f.out.w-before, true)
	}
	x.in.take(x.resp.HeadBytes, 0)
	if framing == http1.FramingTunnel {
		x.openTunnel()
	}
}

// relay moves the response body, and lets the backend go when it is complete.
func (x *exchange) relay(p *progress) {
	s, b := x.session, x.backend
	w := s.worker
	f := &x.response
	before, budget := f.moved, s.budget
	began := x.clock()
	n, handed, bad, err := f.fill(w, &b.peer, &s.peer, &x.in, 0, false, &s.budget)
	w.stats.BackendBytesIn += uint64(n)
	x.fromBackend += uint64(n)
	if s.budget <= 0 && budget > 0 {
		w.resume(s)
	}
	if n > 0 {
		p.fromBackend = true
	}
	if x.follower != nil {
		x.filled(f, before, n, false)
	}
	if handed > 0 {
		x.answered(handed, began, p)
	}
	p.other = p.other || f.complete || f.moved != before
	switch {
	case bad != nil:
		x.fail(Error{Source: Backend, Phase: PhaseRelay, Status: http.StatusBadGateway, Err: bad})
	case err == io.ErrUnexpectedEOF:
		x.fail(Error{Source: Backend, Phase: PhaseRelay, Status: http.StatusBadGateway, Err: errTruncated})
	case err != nil:
		x.fail(Error{Source: Backend, Phase: PhaseRelay, Status: http.StatusBadGateway, Err: err})
	case f.complete:
		clean := x.sent && x.resp.KeepAlive && !f.excess && x.in.len() == 0
		w.buffers.drop(&x.in)
		w.buffers.drop(&x.request.out)
		b.release(clean)
	}
}
