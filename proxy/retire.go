package proxy

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"
)

// lastCall is how long what was on its way when a listener was removed may take to
// arrive: the end of a handshake that was begun, or the next request on a connection
// that was used a moment ago. A client that gets RST or FIN for it counts a failure
// that could be avoided; it is most of a round trip round the world.
const lastCall = 250 * time.Millisecond

// never is a loop time that does not come.
const never time.Duration = 1<<63 - 1

// errRemoved is why an exchange was cut off in the end.
var errRemoved = errors.New("a reload removed the listener or the backend, and timeouts.drain is over")

// remove lets nothing new come from l. What is in its accept queue is accepted.
func (w *Worker) remove(l *listener, until time.Duration) {
	l.until = until
	w.leaving = append(w.leaving, l)
	w.endSoon(l)
	l.Refuse(true)
	l.ready = true
	w.accepting = true
}

// endSoon lets l be closed when handshakes under way are over.
func (w *Worker) endSoon(l *listener) {
	l.gone = w.now + lastCall
	w.retireAt = earlier(w.retireAt, l.gone)
}

// restore takes new connections on l again.
func (w *Worker) restore(l *listener) {
	l.until = 0
	l.Refuse(false)
	w.leaving = slices.DeleteFunc(w.leaving, func(o *listener) bool { return o == l })
}

// earlier is the earlier of two loop times, of which a may be none.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// retire closes removed listeners and, in the end, cuts off what is left of what a
// reload removed. It sets retireAt anew.
func (w *Worker) retire() {
	w.retireAt = 0
	w.leaving = slices.DeleteFunc(w.leaving, func(l *listener) bool {
		if l.gone == never {
			return false
		}
		if w.now < l.gone {
			w.retireAt = earlier(w.retireAt, l.gone)
			return false
		}
		l.ready = false
		l.Close()
		return true
	})
	if w.draining || w.stats.Retiring == 0 {
		return // drained has the last word, or nothing is left
	}
	cut := 0
	for s := w.sessions.next; s != &w.sessions; {
		next := s.next
		switch until := s.until(); {
		case until == 0:
		case until > w.now:
			w.retireAt = earlier(w.retireAt, until)
		case s.state == lingering:
			s.close() // it has had its last answer
		case s.state != exchanging:
			s.close()
			cut++
		default:
			s.cutOff()
			cut++
			if s.state != ended && s.until() != 0 { // a last answer, for those who take it soon
				w.retireAt = earlier(w.retireAt, w.now+lastCall)
			}
		}
		s = next
	}
	if cut > 0 {
		w.stats.DrainsCutOff += uint64(cut)
		w.log.Warn("cut off what was left of removed listeners and backends", slog.Int("connections", cut))
	}
}

// until is the loop time at which the session is cut off; 0: it stays.
func (s *session) until() time.Duration {
	until := s.listener.until
	if s.x != nil && s.x.backend != nil {
		if at := s.x.backend.Server.Until; at != 0 {
			until = earlier(until, at)
		}
	}
	return until
}

// cutOff ends an exchange that has taken too long.
func (s *session) cutOff() {
	x := s.x
	e := Error{Source: Internal, Phase: PhaseWait, Status: http.StatusServiceUnavailable, Err: errRemoved}
	if !x.began {
		x.fail(e)
		s.run()
		return
	}
	e.Phase, e.Status = PhaseDeliver, 0
	x.failure = e
	x.log()
	s.abandon()
}

// drain begins a graceful stop.
func (w *Worker) drain() {
	if w.draining {
		return
	}
	if w.prepared != nil {
		w.prepared.Abort()
	}
	w.draining = true
	w.drainUntil = w.now + w.config.Timeouts.Drain
	removed := w.listeners
	w.listeners = nil
	for _, l := range removed {
		w.remove(l, never)
	}
	w.takeSessions(removed, nil, w.timeouts[waitKeepAlive])
	w.evictAll()
}

// drained tells whether a graceful stop is complete, or has to be.
func (w *Worker) drained() bool {
	if w.now >= w.drainUntil {
		w.stats.DrainsCutOff += w.stats.ClientsActive
		return true
	}
	return w.stats.ClientsActive == 0 && len(w.leaving) == 0
}
