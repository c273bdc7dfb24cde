package dataplane

import (
	"sync"
	"testing"
)

// burst submits n frames from number on, and kicks once.
func burst(t *testing.T, s *station, q *Queue, number, n uint32) {
	t.Helper()
	for i := range n {
		if !s.put(q, number+i, length(number+i)) {
			t.Fatalf("no frame for number %d", number+i)
		}
	}
	must(t, q.Kick())
}

// openLeaving opens a queue that leaves kicks to a sender on any machine.
func (w *wire) openLeaving() *Queue {
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 512, Frames: 640})
	q.mayLeave = true
	return q
}

// One kick is enough for everything that it publishes, whenever it comes.
func TestSenderLeavesNothingBehind(t *testing.T) {
	w := newWire(t, 1, 1)
	q, s := w.openLeaving(), w.station(0)
	burst(t, s, q, 0, senderFrames-1)
	hear(t, s, senderFrames-1)
	if q.Stats().KickLeft != 0 {
		t.Errorf("%d frames were left to the sender", senderFrames-1)
	}
	wantIdle(t, q)
	var sent uint32
	const rounds, most = 500, senderFrames + 12
	var group sync.WaitGroup
	group.Go(func() { hear(t, s, rounds*most) })
	for range rounds {
		// The sender is idle, asked, or at it when the few come.
		burst(t, s, q, sent, senderFrames)
		burst(t, s, q, sent+senderFrames, most-senderFrames)
		sent += most
		await(t, "all are sent without another kick", func() bool { q.Reap(); return q.Levels().TX == 0 })
	}
	group.Wait()
	must(t, q.Kick())
	wantIdle(t, q)
	if st := q.Stats(); st.KickLeft == 0 || st.KickCalls == 0 || st.TXCompletions != uint64(sent)+senderFrames-1 {
		t.Errorf("statistics after %d frames: %+v", sent, st)
	}
}

func TestSenderIsStuckWhileTheLinkIsDown(t *testing.T) {
	w := newWire(t, 1, 1)
	q, s := w.openLeaving(), w.station(0)
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	must(t, w.edge.LinkSetDown(w.edgeLink(0)))
	burst(t, s, q, 0, 100)
	for q.Stats().KickLinkDown == 0 {
		waiter.Wait(-1) // comes back to find out
		must(t, q.Kick())
	}
	if q.Stats().KickLeft == 0 || q.Pending() != 100 {
		t.Errorf("%d pending, statistics %+v", q.Pending(), q.Stats())
	}
	must(t, w.edge.LinkSetUp(w.edgeLink(0)))
	for q.Pending() > 0 {
		waiter.Wait(-1)
		must(t, q.Kick())
	}
	hear(t, s, 100)
	wantIdle(t, q)
}

// No other kick reaps what the sender has sent when the loop has no more to say.
func TestSenderKeepsNoFrames(t *testing.T) {
	w := newWire(t, 1, 1)
	q, s := w.openLeaving(), w.station(0)
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	for range 100 {
		burst(t, s, q, 0, senderFrames)
		for q.Pending() > 0 {
			waiter.Wait(-1)
		}
		must(t, q.Kick())
		wantIdle(t, q)
	}
	if q.Stats().KickLeft == 0 {
		t.Error("nothing was left to the sender")
	}
}

// What was sent after the last kick is not missing while nothing else is sent.
func TestLevelsMissNoFrameThatWasSent(t *testing.T) {
	w := newWire(t, 1, 1)
	q, s := w.openLeaving(), w.station(0)
	const frames = 10
	for number := range uint32(frames) {
		if !s.put(q, number, length(number)) {
			t.Fatalf("no frame for number %d", number)
		}
	}
	q.tx.submit()
	if errno := wakeTX(q.fd); errno != 0 { // as the sender does, which reaps nothing
		t.Fatal(errno)
	}
	await(t, "the kernel has given all back", func() bool { return q.completion.level() == frames })
	if l := q.Levels(); l.TX != 0 || l.CompletionRing != frames || l.Sum() != l.Frames {
		t.Errorf("levels %+v", l)
	}
	hear(t, s, frames)
	wantIdle(t, q)
}

// Who watches a queue is told which kicks are not over when they return.
func TestHooksTellOfTheSender(t *testing.T) {
	w := newWire(t, 1, 1)
	q, s := w.openLeaving(), w.station(0)
	type kick struct {
		calls, left int
		sender      bool
	}
	var got kick
	q.SetHooks(&Hooks{Kicking: func(uint64, int) {}, Kicked: func(calls, left int, sender bool) { got = kick{calls, left, sender} }, Reaped: func(uint64, int) {}})
	burst(t, s, q, 0, 1)
	if want := (kick{1, 0, false}); got != want {
		t.Errorf("the loop's own kick is told as %+v, want %+v", got, want)
	}
	burst(t, s, q, 1, senderFrames)
	if want := (kick{0, senderFrames, true}); got != want {
		t.Errorf("a kick that is left to the sender is told as %+v, want %+v", got, want)
	}
	hear(t, s, 1+senderFrames)
}

func TestSenderOfARemovedInterface(t *testing.T) {
	w := newWire(t, 1, 1)
	q, s := w.openLeaving(), w.station(0)
	must(t, w.edge.LinkDel(w.edgeLink(0)))
	for number := range uint32(100) {
		s.put(q, number, 100)
	}
	err := q.Kick()
	await(t, "a kick tells", func() bool {
		if err == nil {
			err = q.Kick()
		}
		return err != nil
	})
	wantError(t, err, ErrInterfaceGone, "queue 0 of rre0")
}

// Closing waits for the call that the sender is in, and the kernel's queue is free again.
func TestQueueClosesWhileItsSenderSends(t *testing.T) {
	w := newWire(t, 1, 1)
	in, s := w.open(0), w.station(0)
	for range 20 {
		q, err := OpenQueue(in.Link(), QueueOptions{RingEntries: 512, Frames: 640})
		must(t, err)
		q.mayLeave = true
		burst(t, s, q, 0, 100)
		sender := q.sender
		must(t, q.Close())
		<-sender.ended
	}
}
