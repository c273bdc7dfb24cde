package dataplane

import (
	"math"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memoryRing lays a ring over plain memory with both indices at start. The kernel's end is played by kernel, which
// shares its words.
func memoryRing(entries int, start uint32) (loop, kernel ring[uint64]) {
	o := unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}
	mem := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(make([]uint64, 24+entries)))), 192+8*entries)
	end := func() ring[uint64] {
		r := ringOver[uint64](mem, o, entries)
		*r.producer, *r.consumer = start, start
		r.head, r.seen, r.published = start, start, start
		return r
	}
	return end(), end()
}

func TestRingAcrossIndexWrap(t *testing.T) {
	const entries = 8
	for _, start := range []uint32{0, 1, math.MaxUint32 - 11, math.MaxUint32 - 1, math.MaxUint32} {
		produce, consume := memoryRing(entries, start)
		var sent, got uint64
		for step := range 200 {
			burst := min(step%(entries+1), entries-int(produce.pending()))
			for range burst {
				produce.put(sent)
				sent++
			}
			if visible := consume.peek(entries); visible != uint32(sent-got)-produce.unpublished() {
				t.Fatalf("start %#x step %d: %d visible before submit, want %d", start, step, visible, uint32(sent-got)-produce.unpublished())
			}
			produce.submit()
			if produce.unpublished() != 0 || produce.level() != uint32(sent-got) {
				t.Fatalf("start %#x step %d: unpublished %d, level %d, want 0, %d", start, step, produce.unpublished(), produce.level(), sent-got)
			}
			n := consume.peek(uint32(step % 5))
			for i := range n {
				if v := consume.at(i); v != got+uint64(i) {
					t.Fatalf("start %#x step %d: slot %d holds %d, want %d", start, step, i, v, got+uint64(i))
				}
			}
			if n > 0 {
				consume.release(n)
			}
			got += uint64(n)
			if produce.pending() != uint32(sent-got) {
				t.Fatalf("start %#x step %d: pending %d, want %d", start, step, produce.pending(), sent-got)
			}
		}
		if got == 0 {
			t.Fatal("nothing went through the ring")
		}
	}
}

func TestRingNeedWakeupFollowsFlag(t *testing.T) {
	r, _ := memoryRing(8, 0)
	if r.needsWakeup() {
		t.Error("wake-up wanted without the flag")
	}
	*r.flags = unix.XDP_RING_NEED_WAKEUP
	if !r.needsWakeup() {
		t.Error("wake-up not wanted with the flag")
	}
}

func TestFramesAccountStaysWhole(t *testing.T) {
	const rx, tx = 16, 8
	f := newFrames(11, rx, tx, 1)
	sum := func() (n int) {
		for _, c := range f.count {
			n += c
		}
		return n
	}
	var fill []uint64
	for i := range rx {
		fill = append(fill, f.startFill(i))
	}
	var reserved []uint64
	for {
		addr, ok := f.reserved()
		if !ok {
			break
		}
		reserved = append(reserved, addr)
	}
	if len(reserved) != tx || sum() != rx+tx || f.count != [numStates]int{stateFill: rx, stateTX: tx} {
		t.Fatalf("reserved %d of %d, counts %v", len(reserved), tx, f.count)
	}
	if slices.ContainsFunc(reserved, func(a uint64) bool { return slices.Contains(fill, a) }) {
		t.Fatal("a frame is both for receiving and for sending")
	}
	for _, a := range fill {
		if !f.received(a+256, 1792) {
			t.Errorf("frame %#x was not received", a)
		}
	}
	for _, a := range fill {
		if got := f.refilled(a + 256); got != a {
			t.Errorf("frame %#x goes to the fill ring as %#x", a, got)
		}
	}
	for _, a := range reserved {
		f.completed(a)
	}
	if sum() != rx+tx || f.count != [numStates]int{stateFill: rx, stateFree: tx} {
		t.Errorf("counts at the end: %v", f.count)
	}
}

func TestFramesOfAGroupComeBackTogether(t *testing.T) {
	const rx, tx, span = 4, 11, 3 // two frames are left over
	f := newFrames(11, rx, tx, span)
	var groups []uint64
	for a, ok := f.reserved(); ok; a, ok = f.reserved() {
		groups = append(groups, a)
	}
	if !slices.Equal(groups, []uint64{4 << 11, 7 << 11, 10 << 11}) || f.count[stateTX] != 9 {
		t.Fatalf("groups %#x, counts %v", groups, f.count)
	}
	f.submitted(groups[0], 3)
	f.submitted(groups[1], 1)
	f.discarded(groups[2])
	f.completed(groups[0])
	f.completed(groups[0] + 1<<11)
	if f.count[stateTX] != 6 || len(f.free) != 1 {
		t.Errorf("counts %v, %d groups free with a frame of the first still out", f.count, len(f.free))
	}
	f.completed(groups[1])
	f.completed(groups[0] + 2<<11)
	if f.count != [numStates]int{stateFree: rx + tx} || len(f.free) != 3 {
		t.Errorf("counts at the end: %v, %d groups free", f.count, len(f.free))
	}
}

func TestFramesRefuseWhatBreaksTheAccount(t *testing.T) {
	for name, breakIt := range map[string]func(*frames){
		"completed twice":              func(f *frames) { a, _ := f.reserved(); f.completed(a); f.completed(a) },
		"released twice":               func(f *frames) { a := f.startFill(0); f.received(a, 60); f.refilled(a); f.refilled(a) },
		"completion of a fill frame":   func(f *frames) { f.completed(f.startFill(1)) },
		"address beyond the UMEM":      func(f *frames) { f.completed(1 << 40) },
		"address just behind the UMEM": func(f *frames) { f.completed(8 << 11) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("went unnoticed")
				}
			}()
			breakIt(newFrames(11, 4, 4, 1))
		})
	}
	for name, address := range map[string]uint64{
		"nothing of the group is out":   4 << 11,
		"another group's":               6 << 11,
		"a fill frame's":                1 << 11,
		"a frame of no group's":         8 << 11,
		"an address beyond the UMEM's":  1 << 40,
		"an address before the group's": 3 << 11,
	} {
		t.Run("completion: "+name, func(t *testing.T) {
			f := newFrames(11, 4, 5, 2)
			defer func() {
				if recover() == nil {
					t.Error("went unnoticed")
				}
			}()
			a, _ := f.reserved()
			f.submitted(a, 1)
			f.completed(a)
			f.completed(address)
		})
	}
}
