package stack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack never takes back what it did about a loss that was none (gvisor#14102): it
// notes that a recovery was spurious, and leaves the congestion window where it is.
// Each frame that three others overtake so costs three tenths of the window, and 1 MB
// over a path of 20 ms where 3 % of the frames are overtaken takes five times as long.
// It does not learn either that the path reorders, because a frame that was overtaken
// has been sent again, or is part of a larger segment, when it is acknowledged.
//
// So the link looks at what is sent again, and at the acknowledgments that follow. A
// recovery was spurious when
//   - the first segment sent again is acknowledged by a timestamp from before that
//     (Eifel, RFC 3522), or
//   - the peer reports as many segments twice as were sent again (RFC 2883, RFC 3708).
//
// Then the window is what it was (RFC 4015), and RACK is told of the reordering.

// resending is what a flow knows of the segments that it sent again.
type resending struct {
	sentUpTo uint32 // behind the last byte sent; valid iff any
	any      bool

	// One episode: what was sent again of the data that were sent when it began. It is over,
	// for good or ill, when a recovery was undone or later data are sent again.
	count  int           // segments sent again; 0: no episode
	twice  int           // of which the peer reported that it has them twice
	first  uint32        // sequence number of the first
	stamp  uint32        // its timestamp; valid iff judge
	judge  bool          // no acknowledgment of the first has come
	upTo   uint32        // sentUpTo when the episode began
	until  time.Duration // loop time until which acknowledgments are looked at
	began  time.Duration // by the clock of netstack
	undone bool
}

// suspicion is how long after something was sent again acknowledgments are looked at: 2
// round trips of a very slow path.
const suspicion = 2 * time.Second

// noteSent is told of the data that f sends with t. Called under mu.
func (l *link) noteSent(f *flow, t header.TCP, bytes, mss int) {
	r := &f.resending
	first := t.SequenceNumber()
	if end := first + uint32(bytes); !r.any || int32(first-r.sentUpTo) >= 0 {
		r.any, r.sentUpTo = true, end
		return
	}
	if r.count == 0 || r.undone || int32(first-r.upTo) >= 0 {
		*r = resending{any: true, sentUpTo: r.sentUpTo, upTo: r.sentUpTo, first: first, began: l.stack.clock.recent()}
		r.stamp, _, r.judge = timestamps(t)
	}
	r.count++
	if mss > 0 {
		r.count += (bytes - 1) / mss
	}
	r.until = l.stack.Now() + suspicion
	l.suspect.Store(int64(r.until))
}

// suspects reports whether what s acknowledges has to be looked at. Most of the time there is no flow at all of which
// anything has.
func (l *link) suspects(s *segment) bool {
	return int64(l.stack.Now()) < l.suspect.Load() && l.resent(s)
}

// resent reports whether what the connection of s sent again may yet turn out not to have been lost.
func (l *link) resent(s *segment) bool {
	key := s.flowKey()
	l.mu.Lock()
	defer l.mu.Unlock()
	slot, ok := l.flows.index[key]
	if !ok {
		return false
	}
	r := &l.flows.slots[slot].resending
	return r.count > 0 && !r.undone && l.stack.Now() < r.until
}

// judgeRecovery looks at an acknowledgment for ep, before netstack does.
func (l *link) judgeRecovery(s *segment, ep *tcp.Endpoint) {
	key := s.flowKey()
	l.mu.Lock()
	spurious, began := false, time.Duration(0)
	if slot, ok := l.flows.index[key]; ok {
		r := &l.flows.slots[slot].resending
		spurious, began = r.spurious(s), r.began
	}
	l.mu.Unlock()
	if spurious && l.stack.undo(ep, began) {
		l.stats.RecoveriesUndone++
	}
}

// spurious says, once an episode, that by s nothing of it should have been sent again.
func (r *resending) spurious(s *segment) bool {
	if r.count == 0 || r.undone {
		return false
	}
	ack := s.tcp.AckNumber()
	if reportsTwice(s.tcp) {
		r.twice++
	}
	early := false
	if r.judge && int32(ack-r.first) > 0 {
		_, echo, ok := timestamps(s.tcp)
		early, r.judge = ok && int32(echo-r.stamp) < 0, false
	}
	r.undone = early || r.twice >= r.count
	return r.undone
}

// reportsTwice reports whether the first SACK block of t tells of data that came twice
// (RFC 2883 4).
func reportsTwice(t header.TCP) bool {
	blocks := sackBlocks(t)
	if len(blocks) < sackBlockBytes {
		return false
	}
	be := binary.BigEndian
	start, end := be.Uint32(blocks), be.Uint32(blocks[4:])
	if int32(start-t.AckNumber()) < 0 {
		return true
	}
	return len(blocks) >= 2*sackBlockBytes && int32(start-be.Uint32(blocks[8:])) >= 0 && int32(be.Uint32(blocks[12:])-end) >= 0
}

// undo gives ep the congestion window back that it had before the recovery that began
// at the time. It reports false when there was none.
func (s *Stack) undo(ep *tcp.Endpoint, began time.Duration) bool {
	ep.LockUser()
	defer ep.UnlockUser()
	snd, ok := senderOf(ep)
	if !ok {
		return false
	}
	c, ok := snd.cubic()
	// The window shrinks a moment before the first segment is sent again. What shrinks it
	// for a time-out is not undone.
	if !ok || *c.events == 0 || c.state.T.Sub(s.clock.monotonic(began)) < -time.Millisecond {
		return false
	}
	t := snd.state
	t.SndCwnd = max(t.SndCwnd, int(c.state.WLastMax)) // cubic puts the window there when it shrinks it
	if *c.events--; *c.events == 0 {
		t.Ssthresh = tcp.InitialSsthresh // it was the first: slow start goes on
	} else {
		t.Ssthresh = max(t.Ssthresh, t.SndCwnd)
	}
	// A new epoch of cubic from here on (RFC 9438 4.9.1).
	w := float64(t.SndCwnd)
	c.state.WMax, c.state.WLastMax, c.state.K, c.state.T = w, w, 0, s.clock.NowMonotonic()
	c.shrunk, c.threshold = false, 0
	c.restart()
	t.FastRecovery.Active, t.FastRecovery.MaxCwnd, t.DupAckCount = false, 0, 0
	t.FastRecovery.Last = seqnum.Value(uint32(t.SndUna) - 1)
	snd.rack.Reord = true
	// netstack ends a recovery only by an acknowledgment of new data. Until one came nothing was
	// taken off what is in flight, no new data left and no probe: a time-out followed.
	if k, ok := connectionOf(ep); ok {
		k.keepOpen()
	}
	return true
}
