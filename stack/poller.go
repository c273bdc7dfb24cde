package stack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"
)

// Events are what a connection is ready for, as epoll's event bits.
type Events uint8

// The events. Hangup and Error are always reported.
const (
	Readable Events = 1 << iota // EPOLLIN: data, end of stream, or a connection to accept
	Writable                    // EPOLLOUT: room in the send buffer, or a connect that ended
	Hangup                      // EPOLLHUP
	Error                       // EPOLLERR
)

const always = Hangup | Error

// Event is one entry of the ready list.
type Event struct {
	Events Events
	Data   any // what was registered, as epoll_data
}

// Poller is an edge-triggered epoll instance: an interest list (each source
// keeps its own entry) and a ready list. An event is reported once per change;
// the receiver reads or writes until ErrWouldBlock, or resumes by itself.
type Poller struct {
	stack *Stack

	mu    sync.Mutex // netstack's processor appends, the loop takes
	ready []*source
	spare []*source // the other half of a double buffer; loop only
	rest  []*source // taken from ready, not yet delivered; loop only
	timed bool      // times of every source are noted; guarded by mu
}

// source is one registered connection or listener.
type source struct {
	poller   *Poller
	notifier *waiter.Queue // nil until registered
	entry    waiter.Entry
	data     any
	gone     bool // unregistered for good; loop only

	interest Events // guarded by Poller.mu
	pending  Events // guarded by Poller.mu
	queued   bool   // on the ready list; guarded by Poller.mu

	timed               bool          // its times are noted; guarded by Poller.mu
	readableAt, readyAt time.Duration // of what is pending; guarded by Poller.mu, zero: not known
	woken               Waking        // loop only
}

// register puts the source on the interest list.
func (p *Poller) register(s *source, q *waiter.Queue, e Events, data any) {
	s.poller, s.notifier, s.interest, s.data = p, q, e, data
	s.entry.Init(s, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventHUp|waiter.EventErr|waiter.EventRdHUp)
	q.EventRegister(&s.entry)
}

// unregister removes the source; no event of it is delivered afterwards.
func (p *Poller) unregister(s *source) {
	if s.gone {
		return
	}
	s.gone = true
	s.data = nil // a closed connection may be watched for a while (rearm.go)
	if s.notifier != nil {
		s.notifier.EventUnregister(&s.entry)
	}
}

// NotifyEvent implements waiter.EventListener. It runs on netstack's goroutine
// with the endpoint locked (the ISR's part: mark ready, wake).
func (s *source) NotifyEvent(mask waiter.EventMask) {
	s.poller.mark(s, eventsOf(mask))
	s.poller.stack.wakeIfAsleep()
}

// mark adds events and, if they are of interest, queues the source.
func (p *Poller) mark(s *source, e Events) {
	p.mu.Lock()
	if p.timed || s.timed {
		p.time(s, e)
	}
	s.pending |= e
	if !s.queued && s.pending&(s.interest|always) != 0 {
		s.queued = true
		p.ready = append(p.ready, s)
	}
	p.mu.Unlock()
}

// AddConn registers c for e; an event is queued at once for what c is ready
// for already.
func (p *Poller) AddConn(c *Conn, e Events, data any) {
	p.register(&c.source, c.queue, e, data)
	p.rearm(&c.source, c.endpoint.Readiness(maskOfEvents(e)))
}

// ModConn changes the interest in c and queues an event at once for what it is
// ready for, as EPOLL_CTL_MOD does.
func (p *Poller) ModConn(c *Conn, e Events) {
	p.mu.Lock()
	c.interest = e
	c.pending = 0
	p.mu.Unlock()
	p.rearm(&c.source, c.endpoint.Readiness(maskOfEvents(e)))
}

// DelConn ends the interest in c. Close and Abort imply it.
func (p *Poller) DelConn(c *Conn) { p.unregister(&c.source) }

// AddListener registers l for connections to accept.
func (p *Poller) AddListener(l *Listener, data any) {
	p.register(&l.source, l.queue, Readable, data)
	p.rearm(&l.source, l.endpoint.Readiness(waiter.ReadableEvents))
}

func (p *Poller) rearm(s *source, mask waiter.EventMask) {
	if e := eventsOf(mask); e != 0 {
		p.mark(s, e)
	}
}

// Wait moves up to len(ev) events off the ready list and returns how many. It
// never blocks; what does not fit stays for the next call.
func (p *Poller) Wait(ev []Event) int {
	if len(p.rest) == 0 {
		p.mu.Lock()
		p.ready, p.spare = p.spare[:0], p.ready
		p.mu.Unlock()
		p.rest = p.spare
	}
	n, taken := 0, 0
	p.mu.Lock()
	var now time.Duration // read when it is needed first
	for _, s := range p.rest {
		if n == len(ev) {
			break
		}
		taken++
		e := s.pending & (s.interest | always)
		if p.timed || s.timed {
			if now == 0 {
				now = p.stack.clock.elapsed()
			}
			s.timeTaken(now, min(len(p.rest), len(ev)))
		}
		s.pending = 0
		s.queued = false
		if s.gone || e == 0 {
			continue
		}
		ev[n] = Event{e, s.data}
		n++
	}
	p.mu.Unlock()
	clear(p.rest[:taken])
	p.rest = p.rest[taken:]
	return n
}

// Ready reports whether Wait would return something.
func (p *Poller) Ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ready) > 0 || len(p.rest) > 0
}

func eventsOf(m waiter.EventMask) (e Events) {
	if m&(waiter.ReadableEvents|waiter.EventRdHUp) != 0 {
		e |= Readable
	}
	if m&waiter.WritableEvents != 0 {
		e |= Writable
	}
	if m&waiter.EventHUp != 0 {
		e |= Hangup
	}
	if m&waiter.EventErr != 0 {
		e |= Error
	}
	return e
}

func maskOfEvents(e Events) (m waiter.EventMask) {
	m = waiter.EventHUp | waiter.EventErr
	if e&Readable != 0 {
		m |= waiter.ReadableEvents
	}
	if e&Writable != 0 {
		m |= waiter.WritableEvents
	}
	return m
}
