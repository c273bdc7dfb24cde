package dataplane

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Waiter parks a worker's loop while its queues have nothing to receive, without a thread of its own: the sockets sit
// in Go's netpoller.
//
// For each queue one goroutine waits in RawConn.Read, whose predicate re-reads the RX ring. The netpoller is
// edge-triggered: parking is safe only because the predicate runs after the poller was reset, so that a frame that
// came before is seen on the ring and one that comes after makes an edge. The goroutine is sent there (armed) only
// when the loop is about to sleep, and stays there over any number of sleeps until its queue has a frame. A loop that
// always finds work therefore pays nothing.
//
// Between the loop and whoever wakes it stands one word: asleep. The loop sets it, looks at the rings and the wake flag
// once more, and sleeps; a waker makes its reason visible first and then takes the word back by compare-and-swap.
// Whoever takes it must send exactly one token. So no wake-up is lost and no stale token stays behind.
//
// A loop that is woken has paid some 15 us of CPU for its sleep, and its peer as much for waking it. While waits are
// short, [Waiter.Poll] saves both: it looks at the rings for a moment before the loop sleeps.
type Waiter struct {
	queues   []*queueWatch
	handover *Handover // nil: no frames come from there
	timer    *time.Timer
	idle     idleness // of the owner

	woken  atomic.Bool   // Wake was called since the last Wait returned
	asleep atomic.Bool   // the loop sleeps, or is about to; the one who clears it by CAS sends to token, if not the loop
	token  chan struct{} // capacity 1

	stopping atomic.Bool
	stop     chan struct{}
	stopped  sync.WaitGroup
}

// queueWatch is the goroutine that waits on one queue.
type queueWatch struct {
	queue *Queue
	arm   chan struct{} // capacity 1
	armed atomic.Bool   // in RawConn.Read, or on the way; set by the loop, cleared by the goroutine
}

// NewWaiter starts to wait on queues on behalf of the goroutine that owns them. A queue can have one waiter.
func NewWaiter(queues []*Queue) (*Waiter, error) {
	w := &Waiter{timer: time.NewTimer(time.Hour), token: make(chan struct{}, 1), stop: make(chan struct{})}
	w.timer.Stop()
	for _, q := range queues {
		if q.waited {
			return nil, fmt.Errorf("wait on %s: %w", q.name, ErrInUse)
		}
		// A closed waiter leaves a deadline in the past behind.
		if err := q.file.SetReadDeadline(time.Time{}); err != nil {
			return nil, fmt.Errorf("wait on %s: %w", q.name, err)
		}
		w.queues = append(w.queues, &queueWatch{queue: q, arm: make(chan struct{}, 1)})
	}
	for _, qw := range w.queues {
		qw.queue.waited = true
		w.stopped.Add(1)
		go w.watch(qw)
	}
	return w, nil
}

// watch runs in a goroutine of its own.
func (w *Waiter) watch(qw *queueWatch) {
	defer w.stopped.Done()
	rx := &qw.queue.rx
	ready := func(uintptr) bool { return w.stopping.Load() || rx.level() > 0 }
	for {
		select {
		case <-qw.arm:
		case <-w.stop:
			return
		}
		err := qw.queue.conn.Read(ready)
		if w.stopping.Load() {
			return
		}
		if err != nil {
			// The netpoller gave the descriptor up. The loop learns why from Kick or Check; armed stays set, so that it
			// does not come back at once.
			w.Wake()
			continue
		}
		qw.armed.Store(false)
		w.rouse()
	}
}

// Wait returns when a queue has received frames, after a call of Wake, or after d (a negative d: no limit). It also
// returns for what the kernel wakes nobody for: when a kick that left frames behind is due again, and when there are
// free frames after a reservation failed. Only the goroutine that owns the queues may call it.
//
// All peeked frames should be released before: those left make it return at once. Times under a millisecond may be
// rounded up to one by the netpoller.
func (w *Waiter) Wait(d time.Duration) {
	defer w.idle.end()
	for _, qw := range w.queues {
		wait, relieved := qw.queue.patience()
		if relieved {
			return
		}
		if wait != 0 && (d < 0 || wait < d) {
			d = wait
		}
	}
	if w.due() || d == 0 {
		return
	}
	var timeout <-chan time.Time
	if d > 0 {
		w.timer.Reset(d)
		timeout = w.timer.C
	}
	for w.sleep(timeout) && !w.due() {
	}
	if d > 0 {
		w.timer.Stop()
	}
}

