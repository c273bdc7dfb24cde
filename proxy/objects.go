package proxy

// Sessions, exchanges and backends are used again. What ends goes to a dead list
// first and becomes free at the end of the turn: until then, functions further up
// the stack and events already taken off the ready list may still reach it.

func (w *Worker) takeSession() *session {
	s := take(&w.free.sessions)
	if s == nil {
		s = new(session)
	}
	s.state, s.worker = awaiting, w
	s.stats = w.stats
	s.reading.session, s.writing.session = s, s
	return s
}

func (w *Worker) newBackend() *backend {
	b := take(&w.free.backends)
	if b == nil {
		b = new(backend)
	}
	b.worker = w
	b.stats, b.Owner = w.stats, b
	b.reading.backend, b.writing.backend = b, b
	return b
}

func (w *Worker) takeExchange() *exchange {
	x := take(&w.free.exchanges)
	if x == nil {
		x = new(exchange)
	}
	return x
}

// bury makes what ended in this turn free, and lets go of what it refers to.
func (w *Worker) bury() {
	for _, s := range w.dead.sessions {
		// It may still be on the lists of sessions to resume and of those with something held.
		*s = session{state: ended, resuming: s.resuming, heldAt: s.heldAt}
	}
	for _, x := range w.dead.exchanges {
		x.exchangeState = exchangeState{}
		x.request.flowState, x.response.flowState = flowState{}, flowState{}
	}
	for _, b := range w.dead.backends {
		*b = backend{}
	}
	bury(&w.free.sessions, &w.dead.sessions)
	bury(&w.free.exchanges, &w.dead.exchanges)
	bury(&w.free.backends, &w.dead.backends)
}

func take[T any](free *[]*T) *T {
	n := len(*free)
	if n == 0 {
		return nil
	}
	v := (*free)[n-1]
	(*free)[n-1] = nil
	*free = (*free)[:n-1]
	return v
}

func bury[T any](free, dead *[]*T) {
	for i, v := range *dead {
		if len(*free) < freeObjects {
			*free = append(*free, v)
		}
		(*dead)[i] = nil
	}
	*dead = (*dead)[:0]
}
