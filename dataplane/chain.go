package dataplane

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Packets above one frame (jumbo frames) are chains of descriptors: each but the last says XDP_PKT_CONTD (Linux 6.6,
// af_xdp.rst, multi-buffer support). A chain is never published in parts, by the kernel as little as here.

const (
	// maxMTU is the largest that is taken: jumbo frames are seldom larger, and its chains stay well below what follows.
	maxMTU = 9216
	// maxChain is the longest chain that is sent with any kernel: as many fragments as a socket buffer has at least
	// (CONFIG_MAX_SKB_FRAGS), and its linear part.
	maxChain = 18
)

// No packet needs a longer one, not even of the smallest frames and behind the headroom.
var _ [maxChain - framesOfLargest]struct{}

const framesOfLargest = (maxMTU+linkHeaderBytes-1)/(defaultFrameBytes-frameHeadroomBytes) + 1

// chainsKernel has XDP_USE_SG.
var chainsKernel = kernelRelease{6, 6}

// checkMTU refuses an MTU that is too large for any frame size, on a link whose Frags say what it needs.
func (l LinkInfo) checkMTU(running kernelRelease) error {
	switch {
	case l.MTU > maxMTU:
		return fmt.Errorf("%w: %d, at most %d: ip link set dev %s mtu %d", ErrMTU, l.MTU, maxMTU, l.Name, maxMTU)
	case l.Frags && running.before(chainsKernel):
		return fmt.Errorf("%w: %d needs Linux %v, this is %v: ip link set dev %s mtu %d", ErrMTU, l.MTU, chainsKernel, running, l.Name, maxPlainMTU)
	}
	return nil
}

// CheckMTU refuses, with [ErrMTU], an MTU that the interface has been given since it was opened and that neither the
// program nor new queues can take. A smaller one always fits.
func (i *Interface) CheckMTU(mtu int) error {
	l, running := i.link, runningKernel()
	l.MTU = mtu
	needs := policyOf(l.Driver).needsFrags(mtu, running)
	l.Frags = l.Frags || needs
	if err := l.checkMTU(running); err != nil {
		return err
	}
	if needs && !i.link.Frags {
		return fmt.Errorf("%w: %d needs another XDP program than the one attached, which takes frames in one buffer only: start ringroad again", ErrMTU, mtu)
	}
	return nil
}

// framesFor is how many frames with room for frameBytes each hold n bytes.
func framesFor(n, frameBytes int) int { return (n + frameBytes - 1) / frameBytes }

// lookAtChains returns how many frames can be peeked: whole packets of at most limit frames, or the first one. It drops
// the packets before them that are larger than the MTU, as the kernel drops those that a frame does not hold, and those of
// which the driver did not have a frame.
func (q *Queue) lookAtChains(limit uint32) uint32 {
	if q.peeked == 0 {
		q.chained = false
	}
	for {
		visible := q.rx.peek(uint32(len(q.rx.slots)))
		q.take(visible)
		if q.skipping {
			visible = q.skip(visible)
		}
		whole, bytes, refused := q.peeked, 0, (*uint64)(nil)
		for i := whole; i < visible && refused == nil; i++ {
			d := q.rx.at(i)
			bytes += int(d.Len)
			switch {
			case d.Addr == noFrame:
				refused = &q.stats.RXInvalid
			case bytes > q.maxFrame:
				refused = &q.stats.RXOversized
			case d.Options&unix.XDP_PKT_CONTD != 0:
			case i >= limit && whole > 0:
				return whole
			default:
				q.chained = q.chained || i > whole
				whole, bytes = i+1, 0
			}
		}
		if refused == nil || whole > 0 {
			return whole // what is dropped has to wait behind others
		}
		*refused++
		q.skipping = true
	}
}

// noFrame is the address of a descriptor that names a frame which the kernel did not have.
const noFrame = math.MaxUint64

// take takes the frames of what is visible on the RX ring.
func (q *Queue) take(visible uint32) {
	for ; q.taken < visible; q.taken++ {
		if d := q.rx.at(q.taken); !q.frames.received(d.Addr, d.Len) {
			q.distrust()
			q.rx.set(q.taken, unix.XDPDesc{Addr: noFrame, Options: d.Options})
		}
	}
}

// skip gives the frames at the head of the ring back to the kernel, to the end of the packet that they belong to, which
// may still have to come. It returns how many of the visible ones are left.
//
// Preconditions: nothing is peeked.
func (q *Queue) skip(visible uint32) uint32 {
	n := uint32(0)
	for q.skipping && n < visible {
		d := q.rx.at(n)
		if d.Addr != noFrame {
			q.fill.put(q.frames.refilled(d.Addr))
		}
		q.skipping = d.Options&unix.XDP_PKT_CONTD != 0
		n++
	}
	q.rx.release(n)
	q.taken -= n
	q.refill()
	return visible - n
}

// Chained reports whether some of the frames peeked make up one packet together. Never on an interface whose MTU fits
// one frame ([LinkInfo.Frags]).
func (q *Queue) Chained() bool { return q.chained && q.backlog.empty() }

// More reports whether the packet of the i-th peeked frame goes on in the next one.
//
// Preconditions: i is less than what Peek returned.
func (q *Queue) More(i int) bool { return q.backlog.empty() && q.goesOn(i) }

// goesOn is More on the RX ring.
func (q *Queue) goesOn(i int) bool { return q.rx.at(uint32(i)).Options&unix.XDP_PKT_CONTD != 0 }

// putChain puts the first n bytes of the group at addr on the TX ring.
func (q *Queue) putChain(addr uint64, n int) {
	frameBytes := 1 << q.frames.shift
	frames := framesFor(n, frameBytes)
	q.frames.submitted(addr, frames)
	q.continued += frames - 1
	for ; n > frameBytes; n -= frameBytes {
		q.tx.put(unix.XDPDesc{Addr: addr, Len: uint32(frameBytes), Options: unix.XDP_PKT_CONTD})
		addr += uint64(frameBytes)
	}
	q.tx.put(unix.XDPDesc{Addr: addr, Len: uint32(n)})
}

// shortOfSegments says why a driver cannot have the packets of a link in zero-copy mode; "" if it may.
func (l LinkInfo) shortOfSegments(frameBytes int) string {
	need := framesFor(l.MTU+linkHeaderBytes, frameBytes-frameHeadroomBytes)
	most := int(l.Features.ZeroCopySegments)
	if !l.Frags || most == 0 || most >= need {
		return "" // if that is wrong the bind tells
	}
	return fmt.Sprintf("driver %s takes packets of at most %d frames for it, MTU %d needs %d", l.Driver, most, l.MTU, need)
}