// Heed makes Poll look at frames that other workers hand over, too. The goroutine that owns the queues calls it, once.
func (w *Waiter) Heed(h *Handover) { w.handover = h }

// Poll looks out for what Wait waits for, for pollLimit at most and only while waits have lately been about as short. Whoever
// waits for the processor gets it in between: it may be the one that sends the next frame (1 KB answers on two processors: 1.13x
// of the requests/s). Poll reports whether there is something; if not, the loop should sleep by Wait. Only the goroutine that
// owns the queues may call it.
func (w *Waiter) Poll() bool {
	w.idle.begin()
	if !w.idle.short() {
		return false
	}
	for {
		for range pollLooks {
			if w.due() || w.handover != nil && w.handover.waiting() {
				w.idle.end()
				return true
			}
		}
		yield()
		if w.idle.elapsed() > pollLimit {
			return false
		}
	}
}

const (
	// pollLimit is how long Poll looks: two or three times what a sleep costs, so that it is never much worse than one.
	pollLimit = 50 * time.Microsecond
	// pollLooks is how often it does between two looks at the clock.
	pollLooks = 16
	// shortWait is how long waits are at most, on average, for Poll to be worthwhile. One that the loop slept through
	// has the time in it that waking took.
	shortWait = 100 * time.Microsecond
	// longWait is the longest that counts: after a long one, a few short ones are enough to poll again, and a few that
	// come to nothing to stop.
	longWait = 400 * time.Microsecond
)

// idleness follows how long the loop waits for work. The zero value begins with a loop that sleeps.
type idleness struct {
	base    time.Time
	since   time.Duration // of base: when this wait began; valid iff waiting
	waiting bool
	average time.Duration // of the last waits, the latest with a weight of 1/8; 0: none yet
}

func (i *idleness) short() bool { return i.average != 0 && i.average < shortWait }

func (i *idleness) elapsed() time.Duration { return time.Since(i.base) - i.since }

func (i *idleness) begin() {
	if i.base.IsZero() {
		i.base = time.Now()
	}
	i.since, i.waiting = time.Since(i.base), true
}

func (i *idleness) end() {
	if !i.waiting {
		return
	}
	i.waiting = false
	i.observe(i.elapsed())
}

func (i *idleness) observe(wait time.Duration) {
	wait = min(max(wait, 1), longWait)
	if i.average == 0 {
		i.average = wait
	}
	i.average += (wait - i.average) / 8
}

// due reports whether there is a reason not to sleep. It takes a Wake back.
func (w *Waiter) due() bool {
	if w.woken.Load() {
		w.woken.Store(false)
		return true
	}
	for _, qw := range w.queues {
		if qw.queue.rx.level() > 0 || !qw.queue.backlog.empty() {
			return true
		}
	}
	return false
}

// sleep parks the loop until the next token or the timeout, and reports whether it was a token.
func (w *Waiter) sleep(timeout <-chan time.Time) (token bool) {
	w.asleep.Store(true)
	for _, qw := range w.queues {
		if !qw.armed.Load() {
			qw.armed.Store(true)
			qw.arm <- struct{}{}
		}
	}
	// A reason that became visible before asleep was set has no waker. Those on the rings are found by the goroutines
	// just armed, or still in Read; the flag has to be looked at here.
	if w.woken.Load() && w.asleep.CompareAndSwap(true, false) {
		return true
	}
	select {
	case <-w.token:
		return true
	case <-timeout:
	}
	if !w.asleep.CompareAndSwap(true, false) {
		<-w.token // a waker was faster; its token is on the way
	}
	return false
}

// rouse wakes the loop if it sleeps.
func (w *Waiter) rouse() {
	if w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
		w.token <- struct{}{}
	}
}

// Wake makes the current Wait return, or the next one if the loop is awake. Any goroutine may call it, at the price of
// two atomic accesses while the loop is awake.
func (w *Waiter) Wake() {
	w.woken.Store(true)
	w.rouse()
}

// Close ends the waiter's goroutines. The owner of the queues calls it; nobody may be in Wait.
func (w *Waiter) Close() {
	w.stopping.Store(true)
	close(w.stop)
	for _, qw := range w.queues {
		// Ends a Read in the netpoller. It can only fail on a closed descriptor, in which nobody waits.
		_ = qw.queue.file.SetReadDeadline(time.Unix(1, 0))
	}
	w.stopped.Wait()
	for _, qw := range w.queues {
		qw.queue.waited = false
	}
}
