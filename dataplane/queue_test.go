package dataplane

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestQueueReceivesEveryFrameInOrder(t *testing.T) {
	w := newWire(t, 1, 1)
	in := w.open(0)
	q := w.openQueue(in, QueueOptions{RingEntries: 256, Frames: 320, Backlog: -1})
	s := w.station(0)
	var got uint32
	const total = 20000
	for sent := uint32(0); got < total; {
		for burst := 0; burst < 100 && sent < total; burst++ {
			s.send(s.segment(sent, length(sent)))
			sent++
		}
		await(t, "burst arrives", func() bool {
			n := q.Peek(64)
			for i := range n {
				f := q.Frame(i)
				if len(f) != length(got) {
					t.Fatalf("frame %d is %d bytes long, want %d", got, len(f), length(got))
				}
				if err := checkPayload(f[payloadAt:], got); err != nil {
					t.Fatal(err)
				}
				got++
			}
			if l := q.Levels(); l.RX != n || l.Sum() != l.Frames {
				t.Fatalf("levels with %d frames peeked: %+v", n, l)
			}
			// In two parts: the frames not released stay peeked.
			q.Release(n / 2)
			if again := q.Peek(n - n/2); again != n-n/2 {
				t.Fatalf("%d frames left after releasing %d of %d", again, n/2, n)
			}
			q.Release(n - n/2)
			return got == sent
		})
	}
	wantIdle(t, q)
	st := q.Stats()
	if st.RXFrames != total || st.RXBatches == 0 || st.RXRingHighWater == 0 || st.FillWakeups != 0 {
		t.Errorf("statistics after %d frames: %+v", total, st)
	}
	if k, err := q.KernelStats(); err != nil || k.RXDropped+k.RXRingFull+k.FillRingEmpty+k.RXInvalidDescs != 0 {
		t.Errorf("kernel's statistics: %+v, %v", k, err)
	}
}

func TestQueueSendsEveryFrameInOrder(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 256, Frames: 320})
	s := w.station(0)
	const total = 20000
	var group sync.WaitGroup
	group.Go(func() { hear(t, s, total) })
	backPressure := send(t, s, q, total, func() {})
	group.Wait()
	wantIdle(t, q)
	st := q.Stats()
	if st.TXFrames != total || st.TXCompletions != total || st.TXFramesHighWater > 128 || st.TXNoFrame != uint64(backPressure) {
		t.Errorf("statistics after %d frames: %+v", total, st)
	}
	if k, err := q.KernelStats(); err != nil || k.TXInvalidDescs != 0 {
		t.Errorf("kernel's statistics: %+v, %v", k, err)
	}
}

// On veth there is no driver to poll, but nothing may be lost by it.
func TestBusyPollingQueue(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 256, Frames: 320, BusyPoll: 48})
	for option, want := range map[int]int{unix.SO_PREFER_BUSY_POLL: 1, unix.SO_BUSY_POLL: 20} {
		if got, err := unix.GetsockoptInt(q.FD(), unix.SOL_SOCKET, option); err != nil || got != want {
			t.Errorf("socket option %d is %d, %v; want %d", option, got, err, want)
		}
	}
	q.Peek(1)
	if q.Stats().BusyPolls != 1 {
		t.Errorf("%d polls by a look at an empty ring", q.Stats().BusyPolls)
	}
	s := w.station(0)
	const total = 2000
	var got uint32
	var group sync.WaitGroup
	group.Go(func() { hear(t, s, total) })
	send(t, s, q, total, func() {})
	group.Wait()
	for got < total {
		s.send(s.segment(got, length(got)))
		await(t, "frame arrives", func() bool { return q.Peek(1) == 1 })
		must(t, checkPayload(q.Frame(0)[payloadAt:], got))
		q.Release(1)
		got++
	}
	wantIdle(t, q)
}

// hear asserts that the station receives frames 0 to total-1.
func hear(t testing.TB, s *station, total uint32) {
	buf := make([]byte, 2048)
	for number := range total {
		f, err := s.receive(buf)
		if err != nil {
			t.Errorf("peer waits for frame %d: %v", number, err)
			return
		}
		if err := checkPayload(f[14:length(number)], number); err != nil {
			t.Errorf("peer: %v", err)
			return
		}
	}
}

