package stack

import "gvisor.dev/gvisor/pkg/buffer"

// A jumbo frame comes in pieces, one to a frame of the device. They are joined in
// memory of netstack's, which keeps it: still one copy.

// deliverChains delivers the n peeked frames of a device, some of which are in
// several pieces, and returns how many packets they were.
func (l *link) deliverChains(device int, d Device, n int) (packets int) {
	for i := 0; i < n; i++ {
		first := i
		for d.More(i) {
			i++
		}
		packets++
		shown := l.tap != nil || l.hooks != nil
		switch frame := d.Frame(first); {
		case shown && i > first: // a tap looks at it when netstack may have it no more
			l.chain = append(l.chain[:0], frame...)
			for k := first + 1; k <= i; k++ {
				l.chain = append(l.chain, d.Frame(k)...)
			}
			l.deliverShown(device, first, l.chain)
			l.flushFrames()
		case shown:
			l.deliverShown(device, first, frame)
		case i > first:
			l.deliverJoined(join(d, first, i))
		default:
			l.deliver(frame)
		}
	}
	return packets
}

// join is a view of the device's frames first to last.
func join(d Device, first, last int) *buffer.View {
	size := 0
	for k := first; k <= last; k++ {
		size += len(d.Frame(k))
	}
	v := newView(size)
	for k := first; k <= last; k++ {
		_, _ = v.Write(d.Frame(k)) // cannot fail
	}
	return v
}

// deliverJoined delivers a frame that is a view of its own.
func (l *link) deliverJoined(v *buffer.View) {
	l.joined = v
	l.deliver(v.AsSlice())
	if l.joined != nil { // handed over, or dropped
		l.joined.Release()
		l.joined = nil
	}
}

// viewOf is a view of part, a slice of the frame being delivered: the frame's own
// view, which can be had once, or a copy.
func (l *link) viewOf(part []byte) *buffer.View {
	v := l.joined
	if v == nil {
		return viewWith(part)
	}
	l.joined = nil
	// Slicing moves the start of a slice towards the end of what it can hold.
	v.TrimFront(cap(v.AsSlice()) - cap(part))
	v.CapLength(len(part))
	return v
}
