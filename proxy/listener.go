package proxy

import (
	"ringroad/proxy/config"
	"ringroad/stack"
)

// acceptBatch is how many connections a listener accepts before others come
// first.
const acceptBatch = 256

// listener accepts clients.
type listener struct {
	*stack.Listener
	config *config.Listener
	worker *Worker
	routes []route     // as config.Routes
	pages  *errorPages // nil: none
	ready  bool        // Accept may return a connection
	paused bool        // max_connections is reached
}

// listen opens the listener that c describes. read holds the error pages read so
// far, by file.
func (w *Worker) listen(c *config.Listener, read map[string]*errorPage) error {
	routes, err := w.newRoutes(c)
	if err != nil {
		return err
	}
	pages, err := w.newPages(c, read)
	if err != nil {
		return err
	}
	sl, err := w.stack.Listen(c.Address, c.Backlog)
	if err != nil {
		return err
	}
	l := &listener{Listener: sl, config: c, worker: w, routes: routes, pages: pages}
	w.listeners = append(w.listeners, l)
	w.poller.AddListener(sl, l)
	return nil
}

// closeListeners stops accepting for good.
func (w *Worker) closeListeners() {
	for _, l := range w.listeners {
		l.ready = false
		l.Close()
	}
	w.listeners = nil
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
	if l.config.ProxyProtocol {
		s.state = introducing
	}
	s.prev, s.next = w.sessions.prev, &w.sessions
	s.prev.next, s.next.prev = s, s
	w.stats.ClientsAccepted++
	w.stats.ClientsActive++
	w.stats.ConnectionsMax = max(w.stats.ConnectionsMax, uint64(w.connections()))
	w.wheel.arm(&s.reading, waitClientHeader, w.now+w.timeouts[waitClientHeader])
	w.poller.AddConn(conn, stack.Readable|stack.Writable, s)
}

// forget takes an ended session off the list.
func (w *Worker) forget(s *session) {
	s.prev.next, s.next.prev = s.next, s.prev
	s.next, s.prev = nil, nil
	w.stats.ClientsActive--
	w.stats.ClientsClosed++
	w.dead.sessions = append(w.dead.sessions, s)
	for _, l := range w.listeners {
		if l.ready {
			w.accepting = true
		}
	}
}
