package stack

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Flow names a TCP connection by both its ends.
type Flow flowKey

// Key is what tells connections apart at a glance: seldom are two alive that share one.
func (f *Flow) Key() uint64 { return keyOf(f.remote[:], f.ports) }

// keyOf folds an address of 16 bytes.
func keyOf(remote []byte, ports uint32) uint64 {
	be := binary.BigEndian
	return uint64(ports)<<32 | uint64(be.Uint32(remote)^be.Uint32(remote[4:])^be.Uint32(remote[8:])^be.Uint32(remote[12:]))
}

// Segment is a TCP segment as hooks are shown it.
type Segment struct {
	Key           uint64 // of its Flow
	Link          int    // place in the configuration
	Device, Index int    // that it was received on, and place in the batch; valid iff From is negative
	From          int    // worker that handed it over; negative: none, or it was sent
	Bytes         int    // of payload
	Flags         uint8  // of the TCP header
	Merged        bool   // a FIN that was merged into the segment sent before: it is no frame of its own

	packet []byte // from the IP header on
	tcp    header.TCP
	sent   bool
}

// Flow names the connection of s.
func (s *Segment) Flow() (f Flow) {
	flowOf((*flowKey)(&f), s.packet, s.tcp)
	if !s.sent {
		f.local, f.remote, f.ports = f.remote, f.local, f.ports<<16|f.ports>>16
	}
	return f
}

// Sequence is the sequence number of s.
func (s *Segment) Sequence() uint32 { return s.tcp.SequenceNumber() }

// Acknowledgment is the acknowledgment number of s.
func (s *Segment) Acknowledgment() uint32 { return s.tcp.AckNumber() }

// set makes s a view of a segment.
func (s *Segment) set(packet []byte, t header.TCP, key uint64) {
	s.packet, s.tcp, s.Key, s.Flags = packet, t, key, t[header.TCPFlagsOffset]
}

// segmentKey is the Segment.Key of a segment that was received, or sent.
func segmentKey(packet []byte, t header.TCP, sent bool) uint64 {
	ports := binary.BigEndian.Uint32(t)
	if !sent {
		ports = ports<<16 | ports>>16
	}
	at, n := header.IPv4MinimumSize-2*header.IPv4AddressSize, header.IPv4AddressSize
	if packet[0]>>4 == header.IPv6Version {
		at, n = header.IPv6MinimumSize-2*header.IPv6AddressSize, header.IPv6AddressSize
	}
	if sent {
		at += n // the destination
	}
	if n == header.IPv6AddressSize {
		return keyOf(packet[at:], ports)
	}
	return uint64(ports)<<32 | uint64(binary.BigEndian.Uint32(packet[at:])^0xffff) // as the mapped address
}

// Followed says which segments hooks are shown: SYNs, those of the connections that were
// added, and of a few others that share a place with one. Any goroutine may call it.
type Followed struct {
	// Data has them shown all received segments with data too. It belongs to the loop.
	Data bool

	all         atomic.Int32                    // how many connections were added
	connections [1 << followedBits]atomic.Int32 // of them, by a hash of their keys
}

// followedBits makes the table one of 4 KB, so that it stays in the cache.
const followedBits = 10

func (f *Followed) of(key uint64) *atomic.Int32 {
	return &f.connections[key*0x9e3779b97f4a7c15>>(64-followedBits)] // Fibonacci hashing
}

// Add adds a connection, which may be added more than once.
func (f *Followed) Add(key uint64) {
	f.of(key).Add(1)
	f.all.Add(1)
}

// Remove takes back one Add.
func (f *Followed) Remove(key uint64) {
	f.of(key).Add(-1)
	f.all.Add(-1)
}

// Has reports whether a connection was added, or one that shares its place.
func (f *Followed) Has(key uint64) bool { return f.of(key).Load() != 0 }

// Hooks are told what the stack alone sees of a connection. A stack without hooks pays
// a comparison a frame, one with hooks a look into a table more. What they are given is
// valid during the call.
type Hooks struct {
	// Followed says which segments Received and Sent are shown.
	Followed *Followed
	// Received is shown a plain segment that came in for this worker, before TCP has it.
	// The loop calls it.
	Received func(*Segment)
	// Sent is shown a segment as it is put on the TX ring. It is called under the lock of
	// the link, by netstack's processor too.
	Sent func(*Segment)
}

// SetHooks makes h be told from now on; nil: nobody. When it returns the previous hooks
// are in use no more. All fields of h are set.
func (s *Stack) SetHooks(h *Hooks) {
	for _, l := range s.links {
		l.mu.Lock()
		l.hooks = h
		l.mu.Unlock()
	}
}

// SetTimes makes the stack note when connections and listeners become ready: see
// Conn.Waking.
func (s *Stack) SetTimes(on bool) {
	s.poller.mu.Lock()
	s.poller.timed = on
	s.poller.mu.Unlock()
}

// SetTimes makes the stack note when c becomes ready, also where it does not of others.
func (c *Conn) SetTimes(on bool) {
	p := c.stack.poller
	p.mu.Lock()
	c.timed = on
	p.mu.Unlock()
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

// showReceived tells the hooks of s, if its connection is followed.
func (l *link) showReceived(s *segment) {
	f := l.hooks.Followed
	whatever := s.tcp[header.TCPFlagsOffset]&syn != 0 || f.Data && len(s.payload) > 0
	if !whatever && f.all.Load() == 0 {
		return
	}
	key := segmentKey(s.packet, s.tcp, false)
	if !whatever && !f.Has(key) {
		return
	}
	v := &l.in
	v.Device, v.Index, v.From, v.Bytes = l.device, l.index, l.origin, len(s.payload)
	v.set(s.packet, s.tcp, key)
	l.hooks.Received(v)
}

// showSegment tells the hooks of an IP packet that was put on the TX ring, if its
// connection is followed. merged: of one that is there, because a FIN was merged into it.
func (l *link) showSegment(packet []byte, merged bool) {
	ip, total, protocol := header.IPv6MinimumSize, len(packet), packet[6]
	if packet[0]>>4 != header.IPv6Version {
		ip, total, protocol = int(packet[0]&0xf)*4, int(binary.BigEndian.Uint16(packet[2:])), packet[9]
	}
	if protocol != byte(header.TCPProtocolNumber) || total > len(packet) || total < ip+header.TCPMinimumSize {
		return
	}
	t := header.TCP(packet[ip:total])
	f, whatever := l.hooks.Followed, t[header.TCPFlagsOffset]&syn != 0
	if !whatever && f.all.Load() == 0 {
		return
	}
	key := segmentKey(packet, t, true)
	if !whatever && !f.Has(key) {
		return
	}
	v := &l.out
	v.Bytes, v.Merged = len(t)-int(t.DataOffset()), merged
	v.set(packet, t, key)
	l.hooks.Sent(v)
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
// of the connection was about; zero: times were not noted.
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
	s.readableAt, s.readyAt = 0, 0
}
