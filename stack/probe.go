package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// worstDelayedACK is the longest that a peer is expected to delay an ACK, WCDelAckT of RFC
// 8985 7.2.
const worstDelayedACK = 200 * time.Millisecond

// delayProbe is called when the FIN of ep may have been sent. netstack counts it as a
// packet of its own, and so takes an answer with its FIN, one frame mostly, for two, whose
// ACK no peer delays: the tail loss probe is due after two round trips (schedulePTO in
// rack.go), which is before a client with something else to do has closed its end, and
// the answer is sent again. So while all that is on its way is less than a full segment,
// the probe waits as for one packet (RFC 8985 7.2), but not beyond the retransmission time-out.
func (s *Stack) delayProbe(ep *tcp.Endpoint) {
	ep.LockUser()
	defer ep.UnlockUser()
	if snd, ok := senderOf(ep); ok {
		s.delayProbeOf(&snd)
	}
}

// delayProbeOf is delayProbe for an endpoint whose lock is held.
func (s *Stack) delayProbeOf(snd *sender) {
	if !snd.probe.enabled() || snd.unsent() {
		return
	}
	t := snd.state
	if t.Outstanding < 2 || t.SndUna.Size(t.SndNxt) > seqnum.Size(t.MaxPayloadSize) {
		return
	}
	snd.probe.enable(s.clock.NowMonotonic(), min(2*snd.rtt.SRTT+worstDelayedACK, t.RTO))
}

// ownTimers has the tail loss probe of ep be its last packet (RFC 8985 7.3). netstack
// sends the first one of its last segment, which may have many: the acknowledgment of that
// tells nothing of what is lost behind it, and there is no second probe. Its last segment may
// also be a FIN, which left in one frame with the last data: they leave in one frame again,
// as the kernel's. A FIN alone, selectively acknowledged sooner than after the shortest round
// trip, tells nothing either (RFC 8985 6.2, step 2), and a time-out followed.
//
// And it has the first time-out find the congestion control of congestion.go: netstack's shrinks the
// threshold of slow start with each, and with each probe of a closed window.
func ownTimers(ep *tcp.Endpoint) {
	ep.LockUser()
	defer ep.UnlockUser()
	snd, ok := senderOf(ep)
	if !ok {
		return
	}
	if r := reusableOf(ep); r != nil {
		if r.probes == snd.probe {
			return // since a connection before
		}
		r.probes = snd.probe
	}
	send := snd.probe.callback
	snd.probe.callback = func() {
		prepareProbe(ep)
		send()
	}
	if t, ok := snd.probe.timer.(*timer); ok {
		t.refire(snd.probe.callback)
	}
	expire := snd.resend.callback
	snd.resend.callback = func() {
		prepareTimeout(ep)
		expire()
	}
	if t, ok := snd.resend.timer.(*timer); ok {
		t.refire(snd.resend.callback)
	}
}

// prepareTimeout gives ep the congestion control of congestion.go if a time-out is due.
func prepareTimeout(ep *tcp.Endpoint) {
	ep.LockUser()
	defer ep.UnlockUser()
	if snd, ok := senderOf(ep); ok && snd.resend.due() {
		snd.cubic()
	}
}

// prepareProbe makes the last packet that ep sent a segment of its own, and sends it if the
// probe is the FIN behind it.
func prepareProbe(ep *tcp.Endpoint) {
	ep.LockUser()
	defer ep.UnlockUser()
	c, ok := connectionOf(ep)
	if snd, also := senderOf(ep); !ok || !also || !snd.probe.due() {
		return // netstack has only marked the timer as disabled, or as due later
	}
	var before, last *netSegment
	for g := c.firstSegment(); g != nil && g.xmitCount > 0; g = g.next() {
		before, last = last, g
	}
	fin := last != nil && last.pkt.Data().Size() == 0
	if fin {
		last = before
	}
	if last == nil {
		return
	}
	if last.pkt.Data().Size() > c.send.MaxPayloadSize {
		c.split(last, (c.packets(last)-1)*c.send.MaxPayloadSize)
		last = last.next()
	}
	if fin && !last.acked && !*c.internals().probeOut {
		maybeSend(c.snd, last, c.send.MaxPayloadSize, c.send.SndUna.Add(c.send.SndWnd))
	}
}
