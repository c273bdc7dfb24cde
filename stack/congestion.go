package stack

import (
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack's CUBIC hardly grows a small window again. Where RFC 9438 4.3 counts
// acknowledgments, for a window that grows like Reno's at least, it counts time in round
// trips of no less than a millisecond, and it forgets fractions of a packet. It also shrinks
// the window twice for one loss: for the time-out, and when loss detection finds the
// rest of the flight lost. At 5 % loss most windows so are two packets, and when both are lost,
// or their acknowledgments, a time-out follows.
//
// A probe of a closed window it takes for a time-out, too, so that what waits for a slow reader
// hardly leaves when the window opens.
//
// So from the first selective acknowledgment or time-out on a connection has the congestion control
// below, which leaves slow start to netstack's.

// The constants of RFC 9438 4.1 and 4.3.
const (
	cubicC     = 0.4
	cubicBeta  = 0.7
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)
)

// congestionControl is tcp.congestionControl. Its methods are called with the lock of the
// endpoint held.
type congestionControl interface {
	HandleLossDetected()
	HandleRTOExpired()
	Update(acked int, rtt time.Duration, now tcpip.MonotonicTime)
	PostRecovery()
}

// cubic is CUBIC (RFC 9438) around netstack's.
type cubic struct {
	congestionControl // netstack's
	cubicState
	send *tcp.TCPSenderState
	srtt *time.Duration

	estimate  float64      // W_est of RFC 9438 4.3, packets
	fraction  float64      // of a packet that the window has grown by
	answered  seqnum.Value // behind what was sent when the window shrank
	shrunk    bool         // valid iff answered
	threshold int          // slow start threshold after a recovery that did not shrink the window; 0: as it is
}

// Update grows the window by what was acknowledged.
func (c *cubic) Update(acked int, rtt time.Duration, now tcpip.MonotonicTime) {
	s := c.send
	if s.SndCwnd < s.Ssthresh {
		c.congestionControl.Update(acked, rtt, now)
		c.estimate = float64(s.SndCwnd)
		return
	}
	if acked <= 0 || s.Outstanding+acked < s.SndCwnd {
		return // not the window was the limit (RFC 9438 4.2)
	}
	window, t := float64(s.SndCwnd), now.Sub(c.state.T)
	alpha := cubicAlpha
	if c.estimate >= c.state.WLastMax {
		alpha = 1
	}
	c.estimate += alpha * float64(acked) / window
	if c.window(t) < c.estimate {
		s.SndCwnd = max(s.SndCwnd, int(c.estimate))
		return
	}
	target := min(max(c.window(t+*c.srtt), window), 1.5*window)
	c.fraction += float64(acked) * (target - window) / window
	s.SndCwnd += int(c.fraction)
	c.fraction -= math.Trunc(c.fraction)
}

// window is W_cubic of RFC 9438 4.2.
func (c *cubic) window(t time.Duration) float64 {
	d := t.Seconds() - c.state.K
	return cubicC*d*d*d + c.state.WMax
}

// HandleLossDetected shrinks the window at the begin of a recovery, once a flight: after a
// time-out it is small already, and grows on.
func (c *cubic) HandleLossDetected() {
	if s := c.send; c.answers() {
		c.threshold = s.Ssthresh
		s.Ssthresh = max(2, min(s.Ssthresh, s.SndCwnd)) // of the recovery
		return
	}
	c.congestionControl.HandleLossDetected()
}

// HandleRTOExpired shrinks the window to one packet, and the threshold once a flight, as
// tcp_enter_loss of the kernel. A probe of a window that is closed tells of no loss:
// then the connection is idle, and begins anew, up to where it was (tcp_cwnd_restart, RFC 5681 4.1).
func (c *cubic) HandleRTOExpired() {
	if s := c.send; s.SndUna == s.SndNxt {
		s.Ssthresh = max(s.Ssthresh, s.SndCwnd*3/4)
		s.SndCwnd = min(s.SndCwnd, tcp.InitialCwnd)
		return
	}
	threshold, already := c.send.Ssthresh, c.answers()
	c.congestionControl.HandleRTOExpired()
	if already {
		c.send.Ssthresh = threshold
	}
}

// answers reports whether the window has shrunk for a loss in this flight, and notes that it does now.
func (c *cubic) answers() (already bool) {
	already = c.shrunk && c.send.SndUna.LessThan(c.answered)
	if !already {
		c.shrunk, c.answered = true, c.send.SndNxt
	}
	return already
}

// PostRecovery begins an epoch of growth.
func (c *cubic) PostRecovery() {
	c.congestionControl.PostRecovery()
	if c.threshold != 0 {
		c.send.Ssthresh, c.threshold = c.threshold, 0
	}
	c.restart()
}

// restart begins an epoch of growth from the window as it is.
func (c *cubic) restart() { c.estimate, c.fraction = float64(c.send.SndCwnd), 0 }
