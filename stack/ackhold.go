package stack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack acknowledges every batch at once, which costs a request two extra
// frames a side. A pure ACK is therefore held until data carries it, a second
// full segment asks for it, or its delay ends (RFC 9293 3.8.6.3, RFC 1122
// 4.2.3.2: within 0.5 s and at least every second full-sized segment). So is the ACK
// that ends the handshake of a connection that we open: the request, which is written
// when the handshake is done, carries it (the kernel does so when it knows of the
// request: tcp_rcv_synsent_state_process).

// heldBytes is the most an ACK can measure that may be held: an IPv6 header
// and a TCP header with timestamps.
const heldBytes = header.IPv6MinimumSize + header.TCPMinimumSize + header.TCPOptionTSLength + 2

// atOnce is how much new data the peer of f is told of at once: two full segments behind
// headers of so many bytes, or two as large as the last that was known to be full (the
// kernel's rcv_mss): a sender whose window is two segments waits for this ACK. Not more
// than the usual MTU lets them be: behind a link with a larger one may be a path that has
// not.
func (l *link) atOnce(f *flow, headers int) uint32 {
	full := uint32(min(l.Link.MTU, 1500) - headers)
	if f.full != 0 {
		full = min(full, f.full)
	}
	return 2 * full
}

// heldACK is a flow's pure ACK that has not been sent. The bytes are kept, not
// a TX frame, so that thousands of flows cannot exhaust the frames; one that is owed
// has no bytes: netstack makes it when its time comes.
type heldACK struct {
	active     bool
	generation uint32        // tells queue entries of this hold from older ones
	debtor     *tcp.Endpoint // who owes it; nil: it is made
	length     int32
	number     uint32        // acknowledgment number
	since      time.Duration // loop time when the hold began that data has not followed yet; 0: none
	hop        [16]byte
	packet     [heldBytes]byte
}

// heldEntry is a place in the queue of holds; valid iff the flow still holds
// under the same generation.
type heldEntry struct {
	slot       int32
	generation uint32
	due        time.Duration
}

// heldQueue orders holds by when they began. Their delays differ but little: one
// that is due behind another that is not waits for it.
type heldQueue struct {
	entries []heldEntry
	head    int
}

func (q *heldQueue) push(e heldEntry) {
	if q.head > 0 && len(q.entries) == cap(q.entries) {
		q.entries = q.entries[:copy(q.entries, q.entries[q.head:])]
		q.head = 0
	}
	q.entries = append(q.entries, e)
}

// mayHold says whether a segment of f with the TCP header t and no data may wait: an ACK
// of less new data than leaves at once, that carries nothing else. Duplicate ACKs, those
// that fill a gap, window updates, closed windows, SACK blocks and what came twice must
// leave at once (RFC 5681 4.2, RFC 2018 4).
func (f *flow) mayHold(t header.TCP, atOnce uint32) bool {
	if t[header.TCPFlagsOffset] != byte(header.TCPFlagAck) || !f.known || t.WindowSize() == 0 {
		return false
	}
	if f.gap || hasSACK(t) || f.twice != (header.SACKBlock{}) {
		return false
	}
	if f.held.active && t.AckNumber() == f.held.number {
		return false // repeats the held one: the peer has to see it
	}
	advance := t.AckNumber() - f.lastACK
	return advance != 0 && advance < atOnce
}

// hasSACK reports whether a header of netstack's has SACK blocks: it puts timestamps before
// them, and nothing else.
func hasSACK(t header.TCP) bool {
	const n = header.TCPMinimumSize + timestampBytes
	return len(t) > n || len(t) == n && t[header.TCPMinimumSize+2] == header.TCPOptionSACK
}

// hold keeps the ACK p for the flow in slot, replacing an older one.
func (l *link) hold(slot int32, p *netstack.PacketBuffer, hop *[16]byte) {
	h := &l.flows.slots[slot].held
	h.length = int32(gather(h.packet[:], p))
	h.hop = *hop
	h.debtor = nil
	l.begin(slot, header.TCP(p.TransportHeader().Slice()).AckNumber())
}

// begin lets the flow in slot hold the ACK of number.
func (l *link) begin(slot int32, number uint32) {
	h := &l.flows.slots[slot].held
	h.number = number
	if h.active {
		return // keeps the older due time
	}
	h.active = true
	h.generation++
	h.since = l.stack.Now()
	l.held.push(heldEntry{slot, h.generation, h.since + l.ackDelay()})
	l.stats.AcksHeld++
	l.stats.AcksHolding++
	l.stats.AcksHoldingMax = max(l.stats.AcksHoldingMax, l.stats.AcksHolding)
}

