package dataplane

import (
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// jumbo gives both ends of pair i an MTU, before anything is opened.
func (w *wire) jumbo(i, edge, peer int) {
	w.t.Helper()
	must(w.t, w.edge.LinkSetMTU(w.edgeLink(i), edge))
	must(w.t, w.peer.LinkSetMTU(w.peerLink(i), peer))
}

// jumboLength varies frame lengths from the shortest to the longest of the largest MTU.
func jumboLength(number uint32) int { return payloadAt + 6 + int(number*2741%(maxMTU+14-payloadAt-5)) }

// packets joins the frames of the n peeked ones.
func packets(q *Queue, n int) (all [][]byte) {
	for i := 0; i < n; i++ {
		p := slices.Clone(q.Frame(i))
		for q.More(i) {
			i++
			p = append(p, q.Frame(i)...)
		}
		all = append(all, p)
	}
	return all
}

func TestJumboFramesArriveWhole(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		for _, frameBytes := range []int{2048, 4096} {
			w := newWire(t, 1, 1)
			w.jumbo(0, maxMTU, maxMTU)
			in, err := OpenInterface(InterfaceOptions{Name: edgeName(0), Mode: mode})
			must(t, err)
			steer80(t, in, 0)
			if !in.Link().Frags {
				t.Fatal("the program for one buffer is attached")
			}
			q := w.openQueue(in, QueueOptions{RingEntries: 256, Frames: 320, FrameBytes: frameBytes})
			s := w.station(0)
			const total = 3000
			var got uint32
			for sent := uint32(0); got < total; {
				for burst := 0; burst < 30 && sent < total; burst++ {
					s.send(s.segment(sent, jumboLength(sent)))
					sent++
				}
				await(t, "burst arrives", func() bool {
					// The limit is less than the longest packet has, and cuts others.
					for limit := 1 + int(got%17); ; limit = 1 + int(got%17) {
						n := q.Peek(limit)
						if n == 0 {
							return got == sent
						}
						all := packets(q, n)
						if n > limit && len(all) > 1 {
							t.Fatalf("%d packets of %d frames, at most %d were asked for", len(all), n, limit)
						}
						if n > len(all) && !q.Chained() {
							t.Fatalf("%d packets of %d frames are not chained", len(all), n)
						}
						for _, p := range all {
							if len(p) != jumboLength(got) {
								t.Fatalf("%v, frames of %d: packet %d is %d bytes long, want %d", mode, frameBytes, got, len(p), jumboLength(got))
							}
							must(t, checkPayload(p[payloadAt:], got))
							got++
						}
						q.Release(n)
					}
				})
			}
			wantIdle(t, q)
			if st := q.Stats(); st.RXFrames != total || st.RXOversized != 0 {
				t.Errorf("statistics after %d packets: %+v", total, st)
			}
			if k, err := q.KernelStats(); err != nil || k.RXDropped+k.RXRingFull+k.RXInvalidDescs != 0 {
				t.Errorf("kernel's statistics: %+v, %v", k, err)
			}
			must(t, q.Close())
			must(t, in.Close())
		}
	}
}

func TestJumboFramesAreSentWhole(t *testing.T) {
	for _, frameBytes := range []int{2048, 4096} {
		w := newWire(t, 1, 1)
		w.jumbo(0, maxMTU, maxMTU)
		q := w.openQueue(w.open(0), QueueOptions{RingEntries: 256, Frames: 320, FrameBytes: frameBytes})
		s := w.station(0)
		const total = 3000
		var group sync.WaitGroup
		group.Go(func() {
			buf := make([]byte, 16<<10)
			for number := range uint32(total) {
				p, err := s.receive(buf)
				if err == nil && len(p) != jumboLength(number) {
					t.Errorf("peer: packet %d is %d bytes long, want %d", number, len(p), jumboLength(number))
				}
				if err == nil {
					err = checkPayload(p[14:], number)
				}
				if err != nil {
					t.Errorf("peer, frames of %d: %v", frameBytes, err)
					return
				}
			}
		})
		for sent, last := uint32(0), 0; sent < total; {
			if !s.put(q, sent, jumboLength(sent)) {
				must(t, q.Kick())
				last = 0
				continue
			}
			sent++
			n := q.Unpublished()
			if n != last+1 && n != 1 { // Reserve may have kicked
				t.Fatalf("%d packets unpublished, %d before the last one", n, last)
			}
			last = n
		}
		must(t, q.Kick())
		group.Wait()
		wantIdle(t, q)
		if st := q.Stats(); st.TXFrames != total || st.TXCompletions != total {
			t.Errorf("statistics after %d packets: %+v", total, st)
		}
		f, b, _ := q.Reserve()
		if len(b) < maxMTU+linkHeaderBytes {
			t.Errorf("%d bytes are too few for a packet", len(b))
		}
		q.Submit(f, maxMTU+linkHeaderBytes+1)
		if q.Stats().TXRefused != 1 || q.Pending() != 0 {
			t.Errorf("a packet above the MTU: %+v, %d pending", q.Stats(), q.Pending())
		}
		if k, err := q.KernelStats(); err != nil || k.TXInvalidDescs != 0 {
			t.Errorf("kernel's statistics: %+v, %v", k, err)
		}
	}
}

