package proxy

import (
	"errors"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"ringroad/proxy/clients"
	"ringroad/proxy/config"
	"ringroad/proxy/http1"
	"ringroad/stack"
)

const (
	// eventBatch is how many events are taken off the ready list at once, and
	// turnEvents how many in a turn: then what was written goes out first.
	eventBatch = 512
	turnEvents = 4 * eventBatch
	// turnsBehind is how many turns in a row may bring frames before timers are looked
	// at all the same: more than it takes to empty a full ring.
	turnsBehind = 256
	// congestionPause is how long the loop sleeps when all that it could do is
	// to read, and there are no TX frames for what would come of it.
	congestionPause = time.Millisecond
	// freeObjects bounds each free list of sessions, exchanges and backends.
	freeObjects = 4096
)

// Options say what a worker is made of.
type Options struct {
	Config    *config.Config
	Stack     *stack.Stack
	Log       *slog.Logger // nil: slog.Default()
	AccessLog io.Writer    // gets whole lines from a goroutine of the worker, one Write at a time; nil: off
	Stats     *Stats       // to be written to; nil: one of its own
	Pulse     *Pulse       // to be written to; nil: one of its own

	// Pages are the bodies of error pages, by file name, as ReadPages returns them.
	// nil: they are read from disk.
	Pages map[string][]byte

	// Clients is the table of limits.client, which the workers of a proxy share, and
	// Epoch what their common clock showed at loop time 0. nil: one of its own.
	Clients *clients.Table
	Epoch   time.Duration

	// Tick is called on the loop: at most every TickInterval while something
	// happens, once more after that, every IdleTick while nothing does, and when
	// Run ends. nil: never.
	Tick         func()
	TickInterval time.Duration // 0: 100 ms
	IdleTick     time.Duration // 0: 1 s
}

// Worker is the event loop with everything that it drives. One goroutine runs it.
type Worker struct {
	settings
	stack     *stack.Stack
	poller    *stack.Poller
	log       *slog.Logger
	logged    [Internal + 1]logLimit
	limited   logLimit
	told      time.Duration   // loop time until which those count that were told that they have too many connections
	clients   *clients.Table  // nil: no limit was ever on
	epoch     time.Duration   // its time at loop time 0
	access    *accessLog      // nil: off
	written   <-chan struct{} // closed when the access log before this one is written; nil: there was none
	stats     *Stats
	pulse     *Pulse
	hooks     *Hooks // nil: off
	ticker    ticker
	listeners []*listener   // as config.Listeners
	leaving   []*listener   // removed: they refuse SYNs and await handshakes under way
	prepared  *Reload       // neither committed nor aborted; nil: none
	retireAt  time.Duration // loop time at which retire has something to do; 0: never

	reply    http1.AnswerOptions // scratch of respond: a local one would be allocated
	page     http1.PageOptions   // scratch of answer
	begun    Begun               // scratch of follow
	lines    []byte              // scratch of exchange.lines
	dateText []byte              // value of Date
	dateAt   int64               // that dateText stands for, seconds

	now       time.Duration // loop time of this turn
	congested bool          // the stack has no TX frame left; as of the session that runs
	wheel     wheel
	behind    int  // turns with input since timers were looked at
	settled   bool // nor did the last turn have any
	buffers   *buffers
	scratch   []byte // for bytes that are thrown away

	sessions  session    // head of the list of all sessions, in the order of accepting
	sampled   *session   // next one for sample to look into, or the head
	surveys   []*survey  // the first is under way
	resumed   []*session // to run in the next turn without an event
	resuming  []*session // the other half of a double buffer
	held      []*session // with something of a short message that waits for its rest, the longest first
	letting   bool       // letGo runs: nothing is held
	accepting bool       // a listener has more to accept and there is room

	dead struct { // let go in this turn
		sessions  []*session
		exchanges []*exchange
		backends  []*backend
	}
	free struct {
		sessions  []*session
		exchanges []*exchange
		backends  []*backend
	}

	draining   bool
	drainUntil time.Duration // loop time; valid iff draining

	stop   atomic.Bool
	posted atomic.Bool // posts is not empty
	mu     sync.Mutex
	posts  []func() // guarded by mu
}

