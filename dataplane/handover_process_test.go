package dataplane

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crewVariable tells a child its worker, the number of workers, its generation and how many frames to send.
const crewVariable = "RINGROAD_DATAPLANE_CREW"

// child prepares to run a child as a worker.
func (c *crew) child(t testing.TB, name string, self, generation, frames int) *exec.Cmd {
	cmd := child(t, name)
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d %d %d %d", crewVariable, self, len(c.bells), generation, frames))
	cmd.ExtraFiles = append([]*os.File{c.memory}, c.bells...)
	return cmd
}

// joinAsChild is the child's end of it.
func joinAsChild() (h *Handover, generation, frames int, err error) {
	var self, workers int
	if _, err := fmt.Sscan(os.Getenv(crewVariable), &self, &workers, &generation, &frames); err != nil {
		return nil, 0, 0, err
	}
	o := HandoverOptions{Memory: os.NewFile(3, "memory"), Self: self}
	for w := range workers {
		o.Bells = append(o.Bells, os.NewFile(uintptr(4+w), "bell"))
	}
	h, err = OpenHandover(o)
	for _, f := range append(o.Bells, o.Memory) {
		f.Close()
	}
	return h, generation, frames, err
}

// sleeper receives as a worker's loop does, sleeping when there is nothing.
type sleeper struct {
	*Handover
	waiter *Waiter
	sleeps int
}

func newSleeper(h *Handover) *sleeper {
	waiter, err := NewWaiter(nil)
	if err != nil {
		panic(err)
	}
	h.Watch(waiter.Wake)
	return &sleeper{Handover: h, waiter: waiter}
}

// next waits for the next frame. An error means that none came in a long time.
func (s *sleeper) next() (Handed, error) {
	for end := time.Now().Add(patience); ; {
		if f, ok := s.Receive(); ok {
			return f, nil
		}
		s.Flush()
		if s.Park() {
			s.sleeps++
			s.waiter.Wait(time.Until(end))
			s.Unpark()
		}
		if !time.Now().Before(end) {
			_, ok := s.Receive()
			return Handed{}, fmt.Errorf("not woken within %v; a frame is there: %v; levels %+v", patience, ok, s.Levels())
		}
	}
}

func init() {
	// Sends numbered frames to worker 0, in turns of varying length, for ever if their number is 0.
	children["hand over"] = func() error {
		h, generation, frames, err := joinAsChild()
		if err != nil {
			return err
		}
		buf := make([]byte, 128<<10)
		for number, turn := uint32(0), 0; frames == 0 || number < uint32(frames); turn++ {
			for range 1 + turn*7%61 {
				if frames != 0 && number == uint32(frames) {
					break
				}
				if !h.Send(0, generation, h.self, handedFrame(buf, number)) {
					runtime.Gosched()
					break
				}
				number++
			}
			h.Flush()
		}
		return h.Close()
	}
	// Sends back to worker 0 whatever it is handed, and sleeps in between.
	children["echo"] = func() error {
		h, generation, _, err := joinAsChild()
		if err != nil {
			return err
		}
		s := newSleeper(h)
		for {
			f, err := s.next()
			if err != nil {
				return err
			}
			s.Send(0, generation, s.self, f.Frame)
		}
	}
}

func TestHandoverBetweenProcesses(t *testing.T) {
	const total = 1_000_000
	c := newCrew(t, 3, 0)
	s := newSleeper(c.join(t, 0))
	t.Cleanup(s.waiter.Close)
	sender := c.child(t, "hand over", 2, 5, total)
	must(t, sender.Start())
	for number := range uint32(total) {
		f, err := s.next()
		if err == nil {
			err = checkHanded(f, number)
		}
		if err != nil || f.Link != 5 || f.Origin != 2 {
			t.Fatalf("frame %d (link %d, origin %d): %v", number, f.Link, f.Origin, err)
		}
	}
	must(t, sender.Wait())
	if _, ok := s.Receive(); ok || s.stats.Received != total || s.stats.Resyncs != 0 {
		t.Errorf("a frame too many: %v; statistics %+v", ok, *s.stats)
	}
	t.Logf("slept %d times", s.sleeps)
}