func TestMTUsThatDoNotFit(t *testing.T) {
	w := newWire(t, 2, 1)
	w.jumbo(1, 9000, 9000)
	plain, jumbo := w.open(0), w.open(1)
	for _, tc := range []struct {
		in    *Interface
		mtu   int
		tells string
	}{
		{plain, 3506, ""}, {plain, 3507, "3507 needs another XDP program"}, {plain, maxMTU + 1, "ip link set dev rre0 mtu 9216"},
		{jumbo, 1500, ""}, {jumbo, maxMTU, ""}, {jumbo, maxMTU + 1, "ip link set dev rre1 mtu 9216"},
	} {
		if err := tc.in.CheckMTU(tc.mtu); tc.tells != "" {
			wantError(t, err, ErrMTU, tc.tells)
		} else if err != nil {
			t.Errorf("%s, MTU %d: %v", tc.in.Name(), tc.mtu, err)
		}
	}
	wantError(t, jumbo.Link().checkMTU(kernelRelease{6, 5}), ErrMTU, "9000 needs Linux 6.6, this is 6.5", "ip link set dev rre1 mtu 3506")
	for _, tc := range []struct {
		driver string
		mtu    int
		kernel kernelRelease
		frags  bool
	}{
		{"i40e", 3046, chainsKernel, false}, {"i40e", 3047, chainsKernel, true}, {"i40e", 3047, kernelRelease{6, 1}, false}, {"veth", 3506, chainsKernel, false},
	} {
		if got := policyOf(tc.driver).needsFrags(tc.mtu, tc.kernel); got != tc.frags {
			t.Errorf("%s, MTU %d, Linux %v: several buffers %v", tc.driver, tc.mtu, tc.kernel, got)
		}
	}
	_, err := jumbo.OpenQueue(QueueOptions{ZeroCopy: ZeroCopyOn})
	wantError(t, err, ErrUnsupported, "zero-copy", "veth", "has none", "zero_copy to auto")
}

// The kernel sends a chain of maxChain, and gives a longer one back unsent.
func TestLongestChain(t *testing.T) {
	w := newWire(t, 1, 1)
	w.jumbo(0, 9000, 9000)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 256, Frames: 320})
	s := w.station(0)
	for number, frames := range []int{maxChain, maxChain + 1, maxChain} {
		payload := make([]byte, frames*400-14)
		fillPayload(payload, uint32(number))
		packet := binary.BigEndian.AppendUint16(slices.Concat(s.from[:], s.edge[:]), testEtherType)
		packet = append(packet, payload...)
		for left := frames; left > 0; {
			f, _, ok := q.Reserve()
			if !ok {
				t.Fatal("no group is free")
			}
			n := min(left, q.frames.span)
			q.frames.submitted(uint64(f), n)
			for i := range n {
				addr := uint64(f) + uint64(i)<<q.frames.shift
				packet = packet[copy(q.umem[addr:addr+400], packet):]
				left--
				q.tx.put(unix.XDPDesc{Addr: addr, Len: 400, Options: min(uint32(left), unix.XDP_PKT_CONTD)})
			}
		}
		wantIdle(t, q)
	}
	buf := make([]byte, 16<<10)
	for _, number := range []uint32{0, 2} {
		p, err := s.receive(buf)
		must(t, err)
		must(t, checkPayload(p[14:], number))
	}
	if k, err := q.KernelStats(); err != nil || k.TXInvalidDescs == 0 {
		t.Errorf("kernel's statistics: %+v, %v", k, err)
	}
}

func TestPacketsAboveTheMTUAreDropped(t *testing.T) {
	w := newWire(t, 1, 1)
	w.jumbo(0, 5000, 9000)
	q := w.openQueue(w.open(0), QueueOptions{RingEntries: 256, Frames: 320})
	w.jumbo(0, 9000, 9000) // veth itself drops what is above its own
	s := w.station(0)
	got := uint32(0)
	for number := range uint32(300) {
		n := 5014 // fits
		if number%3 == 1 {
			n = 9014
		}
		s.send(s.segment(number, n))
		if number%3 == 1 {
			continue
		}
		await(t, "the packets that fit arrive", func() bool {
			n := q.Peek(64)
			for _, p := range packets(q, n) {
				if got%3 == 1 {
					got++
				}
				must(t, checkPayload(p[payloadAt:], got))
				got++
			}
			q.Release(n)
			return got == number+1
		})
	}
	wantIdle(t, q)
	if st := q.Stats(); st.RXOversized != 100 || st.RXFrames != 200 {
		t.Errorf("statistics %+v", st)
	}
}

