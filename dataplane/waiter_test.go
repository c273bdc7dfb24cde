package dataplane

import (
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWaiterNeverMissesAWakeUp plays ping-pong between a loop that sleeps and someone who wakes it: by a frame on one of
// two queues, by Wake, or not at all (the timer). Each is done after a delay of varying length, so that it falls on every
// point of the loop's way to sleep.
func TestWaiterNeverMissesAWakeUp(t *testing.T) {
	const rounds = 25000
	for _, procs := range []int{1, 4} {
		w := newWire(t, 2, 1)
		var queues []*Queue
		var stations []*station
		for i := range 2 {
			queues = append(queues, w.openQueue(w.open(i), QueueOptions{RingEntries: 64, Frames: 80}))
			stations = append(stations, w.station(i))
		}
		before := runtime.GOMAXPROCS(procs)
		// On an ordinary thread: the test's own is locked, which makes every switch of goroutines a system call.
		done := make(chan error)
		go func() { done <- pingPong(queues, stations, rounds) }()
		if err := <-done; err != nil {
			t.Errorf("GOMAXPROCS %d: %v", procs, err)
		}
		runtime.GOMAXPROCS(before)
	}
}

const (
	byFirstQueue = iota
	bySecondQueue
	byWake
	byTimer
)

func pingPong(queues []*Queue, stations []*station, rounds int) error {
	goroutines := runtime.NumGoroutine()
	waiter, err := NewWaiter(queues)
	if err != nil {
		return err
	}
	ping, pong := make(chan int), make(chan struct{})
	var woken atomic.Int64
	var round atomic.Int64
	failed := make(chan error, 1)

	go func() {
		defer close(pong)
		var seen int64
		wait := func(d time.Duration) {
			if round.Load()%2 == 0 || !waiter.Poll() {
				waiter.Wait(d)
			}
		}
		for cause := range ping {
			done := false
			for !done {
				switch cause {
				case byTimer:
					wait(50 * time.Microsecond)
					done = true
				case byWake:
					wait(-1)
					if n := woken.Load(); n != seen {
						seen, done = n, true
					}
				default:
					wait(-1)
					q := queues[cause]
					if n := q.Peek(8); n > 0 {
						q.Release(n)
						done = true
					}
				}
			}
			round.Add(1)
			pong <- struct{}{}
		}
	}()

	// A round that takes longer than patience has stalled.
	finished := make(chan struct{})
	go func() {
		watchdog := time.NewTicker(patience)
		defer watchdog.Stop()
		for last := int64(-1); ; {
			select {
			case <-finished:
				return
			case <-watchdog.C:
			}
			now := round.Load()
			if now == last {
				var stacks strings.Builder
				_ = pprof.Lookup("goroutine").WriteTo(&stacks, 2)
				failed <- fmt.Errorf("stalled in round %d\n%s", now, stacks.String())
				return
			}
			last = now
		}
	}()

	frames := [][]byte{stations[0].segment(1, 100), stations[1].segment(1, 100)}
	for i := range rounds {
		cause := i % byTimer
		if i%16 == 5 {
			cause = byTimer // few, because the netpoller rounds each up to a millisecond
		}
		select {
		case ping <- cause:
		case why := <-failed:
			return why
		}
		for range i * 37 % 4000 {
			if i < 0 {
				panic("kept, so that the delay is not optimised away")
			}
		}
		switch cause {
		case byWake:
			woken.Add(1)
			waiter.Wake()
		case byFirstQueue, bySecondQueue:
			if err := stations[cause].trySend(frames[cause]); err != nil {
				return err
			}
		}
		select {
		case <-pong:
		case why := <-failed:
			return why
		}
	}
	close(ping)
	<-pong
	waiter.Close()
	close(finished)
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d goroutines left, %d before", runtime.NumGoroutine(), goroutines)
		}
	}
	return nil
}

func TestWaiterReturnsWithoutSleepingWhenThereIsWork(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	if _, err := NewWaiter([]*Queue{q}); err == nil {
		t.Error("a second waiter on the same queue")
	}

	waiter.Wait(0)
	waiter.Wake()
	waiter.Wake()
	waiter.Wait(-1) // both calls at once
	start := time.Now()
	waiter.Wait(20 * time.Millisecond)
	if d := time.Since(start); d < 20*time.Millisecond {
		t.Errorf("returned after %v: Wake counted twice", d)
	}
	s.send(s.segment(1, 100))
	await(t, "frame arrives", func() bool { return q.Levels().RXRing == 1 })
	for range 10 {
		waiter.Wait(-1) // returns as long as a frame is left
	}
	if q.Peek(8) != 1 {
		t.Error("no frame after all")
	}
	q.Release(1)
}

// Looking at the rings pays only while work comes soon: the loop must begin to, and stop, as waits get shorter and longer.
func TestWaiterPollsWhileWaitsAreShort(t *testing.T) {
	var i idleness
	if i.short() {
		t.Error("polls before anything is known")
	}
	until := func(wait time.Duration, polls bool, most int) {
		t.Helper()
		for range most {
			i.observe(wait)
			if i.short() == polls {
				return
			}
		}
		t.Errorf("after %d waits of %v: polls %v, average %v", most, wait, !polls, i.average)
	}
	until(time.Second, false, 1)
	until(80*time.Microsecond, true, 24) // woken from sleep, with what that takes
	until(10*time.Millisecond, false, 3)
	until(20*time.Microsecond, true, 3)
	for range 1000 {
		i.observe(time.Nanosecond)
	}
	until(10*time.Millisecond, false, 3)
	i.observe(time.Hour)
	until(20*time.Microsecond, true, 12)
}

func TestWaiterPollFindsWhatWaitWould(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	waiter.Wake()
	if waiter.Poll() {
		t.Error("polls although no wait has been short")
	}
	for range 100 {
		waiter.idle.observe(time.Microsecond)
	}
	if !waiter.Poll() {
		t.Error("misses a Wake")
	}
	if waiter.Poll() {
		t.Error("takes one Wake twice")
	}
	waiter.idle = idleness{average: time.Microsecond}
	s.send(s.segment(1, 100))
	await(t, "frame arrives", func() bool { return q.Levels().RXRing == 1 })
	if !waiter.Poll() || q.Peek(8) != 1 {
		t.Error("misses a frame")
	}
	q.Release(1)
}

func TestIdleWaiterLeavesTheProcessorAlone(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	var before, after unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &before))
	waiter.Wait(2 * time.Second)
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &after))
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if used > 200*time.Millisecond {
		t.Errorf("used %v of CPU time in 2 s of sleep", used)
	}
}

// The kernel wakes nobody when it completes frames: a loop that ran out of them must be woken all the same.
func TestWaiterReturnsWhenFramesAreFreeAgain(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	var held []TXFrame
	for {
		f, _, ok := q.Reserve()
		if !ok {
			break
		}
		held = append(held, f)
	}
	waiter.Wait(-1) // nothing is free yet: comes back to look again
	q.Discard(held[0])
	waiter.Wait(-1)
	start := time.Now()
	waiter.Wait(20 * time.Millisecond)
	if d := time.Since(start); d < 20*time.Millisecond {
		t.Errorf("returned after %v, although it was told of the free frame", d)
	}
	for _, f := range held[1:] {
		q.Discard(f)
	}
	wantIdle(t, q)
}
