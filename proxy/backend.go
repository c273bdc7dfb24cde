package proxy

import (
	"net/http"

	"ringroad/proxy/upstream"
	"ringroad/stack"
)

// backend is a connection to a backend. It serves one exchange at a time and
// waits in the pool of its server in between.
type backend struct {
	peer
	upstream.Conn
	worker *Worker
	x      *exchange // that it serves; nil: idle

	connected bool // the handshake is done
	reused    bool // it has served an exchange before the present one
	requests  int  // begun, with the present one
	closed    bool
}

// dial begins a connection to server.
func (w *Worker) dial(server *upstream.Server) (*backend, Error, bool) {
	if w.connections() >= w.config.Limits.MaxConnections && !w.evict() {
		return nil, Error{Source: Internal, Phase: PhaseConnect, Status: http.StatusServiceUnavailable, Err: errFull}, false
	}
	w.stats.BackendConnects++
	conn, err := w.stack.Connect(server.Addr)
	if err != nil {
		e := connectError(err)
		if err == stack.ErrNoPort {
			e.Source, e.Status = Internal, http.StatusServiceUnavailable
		}
		return nil, e, false
	}
	b := w.newBackend()
	b.conn, b.Server = conn, server
	b.full = &w.stats.BackendSendFull
	conn.CountZeroWindows(&w.stats.BackendReceiveFull)
	w.stats.BackendsActive++
	server.Open++
	if server.Removed() {
		w.stats.Retiring++
	}
	w.stats.ConnectionsMax = max(w.stats.ConnectionsMax, uint64(w.connections()))
	w.poller.AddConn(conn, stack.Readable|stack.Writable, b)
	return b, Error{}, true
}

// reuse takes a pooled connection to server, nil when there is none. Its end may
// have come without its event having been seen yet. careful makes sure by a read:
// for requests that could not be sent again.
func (w *Worker) reuse(server *upstream.Server, careful bool) *backend {
	for {
		c := server.Take()
		if c == nil {
			return nil
		}
		b := c.Owner.(*backend)
		w.stats.BackendsIdle--
		b.reading.disarm()
		if !careful || b.quiet() {
			b.reused = true
			return b
		}
		w.stats.BackendStale++
		b.close()
	}
}

// quiet tells whether there is nothing to read, not even the end.
func (b *backend) quiet() bool {
	_, err := b.read(b.worker.scratch[:1])
	return err == stack.ErrWouldBlock && !b.broken
}

// event takes an event of the poller.
func (b *backend) event(e stack.Events) {
	if b.closed {
		return
	}
	b.note(e)
	switch {
	case b.x == nil:
		// Data that nobody asked for, or the end. The event may also be about
		// data of the last response, which was read before it was taken.
		if b.readable && !b.quiet() {
			b.worker.stats.BackendStale++
			b.retire()
		}
	case !b.connected:
		b.establish()
	default:
		if b.x.follower != nil {
			b.x.follower.Step(Step{Kind: StepAwake, Conn: b.conn})
		}
		b.x.session.run()
	}
}

// establish ends the wait for the handshake, one way or the other.
func (b *backend) establish() {
	x := b.x
	switch {
	case b.conn.Established():
		b.connected, b.writable = true, true
		x.times.connected = b.worker.now
		b.Server.Worked()
		b.reading.disarm()
		if x.follower != nil {
			x.follower.Step(Step{Kind: StepAwake, Conn: b.conn})
			x.follower.Step(Step{Kind: StepEstablished, Conn: b.conn})
		}
	case b.broken:
		err := b.conn.Err()
		if err == nil {
			err = stack.ErrReset
		}
		x.fail(connectError(err))
	default:
		return
	}
	x.session.run()
}

// release ends the service of b for its exchange. clean tells that both messages
// are complete and nothing else was sent, so that another request may follow.
func (b *backend) release(clean bool) {
	w := b.worker
	g := b.Server.Group
	x := b.x
	b.x.backend, b.x = nil, nil
	b.writing.disarm()
	b.reading.disarm()
	// What follows a response unasked would be taken for the answer to the next
	// request. Its event, or that of the end, may have come with the response.
	if !clean || b.eof || b.broken || w.draining || g.Private() ||
		g.KeepAliveRequests > 0 && b.requests >= g.KeepAliveRequests || b.readable && !b.quiet() {
		if x.follower != nil {
			x.follower.Step(Step{Kind: StepReleased, Conn: b.conn})
		}
		b.close()
		return
	}
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepReleased, Conn: b.conn, Kept: true})
	}
	evicted := b.Server.Put(&b.Conn)
	if b.Idle() {
		w.stats.BackendsIdle++
		w.stats.BackendsIdleMax = max(w.stats.BackendsIdleMax, w.stats.BackendsIdle)
		w.wheel.arm(&b.reading, waitIdle, w.now+b.Server.Group.IdleTimeout)
	}
	if evicted != nil {
		e := evicted.Owner.(*backend)
		if e != b {
			w.stats.BackendsIdle--
		}
		e.close()
	}
}

// retire closes an idle connection.
func (b *backend) retire() {
	b.Server.Remove(&b.Conn)
	b.worker.stats.BackendsIdle--
	b.close()
}

// evict closes one idle connection to make room for another one, of any server.
func (w *Worker) evict() bool {
	for _, g := range w.groups {
		for _, s := range g.Servers {
			if c := s.TakeOldest(); c != nil {
				w.evicted(c)
				return true
			}
		}
	}
	return false
}

// evictAll closes all idle connections.
func (w *Worker) evictAll() {
	for w.evict() { //nolint:revive // evict does the work
	}
}

// evicted closes a connection that has no place in its pool any more.
func (w *Worker) evicted(c *upstream.Conn) {
	w.stats.BackendsIdle--
	c.Owner.(*backend).close()
}

// close ends the connection, which is in no pool.
func (b *backend) close() { b.end((*stack.Conn).Close) }

// abort ends the connection with RST, so that a backend cannot take a request that
// was cut off for a complete one.
func (b *backend) abort() { b.end((*stack.Conn).Abort) }

func (b *backend) end(how func(*stack.Conn)) {
	w := b.worker
	if b.x != nil {
		b.x.backend, b.x = nil, nil
	}
	b.closed = true
	w.wheel.remove(&b.reading)
	w.wheel.remove(&b.writing)
	how(b.conn)
	w.stats.BackendsActive--
	b.Server.Open--
	if b.Server.Removed() {
		w.stats.Retiring--
	}
	w.dead.backends = append(w.dead.backends, b)
}

// expired takes the end of a wait.
func (b *backend) expired(kind wait) {
	w := b.worker
	if kind == waitIdle {
		b.retire()
		return
	}
	x := b.x
	e := Error{Source: Backend, Status: http.StatusGatewayTimeout, Err: timedOut[kind]}
	switch kind {
	case waitConnect:
		w.stats.TimeoutsConnect++
		e.Phase, e.Retryable = PhaseConnect, true
	case waitBackendRead:
		w.stats.TimeoutsBackendRead++
		e.Phase = PhaseWait
		if x.hasResp {
			e.Phase = PhaseRelay
		}
	case waitBackendSend:
		w.stats.TimeoutsBackendSend++
		e.Phase = PhaseSend
	}
	s := x.session
	x.fail(e)
	s.run()
}
