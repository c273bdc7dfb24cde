package proxy

import (
	"sync/atomic"
	"time"

	"ringroad/stack"
)

// Pulse shows that a loop lives. The loop writes it; any goroutine may read it, and
// where it lies in shared memory, another process.
type Pulse struct {
	Turns atomic.Uint64 // begun
	Phase atomic.Uint64 // an Activity
}

// Activity is what a loop is doing.
type Activity uint64

// The activities of a turn, in their order.
const (
	Starting  Activity = iota // Run has not begun
	Receiving                 // taking frames, and netstack processes them
	Serving                   // sessions and backends run, connections are accepted
	Timing                    // timers expire, what ended is cleared away
	Sending                   // frames are handed to the kernel
	Sleeping                  // nothing to do until a frame, a timer or a wake-up
	Ended                     // Run has returned
)

// String says it in words for a message.
func (a Activity) String() string {
	switch a {
	case Starting:
		return "starting"
	case Receiving:
		return "receiving frames"
	case Serving:
		return "serving connections"
	case Timing:
		return "expiring timers"
	case Sending:
		return "sending frames"
	case Sleeping:
		return "sleeping"
	case Ended:
		return "ended"
	}
	return "unknown"
}

// Activity is what the loop is doing.
func (p *Pulse) Activity() Activity { return Activity(p.Phase.Load()) }

func (p *Pulse) set(a Activity) { p.Phase.Store(uint64(a)) }

// turn begins a turn. The loop is the only writer.
func (p *Pulse) turn() {
	p.Turns.Store(p.Turns.Load() + 1)
	p.set(Receiving)
}

// ticker calls a function of the worker's owner now and then.
type ticker struct {
	f        func() // nil: none
	interval time.Duration
	idle     time.Duration
	lag      *stack.Histogram // how late calls are
	sample   func()           // called before f
	at       time.Duration    // loop time of the last call
	active   bool             // something has happened since
}

// newTicker counts how late it is in lag, and calls sample before Options.Tick.
func newTicker(o *Options, lag *stack.Histogram, sample func()) ticker {
	t := ticker{f: o.Tick, interval: o.TickInterval, idle: o.IdleTick, lag: lag, sample: sample}
	if t.interval == 0 {
		t.interval = 100 * time.Millisecond
	}
	if t.idle == 0 {
		t.idle = time.Second
	}
	return t
}

// turn calls the function if it is time to. active tells that something happened in
// this turn.
func (t *ticker) turn(now time.Duration, active bool) {
	was := t.active
	t.active = t.active || active
	if at, ok := t.due(); ok && now >= at {
		if t.active == was { // otherwise it has not been due for all that time
			t.lag.ObserveTime(now - at)
		}
		t.at, t.active = now, false
		t.sample()
		t.f()
	}
}

// due is the loop time of the next call.
func (t *ticker) due() (at time.Duration, ok bool) {
	if t.active {
		return t.at + t.interval, t.f != nil
	}
	return t.at + t.idle, t.f != nil
}

// last calls the function at the end.
func (t *ticker) last() {
	if t.f != nil {
		t.sample()
		t.f()
	}
}
