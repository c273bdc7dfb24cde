package proxy

import (
	"net/http"

	"ringroad/proxy/http1"
	"ringroad/proxy/upstream"
)

// exchange is one request and its response. It belongs to a session and, from
// routing until the response is read, has a backend.
type exchange struct {
	// Parsers and decoders keep the memory that they have collected; each is reset
	// where it is needed.
	req      http1.Request
	resp     http1.Response
	request  flow
	response flow

	exchangeState
}

// exchangeState is what begins as zero in every exchange.
type exchangeState struct {
	session *session
	limits  *http1.Limits
	route   *route   // nil before routing; of the configuration that it began with
	backend *backend // nil: none yet, or no more
	server  *upstream.Server

	// The head of the request, as offsets in session.in. Valid iff hasHead.
	hasHead bool
	headAt  int // first byte of the head
	floor   int // first byte behind it
	tail    int // end of what had come when the head was complete

	touched  bool // a byte of the request was written to the present backend
	sent     bool // all of it was
	lost     bool // the backend does not take the rest of it
	repeat   bool // all that has come of it is still in session.in
	attempts int  // servers tried
	fresh    bool // pooled connections are not to be used any more
	moved    bool // connect has been called since pump looked

	in      buffer // read from the backend and not yet relayed
	heard   bool   // the backend has sent something
	hasResp bool   // the final response head is parsed
	began   bool   // a final response, from the backend or our own, is on its way to the client

	follower Follower // nil: it is not followed

	times   times
	failure Error // why it did not end well; Err is nil if it did

	toBackend   uint64 // bytes of this attempt written to the backend
	fromBackend uint64 // and read from it
	reused      bool   // the backend's connection had served before

	status    int    // of that response; 0: none
	headBytes int    // of the responses' heads
	written   uint64 // bytes of the responses written to the client
	keepAlive bool   // the session goes on afterwards

	upgrade   bool   // the client's wish for another protocol is passed on
	continued bool   // 100 has come
	tunnelled bool   // the flows carry bytes, not messages
	kept      []byte // copy of the request's head; nil: it is in session.in
}

// newExchange begins an exchange with an empty request.
func (w *Worker) newExchange(s *session) *exchange {
	x := w.takeExchange()
	x.session = s
	x.times.begun = w.now
	x.limits = w.limits
	x.req.Reset(x.limits)
	w.stats.ExchangesActive++
	w.stats.ExchangesMax = max(w.stats.ExchangesMax, w.stats.ExchangesActive)
	return x
}

// head is the bytes that the request was parsed from. Valid iff hasHead.
func (x *exchange) head() []byte {
	if x.kept != nil {
		return x.kept
	}
	return x.session.in.b[x.headAt:x.floor]
}

// start takes the request, whose head is complete in session.in, to a backend.
func (x *exchange) start() {
	s := x.session
	w := s.worker
	w.stats.Requests++
	s.state = exchanging
	x.hasHead = true
	x.times.head = w.now
	x.headAt = s.in.r
	x.floor = s.in.r + x.req.HeadBytes
	x.tail = s.in.w
	s.in.take(x.req.HeadBytes, x.floor)
	x.request.body.ResetRequest(&x.req)
	x.request.begin(x.req.Framing)
	if w.hooks != nil {
		x.follow()
	}
	s.requests++
	most := w.config.Limits.KeepAliveRequests
	x.keepAlive = x.req.KeepAlive && (most == 0 || s.requests < most) && x.req.MethodID != http1.MethodConnect
	if s.entry != 0 && !x.admit() {
		return
	}
	i := s.listener.config.Index(x.req.Host.Of(x.head()), x.routePath())
	if i < 0 {
		x.answer(http.StatusNotFound)
		return
	}
	x.route = &s.listener.routes[i]
	if x.req.MethodID == http1.MethodConnect && !s.listener.config.MayConnect(x.route.config) {
		x.answer(http.StatusNotImplemented)
		return
	}
	if x.route.answer != nil {
		x.answerRoute()
		return
	}
	// A body in front of the switch of protocols would have to be delimited by
	// both sides in the same way: such a request is an ordinary one.
	x.upgrade = x.req.Upgrade && x.req.MethodID != http1.MethodConnect && x.request.body.Done() &&
		s.listener.config.MayUpgrade(x.route.config, x.req.UpgradeProtocol.Of(x.head()))
	x.repeat = true
	x.server = x.route.group.Pick(w.now)
	x.serialise()
	x.connect(x.server)
}

