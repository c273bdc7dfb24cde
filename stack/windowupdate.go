package stack

import (
	"encoding/binary"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A pure ACK that opens a closed window is not sent reliably: when it is lost, the peer learns of the window by its next probe
// (RFC 9293 3.8.6.1). After some seconds of a slow reader these are seconds apart, 13 and more with Linux, and a download of a
// slow client stands as long as its client has nothing in its buffers. So the update is repeated until data come: RFC 9293 lets
// a receiver say its window at any time, and forbids only small ones (3.8.6.2.2). A peer that has nothing more to send gets
// updateRepeats ACKs for nothing.

const (
	// updateRepeats is how often an update is repeated, the first time after updateInterval, and each time after twice as long:
	// within 6.2 s.
	updateRepeats  = 5
	updateInterval = 200 * time.Millisecond
)

// windowUpdate is an update that may have been lost.
type windowUpdate struct {
	key    flowKey
	number uint32 // acknowledgment number that it came with
	due    time.Duration
	times  int // that it was repeated
}

// windowUpdates are those of a link, in no order.
type windowUpdates struct {
	waiting []windowUpdate
	due     time.Duration // of the first; valid iff there is one
}

// noteWindow is told of the header t of a segment of f that leaves, pure if it is nothing but an ACK. Called under mu.
func (l *link) noteWindow(f *flow, t header.TCP, pure bool) {
	if t.WindowSize() == 0 {
		f.closed = true
		return
	}
	if f.closed && pure { // data are sent again by themselves
		l.awaitData(windowUpdate{key: f.key, number: t.AckNumber(), due: l.stack.Now() + updateInterval})
	}
	f.closed = false
}

func (l *link) awaitData(u windowUpdate) {
	if q := &l.updates; len(q.waiting) == 0 || u.due < q.due {
		q.due = u.due
	}
	l.updates.waiting = append(l.updates.waiting, u)
}

// repeatUpdates sends the updates that are due, and returns when the next one is; ok is false when there is none. Called under mu.
func (l *link) repeatUpdates(now time.Duration) (next time.Duration, ok bool) {
	q := &l.updates
	if len(q.waiting) > 0 && q.due <= now {
		var due []windowUpdate
		all := q.waiting
		q.waiting = all[:0]
		for _, u := range all {
			if u.due <= now {
				due = append(due, u)
			} else {
				l.awaitData(u)
			}
		}
		for _, u := range due {
			if l.repeatUpdate(&u) && u.times+1 < updateRepeats {
				u.times++
				u.due = now + updateInterval<<u.times
				l.awaitData(u)
			}
		}
	}
	return q.due, len(q.waiting) > 0
}

// repeatUpdate has netstack say its window again, and reports false when data have come since, or the connection has gone. Called
// under mu, which it gives up meanwhile.
func (l *link) repeatUpdate(u *windowUpdate) bool {
	local, remote := netip.AddrFrom16(u.key.local).Unmap(), netip.AddrFrom16(u.key.remote).Unmap()
	var ports [4]byte
	binary.BigEndian.PutUint32(ports[:], u.key.ports)
	id := netstack.TransportEndpointID{
		LocalAddress: addressOf(local), LocalPort: binary.BigEndian.Uint16(ports[:]),
		RemoteAddress: addressOf(remote), RemotePort: binary.BigEndian.Uint16(ports[2:]),
	}
	number := header.IPv4ProtocolNumber
	if local.Is6() {
		number = header.IPv6ProtocolNumber
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	ep, ok := l.stack.net.FindTransportEndpoint(number, tcp.ProtocolNumber, id, l.id).(*tcp.Endpoint)
	if !ok || ep.ID != id {
		return false
	}
	ep.LockUser()
	defer ep.UnlockUser()
	c, ok := connectionOf(ep)
	if !ok || uint32(c.receive.state.RcvNxt) != u.number || !peerSends(tcp.EndpointState(ep.State())) {
		return false
	}
	sendACK(c.snd)
	l.stats.UpdatesRepeated++
	return true
}