// send sends frames 0 to total-1, in turns of more than there are TX frames, and returns how often there was none.
func send(t testing.TB, s *station, q *Queue, total uint32, turn func()) (backPressure int) {
	var sent uint32
	await(t, "everything is sent", func() bool {
		for burst := 0; burst < 300 && sent < total; burst++ {
			if !s.put(q, sent, length(sent)) {
				backPressure++
				break
			}
			sent++
		}
		must(t, q.Kick())
		if l := q.Levels(); l.Sum() != l.Frames {
			t.Fatalf("levels %+v", l)
		}
		turn()
		return sent == total && q.Pending() == 0
	})
	return backPressure
}

func TestQueueSendsAndReceivesAtOnce(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 512, Frames: 640, TXChecksum: TXChecksumSoftware})
	s := w.station(0)
	const total = 10000
	var group sync.WaitGroup
	group.Go(func() { hear(t, s, total) })
	var got, sent uint32
	receive := func() {
		// The peer keeps at most half a ring ahead, so that nothing is lost.
		for ; sent < total && sent-got < 128; sent++ {
			s.send(s.segment(sent, length(sent)))
		}
		n := q.Peek(512)
		for i := range n {
			if err := checkPayload(q.Frame(i)[payloadAt:], got); err != nil {
				t.Fatal(err)
			}
			got++
		}
		q.Release(n)
	}
	send(t, s, q, total, receive)
	await(t, "everything is received", func() bool { receive(); return got == total })
	group.Wait()
	wantIdle(t, q)
}

func TestQueuesOfOneInterfaceShareItsFrames(t *testing.T) {
	w := newWire(t, 1, 2)
	in := w.open(0)
	if in.RXQueues() != 2 {
		t.Fatalf("%d receive queues, want 2", in.RXQueues())
	}
	queues := []*Queue{w.openQueue(in, QueueOptions{Queue: 0, RingEntries: 1024, Frames: 1280}), w.openQueue(in, QueueOptions{Queue: 1, RingEntries: 1024, Frames: 1280})}
	s := w.station(0)
	const total = 500
	for number := range uint32(total) {
		s.send(s.segment(number, 100))
	}
	seen := map[uint32]bool{}
	await(t, "all flows arrive", func() bool {
		for _, q := range queues {
			n := q.Peek(64)
			for i := range n {
				f := q.Frame(i)
				number := uint32(f[payloadAt+2])<<8 | uint32(f[payloadAt+3])
				if err := checkPayload(f[payloadAt:], number); err != nil || seen[number] {
					t.Fatalf("frame %d, seen %v: %v", number, seen[number], err)
				}
				seen[number] = true
			}
			q.Release(n)
		}
		return len(seen) == total
	})
	for i, q := range queues {
		if q.Stats().RXFrames == 0 {
			t.Errorf("queue %d received nothing", i)
		}
		wantIdle(t, q)
	}
}

// With as many RX frames as the rings have slots, a worker that does not receive empties the fill ring; the RX ring
// cannot overflow.
func TestFloodEmptiesFillRingAndRecovers(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	for round := range uint32(3) {
		for number := range uint32(200) {
			s.send(s.segment(number, 100))
		}
		await(t, "fill ring is empty", func() bool { l := q.Levels(); return l.RXRing == 64 && l.FillRing == 0 })
		n := q.Peek(1000)
		if n != 64 {
			t.Fatalf("round %d: %d frames, want 64", round, n)
		}
		for i := range n {
			if err := checkPayload(q.Frame(i)[payloadAt:], uint32(i)); err != nil {
				t.Fatal(err)
			}
		}
		if l := q.Levels(); l.RX != 64 || l.Fill != 0 || l.Sum() != l.Frames {
			t.Fatalf("levels %+v", l)
		}
		q.Release(n)
		wantIdle(t, q)
	}
	k, err := q.KernelStats()
	if err != nil || k.FillRingEmpty == 0 || k.RXRingFull != 0 || k.RXInvalidDescs != 0 {
		t.Errorf("kernel's statistics: %+v, %v", k, err)
	}
	if q.Stats().RXRingHighWater != 64 {
		t.Errorf("high water of the RX ring: %d, want 64", q.Stats().RXRingHighWater)
	}
}