// New makes a worker and opens its listeners. It must be called by the goroutine
// that is going to call Run, or before that starts.
func New(o Options) (*Worker, error) {
	if o.Config == nil || o.Stack == nil {
		return nil, errors.New("new worker: needs a configuration and a stack")
	}
	w := &Worker{stack: o.Stack, poller: o.Stack.Poller(), log: o.Log, stats: o.Stats, pulse: o.Pulse}
	if w.log == nil {
		w.log = slog.Default()
	}
	if w.stats == nil {
		w.stats = new(Stats)
	}
	w.ticker = newTicker(&o, &w.stats.LoopLag, w.sample)
	if w.pulse == nil {
		w.pulse = new(Pulse)
	}
	w.settings = newSettings(o.Config, nil)
	w.clients, w.epoch = o.Clients, o.Epoch
	w.buffers = newBuffers(w.maxHeadBytes(), &w.stats.BuffersInUse)
	w.scratch = make([]byte, relayBytes)
	w.sessions.next, w.sessions.prev = &w.sessions, &w.sessions
	w.sampled = &w.sessions
	w.takeClients(&clientLimits{})
	read := pages{given: o.Pages}
	for i := range o.Config.Listeners {
		if err := w.begin(&o.Config.Listeners[i], &read); err != nil {
			w.closeListeners()
			return nil, err
		}
	}
	if o.AccessLog != nil {
		w.SetAccessLog(o.AccessLog)
	}
	return w, nil
}

// Stats are the worker's counters. They are read on the loop, through Post, or
// after Run has returned.
func (w *Worker) Stats() *Stats { return w.stats }

// Stop makes Run return at once; connections are cut off. Any goroutine may call
// it.
func (w *Worker) Stop() {
	w.stop.Store(true)
	w.stack.Wake()
}

// Drain makes Run return when the exchanges under way have ended, or after
// timeouts.drain. New connections are refused at once; a connection that has just
// been used is kept for a moment, so that a request that is on its way is still
// answered, as the last one. Any goroutine may call it.
func (w *Worker) Drain() { w.Post(w.drain) }

// Post lets the loop call f between two turns. Any goroutine may call it; f is
// lost when Run has returned.
func (w *Worker) Post(f func()) {
	w.mu.Lock()
	w.posts = append(w.posts, f)
	w.mu.Unlock()
	w.posted.Store(true)
	w.stack.Wake()
}

// Run is the event loop. It returns after Stop, or when a Drain is complete.
func (w *Worker) Run() {
	events := make([]stack.Event, eventBatch)
	parked := false // the turn before ended so
	for {
		w.pulse.turn()
		now, work := w.stack.Turn()
		w.now = now
		w.pulse.set(Serving)
		if w.posted.Load() {
			w.runPosts()
		}
		handled := w.dispatch(events)
		handled += w.resumeAll()
		if len(w.held) > 0 {
			w.letGo(parked && work == 0)
		}
		if w.accepting {
			w.acceptAll()
		}
		if len(w.surveys) > 0 {
			w.survey()
		}
		w.pulse.set(Timing)
		w.expire(work == 0 && handled < turnEvents)
		if w.retireAt != 0 && now >= w.retireAt {
			w.retire()
		}
		w.bury()
		if w.access != nil && w.access.flushAt != 0 && now >= w.access.flushAt {
			w.access.flush()
		}
		w.ticker.turn(now, work > 0 || handled > 0)
		if w.stop.Load() || w.draining && w.drained() {
			break
		}
		w.pulse.set(Sending)
		w.stack.Flush()
		parked = false
		if work == 0 && handled == 0 && !w.accepting && len(w.surveys) == 0 {
			w.pulse.set(Sleeping)
			parked = w.stack.Sleep(w.deadline())
		}
	}
	w.shut()
}

// dispatch hands the events of this turn to their sessions and backends. Backends
// come first: one that has just been closed must not get a request from a session
// further down the list.
func (w *Worker) dispatch(events []stack.Event) (handled int) {
	for handled < turnEvents {
		n := w.poller.Wait(events)
		for i := range events[:n] {
			if b, ok := events[i].Data.(*backend); ok {
				b.event(events[i].Events)
			}
		}
		for i := range events[:n] {
			switch v := events[i].Data.(type) {
			case *session:
				v.event(events[i].Events)
			case *listener:
				v.ready = true
				v.accept()
			}
		}
		clear(events[:n])
		handled += n
		if n < len(events) {
			break
		}
	}
	return handled
}

