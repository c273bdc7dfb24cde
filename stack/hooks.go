package stack

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Flow names a TCP connection by both its ends.
type Flow flowKey

// Segment is a TCP segment as hooks are shown it.
type Segment struct {
	Flow           Flow
	Link           int // place in the configuration
	Device, Index  int // that it was received on, and place in the batch; valid iff From is negative
	From           int // worker that handed it over; negative: none, or it was sent
	Sequence       uint32
	Acknowledgment uint32
	Flags          uint8 // of the TCP header
	Bytes          int   // of payload
}

// Hooks are told what the stack alone sees of a connection. A stack without hooks pays
// a comparison a frame. What they are given is valid during the call.
type Hooks struct {
	// Received is shown a plain segment that came in for this worker, before TCP has it.
	// The loop calls it.
	Received func(*Segment)
	// Sent is shown a segment as it is put on the TX ring. It is called under the lock of
	// the link, by netstack's processor too. A FIN that is merged into a segment shown
	// before is shown by itself, without bytes.
	Sent func(*Segment)
}

// SetHooks makes h be told from now on; nil: nobody. While there are hooks the stack
// takes the times that Conn.Waking tells. When it returns the previous hooks are in use
// no more. All fields of h are set.
func (s *Stack) SetHooks(h *Hooks) {
	for _, l := range s.links {
		l.mu.Lock()
		l.hooks = h
		l.mu.Unlock()
	}
	s.poller.mu.Lock()
	s.poller.timed = h != nil
	s.poller.mu.Unlock()
}

// Elapsed is the loop time at this moment, where Now is that of the turn. It reads the
// system's clock.
func (s *Stack) Elapsed() time.Duration { return s.clock.elapsed() }

// deliverShown is deliver with a tap or hooks on: the frame is the index-th of a batch.
func (l *link) deliverShown(device, index int, frame []byte) {
	l.device, l.index = device, index
	if l.tap != nil {
		l.deliverTapped(device, frame)
		return
	}
	l.deliver(frame)
}

// showReceived tells the hooks of s.
func (l *link) showReceived(s *segment) {
	l.in = Segment{
		Flow: Flow(s.flowKey()), Link: int(l.id) - 1, Device: l.device, Index: l.index, From: l.origin,
		Sequence: s.tcp.SequenceNumber(), Acknowledgment: s.tcp.AckNumber(), Flags: uint8(s.tcp.Flags()),
		Bytes: len(s.payload),
	}
	l.hooks.Received(&l.in)
}

// showTCP tells the hooks of an IP packet that was put on the TX ring.
func (l *link) showTCP(packet []byte) {
	ip, total, protocol := header.IPv6MinimumSize, len(packet), packet[6]
	if packet[0]>>4 != header.IPv6Version {
		ip, total, protocol = int(packet[0]&0xf)*4, int(binary.BigEndian.Uint16(packet[2:])), packet[9]
	}
	if protocol != byte(header.TCPProtocolNumber) || total > len(packet) || total < ip+header.TCPMinimumSize {
		return
	}
	t := header.TCP(packet[ip:total])
	l.showSegment(packet, t, len(t)-int(t.DataOffset()), t.SequenceNumber())
}

// showSegment tells the hooks of a segment that leaves.
func (l *link) showSegment(packet []byte, t header.TCP, payload int, sequence uint32) {
	var key flowKey
	flowOf(&key, packet, t)
	l.out = Segment{
		Flow: Flow(key), Link: int(l.id) - 1, From: fromQueue,
		Sequence: sequence, Acknowledgment: t.AckNumber(), Flags: uint8(t.Flags()),
		Bytes: payload,
	}
	l.hooks.Sent(&l.out)
}

// Flow names the connection as segments do.
func (c *Conn) Flow() Flow {
	return Flow{
		local: c.local.Addr().As16(), remote: c.remote.Addr().As16(),
		ports: uint32(c.local.Port())<<16 | uint32(c.remote.Port()),
	}
}

// WrittenUpTo is the sequence number behind the last byte written; ok is false when
// none was.
func (c *Conn) WrittenUpTo() (sequence uint32, ok bool) {
	return uint32(c.first) + uint32(c.written), c.numbered
}

// Waking says when a connection became ready, in loop time. It is what the last event
// of the connection was about; zero: there were no hooks.
type Waking struct {
	Readable time.Duration // netstack put the first of its bytes into the receive buffer, or its end came
	Ready    time.Duration // it was put on the ready list
	Taken    time.Duration // Wait took it off
	Among    int           // how many events Wait took then
}

// Waking returns the times of the last event of c.
func (c *Conn) Waking() Waking { return c.woken }

// Waking returns the times of the last event of l.
func (l *Listener) Waking() Waking { return l.woken }

// time notes when s became ready. Called under mu, before e is added to what is pending.
func (p *Poller) time(s *source, e Events) {
	now := p.stack.clock.elapsed()
	if e&Readable != 0 && s.pending&Readable == 0 {
		s.readableAt = now
	}
	if !s.queued {
		s.readyAt = now
	}
}

// timeTaken notes when s was taken off the ready list, with so many. Called under mu, before what is
// pending is cleared.
func (s *source) timeTaken(now time.Duration, among int) {
	s.woken = Waking{Ready: s.readyAt, Taken: now, Among: among}
	if s.pending&Readable != 0 {
		s.woken.Readable = s.readableAt
	}
}

// Hash is a number that spreads flows.
func (f *Flow) Hash() uint32 {
	// Ports and the low bytes of addresses vary most (see endpointOf).
	return (binary.BigEndian.Uint32(f.remote[12:]) ^ f.ports) * 2654435769
}