// routePath is what routes compare their path with.
func (x *exchange) routePath() []byte {
	if x.req.Form == http1.FormAbsolute && x.req.Path.Len() == 0 {
		return []byte("/") // RFC 9110 4.2.3
	}
	if x.req.Path.Len() > 0 {
		return x.req.Path.Of(x.head())
	}
	return x.req.Target.Of(x.head())
}

// finishBody takes what has come of the body out of the way: if that is all of it,
// the session may go on after an answer that did not need it.
func (x *exchange) finishBody() {
	s := x.session
	for !x.request.body.Done() && s.in.len() > 0 {
		n, _, bad := x.request.body.Next(s.in.pending())
		if bad != nil {
			return
		}
		s.in.take(n, x.floor)
	}
	x.request.complete = x.request.body.Done()
}

// serialise writes the head for the backend, and whatever has come of the body.
func (x *exchange) serialise() {
	s := x.session
	w := s.worker
	f := &x.request
	f.space(w)
	o := &x.route.forward
	if x.route.forwardedFor {
		o.ForwardedFor = s.clientAddr()
	}
	o.DefaultHost = nil
	if x.req.Host.Len() == 0 {
		// The client of HTTP/1.0 meant the address that it connected to (RFC 9112
		// 3.3), and many a backend refuses an empty Host.
		o.DefaultHost = []byte(s.ourEnd().String())
	}
	o.Add = x.lines(w.via(x.req.Minor), x.route.request)
	o.Trailers = f.chunked
	o.Upgrade = x.upgrade
	g := x.server.Group
	o.Close = g.Private()
	f.remove = o.Remove
	f.out.grew(http1.AppendRequest(s.appendProxyHeader(f.out.b[:0], g.ProxyProtocol), &x.req, x.head(), o))
	if x.follower != nil {
		x.built(f.out.len(), false)
	}
}

// connect finds a connection to server: a pooled one, or a new one, which is
// established later.
func (x *exchange) connect(server *upstream.Server) {
	w := x.session.worker
	x.server = server
	x.attempts++
	x.times.attempt, x.times.connected, x.times.sent = w.now, 0, 0
	x.toBackend, x.fromBackend = 0, 0
	x.reused = false
	var b *backend
	if !x.fresh {
		b = w.reuse(server, !x.req.MethodID.Idempotent())
	}
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepChosen, Server: server.Addr, Group: server.Group.Name, Pooled: b != nil})
	}
	if b != nil {
		w.stats.BackendReuses++
		x.reused = true
		x.times.connected = w.now
	} else {
		var e Error
		var ok bool
		if b, e, ok = w.dial(server); !ok {
			x.fail(e)
			return
		}
	}
	b.x, x.backend = x, b
	b.requests++
	server.Requests++
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepConnection, Conn: b.conn})
	}
	x.moved = true
	x.touched, x.sent, x.lost = false, false, false
	x.resp.ResetFor(x.limits, x.req.MethodID, x.upgrade)
}

// pump moves both directions until neither moves. It reports true when the
// exchange has ended and the session may go on with something else.
func (x *exchange) pump() bool {
	s := x.session
	var seen progress
	for {
		var p progress
		x.pumpRequest(&p)
		if s.x != x {
			return true
		}
		x.pumpResponse(&p)
		if s.x != x {
			return true
		}
		seen.add(p)
		if p == (progress{}) && !x.moved {
			break
		}
		x.moved = false
		if s.budget <= 0 {
			s.worker.resume(s)
			break
		}
	}
	x.watch(&seen)
	return false
}