func TestLengthsThatCannotBeSentAreRefused(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	for _, n := range []int{0, -1, 1500 + linkHeaderBytes + 1, 2049, 1 << 20} {
		f, _, ok := q.Reserve()
		if !ok {
			t.Fatal("no frame")
		}
		q.Submit(f, n)
	}
	if st := q.Stats(); st.TXRefused != 5 || st.TXFrames != 0 || q.Pending() != 0 {
		t.Errorf("statistics %+v, %d pending", st, q.Pending())
	}
	f, _, _ := q.Reserve()
	q.Discard(f)
	wantIdle(t, q)
}

func TestInvalidDescriptorIsCountedAndSkipped(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	for number := range uint32(300) {
		if number%10 == 3 {
			// Past Submit, which lets none through.
			await(t, "a frame is free", func() bool {
				f, _, ok := q.Reserve()
				if ok {
					q.tx.put(unix.XDPDesc{Addr: uint64(f), Len: 4096})
				}
				return ok
			})
		}
		await(t, "a frame is free", func() bool { return s.put(q, number, length(number)) })
		must(t, q.Kick())
	}
	hear(t, s, 300)
	wantIdle(t, q)
	if k, err := q.KernelStats(); err != nil || k.TXInvalidDescs != 30 {
		t.Errorf("kernel's statistics: %+v, %v; want 30 invalid descriptors", k, err)
	}
}

func TestFramesAboveTheMTUComeBack(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	must(t, w.edge.LinkSetMTU(w.edgeLink(0), 1000))
	must(t, w.peer.LinkSetMTU(w.peerLink(0), 1000))
	for number := range uint32(200) {
		n := 500
		if number%2 == 1 {
			n = 1500
		}
		await(t, "a frame is free", func() bool {
			must(t, q.Kick())
			return s.put(q, number/2, n)
		})
	}
	wantIdle(t, q)
	buf := make([]byte, 2048)
	for number := range uint32(100) {
		f, err := s.receive(buf)
		must(t, err)
		if err := checkPayload(f[14:500], number); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinkDownKeepsFramesUntilItIsUp(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 128, Frames: 160})
	s := w.station(0)
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	must(t, w.edge.LinkSetDown(w.edgeLink(0)))
	for number := range uint32(20) {
		if !s.put(q, number, length(number)) {
			t.Fatal("no frame")
		}
	}
	must(t, q.Kick())
	if l := q.Levels(); q.Pending() != 20 || q.Stats().KickLinkDown == 0 || l.Sum() != l.Frames {
		t.Fatalf("link down: %d pending, statistics %+v, levels %+v", q.Pending(), q.Stats(), l)
	}
	must(t, q.Check())
	must(t, w.edge.LinkSetUp(w.edgeLink(0)))
	for q.Pending() > 0 {
		waiter.Wait(-1) // comes back for the retry
		must(t, q.Kick())
	}
	hear(t, s, 20)
	s.send(s.segment(7, 100))
	await(t, "frames come in again", func() bool { return q.Peek(1) == 1 })
	q.Release(1)
	wantIdle(t, q)
}

func TestRemovedInterfaceIsAnError(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	must(t, q.Check())
	must(t, w.edge.LinkDel(w.edgeLink(0)))
	wantError(t, q.Check(), ErrInterfaceGone, "queue 0 of rre0")
	s.put(q, 0, 100)
	wantError(t, q.Kick(), ErrInterfaceGone, "queue 0 of rre0")
	if l := q.Levels(); l.Sum() != l.Frames {
		t.Errorf("levels %+v", l)
	}
}

func TestQueueCanBeRebuiltInTheSameProcess(t *testing.T) {
	w := newWire(t, 1, 1)
	in := w.open(0)
	s := w.station(0)
	descriptors, goroutines := countDescriptors(t), runtime.NumGoroutine()
	for number := range uint32(20) {
		q, err := in.OpenQueue(QueueOptions{RingEntries: 64, Frames: 80})
		must(t, err)
		waiter, err := NewWaiter([]*Queue{q})
		must(t, err)
		s.send(s.segment(number, 100))
		waiter.Wait(-1)
		if q.Peek(1) != 1 {
			t.Fatal("woken without a frame")
		}
		must(t, checkPayload(q.Frame(0)[payloadAt:], number))
		q.Release(1)
		if err := q.Close(); err == nil {
			t.Fatal("closed under its waiter")
		}
		waiter.Close()
		must(t, q.Close())
		must(t, q.Close())
	}
	if maps, err := socketMappings(); err != nil || len(maps) != 0 {
		t.Errorf("left mapped: %v, %v", maps, err)
	}
	if n := countDescriptors(t); n != descriptors {
		t.Errorf("%d descriptors open, %d before", n, descriptors)
	}
	await(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
}

func countDescriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(d)
}

