package stack_test

import (
	"fmt"
	"testing"
	"time"
)

// What was lost while the link was down comes back with the first time-out after it, in slow start: one more would take longer than all
// that is left of the transfer. So it is when the frames were only late, and what is sent again is not needed.
func TestLostWindowIsSentAgainInSlowStart(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, down := range []time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second} {
			t.Run(fmt.Sprintf("%v, late %v", down, late), func(t *testing.T) {
				const at, rest = 8 * time.Millisecond, 20 * time.Millisecond
				s := simulate(t, path{delay: 500 * time.Microsecond, down: at, up: at + down, late: late}, 1)
				s.transfer(1 << 20)
				if took, n := s.now-s.back.at, s.stack.TCPStats().Timeouts-s.back.timeouts; took > rest || n > 0 {
					t.Errorf("from the first frame on the rest took %v and %d time-outs: %+v", took, n, s.conn.Info())
				}
			})
		}
	}
}

// What is sent again after a time-out and is lost once more needs no time-out each.
func TestLossAfterATimeoutIsSeen(t *testing.T) {
	const runs, at = 100, 7 * time.Millisecond
	timeouts := uint64(0)
	for seed := range uint64(runs) {
		s := simulate(t, path{delay: 500 * time.Microsecond, loss: 0.05, down: at, up: at + 100*time.Millisecond}, seed)
		s.transfer(1 << 20)
		timeouts += s.stack.TCPStats().Timeouts
	}
	if timeouts > 140 {
		t.Errorf("%d transfers took %d time-outs", runs, timeouts)
	}
}

// The probes of a closed window, which a reader makes who is slow, shrink no window: what waits leaves in slow start when it opens.
func TestProbesOfAClosedWindowAreNoTimeouts(t *testing.T) {
	const full, read, rest = 4 * time.Millisecond, time.Second, 35 * time.Millisecond
	s := simulate(t, path{delay: 500 * time.Microsecond, full: full, read: read}, 1)
	if took := s.transfer(2<<20) - read; took > rest {
		t.Errorf("from the opening of the window on the rest took %v: %+v", took, s.conn.Info())
	}
}
