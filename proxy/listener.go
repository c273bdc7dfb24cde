package proxy

import (
	"slices"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack"
)

// acceptBatch is how many connections a listener accepts before others come
// first.
const acceptBatch = 256

// listener accepts clients. It outlives configurations that name its address.
type listener struct {
	*stack.Listener
	routing
	worker *Worker
	ready  bool          // Accept may return a connection
	paused bool          // max_connections is reached
	until  time.Duration // loop time at which what is left of its sessions is cut off; 0: not removed
	gone   time.Duration // loop time at which it is closed; valid iff removed; never: a reload may want it back
}

// removed tells that nothing new is to come from l: its sessions end with the
// exchange that they are in.
func (l *listener) removed() bool { return l.until != 0 }

// begin opens the listener that c describes. read holds the error pages read so far.
func (w *Worker) begin(c *config.Listener, read *pages) error {
	r, err := w.newRouting(c, read)
	if err != nil {
		return err
	}
	l, err := w.listen(c)
	if err != nil {
		return err
	}
	l.routing = r
	w.serve(l)
	return nil
}

// listen makes a listener that queues connections.
func (w *Worker) listen(c *config.Listener) (*listener, error) {
	l, err := w.stack.Listen(c.Address, c.Backlog)
	if err != nil {
		return nil, err
	}
	k := &listener{Listener: l, worker: w}
	l.Admits = k.admits
	return k, nil
}

// serve begins to accept on l.
func (w *Worker) serve(l *listener) {
	w.listeners = append(w.listeners, l)
	w.poller.AddListener(l.Listener, l)
}

// closeListeners stops accepting for good.
func (w *Worker) closeListeners() {
	for _, list := range [][]*listener{w.listeners, w.leaving} {
		for _, l := range list {
			l.ready = false
			l.Close()
		}
	}
	w.listeners, w.leaving = nil, nil
	w.accepting = false
}

// mayAccept tells whether there is room for another client. Each may need a
// connection to a backend at the same time, so clients take half of
// max_connections at most; then no request fails for want of a connection.
func (w *Worker) mayAccept() bool {
	limit := w.config.Limits.MaxConnections
	return int(w.stats.ClientsActive) < limit-limit/2
}

// acceptAll goes on accepting on every listener that has more.
func (w *Worker) acceptAll() {
	w.accepting = false
	for _, l := range w.listeners {
		l.accept()
	}
	for _, l := range w.leaving {
		l.accept()
	}
}

// accept takes connections off the accept queue as long as there is room.
func (l *listener) accept() {
	w := l.worker
	for range acceptBatch {
		if !l.ready {
			return
		}
		if !w.mayAccept() {
			// The accept queue holds them, and forget lets us go on.
			if !l.paused {
				l.paused = true
				w.stats.AcceptPauses++
			}
			return
		}
		l.paused = false
		conn, err := l.Accept()
		switch err {
		case nil:
			w.open(l, conn)
		case stack.ErrWouldBlock:
			l.ready = false
		default:
			w.stats.AcceptErrors++
		}
	}
	w.accepting = true
}

// open begins a session.
func (w *Worker) open(l *listener, conn *stack.Conn) {
	s := w.takeSession()
	s.conn, s.listener = conn, l
	s.full = &w.stats.ClientSendFull
	if w.hooks != nil {
		s.look().connection = w.hooks.Accepted(l.Listener, conn)
	}
	conn.CountZeroWindows(&w.stats.ClientReceiveFull)
	if l.config.ProxyProtocol {
		s.state = introducing
	}
	s.prev, s.next = w.sessions.prev, &w.sessions
	s.prev.next, s.next.prev = s, s
	w.stats.ClientsAccepted++
	w.stats.ClientsActive++
	s.number, s.accepted, s.since = w.stats.ClientsAccepted, w.now, w.now
	if l.removed() {
		w.stats.Retiring++
	}
	w.stats.ConnectionsMax = max(w.stats.ConnectionsMax, uint64(w.connections()))
	w.wheel.arm(&s.reading, waitClientHeader, w.now+w.timeouts[waitClientHeader])
	w.poller.AddConn(conn, stack.Readable|stack.Writable, s)
	if s.state == awaiting {
		s.join()
	}
}

// forget takes an ended session off the list.
func (w *Worker) forget(s *session) {
	if w.sampled == s {
		w.sampled = s.next
	}
	if len(w.surveys) > 0 && w.surveys[0].next == s {
		w.surveys[0].next = s.next
	}
	s.prev.next, s.next.prev = s.next, s.prev
	s.next, s.prev = nil, nil
	w.stats.ClientsActive--
	if s.listener.removed() {
		w.stats.Retiring--
	}
	w.stats.ClientsClosed++
	w.dead.sessions = append(w.dead.sessions, s)
	w.accepting = w.accepting || w.waiting()
}

// waiting tells whether a listener has more to accept.
func (w *Worker) waiting() bool {
	ready := func(l *listener) bool { return l.ready }
	return slices.ContainsFunc(w.listeners, ready) || slices.ContainsFunc(w.leaving, ready)
}