// What a killed sender published arrives, whole and in order; then comes what its successor sends, from its first frame.
func TestHandoverSurvivesKilledSenders(t *testing.T) {
	c := newCrew(t, 2, 0)
	s := newSleeper(c.join(t, 0))
	t.Cleanup(s.waiter.Close)
	for generation := range 15 {
		sender := c.child(t, "hand over", 1, generation, 0)
		must(t, sender.Start())
		number := uint32(0)
		check := func(f Handed) {
			if err := checkHanded(f, number); err != nil || f.Link != generation {
				t.Fatalf("generation %d: frame %d (link %d): %v", generation, number, f.Link, err)
			}
			number++
		}
		for range 1 + generation*generation*997%9001 {
			f, err := s.next()
			must(t, err)
			check(f)
		}
		must(t, sender.Process.Kill())
		if err := sender.Wait(); err == nil {
			t.Fatal("sender ended by itself")
		}
		for {
			f, ok := s.Receive()
			if !ok {
				break
			}
			check(f)
		}
	}
	if s.stats.Resyncs != 0 {
		t.Errorf("statistics %+v", *s.stats)
	}
}

// A receiver killed at work or asleep loses what it was sent; its successor receives again, and is woken.
func TestHandoverSurvivesKilledReceivers(t *testing.T) {
	c := newCrew(t, 2, 0)
	s := newSleeper(c.join(t, 0))
	t.Cleanup(s.waiter.Close)
	buf := make([]byte, 128<<10)
	sent := uint32(0)
	for generation := range 15 {
		echo := c.child(t, "echo", 1, generation, 0)
		must(t, echo.Start())
		echoed := uint32(0)
		check := func(f Handed) {
			number := binary.BigEndian.Uint32(f.Frame)
			if err := checkHanded(f, number); err != nil || f.Link != generation || number < echoed || number >= sent {
				t.Fatalf("generation %d: frame %d (link %d) after %d of %d sent: %v", generation, number, f.Link, echoed, sent, err)
			}
			echoed = number + 1
		}
		got := 0
		await(t, "the child echoes", func() bool {
			// The ring may be full of what its predecessor did not receive.
			for range 1 + generation*5 {
				if s.Send(1, 0, 0, handedFrame(buf, sent)) {
					sent++
				}
			}
			s.Flush()
			for {
				f, ok := s.Receive()
				if !ok {
					return got > generation*10
				}
				check(f)
				got++
			}
		})
		if generation%2 == 0 { // kill it asleep
			await(t, "the child sleeps", func() bool {
				if f, ok := s.Receive(); ok {
					check(f)
				}
				return s.peers[1].asleep.Load()&1 != 0
			})
		}
		must(t, echo.Process.Kill())
		if err := echo.Wait(); err == nil {
			t.Fatal("receiver ended by itself")
		}
		for {
			f, ok := s.Receive()
			if !ok {
				break
			}
			check(f)
		}
	}
}

// Two processes that sleep whenever they have nothing to do wake each other.
func TestHandoverWakesAnotherProcess(t *testing.T) {
	c := newCrew(t, 2, 0)
	s := newSleeper(c.join(t, 0))
	t.Cleanup(s.waiter.Close)
	echo := c.child(t, "echo", 1, 0, 0)
	must(t, echo.Start())
	t.Cleanup(func() {
		must(t, echo.Process.Kill())
		_ = echo.Wait() // killed
	})
	buf := make([]byte, 128<<10)
	const rounds = 5000
	for number := range uint32(rounds) {
		pass(int(number) * 37 % 5000)
		if !s.Send(1, 0, 0, handedFrame(buf, number)) {
			// Before it has joined, a child skips what it is sent.
			t.Fatal("full")
		}
		s.Flush()
		if number == 0 {
			await(t, "the child joins", func() bool {
				f, ok := s.Receive()
				if !ok {
					s.Send(1, 0, 0, handedFrame(buf, 0))
					s.Flush()
					return false
				}
				must(t, checkHanded(f, 0))
				return true
			})
			await(t, "nothing is on the way", func() bool {
				_, ok := s.Receive()
				return !ok && s.peers[1].asleep.Load()&1 != 0
			})
			continue
		}
		f, err := s.next()
		if err == nil {
			err = checkHanded(f, number)
		}
		if err != nil {
			t.Fatalf("round %d: %v", number, err)
		}
	}
	if s.sleeps < rounds/10 || s.stats.Bells < rounds/10 {
		t.Errorf("slept %d times, rang %d times in %d rounds", s.sleeps, s.stats.Bells, rounds)
	}
}

