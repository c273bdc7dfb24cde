package proxy

import (
	"math/bits"
	"time"
)

// The wheel: slots of one tick each. A timer further away than the horizon waits
// in the last slot before it and moves on from there, which costs one touch
// every 65 s. A tick of 16 ms is below what any configured timeout can notice,
// and lets one wake-up of an idle worker serve all timers of that tick.
const (
	tick       = 16 * time.Millisecond
	wheelSlots = 4096
)

// timer is one wait of a connection, embedded in it. Arming one that waits
// already only stores the new time; the wheel looks at it when its old slot
// comes up. So re-arming for every read costs two stores.
type timer struct {
	at   time.Duration // loop time at which the wait is over; 0: not armed
	kind wait          // what is waited for, valid iff armed

	// Exactly one owner is set, once.
	session *session
	backend *backend

	linked     bool
	slot       int64 // tick in which the wheel looks; valid iff linked
	next, prev *timer
}

// wait names what a connection waits for.
type wait uint8

const (
	waitClientHeader wait = iota
	waitKeepAlive
	waitClientBody
	waitClientSend
	waitLinger
	waitConnect
	waitBackendRead
	waitBackendSend
	waitTunnel
	waitIdle
)

// wheel holds all timers of a worker.
type wheel struct {
	now   int64 // ticks up to and including this one have been looked at
	slots [wheelSlots]*timer
	used  [wheelSlots / 64]uint64 // bit a slot: it has timers

	n, most int // timers that wait, and waited at a time
}

// arm lets t expire at loop time at, as kind.
func (h *wheel) arm(t *timer, kind wait, at time.Duration) {
	t.kind, t.at = kind, at
	slot := slotOf(at)
	if t.linked {
		if t.slot <= slot {
			return
		}
		h.unlink(t)
	}
	h.link(t, slot)
}

// disarm ends the wait. The timer may stay in the wheel until its slot comes up.
func (t *timer) disarm() { t.at = 0 }

// armed tells whether t waits for kind.
func (t *timer) armed(kind wait) bool { return t.at != 0 && t.kind == kind }

// remove disarms t and takes it out of the wheel, before its owner is let go.
func (h *wheel) remove(t *timer) {
	t.at = 0
	if t.linked {
		h.unlink(t)
	}
}

// slotOf is the first tick at whose begin the time at has come, so that nothing
// expires early.
func slotOf(at time.Duration) int64 { return int64((at + tick - 1) / tick) }

func (h *wheel) link(t *timer, slot int64) {
	if slot <= h.now {
		slot = h.now + 1
	} else if slot >= h.now+wheelSlots {
		slot = h.now + wheelSlots - 1
	}
	i := slot % wheelSlots
	t.linked, t.slot, t.prev, t.next = true, slot, nil, h.slots[i]
	h.n++
	h.most = max(h.most, h.n)
	if t.next != nil {
		t.next.prev = t
	}
	h.slots[i] = t
	h.used[i/64] |= 1 << (i % 64)
}

func (h *wheel) unlink(t *timer) {
	i := t.slot % wheelSlots
	if t.prev != nil {
		t.prev.next = t.next
	} else if h.slots[i] = t.next; t.next == nil {
		h.used[i/64] &^= 1 << (i % 64)
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.linked, t.next, t.prev = false, nil, nil
	h.n--
}

// expire calls f for every timer whose time has come at loop time now. f may arm,
// disarm and remove any timer; a timer is disarmed when f gets it.
func (h *wheel) expire(now time.Duration, f func(*timer)) {
	to := int64(now / tick)
	if to-h.now > wheelSlots {
		h.now = to - wheelSlots // each slot needs to be looked at once only
	}
	for h.now < to {
		h.now++
		i := h.now % wheelSlots
		for h.slots[i] != nil {
			t := h.slots[i]
			h.unlink(t)
			switch {
			case t.at == 0:
			case t.at > now:
				h.link(t, slotOf(t.at))
			default:
				t.at = 0
				f(t)
			}
		}
	}
}

// deadline is the loop time at which expire must be called next; -1 when the
// wheel is empty. It may be earlier than the first timer, never later.
func (h *wheel) deadline() time.Duration {
	first := h.now + 1
	i := first % wheelSlots
	// The word of the first slot is looked at twice: its high bits now, its low
	// bits, which are a whole turn away, in the end.
	for n := int64(0); n <= wheelSlots/64; n++ {
		word := i/64 + n
		v := h.used[word%(wheelSlots/64)]
		if n == 0 {
			v &= ^uint64(0) << (i % 64)
		}
		if v == 0 {
			continue
		}
		ahead := word*64 + int64(bits.TrailingZeros64(v)) - i
		if ahead >= wheelSlots {
			break
		}
		return time.Duration(first+ahead) * tick
	}
	return -1
}
