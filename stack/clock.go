package stack

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// readings is how many calls share one reading of the system's clock at most, half as
// many on average: a power of two. netstack asks about ten times a request, which made
// 6 % of the worker's time.
const readings = 32

// clockStep is the least time between two calls, ns: as much as a large segment has
// packets, which get times of their own when it is split (sack.go).
const clockStep = 64

// clock is netstack's tcpip.Clock. Readings are fresh to the time of two requests,
// because RACK (RFC 8985) mistakes a time read once a turn for reordering and
// resends 14 to 25 % of a body; timers run on the loop, so that what they send
// leaves with the same turn's kick.
type clock struct {
	base time.Time
	wake func() // called when a timer became the earliest
	// manual is the time since base instead of the system's; nil but in tests.
	manual func() time.Duration
	// epoch is what netstack's time was at base: that of the system, so that all
	// workers judge SYN cookies by one time.
	epoch time.Duration

	reading atomic.Int64 // last reading, ns since base, and clockStep for each call since

	mu    sync.Mutex
	queue timerQueue
	most  int // timers on it at a time
}

var _ tcpip.Clock = (*clock)(nil)

func newClock(wake func()) *clock {
	return &clock{base: time.Now(), wake: wake}
}

func (c *clock) elapsed() time.Duration {
	if c.manual != nil {
		return c.manual()
	}
	return time.Since(c.base)
}

// Now implements tcpip.Clock.
func (c *clock) Now() time.Time { return time.Now() }

// set takes a reading made elsewhere: the loop makes one every turn.
func (c *clock) set(now time.Duration) {
	if r := c.reading.Load(); int64(now) > r {
		c.reading.CompareAndSwap(r, int64(now)) // else a later one has come
	}
}

// recent is the time since base, at most a few calls old. No two calls get the
// same: of two segments sent at one time RACK takes the later one for the one sent
// first (detectLoss in rack.go has the comparison of RFC 8985 6.2 the wrong way
// round), and for lost when the other is acknowledged.
func (c *clock) recent() time.Duration {
	r := c.reading.Add(clockStep)
	if r/clockStep%readings == 0 {
		c.set(c.elapsed())
		r = c.reading.Add(clockStep)
	}
	return time.Duration(r)
}

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	return c.monotonic(c.recent())
}

// monotonic is a time since base for netstack.
func (c *clock) monotonic(d time.Duration) tcpip.MonotonicTime { return monotonic(c.epoch + d) }

// AfterFunc implements tcpip.Clock. f runs on the loop, not on a goroutine of
// its own.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{clock: c, fire: f, index: -1}
	t.Reset(d)
	return t
}

// run fires the timers due at now and returns how many.
func (c *clock) run(now time.Duration) int {
	fired := 0
	for {
		c.mu.Lock()
		if len(c.queue) == 0 || c.queue[0].at > now {
			c.mu.Unlock()
			return fired
		}
		fire := heap.Pop(&c.queue).(*timer).fire
		c.mu.Unlock()
		fire()
		fired++
	}
}

// next is when the earliest timer is due; ok is false when there is none.
func (c *clock) next() (at time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return 0, false
	}
	return c.queue[0].at, true
}

// len is how many timers are armed, and the most that have been at a time.
func (c *clock) len() (now, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue), c.most
}

type timer struct {
	clock *clock
	fire  func()        // guarded by clock.mu
	at    time.Duration // guarded by clock.mu
	index int           // in the queue, -1: not queued; guarded by clock.mu
}

// Stop implements tcpip.Timer.
func (t *timer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&t.clock.queue, t.index)
	return true
}

// Reset implements tcpip.Timer.
func (t *timer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	t.at = c.recent() + d
	if t.index >= 0 {
		heap.Fix(&c.queue, t.index)
	} else {
		heap.Push(&c.queue, t)
		c.most = max(c.most, len(c.queue))
	}
	first := t.index == 0
	c.mu.Unlock()
	if first {
		c.wake()
	}
}

// refire has f called instead of what was to be called.
func (t *timer) refire(f func()) {
	t.clock.mu.Lock()
	t.fire = f
	t.clock.mu.Unlock()
}

// timerQueue is a heap.Interface ordered by due time.
type timerQueue []*timer

func (q timerQueue) Len() int           { return len(q) }
func (q timerQueue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q timerQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *timerQueue) Push(x any) {
	t := x.(*timer)
	t.index = len(*q)
	*q = append(*q, t)
}

func (q *timerQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	t.index = -1
	return t
}
