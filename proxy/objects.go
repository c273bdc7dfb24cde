package proxy

// Sessions, exchanges and backends are used again. What ends goes to a dead list
// first and becomes free at the end of the turn: until then, functions further up
// the stack and events already taken off the ready list may still reach it.

func (w *Worker) takeSession() *session {
	s := take(&w.free.sessions)
	if s == nil {
		s = new(session)
	}
	*s = session{worker: w, resuming: s.resuming}
	s.reading.session, s.writing.session = s, s
	return s
}

func (w *Worker) newBackend() *backend {
	b := take(&w.free.backends)
	if b == nil {
		b = new(backend)
	}
	*b = backend{worker: w}
	b.Owner = b
	b.reading.backend, b.writing.backend = b, b
	return b
}

func (w *Worker) takeExchange() *exchange {
	x := take(&w.free.exchanges)
	if x == nil {
		return new(exchange)
	}
	x.exchangeState = exchangeState{}
	x.request.flowState, x.response.flowState = flowState{}, flowState{}
	return x
}

// bury makes what ended in this turn free.
func (w *Worker) bury() {
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
