package stack

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// shrinking is a congestion control that shrinks the window as netstack's does.
type shrinking struct{ s *tcp.TCPSenderState }

func (c shrinking) shrink()                                                  { c.s.Ssthresh = max(c.s.SndCwnd*7/10, 2) }
func (c shrinking) HandleLossDetected()                                      { c.shrink() }
func (c shrinking) HandleRTOExpired()                                        { c.shrink(); c.s.SndCwnd = 1 }
func (c shrinking) PostRecovery()                                            {}
func (c shrinking) Update(acked int, _ time.Duration, _ tcpip.MonotonicTime) { c.s.SndCwnd += acked }

// newCubic is a congestion control with a window, in congestion avoidance, an hour before the
// window was as large as most.
func newCubic(window int, most float64) *cubic {
	s := &tcp.TCPSenderState{SndCwnd: window, Ssthresh: window, Outstanding: 1000, SndUna: 1000, SndNxt: 2000}
	srtt, state := time.Millisecond, &tcp.TCPCubicState{WMax: most, WLastMax: most, K: 3600}
	c := &cubic{congestionControl: shrinking{s}, cubicState: cubicState{state, new(int)}, send: s, srtt: &srtt}
	c.restart()
	return c
}

// A window that CUBIC does not let grow grows with acknowledgments as Reno's (RFC 9438 4.3):
// by 9/17 of a packet a round trip, and from where it was before by a packet.
func TestSmallWindowGrowsWithAcknowledgments(t *testing.T) {
	c := newCubic(4, 6)
	trips := 0
	for ; c.send.SndCwnd < 6; trips++ {
		for range c.send.SndCwnd {
			c.Update(1, 0, monotonic(0))
		}
	}
	if trips != 4 {
		t.Errorf("from 4 packets to 6 in %d round trips", trips)
	}
	for range c.send.SndCwnd {
		c.Update(1, 0, monotonic(0))
	}
	if c.send.SndCwnd != 7 {
		t.Errorf("a round trip later the window is %d", c.send.SndCwnd)
	}
}

// Above, it grows toward the target of CUBIC a fraction of a packet at a time (RFC 9438 4.4).
func TestLargeWindowGrowsTowardItsTarget(t *testing.T) {
	c := newCubic(100, 105)
	c.estimate, c.state.K = 0, 0
	for range c.send.SndCwnd {
		c.Update(1, 0, monotonic(0))
	}
	if w := c.send.SndCwnd; w < 102 || w > 105 {
		t.Errorf("a round trip later the window is %d", w)
	}
}

// A window that is not used does not grow.
func TestUnusedWindowDoesNotGrow(t *testing.T) {
	c := newCubic(4, 6)
	c.send.Outstanding = 1
	for range 100 {
		c.Update(1, 0, monotonic(0))
	}
	if c.send.SndCwnd != 4 {
		t.Errorf("the window is %d", c.send.SndCwnd)
	}
}

// The losses of one flight shrink the window once, whoever finds them.
func TestWindowShrinksOnceAFlight(t *testing.T) {
	c := newCubic(20, 20)
	s := c.send
	want := func(what string, window, threshold int) {
		t.Helper()
		if s.SndCwnd != window || s.Ssthresh != threshold {
			t.Errorf("%s: window %d, threshold %d, want %d and %d", what, s.SndCwnd, s.Ssthresh, window, threshold)
		}
	}
	c.HandleRTOExpired()
	want("time-out", 1, 14)
	s.SndUna += 100
	c.Update(1, 0, monotonic(0))
	c.HandleLossDetected()
	want("more of the flight found lost", 2, 2)
	s.SndCwnd = s.Ssthresh // as at the end of a recovery
	c.PostRecovery()
	want("recovered", 2, 14)
	c.HandleRTOExpired()
	want("another time-out", 1, 14)
	s.SndUna = 2000
	s.SndCwnd, s.SndNxt = 10, 3000
	c.HandleLossDetected()
	want("a loss of the next flight", 10, 7)
	if c.answered != seqnum.Value(3000) {
		t.Errorf("answered up to %d", c.answered)
	}
	s.SndUna = s.SndNxt
	c.HandleRTOExpired()
	want("the window of the peer is probed", 10, 7)
	s.SndCwnd = 100
	c.HandleRTOExpired()
	want("it is probed with a larger one", 10, 75)
}