func init() {
	children["hold queue"] = func() error {
		in, err := OpenInterface(InterfaceOptions{Name: edgeName(0), Mode: ModeNative})
		if err != nil {
			return err
		}
		steer80(&testing.T{}, in, 0)
		q, err := in.OpenQueue(QueueOptions{})
		if err != nil {
			return err
		}
		fmt.Println("bound")
		_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
		runtime.KeepAlive(q)
		return err
	}
}

func TestQueueIsFreeAgainAfterItsOwnerWasKilled(t *testing.T) {
	w := newWire(t, 1, 1)
	s := w.station(0)
	for range 3 {
		c := child(t, "hold queue")
		stdin, err := c.StdinPipe()
		must(t, err)
		stdout, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil || line != "bound\n" {
			t.Fatalf("child says %q, %v", line, err)
		}
		must(t, c.Process.Kill())
		if err := c.Wait(); err == nil {
			t.Fatal("child ended by itself")
		}
		stdin.Close()

		in, err := OpenInterface(InterfaceOptions{Name: edgeName(0), Mode: ModeNative})
		must(t, err)
		steer80(t, in, 0)
		q, err := in.OpenQueue(QueueOptions{})
		must(t, err)
		s.send(s.segment(1, 100))
		await(t, "frame arrives", func() bool { return q.Peek(1) == 1 })
		q.Release(1)
		must(t, q.Close())
		must(t, in.Close())
		if attached := w.edgeLink(0).Attrs().Xdp; attached != nil && attached.Attached {
			t.Fatal("program still attached")
		}
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 256, Frames: 320})
	s := w.station(0)
	waiter, err := NewWaiter([]*Queue{q})
	must(t, err)
	t.Cleanup(waiter.Close)
	frame := s.segment(1, 500)
	to := &s.to // one sockaddr, so that the station's own sends are all that allocates
	own := testing.AllocsPerRun(200, func() { _ = unix.Sendto(s.fd, frame, 0, to) })
	for q.Peek(64) > 0 {
		q.Release(q.Peek(64))
	}
	turn := testing.AllocsPerRun(200, func() {
		_ = unix.Sendto(s.fd, frame, 0, to)
		for n := 0; n == 0; {
			waiter.Wait(time.Second)
			n = q.Peek(64)
			for i := range n {
				_ = q.Frame(i)
			}
			q.Release(n)
		}
		for range 8 {
			f, _, _ := q.Reserve()
			q.Submit(f, 100)
		}
		f, _, _ := q.Reserve()
		q.Discard(f)
		_ = q.Kick()
		q.Reap()
		waiter.Wake()
		waiter.Wait(-1)
		waiter.Wait(time.Microsecond)
		_ = q.Levels()
	})
	if turn > own {
		t.Errorf("a turn allocates %v times more than its test", turn-own)
	}
}

// The frames that the next batch is written to are those of the last one, in its order: memory that is still cached, and upwards.
func TestFramesAreReservedInTheOrderTheyWereSentIn(t *testing.T) {
	w := newWire(t, 1, 1)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	var before []TXFrame
	for range 4 {
		var now []TXFrame
		for range 5 {
			f, b, ok := q.Reserve()
			if !ok {
				t.Fatal("no frame is free")
			}
			now = append(now, f)
			copy(b, s.from[:])
			copy(b[6:], s.edge[:])
			q.Submit(f, 100)
		}
		must(t, q.Kick())
		await(t, "all are sent", func() bool { q.Reap(); return q.Levels().TX == 0 })
		if before != nil && !slices.Equal(now, before) || !slices.IsSorted(now) {
			t.Errorf("%v were reserved, after %v", now, before)
		}
		before = now
	}
}