// chainQueue is a queue for packets of at most 9022 bytes whose kernel is the test.
type chainQueue struct {
	*Queue
	rx, fill descRing
}

// descRing is the kernel's end of a ring.
type descRing struct{ producer, consumer *uint32 }

func newChainQueue(start uint32) *chainQueue {
	const entries = 16
	o := unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}
	memory := func() []byte {
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(make([]uint64, 24+2*entries)))), 192+16*entries)
	}
	q := &Queue{
		rx: ringOver[unix.XDPDesc](memory(), o, entries), fill: ringOver[uint64](memory(), o, entries),
		frames: newFrames(12, entries, 0, 3), maxFrame: 9022, chains: true, stats: new(Stats),
	}
	*q.rx.producer, *q.rx.consumer = start, start
	q.rx.head, q.rx.seen, q.rx.published = start, start, start
	for i := range entries {
		q.fill.put(q.frames.startFill(i))
	}
	q.refill()
	return &chainQueue{Queue: q, rx: descRing{q.rx.producer, q.rx.consumer}, fill: descRing{q.fill.producer, q.fill.consumer}}
}

// receive is the kernel: it takes frames from the fill ring and publishes them with these lengths; a negative one goes on.
func (c *chainQueue) receive(lengths ...int) {
	for _, n := range lengths {
		d := unix.XDPDesc{Addr: c.Queue.fill.slots[*c.fill.consumer&c.Queue.fill.mask] + 256, Len: uint32(n)}
		if n < 0 {
			d.Len, d.Options = uint32(-n), unix.XDP_PKT_CONTD
		}
		*c.fill.consumer++
		c.Queue.rx.slots[*c.rx.producer&c.Queue.rx.mask] = d
		*c.rx.producer++
	}
}

func TestChainsOnTheRing(t *testing.T) {
	for _, start := range []uint32{0, 15, 1<<32 - 3} {
		for _, tc := range []struct {
			name      string
			batches   [][]int // published one after the other; a negative length goes on
			limit     int
			want      []int // frames of each peek that finds some
			oversized uint64
		}{
			{"in one frame", [][]int{{100, 3840, 100}}, 2, []int{2, 1}, 0},
			{"whole packets within the limit", [][]int{{100, -3840, -3840, 1342, -3840, 10}}, 4, []int{4, 2}, 0},
			{"limit within the second packet", [][]int{{-3840, 100, -3840, -3840, 7}}, 4, []int{2, 3}, 0},
			{"limit within the only packet", [][]int{{-3840, -3840, 100}}, 1, []int{3}, 0},
			{"published in parts", [][]int{{100, -3840}, {-3840}, {5}}, 8, []int{1, 3}, 0},
			{"exactly the MTU", [][]int{{-3840, -3840, 9022 - 7680}}, 8, []int{3}, 0},
			{"above the MTU", [][]int{{-3840, -3840, 9023 - 7680, 100}}, 8, []int{1}, 1},
			{"above the MTU, behind another", [][]int{{100, -3840, -3840, 9023 - 7680, -200, 100}}, 8, []int{1, 2}, 1},
			{"several above the MTU", [][]int{{-3840, -3840, -3840, 1, -3840, -3840, -3840, 1, 100}}, 8, []int{1}, 2},
			{"above the MTU, published in parts", [][]int{{-3840, -3840, -3840}, {-3840, -3840, -3840}, {1, 60}}, 8, []int{1}, 1},
			{"in many small frames", [][]int{{-600, -600, -600, -600, -600, -600, -600, -600, -600, -600, -600, -600, 600}}, 8, []int{13}, 0},
		} {
			c := newChainQueue(start)
			var got []int
			for _, batch := range tc.batches {
				c.receive(batch...)
				for n := c.Peek(tc.limit); n > 0; n = c.Peek(tc.limit) {
					if again := c.Peek(tc.limit); again != n {
						t.Errorf("%s: a second peek finds %d, the first %d", tc.name, again, n)
					}
					if c.More(n - 1) {
						t.Errorf("%s: a packet without its end", tc.name)
					}
					got = append(got, n)
					c.Release(n)
				}
			}
			if !slices.Equal(got, tc.want) || c.stats.RXOversized != tc.oversized {
				t.Errorf("%s: peeks %d, oversized %d; want %d, %d", tc.name, got, c.stats.RXOversized, tc.want, tc.oversized)
			}
			if l := c.frames.count; l[stateFill] != 16 || c.Queue.fill.level() != 16 {
				t.Errorf("%s: frames %v, %d on the fill ring", tc.name, l, c.Queue.fill.level())
			}
		}
	}
}
