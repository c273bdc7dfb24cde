package dataplane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// packet is some bytes that tell which packet they are of.
func packet(number, n int) []byte {
	b := make([]byte, n)
	copy(b, fmt.Sprintf("%d %d ", number, n))
	return b
}

func TestBacklogIsAQueue(t *testing.T) {
	const size = 4096
	b, err := newBacklog(size)
	must(t, err)
	defer func() { must(t, b.close()) }()
	random := rand.New(rand.NewPCG(1, 2))
	var in [][]byte // that are in the backlog
	held, added, refused := 0, 0, 0
	for range 100_000 {
		switch n := 1 + random.IntN(1500); random.IntN(3) {
		case 0, 1:
			p := packet(added, n)
			place := b.add(n)
			if place == nil {
				refused++
				if int(backlogBytes(uint64(n)))+b.level() <= size/2 {
					t.Fatalf("no room for %d bytes beside %d", n, b.level())
				}
				continue
			}
			copy(place, p)
			added++
			in = append(in, p)
		default:
			limit := random.IntN(8)
			held = max(held, min(limit, len(in)))
			if got := b.peek(limit); got != min(limit, len(in)) {
				t.Fatalf("%d of %d packets peeked, limit %d", got, len(in), limit)
			}
			for i := range held {
				if !bytes.Equal(b.peeked[i].packet, in[i]) {
					t.Fatalf("packet %d is %.20q, want %.20q", i, b.peeked[i].packet, in[i])
				}
			}
			if held > 0 {
				n := 1 + random.IntN(held)
				b.release(n)
				in, held = in[n:], held-n
			}
		}
		if b.frames != len(in) || b.level() > size || b.empty() != (b.level() == 0) {
			t.Fatalf("%d packets in %d bytes, want %d packets", b.frames, b.level(), len(in))
		}
	}
	if refused == 0 || b.written != size {
		t.Errorf("%d packets added, %d refused, %d bytes written: the end was never reached", added, refused, b.written)
	}
}

func TestBacklogGivesItsMemoryBackWhenItIsNotUsed(t *testing.T) {
	b, err := newBacklog(minBacklogBytes)
	must(t, err)
	defer func() { must(t, b.close()) }()
	copy(b.add(100), "first")
	head := &b.data[backlogHeadBytes]
	for _, use := range []func(){func() {}, func() {}, func() { b.release(b.peek(1)) }} {
		if use(); *head != 'f' {
			t.Fatal("memory in use was given back")
		}
		b.trim()
	}
	if *head != 0 || b.written != 0 {
		t.Errorf("the page is still there, %d bytes written", b.written)
	}
	copy(b.add(100), "second")
	if b.peek(1) != 1 || !bytes.HasPrefix(b.peeked[0].packet, []byte("second")) {
		t.Error("what is added afterwards is not there")
	}
}

// The loop takes a fifth of what comes, and then the rest.
func TestCrowdedRingLosesNothing(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	const total, burst, batch = 2000, 40, 8
	sent, got := uint32(0), uint32(0)
	take := func() (n int) {
		n = q.Peek(batch)
		for i := range n {
			if f := q.Frame(i); len(f) != length(got) || q.More(i) {
				t.Fatalf("frame %d is %d bytes long, want %d", got, len(f), length(got))
			}
			if err := checkPayload(q.Frame(i)[payloadAt:], got); err != nil {
				t.Fatal(err)
			}
			got++
		}
		// In two parts: the frames not released stay peeked.
		q.Release(n / 2)
		if again := q.Peek(n - n/2); again != n-n/2 {
			t.Fatalf("%d frames left after releasing %d of %d", again, n/2, n)
		}
		q.Release(n - n/2)
		return n
	}
	for sent < total {
		for range burst {
			s.send(s.segment(sent, length(sent)))
			sent++
		}
		await(t, "burst arrives", func() bool { return q.Waiting() == int(sent-got) })
		take()
	}
	if l := q.Levels(); l.Backlog == 0 || l.Backlog > l.BacklogBytes || l.Sum() != l.Frames {
		t.Errorf("levels with %d frames waiting: %+v", sent-got, l)
	}
	// A loop may not sleep on it, although nothing comes any more.
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	defer waiter.Close()
	for got < total {
		waiter.Wait(time.Hour)
		take()
	}
	wantIdle(t, q)
	st := q.Stats()
	if st.RXFrames != total || st.Backlogged == 0 || st.BacklogHighWater == 0 || st.BacklogFull != 0 {
		t.Errorf("statistics after %d frames: %+v", total, st)
	}
	if k, err := q.KernelStats(); err != nil || k.RXDropped+k.RXRingFull+k.FillRingEmpty != 0 {
		t.Errorf("kernel's statistics: %+v, %v", k, err)
	}
}

