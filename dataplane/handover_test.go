package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crew is the shared part of a handover in a test.
type crew struct {
	memory *os.File
	bells  []*os.File
}

func newCrew(t testing.TB, workers, ringBytes int) *crew {
	t.Helper()
	c := &crew{}
	var err error
	c.memory, err = NewHandoverMemory(workers, ringBytes)
	must(t, err)
	t.Cleanup(func() { c.memory.Close() })
	for range workers {
		b, err := NewHandoverBell()
		must(t, err)
		t.Cleanup(func() { b.Close() })
		c.bells = append(c.bells, b)
	}
	return c
}

// join opens the handover as a worker, until the test ends.
func (c *crew) join(t testing.TB, self int) *Handover {
	t.Helper()
	h, err := OpenHandover(HandoverOptions{Memory: c.memory, Bells: c.bells, Self: self})
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h
}

// handedFrame fills b with a frame of varying length that carries a number, and returns it.
func handedFrame(b []byte, number uint32) []byte {
	b = b[:handedLength(number)]
	fillPayload(b, number)
	return b
}

// handedLength varies over odd lengths, most of them short, with a very long frame now and then.
func handedLength(number uint32) int {
	switch {
	case number%1000 == 999:
		return 64<<10 + 18
	case number%4 == 0:
		return 4 + int(number*131%1499)
	default:
		return 4 + int(number*131%151)
	}
}

func checkHanded(f Handed, number uint32) error {
	if len(f.Frame) != handedLength(number) {
		return fmt.Errorf("frame %d is %d bytes long, want %d", number, len(f.Frame), handedLength(number))
	}
	return checkPayload(f.Frame, number)
}

func TestHandoverKeepsOrderAndContentRoundTheRing(t *testing.T) {
	c := newCrew(t, 3, 0)
	a, b := c.join(t, 2), c.join(t, 1)
	buf := make([]byte, 128<<10)
	var sent, got uint32
	full := 0
	for got < 30000 {
		// Either side is ahead for a while: the sender fills the ring, the receiver drains it.
		for range 1 + sent*sent%401 {
			if !a.Send(1, int(sent%7), 2, handedFrame(buf, sent)) {
				full++
				break
			}
			sent++
		}
		a.Flush()
		for range 1 + got*got%397 {
			f, ok := b.Receive()
			if !ok {
				if got != sent {
					t.Fatalf("nothing received, %d sent and %d received before", sent, got)
				}
				break
			}
			must(t, checkHanded(f, got))
			if f.Link != int(got%7) || f.Origin != 2 {
				t.Fatalf("frame %d: link %d, origin %d", got, f.Link, f.Origin)
			}
			got++
		}
	}
	if full == 0 || a.stats.Full != uint64(full) || a.stats.Sent != uint64(sent) || a.stats.RingHighWater < 200<<10 || b.stats.Received != uint64(got) || b.stats.Resyncs != 0 {
		t.Errorf("full %d times; statistics %+v, %+v", full, *a.stats, *b.stats)
	}
}

func TestHandoverRefusals(t *testing.T) {
	for _, n := range [][2]int{{0, 0}, {65, 0}, {2, 1000}, {2, 2048}, {2, 1 << 25}} {
		_, err := NewHandoverMemory(n[0], n[1])
		wantError(t, err, ErrOptions)
	}
	c := newCrew(t, 2, 4096)
	for _, o := range []HandoverOptions{
		{Memory: c.memory, Bells: c.bells, Self: 2},
		{Memory: c.memory, Bells: c.bells, Self: -1},
		{Memory: c.memory, Bells: c.bells[:1], Self: 0},
	} {
		_, err := OpenHandover(o)
		wantError(t, err, ErrOptions, "2 workers")
	}
	var junk [handoverHeaderBytes]byte
	binary.NativeEndian.PutUint64(junk[:], 1)
	if _, err := decodeHandoverGeometry(junk[:]); !errors.Is(err, ErrOptions) {
		t.Errorf("error %v", err)
	}
	h := c.join(t, 0)
	for _, to := range []int{-1, 0, 2} {
		if h.Send(to, 0, 0, []byte{1}) {
			t.Errorf("sent to worker %d", to)
		}
	}
	if h.Send(1, 0, 0, make([]byte, 2041)) || !h.Send(1, 0, 0, make([]byte, 2040)) {
		t.Error("the longest frame is not half a ring")
	}
	if h.stats.Refused != 4 {
		t.Errorf("statistics %+v", *h.stats)
	}
}

