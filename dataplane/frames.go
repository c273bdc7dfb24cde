package dataplane

import "fmt"

// frameState is who may touch a frame.
type frameState uint8

const (
	stateFree frameState = iota // on the free list, nobody's
	stateFill                   // the kernel's, to receive into: on the fill ring or with the NIC
	stateRX                     // the loop's, peeked and not yet released
	stateTX                     // reserved by the loop, on the TX ring, with the NIC, or on the completion ring
	numStates
)

func (s frameState) String() string {
	return [numStates]string{"free", "fill", "rx", "tx"}[s]
}

// frames is the account of a UMEM: the state of each frame, how many are in each, and the stack of free ones. The
// addresses that come back from the kernel are checked against it, so that a frame never belongs to two connections: one
// completed twice ends the process, and a descriptor of a frame that cannot have been received is dropped ([Queue.Peek]).
//
// A packet for sending that may be larger than a frame is given a group of adjacent frames (span of them), which is one
// piece of memory: the loop writes across it as if it were one frame, and only the descriptors tell the frames apart. All
// frames of a group move together, back to free when the kernel has given back the last that it was given.
//
// The first rx frames go round Fill -> RX -> Fill and the rest, group by group, Free -> TX -> Free:
//
//	          startFill           received            refilled
//	Free(once) ------> Fill ------------------> RX ------------> Fill
//	       reserved        completed, discarded
//	Free ------------> TX ---------------------> Free
//
// With rx at most the fill ring's entries, and the rest at most the TX and completion rings' entries, no ring can
// overflow: a slot is only missing when all frames of that side are already on the ring.
type frames struct {
	shift uint // log2 of the frame size in bytes
	rx    int  // number of RX frames
	span  int  // frames of a group for sending; 1: no packet is larger than a frame
	state []frameState
	count [numStates]int
	free  []uint64 // addresses of groups, capacity fixed
	sent  []uint8  // of each group, how many of its frames the kernel has to give back; valid iff span > 1
}

// newFrames returns an account in which all TX frames are free and all RX frames still have to be handed out by
// startFill. TX frames that do not make up a group are never used.
func newFrames(frameBytesLog2 uint, rx, tx, span int) *frames {
	f := &frames{shift: frameBytesLog2, rx: rx, span: span, state: make([]frameState, rx+tx), free: make([]uint64, 0, tx/span)}
	f.count[stateFree] = rx + tx
	// The lowest address is on top of the stack, so an idle queue keeps using the same, cached frames.
	for i := tx/span - 1; i >= 0; i-- {
		f.free = append(f.free, uint64(rx+i*span)<<f.shift)
	}
	if span > 1 {
		f.sent = make([]uint8, tx/span)
	}
	return f
}

// move is the only place where a frame changes state.
func (f *frames) move(addr uint64, from, to frameState) {
	i := addr >> f.shift
	if i >= uint64(len(f.state)) || f.state[i] != from {
		f.broken(addr, from, to)
	}
	f.state[i] = to
	f.count[from]--
	f.count[to]++
}

func (f *frames) broken(addr uint64, from, to frameState) {
	state := "outside the UMEM"
	if i := addr >> f.shift; i < uint64(len(f.state)) {
		state = f.state[i].String()
	}
	panic(fmt.Sprintf("dataplane: frame %#x moves from %v to %v but is %s", addr, from, to, state))
}

// startFill returns the address of the i-th RX frame, now the kernel's.
func (f *frames) startFill(i int) uint64 {
	addr := uint64(i) << f.shift
	f.move(addr, stateFree, stateFill)
	return addr
}

// received: the kernel delivered n bytes on the RX ring, at addr, which may be anywhere in a frame. False, and nothing has
// changed, if that cannot be: the kernel did not have the frame, there is none, or it is too small.
func (f *frames) received(addr uint64, n uint32) bool {
	i := addr >> f.shift
	if i >= uint64(len(f.state)) || f.state[i] != stateFill || addr+uint64(n) > (i+1)<<f.shift {
		return false
	}
	f.move(addr, stateFill, stateRX)
	return true
}

// refilled: the loop gives a received frame back; returns the address of its first byte for the fill ring.
func (f *frames) refilled(addr uint64) uint64 {
	f.move(addr, stateRX, stateFill)
	return addr >> f.shift << f.shift
}

// reserved takes a free frame, or group of them, for sending.
func (f *frames) reserved() (addr uint64, ok bool) {
	n := len(f.free) - 1
	if n < 0 {
		return 0, false
	}
	addr = f.free[n]
	f.free = f.free[:n]
	f.move(addr, stateFree, stateTX)
	for i := 1; i < f.span; i++ {
		f.move(addr+uint64(i)<<f.shift, stateFree, stateTX)
	}
	return addr, true
}

// submitted: the first n frames of a group go to the kernel. Not called where a group is one frame.
func (f *frames) submitted(addr uint64, n int) {
	f.sent[(int(addr>>f.shift)-f.rx)/f.span] = uint8(n)
}

// completed: a frame was sent (completion ring).
func (f *frames) completed(addr uint64) {
	if f.span > 1 {
		f.groupCompleted(addr)
		return
	}
	f.move(addr, stateTX, stateFree)
	f.free = append(f.free, addr>>f.shift<<f.shift)
}

// groupCompleted: one of a group's frames was sent.
func (f *frames) groupCompleted(addr uint64) {
	i := int(min(addr>>f.shift, uint64(len(f.state)))) - f.rx
	if i < 0 || i/f.span >= len(f.sent) || f.sent[i/f.span] == 0 {
		f.broken(addr, stateTX, stateFree)
	}
	i /= f.span
	if f.sent[i]--; f.sent[i] == 0 {
		f.discarded(uint64(f.rx+i*f.span) << f.shift)
	}
}

// discarded: the loop does not send what it reserved at addr.
func (f *frames) discarded(addr uint64) {
	f.move(addr, stateTX, stateFree)
	for i := 1; i < f.span; i++ {
		f.move(addr+uint64(i)<<f.shift, stateTX, stateFree)
	}
	f.free = append(f.free, addr)
}
