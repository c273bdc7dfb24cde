package dataplane

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel is asked for three frames; what it said of the second is replaced by what a driver should never say. Its own frame stays with
// the driver, until the end.
func TestFrameThatTheDriverDidNotHaveIsDropped(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	number, invalid := uint32(0), uint64(0)
	receive := func() { s.send(s.segment(number, length(number))); number++ }
	forged := func(peeked int, forge func() unix.XDPDesc) {
		t.Helper()
		first := number
		for range 3 {
			receive()
		}
		await(t, "three frames arrive", func() bool { return q.Levels().RXRing == 3 })
		if n := q.Peek(peeked); n != peeked {
			t.Fatalf("%d of %d frames peeked", n, peeked)
		}
		q.rx.peek(3)
		lost := q.rx.at(1)
		q.rx.set(1, forge())
		want := []uint32{first, first + 2}
		n := q.Peek(3)
		if l := q.Levels(); n != 2 || l.RX != 2 || l.Sum() != l.Frames {
			t.Fatalf("%d frames peeked, levels %+v", n, l)
		}
		for i := range n {
			if err := checkPayload(q.Frame(i)[payloadAt:], want[i]); err != nil {
				t.Error(err)
			}
		}
		invalid++
		if st := q.Stats(); st.RXInvalid != invalid || st.RXFrames != uint64(number)-invalid {
			t.Errorf("statistics %+v, want %d invalid", st, invalid)
		}
		q.Release(1)
		if q.Peek(3) != 1 || checkPayload(q.Frame(0)[payloadAt:], want[1]) != nil {
			t.Error("the last frame is not what is left")
		}
		q.Release(1)
		if l := q.Levels(); l.RXRing != 0 || l.FillRing != l.Fill-1 {
			t.Errorf("levels with a frame left with the driver: %+v", l)
		}
		q.fill.put(lost.Addr >> q.frames.shift << q.frames.shift)
		q.refill()
		wantIdle(t, q)
	}
	frameBytes := uint32(1) << q.frames.shift
	for _, peeked := range []int{0, 1} {
		forged(peeked, func() unix.XDPDesc { return q.rx.at(0) })
		forged(peeked, func() unix.XDPDesc { return unix.XDPDesc{Addr: uint64(q.frames.rx) << q.frames.shift, Len: 60} }) // for sending
		forged(peeked, func() unix.XDPDesc { return unix.XDPDesc{Addr: uint64(len(q.umem)), Len: 60} })
		forged(peeked, func() unix.XDPDesc { return unix.XDPDesc{Addr: math.MaxUint64, Len: 60} })
		forged(peeked, func() unix.XDPDesc { d := q.rx.at(1); d.Len = frameBytes; return d })
		forged(peeked, func() unix.XDPDesc { d := q.rx.at(1); d.Len = math.MaxUint32; return d })
	}

	// All of a batch, of more than the limit.
	for range 3 {
		receive()
	}
	await(t, "three frames arrive", func() bool { return q.Levels().RXRing == 3 })
	q.rx.peek(3)
	for i := range uint32(3) {
		q.fill.put(q.rx.at(i).Addr >> q.frames.shift << q.frames.shift)
		q.rx.set(i, unix.XDPDesc{Addr: math.MaxUint64})
	}
	for range 3 {
		if n := q.Peek(1); n != 0 {
			t.Fatalf("%d frames peeked", n)
		}
	}
	q.refill()
	wantIdle(t, q)
}