// pass lets a varying time pass, so that what follows falls on every point of another's way to sleep.
func pass(n int) {
	for i := range n {
		if i < 0 {
			panic("kept, so that the delay is not optimised away")
		}
	}
}

// Several senders, one receiver that sleeps whenever there is nothing: not one frame waits for a wake-up that does not
// come.
func TestHandoverNeverMissesAWakeUp(t *testing.T) {
	const senders, rounds = 3, 10000
	for _, procs := range []int{1, 4} {
		before := runtime.GOMAXPROCS(procs)
		c := newCrew(t, senders+1, 0)
		s := newSleeper(c.join(t, 0))
		var arrived [senders + 1]chan int
		var group sync.WaitGroup
		for self := 1; self <= senders; self++ {
			h := c.join(t, self)
			arrived[self] = make(chan int, 1)
			group.Go(func() {
				frame := make([]byte, 60)
				// One at a time, each only when the last has arrived.
				for n := range arrived[self] {
					pass(n * self * 37 % 4000)
					h.Send(0, n, self, frame)
					h.Flush()
				}
			})
			arrived[self] <- 0
		}
		var err error
		for got := 0; got < senders*rounds && err == nil; got++ {
			var f Handed
			if f, err = s.next(); err == nil && f.Link < rounds-1 {
				arrived[f.Origin] <- f.Link + 1
			}
		}
		for _, a := range arrived[1:] {
			close(a)
		}
		group.Wait()
		if err != nil || s.stats.Received != senders*rounds {
			t.Fatalf("GOMAXPROCS %d: %v; statistics %+v", procs, err, *s.stats)
		}
		if s.sleeps == 0 {
			t.Errorf("GOMAXPROCS %d: never slept", procs)
		}
		t.Logf("GOMAXPROCS %d: slept %d times", procs, s.sleeps)
		s.waiter.Close()
		runtime.GOMAXPROCS(before)
	}
}

// The same without the sleep, so that there are many more tries at the few instructions in which it is decided: a frame
// sent while its receiver parks is either seen by the receiver or rung for.
func TestHandoverParkingReceiverSeesOrIsRungFor(t *testing.T) {
	const rounds = 20000
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	c := newCrew(t, 2, 0)
	sender, receiver := c.join(t, 0), c.join(t, 1)
	var round, flushed atomic.Int64
	var stop atomic.Bool
	spin := func(done func() bool) {
		for {
			for range 10000 {
				if done() || stop.Load() {
					return
				}
			}
			time.Sleep(time.Microsecond) // the other may have no processor
		}
	}
	var group sync.WaitGroup
	group.Go(func() {
		frame := make([]byte, 60)
		for n := range int64(rounds) {
			if spin(func() bool { return round.Load() > n }); stop.Load() {
				return
			}
			pass(int(n * 7 % 101))
			sender.Send(1, 0, 0, frame)
			sender.Flush()
			flushed.Store(n + 1)
		}
	})
	seen, rung := 0, 0
	began := time.Now()
	for n := range rounds {
		if n%1000 == 999 && time.Since(began) > patience {
			break // two processors are not to be had: each round waits for others
		}
		// Once the sender is done with the round, everything must have happened, however long it took.
		afterwards := func() bool { return flushed.Load() > int64(n) }
		asleep := func() bool { return receiver.peers[1].asleep.Load()&1 != 0 }
		round.Add(1)
		pass(n * 11 % 97)
		if receiver.Park() {
			spin(func() bool { return !asleep() || afterwards() })
			if asleep() {
				t.Errorf("round %d: nobody rings", n)
				break
			}
			receiver.Unpark()
			rung++
		} else {
			seen++
		}
		ok := false
		spin(func() bool { _, ok = receiver.Receive(); return ok || afterwards() })
		if !ok {
			_, ok = receiver.Receive()
		}
		if !ok {
			t.Errorf("round %d: no frame", n)
			break
		}
		receiver.Receive()
	}
	stop.Store(true)
	group.Wait()
	t.Logf("seen %d times, rung for %d times", seen, rung)
}