// resume puts s on the list of sessions to run in the next turn.
func (w *Worker) resume(s *session) {
	if !s.resuming && s.state != ended {
		s.resuming = true
		w.resumed = append(w.resumed, s)
		w.stats.Resumptions++
	}
}

// resumeAll runs the sessions that could not do everything in the last turn.
func (w *Worker) resumeAll() (handled int) {
	w.resumed, w.resuming = w.resuming[:0], w.resumed
	for _, s := range w.resuming {
		s.resuming = false
		if s.state != ended {
			s.run()
		}
	}
	handled = len(w.resuming)
	clear(w.resuming)
	if w.stack.Congested() {
		return 0 // they only came back to the list: see deadline
	}
	return handled
}

// expire ends the waits whose time has come, unless what they wait for may have come in
// time and stand behind other frames: a loop that was held up, or has a burst to work
// off, takes its input first. caughtUp tells that there was none left in this turn.
func (w *Worker) expire(caughtUp bool) {
	switch {
	case !caughtUp:
		w.settled = false
		if w.behind++; w.behind < turnsBehind {
			return
		}
	case !w.settled:
		// One turn more: the scheduler may have come back to the loop before netstack
		// had seen the last batch.
		w.settled = true
		if d := w.wheel.deadline(); d >= 0 && d <= w.now {
			runtime.Gosched()
		}
		return
	}
	w.behind = 0
	w.wheel.expire(w.now, w.expired)
}

// expired takes a timer whose time has come.
func (w *Worker) expired(t *timer) {
	if t.session != nil {
		t.session.expired(t.kind)
	} else {
		t.backend.expired(t.kind)
	}
}

// deadline is the loop time at which the loop must turn again without frames or
// events; -1 for never.
func (w *Worker) deadline() time.Duration {
	d := w.wheel.deadline()
	earliest := func(at time.Duration) {
		if d < 0 || at < d {
			d = at
		}
	}
	if w.access != nil && w.access.flushAt != 0 {
		earliest(w.access.flushAt)
	}
	if w.draining {
		earliest(w.drainUntil)
	}
	if w.retireAt != 0 {
		earliest(w.retireAt)
	}
	if len(w.held) > 0 {
		earliest(w.now)
	}
	if len(w.resumed) > 0 {
		earliest(w.now + congestionPause)
	}
	if at, ok := w.ticker.due(); ok {
		earliest(at)
	}
	return d
}

// runPosts runs what other goroutines asked for.
func (w *Worker) runPosts() {
	w.mu.Lock()
	posts := w.posts
	w.posts = nil
	w.posted.Store(false)
	w.mu.Unlock()
	for _, f := range posts {
		f()
	}
}

// shut ends everything that is left.
func (w *Worker) shut() {
	if w.prepared != nil {
		w.prepared.Abort()
	}
	w.closeListeners()
	for w.sessions.next != &w.sessions {
		s := w.sessions.next
		if s.x != nil && s.x.began {
			s.x.failure = Error{Source: Internal, Phase: PhaseDeliver, Err: errStopped}
			s.x.log()
		}
		if s.state == exchanging {
			s.abandon()
		} else {
			s.close()
		}
	}
	w.evictAll()
	w.bury()
	w.stack.Flush()
	w.closeAccessLog()
	w.ticker.last()
	w.pulse.set(Ended)
}

// connections is the number of connections that count against max_connections.
func (w *Worker) connections() int {
	return int(w.stats.ClientsActive + w.stats.BackendsActive)
}

// via is the Via line for what came as HTTP/1.minor; nil for none.
func (w *Worker) via(minor uint8) []byte { return w.vias[minor&1] }

// date is the value of Date for this turn.
func (w *Worker) date() []byte {
	if now := w.stack.WallTime().Unix(); now != w.dateAt {
		w.dateAt = now
		w.dateText = http1.AppendDate(w.dateText[:0], now)
	}
	return w.dateText
}
