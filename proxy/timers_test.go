package proxy

import (
	"math/rand/v2"
	"testing"
	"time"
)

// advance runs the wheel as an idle worker does: it sleeps until each deadline.
func advance(t *testing.T, h *wheel, to time.Duration, f func(*timer)) {
	t.Helper()
	for range 100_000 {
		d := h.deadline()
		if d < 0 || d > to {
			h.expire(to, f)
			return
		}
		h.expire(d, f)
		if n := h.deadline(); n >= 0 && n <= d {
			t.Fatalf("deadline %v is still due after expire(%v)", n, d)
		}
	}
	t.Fatal("the deadlines do not move on")
}

func TestTimersExpireOnTimeAndOnce(t *testing.T) {
	for _, d := range []time.Duration{1, tick, 100 * time.Millisecond, time.Minute, wheelSlots * tick, 2*wheelSlots*tick + 1, 24 * time.Hour} {
		var h wheel
		start := 7 * time.Hour
		h.expire(start, nil)
		var x timer
		h.arm(&x, waitConnect, start+d)
		fired := 0
		advance(t, &h, start+d-1, func(*timer) { fired++ })
		if fired != 0 {
			t.Errorf("%v: expired early", d)
		}
		advance(t, &h, start+d+tick, func(*timer) { fired++ })
		if fired != 1 {
			t.Errorf("%v: expired %d times, want once within a tick", d, fired)
		}
		if h.deadline() >= 0 {
			t.Errorf("%v: the empty wheel has a deadline", d)
		}
	}
}

func TestTimerRearmDisarmRemove(t *testing.T) {
	var h wheel
	var later, sooner, off, gone timer
	h.arm(&later, waitKeepAlive, time.Second)
	h.arm(&later, waitKeepAlive, 3*time.Second)
	h.arm(&sooner, waitKeepAlive, 3*time.Second)
	h.arm(&sooner, waitConnect, time.Second)
	h.arm(&off, waitIdle, time.Second)
	off.disarm()
	h.arm(&gone, waitIdle, time.Second)
	h.remove(&gone)
	if gone.linked || gone.next != nil || gone.prev != nil {
		t.Fatal("a removed timer is still in the wheel")
	}
	var got []*timer
	advance(t, &h, 2*time.Second, func(x *timer) { got = append(got, x) })
	if len(got) != 1 || got[0] != &sooner {
		t.Fatalf("%d timers expired by 2s, want the one moved forward", len(got))
	}
	advance(t, &h, 4*time.Second, func(x *timer) { got = append(got, x) })
	if len(got) != 2 || got[1] != &later {
		t.Fatalf("%d timers expired by 4s, want the one moved back too", len(got))
	}
}

func TestTimerMayTouchOthersWhileExpiring(t *testing.T) {
	var h wheel
	var a, b, c timer
	for _, x := range []*timer{&a, &b, &c} {
		h.arm(x, waitIdle, time.Second)
	}
	fired := 0
	advance(t, &h, 2*time.Second, func(x *timer) {
		fired++
		h.remove(&a)
		h.remove(&b)
		h.remove(&c)
	})
	if fired != 1 {
		t.Fatalf("%d timers expired, want the first, which removes the others", fired)
	}
	rearmed := 0
	h.arm(&a, waitIdle, 3*time.Second)
	advance(t, &h, 4*time.Second, func(x *timer) {
		if rearmed++; rearmed < 10 {
			h.arm(x, waitIdle, 1) // long past: next tick, not this one again
		}
	})
	if advance(t, &h, 5*time.Second, func(*timer) { rearmed++ }); rearmed < 2 {
		t.Fatal("a timer armed while it expired was lost")
	}
}

// TestTimersAgainstModel compares the wheel with a plain scan of all timers.
func TestTimersAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h wheel
	timers := make([]timer, 200)
	due := make(map[*timer]time.Duration)
	now := time.Duration(0)
	for range 20_000 {
		x := &timers[r.IntN(len(timers))]
		switch r.IntN(4) {
		case 0, 1:
			at := now + time.Duration(r.Int64N(int64(200*time.Second)))
			h.arm(x, waitIdle, at)
			due[x] = at
		case 2:
			h.remove(x)
			delete(due, x)
		case 3:
			x.disarm()
			delete(due, x)
		}
		now += time.Duration(r.Int64N(int64(time.Second)))
		h.expire(now, func(x *timer) {
			if at, ok := due[x]; !ok || at > now {
				t.Fatalf("at %v a timer for %v expired", now, at)
			}
			delete(due, x)
		})
		for _, at := range due {
			if at <= now-tick {
				t.Fatalf("at %v a timer for %v has not expired", now, at)
			}
		}
	}
}

func TestArmDoesNotAllocate(t *testing.T) {
	var h wheel
	var x timer
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += 20 * time.Millisecond
		h.arm(&x, waitIdle, now+time.Second)
		h.expire(now, nil)
		h.deadline()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
