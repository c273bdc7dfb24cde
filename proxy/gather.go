package proxy

import (
	"time"

	"ringroad/proxy/http1"
)

// Many a peer sends the head of a message and a short body in two segments, the second some microseconds behind the
// first, as nginx does with writev and sendfile. Relayed as they come they cost two frames and two kicks, and whoever
// receives them wakes up twice. So what there is of a short message is held for a moment, as under MSG_MORE: until the
// rest has come, but not when the loop has looked for it in vain and is about to sleep.

const (
	// gatherBytes is how long a message is at most that is held: its head, and what is announced of its body.
	gatherBytes = 4 << 10
	// gatherLimit is how long it is held while the loop has other work: as long as a loop looks for frames before it
	// sleeps.
	gatherLimit = 50 * time.Microsecond
)

// gathers reports whether what f holds is to wait for the rest of its message.
func (x *exchange) gathers(f *flow) bool {
	s := x.session
	w := s.worker
	if f.complete || w.letting || f.body.Framing() != http1.FramingLength || int64(f.out.len())+f.body.Remaining() > gatherBytes {
		return false
	}
	if s.heldAt == 0 {
		s.heldAt = w.now
		w.held = append(w.held, s)
	}
	return true
}

// letGo writes what was held for gatherLimit, or all that is.
func (w *Worker) letGo(all bool) {
	n := 0
	for n < len(w.held) && (all || w.now-w.held[n].heldAt >= gatherLimit) {
		n++
	}
	w.letting = true
	for _, s := range w.held[:n] {
		s.heldAt = 0
		if x := s.x; x != nil && x.request.out.len()+x.response.out.len() > 0 {
			s.run()
		}
	}
	w.letting = false
	rest := copy(w.held, w.held[n:])
	clear(w.held[rest:])
	w.held = w.held[:rest]
}