// owe is hold for an ACK that was not made yet, by the rules of mayHold: a connection
// that just took data owes it, of which full bytes came in one segment that had to be
// full; 0: none is known to. It reports false when the ACK has to leave at once. The
// caller holds the endpoint's lock.
func (l *link) owe(c *connection, full int) bool {
	ep, number := c.endpoint, uint32(c.receive.state.RcvNxt)
	last := uint32(c.send.MaxSentAck)
	if l.stack.tcp.AckDelay <= 0 || len(*c.receive.pending) > 0 {
		return false
	}
	key := flowKeyOf(&ep.ID)
	l.mu.Lock()
	slot := l.flows.get(&key, hashOf(ep), l.stack.Now())
	f := &l.flows.slots[slot]
	if made := f.held.active && f.held.debtor == nil; !made {
		f.known, f.lastACK = true, last
	}
	if full > 0 {
		f.full = uint32(full)
	}
	atOnce := l.atOnce(f, c.ipHeaderBytes()+c.headerBytes())
	may := !f.gap && number-f.lastACK < atOnce &&
		c.receive.state.RcvNxt.Size(c.receive.state.RcvAcc) >= seqnum.Size(atOnce) // else the peer may wait for a larger window
	if may {
		f.held.debtor = ep
		l.begin(slot, number)
	}
	l.mu.Unlock()
	return may
}

// pay has netstack make the ACK that ep owes. Called under mu, which it gives up meanwhile.
func (l *link) pay(ep *tcp.Endpoint) {
	l.paying = true
	l.mu.Unlock()
	ep.LockUser()
	if c, ok := connectionOf(ep); ok && c.receive.state.RcvNxt != c.send.MaxSentAck && sendsACKs(tcp.EndpointState(ep.State())) {
		sendACK(c.snd)
	}
	ep.UnlockUser()
	l.mu.Lock()
	l.paying = false
}

// sendsACKs reports whether a connection in state acknowledges data.
func sendsACKs(state tcp.EndpointState) bool {
	switch state {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
		return true
	}
	return false
}

// patientDelay is how long an ACK is held at most where answers take longer than
// TCPOptions.AckDelay: the kernel's least delay (TCP_DELACK_MIN).
const patientDelay = 40 * time.Millisecond

// ackDelay is how long to hold an ACK. Where answers take some longer than the option
// says, as under load, ACKs would leave for nothing just before them, a frame more for
// each request; so it is twice what they take of late. Where they take longer than
// patientDelay allows, waiting for them is of no use.
func (l *link) ackDelay() time.Duration {
	if d := 2 * l.answers; d > l.stack.tcp.AckDelay && d <= patientDelay {
		return d
	}
	return l.stack.tcp.AckDelay
}

// noteAnswer is told that f sends data.
func (l *link) noteAnswer(f *flow) {
	if f.held.since == 0 {
		return
	}
	took := min(l.stack.Now()-f.held.since, 2*patientDelay)
	f.held.since = 0
	l.answers += (took - l.answers) / 16
}

// cancel forgets the held ACK of f: the segment now leaving carries it.
func (l *link) cancel(f *flow) {
	if f.held.active {
		f.held.active, f.held.debtor = false, nil
		l.stats.AcksSaved++
		l.stats.AcksHolding--
	}
}

// expire sends the held ACKs that are due and returns when the next one is; ok
// is false when none is held. Called under mu.
func (l *link) expire(now time.Duration) (next time.Duration, ok bool) {
	q := &l.held
	for q.head < len(q.entries) {
		e := q.entries[q.head]
		f := &l.flows.slots[e.slot]
		if !f.held.active || f.held.generation != e.generation {
			q.head++
			continue
		}
		if e.due > now {
			return e.due, true
		}
		ep := f.held.debtor
		if ep == nil && !l.sendHeld(f) {
			return now + time.Millisecond, true // no TX frame now
		}
		q.head++
		f.held.active, f.held.debtor = false, nil
		l.stats.AcksExpired++
		l.stats.AcksHolding--
		if ep == nil {
			f.lastACK = f.held.number
		} else {
			l.pay(ep)
		}
	}
	q.entries, q.head = q.entries[:0], 0
	return 0, false
}

// sendHeld writes the flow's held ACK into a TX frame.
func (l *link) sendHeld(f *flow) bool {
	mac, ok := l.resolve(&f.held.hop)
	if !ok {
		return true // an ACK that cannot be delivered need not wait
	}
	frame, b, ok := l.reserve()
	if !ok {
		return false
	}
	packet := f.held.packet[:f.held.length]
	l.putEthernet(b, &mac, packet[0]>>4 == header.IPv6Version)
	n := copy(b[etherBytes:], packet)
	l.submitTCP(frame, b, etherBytes+n)
	return true
}

// flowOf fills key for the outgoing TCP packet whose network and transport
// headers are given.
func flowOf(key *flowKey, ip, tcp []byte) {
	if ip[0]>>4 == header.IPv6Version {
		copy(key.local[:], ip[8:24])
		copy(key.remote[:], ip[24:40])
	} else {
		key.local = mapped([4]byte(ip[12:16]))
		key.remote = mapped([4]byte(ip[16:20]))
	}
	key.ports = binary.BigEndian.Uint32(tcp)
}

// mapped is the IPv4-mapped IPv6 address (RFC 4291 2.5.5.2).
func mapped(a [4]byte) (m [16]byte) {
	m[10], m[11] = 0xff, 0xff
	copy(m[12:], a[:])
	return m
}