func TestHandoverServesSendersInTurn(t *testing.T) {
	c := newCrew(t, 5, 0)
	receiver := c.join(t, 2)
	var senders []*Handover
	for _, self := range []int{0, 1, 3, 4} {
		h := c.join(t, self)
		senders = append(senders, h)
		for range 200 {
			h.Send(2, 0, self, []byte{byte(self)})
		}
		h.Flush()
	}
	// Nobody waits for more than a turn of each of the others, although the first never stops.
	last, order := -1, []int{}
	for range 4 * handoverTurn {
		f, ok := receiver.Receive()
		if !ok || f.Frame[0] != byte(f.Origin) {
			t.Fatalf("received %v, %v", f, ok)
		}
		if f.Origin != last {
			last = f.Origin
			order = append(order, last)
		}
		senders[0].Send(2, 0, 0, []byte{0})
		senders[0].Flush()
	}
	slices.Sort(order)
	if !slices.Equal(order, []int{0, 1, 3, 4}) {
		t.Errorf("turns of %v, want one of each", order)
	}
	got := uint64(4 * handoverTurn)
	for {
		if _, ok := receiver.Receive(); !ok {
			break
		}
		got++
	}
	if want := uint64(4*200 + 4*handoverTurn); got != want || receiver.stats.Received != want {
		t.Errorf("received %d frames, counted %d, want %d", got, receiver.stats.Received, want)
	}
}

func TestHandoverLevelsAndMemory(t *testing.T) {
	c := newCrew(t, 64, 0)
	a, b := c.join(t, 0), c.join(t, 63)
	resident := func() int64 {
		var st unix.Stat_t
		must(t, unix.Fstat(int(c.memory.Fd()), &st))
		return st.Blocks * 512
	}
	if n := resident(); n > 2<<20 {
		t.Errorf("%d bytes resident before anything was sent", n)
	}
	for range 10 {
		a.Send(63, 0, 0, make([]byte, 1000))
	}
	if l := a.Levels(); l != (HandoverLevels{RingBytes: 256 << 10}) {
		t.Errorf("levels before flushing: %+v", l)
	}
	a.Flush()
	if l := a.Levels(); l.Out != 10*1008 || l.In != 0 {
		t.Errorf("sender's levels: %+v", l)
	}
	if l := b.Levels(); l.In != 10*1008 || l.Out != 0 {
		t.Errorf("receiver's levels: %+v", l)
	}
	for range 11 {
		b.Receive()
	}
	if l := a.Levels(); l.Out != 0 {
		t.Errorf("levels after receiving: %+v", l)
	}
	if n := resident(); n > 3<<20 {
		t.Errorf("%d bytes resident after 10 frames", n)
	}
}

// A receiver that sleeps is rung for once, whoever sends how often; one that is awake is not.
func TestHandoverRingsOncePerSleep(t *testing.T) {
	c := newCrew(t, 3, 0)
	a, b, receiver := c.join(t, 0), c.join(t, 1), c.join(t, 2)
	rung := make(chan struct{}, 100)
	receiver.Watch(func() { rung <- struct{}{} })
	send := func() {
		for range 5 {
			for _, h := range []*Handover{a, b} {
				if !h.Send(2, 0, 0, []byte{1}) {
					t.Fatal("full")
				}
				h.Flush()
				h.Flush()
			}
		}
	}
	drain := func() (n int) {
		for {
			if _, ok := receiver.Receive(); !ok {
				return n
			}
			n++
		}
	}
	send()
	if bells := a.stats.Bells + b.stats.Bells; bells != 0 {
		t.Errorf("%d bells for a receiver that is awake", bells)
	}
	if receiver.Park() {
		t.Error("parks with frames to receive")
	}
	for sleep := range uint64(20) {
		if n := drain(); n != 10 {
			t.Fatalf("sleep %d: %d frames, want 10", sleep, n)
		}
		if !receiver.Park() {
			t.Fatal("does not park although nothing is there")
		}
		send()
		select {
		case <-rung:
		case <-time.After(patience):
			t.Fatal("not rung")
		}
		receiver.Unpark()
		if bells := a.stats.Bells + b.stats.Bells; bells != sleep+1 {
			t.Fatalf("%d bells for %d sleeps", bells, sleep+1)
		}
	}
	// A half of what is there is received: still no reason to sleep.
	for range 5 {
		receiver.Receive()
	}
	if receiver.Park() {
		t.Error("parks with half of the frames to receive")
	}
	drain()
	if !receiver.Park() || len(rung) != 0 {
		t.Errorf("%d bells too many", len(rung))
	}
	// Woken by something else.
	receiver.Unpark()
	send()
	if bells := a.stats.Bells + b.stats.Bells; bells != 20 {
		t.Errorf("%d bells", bells)
	}
}

// A sender that stopped between its look at a sleeper and the end of its bell changes nothing for a later sleep, and one
// that died there leaves the sleeper to be rung for by another.
func TestHandoverSurvivesALateRinger(t *testing.T) {
	c := newCrew(t, 3, 0)
	late, other, receiver := c.join(t, 0), c.join(t, 1), c.join(t, 2)
	receiver.Receive() // there is nothing, but the others have said that they came
	if !receiver.Park() {
		t.Fatal("does not park")
	}
	seen := late.peers[2].asleep.Load()
	other.Send(2, 0, 0, []byte{1})
	other.Flush()
	if other.stats.Bells != 1 {
		t.Error("the other does not ring")
	}
	receiver.Receive()
	receiver.Receive()
	if !receiver.Park() {
		t.Fatal("does not park")
	}
	late.peers[2].asleep.CompareAndSwap(seen, seen+1)
	other.Send(2, 0, 0, []byte{1})
	other.Flush()
	if other.stats.Bells != 2 {
		t.Error("the late one took the bell of a later sleep")
	}
}