// A frame given back in between looks like any other. It goes round twice, and costs the bytes that are written over, until it comes in
// twice at the same time.
func TestFrameThatGoesRoundTwice(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80, Backlog: -1})
	s := w.station(0)
	const burst = 48
	round := func(atFirst func()) (right int) {
		for number := range uint32(burst) {
			s.send(s.segment(number, 100))
		}
		await(t, "the frames arrive", func() bool { return q.Levels().RXRing == burst })
		atFirst()
		seen := map[uint32]bool{}
		for q.Levels().RXRing > 0 {
			n := q.Peek(10)
			for i := range n {
				f := q.Frame(i)[payloadAt:]
				number := uint32(f[3])
				must(t, checkPayload(f, number))
				seen[number] = true
			}
			if l := q.Levels(); n == 0 || l.RX != n || l.Sum() != l.Frames {
				t.Fatalf("levels with %d frames peeked: %+v", n, l)
			}
			q.Release(n)
		}
		return len(seen)
	}
	lost := unix.XDPDesc{}
	round(func() {
		q.Release(q.Peek(1))
		q.rx.peek(burst)
		lost = q.rx.at(7)
		given := unix.XDPDesc{Addr: q.fill.slots[(q.fill.head-1)&q.fill.mask] + lost.Addr%(1<<q.frames.shift), Len: 100}
		copy(q.umem[given.Addr:][:100], q.umem[lost.Addr:][:100])
		q.rx.set(7, given)
	})
	for rounds := 0; q.Stats().RXInvalid == 0; rounds++ {
		if right := round(func() {}); right < burst-1 || rounds == 100 {
			t.Fatalf("round %d: %d of %d frames were right", rounds, right, burst)
		}
	}
	q.fill.put(lost.Addr >> q.frames.shift << q.frames.shift)
	q.refill()
	wantIdle(t, q)
	if right := round(func() {}); right != burst || q.Stats().RXInvalid != 1 {
		t.Errorf("%d of %d frames were right at last: %+v", right, burst, q.Stats())
	}
}

// What the NIC writes into a frame that is being read does not reach the reader any more.
func TestFramesOfADistrustedDriverAreReadFromACopy(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	for number := range uint32(4) {
		s.send(s.segment(number, 500))
	}
	await(t, "four frames arrive", func() bool { return q.Levels().RXRing == 4 })
	q.Peek(1)
	q.rx.peek(4)
	q.rx.set(1, q.rx.at(0))
	if n := q.Peek(4); n != 3 {
		t.Fatalf("%d frames peeked", n)
	}
	for i, number := range []uint32{0, 2, 3} {
		d := q.rx.at(uint32(i))
		clear(q.umem[d.Addr : d.Addr+uint64(d.Len)])
		must(t, checkPayload(q.Frame(i)[payloadAt:], number))
	}
	q.Release(3)
	s.send(s.segment(9, 700))
	await(t, "a frame arrives", func() bool { return q.Peek(1) == 1 })
	d := q.rx.at(0)
	if !bytes.Equal(q.Frame(0), q.umem[d.Addr:d.Addr+uint64(d.Len)]) {
		t.Error("the copy is another frame")
	}
	q.Release(1)
}

// A packet of several frames of which one cannot be is dropped whole, wherever it stands.
func TestChainWithAFrameThatTheDriverDidNotHave(t *testing.T) {
	for _, tc := range []struct {
		name   string
		forged int // place on the ring of what repeats the descriptor before it
		want   []int
	}{
		{"first", 1, []int{1, 2}}, {"middle", 2, []int{1, 2}}, {"last", 3, []int{1, 2}}, {"of two", 5, []int{1, 3}},
	} {
		c := newChainQueue(1<<32 - 3)
		c.umem = make([]byte, 16<<12)
		c.receive(100, -3840, -3840, 10, -3840, 20)
		c.Queue.rx.peek(6)
		lost := c.Queue.rx.at(uint32(tc.forged))
		twice := c.Queue.rx.at(uint32(tc.forged - 1))
		twice.Options = lost.Options
		c.Queue.rx.set(uint32(tc.forged), twice)
		var got []int
		for n := c.Peek(8); n > 0; n = c.Peek(8) {
			if n > 1 && !c.Chained() {
				t.Errorf("%s: %d frames peeked are not chained", tc.name, n)
			}
			for len(got) < 2 && n > 0 {
				k := 1
				for c.More(k - 1) {
					k++
				}
				got = append(got, k)
				c.Release(k)
				n -= k
			}
		}
		if !slices.Equal(got, tc.want) || c.stats.RXInvalid != 1 || c.stats.RXOversized != 0 || c.stats.RXFrames != 2 {
			t.Errorf("%s: packets of %d frames, %+v", tc.name, got, c.stats)
		}
		if l := c.frames.count; l[stateFill] != 16 || c.Queue.fill.level() != 15 {
			t.Errorf("%s: frames %v, %d on the fill ring", tc.name, l, c.Queue.fill.level())
		}
	}
}