// progress tells what moved.
type progress struct {
	fromClient, toBackend, fromBackend, toClient bool
	other                                        bool // anything else that may let something move
}

func (p *progress) add(q progress) {
	p.fromClient = p.fromClient || q.fromClient
	p.toBackend = p.toBackend || q.toBackend
	p.fromBackend = p.fromBackend || q.fromBackend
	p.toClient = p.toClient || q.toClient
	p.other = p.other || q.other
}

// watch arms the timer of every wait that is on: each begins anew with progress.
func (x *exchange) watch(p *progress) {
	s := x.session
	if x.tunnelled {
		x.watchTunnel(p)
		return
	}
	x.wait(&s.writing, waitClientSend, x.response.out.len() > 0, p.toClient)
	b := x.backend
	if b == nil {
		s.reading.disarm()
		return
	}
	if !b.connected {
		s.reading.disarm()
		x.wait(&b.reading, waitConnect, true, false)
		return
	}
	x.wait(&b.writing, waitBackendSend, x.request.out.len() > 0 && !x.lost, p.toBackend)
	// A client that expects 100 waits for the backend as much as we do.
	expecting := x.req.Expect100 && !x.continued && x.request.body.Received() == 0
	body := !x.request.complete && !x.lost && x.request.out.len() == 0
	x.wait(&s.reading, waitClientBody, body && !expecting, p.fromClient)
	answer := x.sent || x.lost || expecting && x.request.out.len() == 0
	x.wait(&b.reading, waitBackendRead, answer && !x.response.complete && x.response.out.len() == 0, p.fromBackend || p.toBackend)
}

// over ends the exchange: the response is written.
func (x *exchange) over() {
	s := x.session
	x.log()
	if x.follower != nil {
		x.finished(x.keepAlive, false)
	}
	x.drop()
	s.done(x)
}

// log counts the exchange, which ends, and writes the line of the access log.
func (x *exchange) log() {
	w := x.session.worker
	w.stats.took(x, w.now)
	if w.access == nil {
		return
	}
	if w.access.line(x, w.now, w.stack.WallTime()) {
		w.stats.LogLines++
	} else {
		w.stats.LogLinesLost++
	}
	if w.access.lost.Load() > 0 {
		w.stats.LogLinesLost += w.access.lost.Swap(0)
	}
}

// requestLine is the request line as it came; of a malformed head, what there is.
func (x *exchange) requestLine() []byte {
	if x.hasHead {
		// " HTTP/1.x" follows the target.
		return x.head()[x.req.Method.Start : x.req.Target.End+9]
	}
	line := x.session.in.pending()
	for len(line) > 0 && (line[0] == '\r' || line[0] == '\n') {
		line = line[1:]
	}
	for i, c := range line {
		if c == '\r' || c == '\n' {
			return line[:i]
		}
	}
	return line
}

// bodySent is how many bytes of the response body were written to the client.
func (x *exchange) bodySent() uint64 {
	if x.written < uint64(x.headBytes) {
		return 0
	}
	return x.written - uint64(x.headBytes)
}

// drop takes x from its session and gives back what it holds. A backend that is
// still in the middle of something is cut off.
func (x *exchange) drop() {
	s := x.session
	w := s.worker
	if x.follower != nil {
		x.finished(false, true)
	}
	if x.backend != nil {
		x.backend.abort()
	}
	w.buffers.drop(&x.request.out)
	w.buffers.drop(&x.response.out)
	w.buffers.drop(&x.in)
	if x.tunnelled {
		w.stats.TunnelsActive--
	}
	s.x = nil
	w.stats.ExchangesActive--
	w.dead.exchanges = append(w.dead.exchanges, x)
}
