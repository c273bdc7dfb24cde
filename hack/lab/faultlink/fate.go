package faultlink

import (
	"encoding/binary"
	"math/rand/v2"
)

// fate is what happens to one frame.
type fate struct {
	lost, duplicated, reordered, corrupted bool

	bit    uint64  // to turn, modulo the bits there are
	jitter float64 // -1 to 1
}

// fates decides on frames one after the other. What becomes of the n-th follows from the seed and n alone: whatever is asked of the
// link, and whatever became of the frames before, each costs the same random numbers. So two proxies meet the same fates.
type fates struct {
	o      *Options
	random *rand.Rand
	bad    bool // the state of a burst
}

// Streams of a direction: frames with TCP have one of their own, so that neither neighbour discovery nor pings, which come when they
// like, change what becomes of a transfer.
const (
	streamTCP = iota
	streamOther
	streams
)

func newFates(o *Options, direction, stream int) *fates {
	return &fates{o: o, random: rand.New(rand.NewPCG(o.Seed, uint64(direction*streams+stream)))}
}

func (f *fates) next() (t fate) {
	o := f.o
	t.lost = f.lose(f.random.Float64())
	t.duplicated = f.random.Float64() < o.Duplicate
	t.reordered = f.random.Float64() < o.Reorder
	t.corrupted = f.random.Float64() < o.Corrupt
	t.bit = f.random.Uint64()
	t.jitter = 2*f.random.Float64() - 1
	return t
}

// lose decides by a random number whether a frame is lost: in bursts by the model of Gilbert and Elliott, where all frames of the bad
// state are lost and none of the good one.
func (f *fates) lose(random float64) bool {
	loss, burst := f.o.Loss, f.o.Burst
	if burst <= 1 {
		return random < loss
	}
	if f.bad {
		f.bad = random >= 1/burst
	} else {
		f.bad = random < loss/(1-loss)/burst
	}
	return f.bad
}

// streamOf says which stream decides on a frame.
func streamOf(frame []byte) int {
	const ethernet, ipv4Protocol, ipv6NextHeader, tcp = 14, 9, 6, 6
	if len(frame) < ethernet+40 {
		return streamOther
	}
	packet := frame[ethernet:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		if packet[ipv4Protocol] == tcp {
			return streamTCP
		}
	case 0x86dd:
		if packet[ipv6NextHeader] == tcp {
			return streamTCP
		}
	}
	return streamOther
}