// Large packets wait on a ring that is not crammed, and small ones behind them.
func TestLargePacketsAreSetAsideLater(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	sent := uint32(0)
	send := func(packets, bytes int, backlogged uint64) {
		t.Helper()
		for range packets {
			s.send(s.segment(sent, bytes))
			sent++
		}
		await(t, "burst arrives", func() bool { return q.Waiting() == int(sent) })
		if q.Peek(1); q.Stats().Backlogged != backlogged {
			t.Fatalf("%d packets set aside of %d, want %d", q.Stats().Backlogged, sent, backlogged)
		}
	}
	send(20, 100, 20)
	send(10, 1400, 20)
	send(10, 100, 20)
	send(13, 100, 53)
}

// What the backlog has no room for waits on the ring, and behind it.
func TestFullBacklogLeavesTheRestOnTheRing(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80, Backlog: minBacklogBytes})
	s := w.station(0)
	sent, got := uint32(0), uint32(0)
	told, slots := 0, make(map[int]int) // frames that the hooks were told of, and how often of each slot of the ring
	q.SetHooks(&Hooks{Peeked: func(slot, n, left int) {
		told += n
		for i := range n {
			if slot >= 0 {
				slots[(slot+i)%64]++
			}
		}
		if waiting := q.Waiting() - (told - int(got)); left != waiting {
			t.Errorf("%d frames wait behind %d, told of %d", waiting, told, left)
		}
	}})
	for q.Stats().BacklogFull < 3 {
		for range max(10, 40-int(sent)) {
			s.send(s.segment(sent, 1400))
			sent++
		}
		await(t, "burst arrives", func() bool { return q.Waiting() == int(sent) })
		if q.Peek(1) != 1 || checkPayload(q.Frame(0)[payloadAt:], 0) != nil {
			t.Fatal("the first frame is not what is peeked at")
		}
	}
	for got < sent {
		n := q.Peek(5)
		if n == 0 || told != int(got)+n {
			t.Fatalf("%d frames after %d of %d, the hooks were told of %d", n, got, sent, told)
		}
		for i := range n {
			must(t, checkPayload(q.Frame(i)[payloadAt:], got))
			got++
		}
		q.Release(n)
	}
	for slot, n := range slots {
		if n != 1 {
			t.Errorf("the hooks were told %d times of slot %d", n, slot)
		}
	}
	wantIdle(t, q)
}

func TestBacklogJoinsChains(t *testing.T) {
	var err error
	c := newChainQueue(1<<32 - 3)
	c.umem = make([]byte, 16<<12)
	c.readable = c.umem
	for i := range c.umem {
		c.umem[i] = byte(i >> 8)
	}
	c.backlog, err = newBacklog(minBacklogBytes)
	must(t, err)
	defer func() { must(t, c.backlog.close()) }()
	c.crowded, c.crammed = 3, 3
	c.receive(-3840, 100, 60, -3840, -3840, 1342)
	if n := c.Peek(2); n != 2 || c.Chained() || c.More(0) || c.More(1) {
		t.Fatalf("%d packets, chained: %v", n, c.Chained())
	}
	want := append(append([]byte(nil), c.umem[256:256+3840]...), c.umem[4096+256:][:100]...)
	if !bytes.Equal(c.Frame(0), want) || len(c.Frame(1)) != 60 {
		t.Errorf("packets of %d and %d bytes, want %d and 60 and what was in their frames", len(c.Frame(0)), len(c.Frame(1)), len(want))
	}
	if c.Release(2); c.Peek(2) != 1 || len(c.Frame(0)) != 9022 {
		t.Errorf("last packet: %d bytes", len(c.Frame(0)))
	}
	c.Release(1)
	if l := c.frames.count; l[stateFill] != 16 || c.Queue.fill.level() != 16 || !c.backlog.empty() {
		t.Errorf("frames %v, %d on the fill ring", l, c.Queue.fill.level())
	}
}