// Whatever a dead or mad worker left in the memory, receiving comes to an end, and the next frames but a few get through.
func TestHandoverHealsAfterCorruption(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	resyncs := uint64(0) // of every receiver so far
	c := newCrew(t, 3, 4096)
	a, b, other := c.join(t, 0), c.join(t, 1), c.join(t, 2)
	g := handoverGeometry{workers: 3, ringBytes: 4096}
	broken := newHandoverRing(other.mem, g, 0, 1)
	tail, head, data := broken.sharedTail, broken.sharedHead, broken.data
	frame := make([]byte, 100)
	for round := range 10000 {
		for range source.IntN(30) {
			a.Send(1, 0, 0, frame[:source.IntN(100)])
		}
		a.Flush()
		for range source.IntN(20) {
			b.Receive()
		}
		garbage := source.Uint64()
		if source.IntN(2) == 0 {
			garbage = tail.Load() + uint64(source.IntN(3*4096)) - 4096
		}
		switch source.IntN(4) {
		case 0:
			tail.Store(garbage)
		case 1:
			head.Store(garbage)
		case 2:
			binary.NativeEndian.PutUint64(data[source.IntN(512)*8:], garbage)
		case 3:
			for i := range data {
				data[i] = byte(source.Uint32())
			}
		}
		other.peers[1].ready.Or(source.Uint64())
		if source.IntN(4) == 0 { // either may have died of it
			must(t, a.Close())
			a = c.join(t, 0)
		} else if source.IntN(4) == 0 {
			resyncs += b.stats.Resyncs
			must(t, b.Close())
			b = c.join(t, 1)
		}
		drain := func() (n int, last Handed) {
			for {
				f, ok := b.Receive()
				if !ok {
					return n, last
				}
				if n++; n > 4096 {
					t.Fatalf("round %d: received more than the ring holds", round)
				}
				last = Handed{Link: f.Link, Origin: f.Origin, Frame: slices.Clone(f.Frame)}
			}
		}
		// Two turns may be lost, not a third.
		for range 2 {
			a.Send(1, 0, 0, frame)
			a.Flush()
			drain()
		}
		fillPayload(frame, uint32(round))
		if !a.Send(1, 7, 3, frame) {
			t.Fatalf("round %d: still full", round)
		}
		a.Flush()
		if n, last := drain(); n != 1 || last.Link != 7 || last.Origin != 3 || !slices.Equal(last.Frame, frame) {
			t.Fatalf("round %d: received %d frames, the last %+v", round, n, last)
		}
	}
	if resyncs == 0 {
		t.Error("nothing was ever wrong")
	}
}

func TestHandoverDoesNotAllocate(t *testing.T) {
	c := newCrew(t, 2, 0)
	a, b := c.join(t, 0), c.join(t, 1)
	frame := make([]byte, 1500)
	n := testing.AllocsPerRun(1000, func() {
		b.Park()
		for range 8 {
			a.Send(1, 0, 0, frame)
		}
		a.Flush()
		b.Unpark()
		for range 9 {
			b.Receive()
		}
		_ = b.Levels()
	})
	if n != 0 || a.stats.Bells < 1000 || b.stats.Received < 8000 {
		t.Errorf("%v allocations a run; statistics %+v, %+v", n, *a.stats, *b.stats)
	}
}

func TestHandoverLeavesNothingBehind(t *testing.T) {
	c := newCrew(t, 4, 0)
	descriptors, goroutines := countDescriptors(t), runtime.NumGoroutine()
	for range 20 {
		h, err := OpenHandover(HandoverOptions{Memory: c.memory, Bells: c.bells, Self: 3})
		must(t, err)
		h.Watch(func() {})
		must(t, h.Close())
		must(t, h.Close())
	}
	if n := countDescriptors(t); n != descriptors {
		t.Errorf("%d descriptors open, %d before", n, descriptors)
	}
	await(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// BenchmarkHandover counts both ends' time for a frame, in batches of 8.
func BenchmarkHandover(b *testing.B) {
	for _, n := range []int{100, 1500, 64 << 10} {
		b.Run(fmt.Sprintf("%d bytes", n), func(b *testing.B) {
			c := newCrew(b, 2, 0)
			sender, receiver := c.join(b, 0), c.join(b, 1)
			frame := make([]byte, n)
			b.SetBytes(int64(n))
			for sent := 0; sent < b.N; {
				for range 8 {
					if sender.Send(1, 0, 0, frame) {
						sent++
					}
				}
				sender.Flush()
				for {
					if _, ok := receiver.Receive(); !ok {
						break
					}
				}
			}
		})
	}
}

// BenchmarkHandoverIdle is what a turn without any frame costs.
func BenchmarkHandoverIdle(b *testing.B) {
	c := newCrew(b, 64, 0)
	h := c.join(b, 0)
	for b.Loop() {
		h.Receive()
		h.Flush()
	}
}
