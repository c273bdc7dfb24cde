package stack_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/dataplane"
	"ringroad/stack"
)

// simulation is a transfer from a stack to a peer that receives as the kernel's TCP does, over a link with faults, in a time of
// its own: what happens follows from the seed. It is the stack's device, waiter and resolver at once.
//
//	stack 10.1.0.1:80 ---- 10.1.0.2:5000 peer
type simulation struct {
	t     *testing.T
	path  path
	now   time.Duration
	wait  time.Duration // that the stack wants to sleep; negative: until something comes
	dice  *rand.Rand
	peer  receiving
	stack *stack.Stack
	conn  *stack.Conn

	toPeer, toStack []onTheWay // in the order of their arrival
	free            time.Duration
	frames          [1024][2048]byte // of TX, used in turn
	next            int              // the frame after the last submitted
	queued          []int            // bytes in those submitted
	fresh           int              // of them not yet kicked
	peeked          [][]byte
	back            struct { // when the first frame came in at the peer after the link was down
		at       time.Duration
		timeouts uint64 // before
	}
}

// path is what a link does to frames.
type path struct {
	delay                    time.Duration // one way
	loss, reorder, duplicate float64       // probabilities
	down, up                 time.Duration // it is down from the one to the other
	full, read               time.Duration // the peer's program reads nothing from the one to the other
	late                     bool          // what the stack sends meanwhile is sent at its end, and not lost
}

type onTheWay struct {
	at    time.Duration
	frame []byte
}

// receiving is the peer: the receiver of tcp_input.c, with SACK, D-SACK and timestamps.
type receiving struct {
	first, next uint32      // sequence numbers: of the first byte, and of what is expected
	ahead       [][2]uint32 // what came out of order, the latest first
	echo        uint32      // TS.Recent
	told        uint32      // what was acknowledged last
	due         time.Duration
	edge        uint32 // of the window
	synced      bool
}

const (
	frameTime   = 20 * time.Microsecond // that a frame takes on the wire
	delayedACK  = 40 * time.Millisecond
	peerRoom    = 512 << 10
	seqOfClient = 1000
)

func simulate(t *testing.T, p path, seed uint64) *simulation {
	s := &simulation{t: t, path: p, now: time.Second, dice: rand.New(rand.NewPCG(seed, 1))}
	s.path.down += s.now
	s.path.up += s.now
	s.path.full += s.now
	s.path.read += s.now
	var err error
	s.stack, err = stack.New(stack.Config{Resolver: s, Waiter: s, FirstPort: 20000, LastPort: 29999, Links: []stack.Link{{
		Index: 1, MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, 1}, Device: s, Checksums: stack.ChecksumsAny,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stack.Close)
	s.stack.SetClock(func() time.Duration { return s.now })
	l, err := s.stack.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 1)
	if err != nil {
		t.Fatal(err)
	}
	s.stack.Poller().AddListener(l, l)
	return s
}

// transfer sends so many bytes, and returns how long it took until the peer had them.
func (s *simulation) transfer(size int) time.Duration {
	began := s.now
	s.answer(header.TCPFlagSyn)
	body, events := make([]byte, size), make([]stack.Event, 16)
	for s.peer.next-s.peer.first < uint32(size) {
		if s.now > began+10*time.Minute {
			s.t.Fatalf("%d bytes of %d after %v", s.peer.next-s.peer.first, size, s.now-began)
		}
		_, work := s.stack.Turn()
		for n := s.stack.Poller().Wait(events); n > 0; n = s.stack.Poller().Wait(events) {
			for _, e := range events[:n] {
				if l, ok := e.Data.(*stack.Listener); ok {
					s.conn, _ = l.Accept()
					s.stack.Poller().AddConn(s.conn, stack.Writable, s.conn)
				}
			}
			for s.conn != nil && len(body) > 0 {
				n, err := s.conn.Write(body[:min(len(body), 64<<10)])
				body = body[n:]
				if err != nil {
					break
				}
			}
		}
		s.stack.Flush()
		s.wait = 0
		if work > 0 || !s.stack.Sleep(-1) {
			continue
		}
		s.advance()
	}
	return s.now - began
}

// advance lets time pass until the next thing happens.
func (s *simulation) advance() {
	at := s.now + s.wait
	sooner := func(t time.Duration) {
		if s.wait < 0 || t < at {
			at, s.wait = t, 0
		}
	}
	if len(s.toPeer) > 0 {
		sooner(s.toPeer[0].at)
	}
	if len(s.toStack) > 0 {
		sooner(s.toStack[0].at)
	}
	if s.peer.due > 0 {
		sooner(s.peer.due)
	}
	for _, t := range []time.Duration{s.path.up, s.path.read} {
		if s.now < t {
			sooner(t)
		}
	}
	if s.wait < 0 {
		s.t.Fatalf("nothing will ever happen: %+v", s.conn.Info())
	}
	s.now = max(s.now, at)
	if s.now >= s.path.up && len(s.queued) > 0 {
		s.send()
	}
	for len(s.toPeer) > 0 && s.toPeer[0].at <= s.now {
		f := s.toPeer[0].frame
		s.toPeer = s.toPeer[1:]
		s.take(header.TCP(f[header.EthernetMinimumSize+header.IPv4MinimumSize:]))
	}
	if s.peer.due > 0 && s.peer.due <= s.now || s.now == s.path.read && s.peer.synced {
		s.answer(header.TCPFlagAck)
	}
	runtime.Gosched()
}

func (s *simulation) isDown() bool { return s.now >= s.path.down && s.now < s.path.up }

// put sends a frame over the link.
func (s *simulation) put(to *[]onTheWay, frame []byte) {
	if s.isDown() || s.conn != nil && s.dice.Float64() < s.path.loss {
		return
	}
	copies := 1
	if s.conn != nil && s.dice.Float64() < s.path.duplicate {
		copies = 2
	}
	for range copies {
		o := onTheWay{s.now + s.path.delay, slices.Clone(frame)}
		if to == &s.toPeer {
			s.free = max(s.free, s.now) + frameTime
			o.at = s.free + s.path.delay
		}
		if s.dice.Float64() < s.path.reorder {
			o.at += 5 * frameTime
		}
		i := len(*to)
		for i > 0 && (*to)[i-1].at > o.at {
			i--
		}
		*to = slices.Insert(*to, i, o)
	}
}

// take is told of a segment that comes in at the peer.
func (s *simulation) take(t header.TCP) {
	if s.back.at == 0 && s.now >= s.path.up {
		s.back.at, s.back.timeouts = s.now, s.stack.TCPStats().Timeouts
	}
	p, from, n := &s.peer, t.SequenceNumber(), uint32(len(t.Payload()))
	options := t.ParsedOptions()
	if t.Flags()&header.TCPFlagSyn != 0 {
		p.first, p.next, p.told, p.echo, p.synced = from+1, from+1, from, options.TSVal, true
		s.answer(header.TCPFlagAck)
		return
	}
	to := from + n
	if int32(from-p.told) <= 0 && int32(options.TSVal-p.echo) >= 0 {
		p.echo = options.TSVal // RFC 7323 4.3
	}
	switch {
	case n == 0:
		return
	case int32(to-p.edge) > 0: // there is no room for it
		s.answer(header.TCPFlagAck)
	case int32(to-p.next) <= 0: // twice
		s.answer(header.TCPFlagAck, [2]uint32{from, to})
	case int32(from-p.next) > 0: // ahead
		block, again := [2]uint32{from, to}, false
		for i := 0; i < len(p.ahead); i++ {
			if b := p.ahead[i]; int32(block[0]-b[1]) <= 0 && int32(b[0]-block[1]) <= 0 {
				again = again || int32(from-b[0]) >= 0 && int32(b[1]-to) >= 0
				block = [2]uint32{b[0] + uint32(min(int32(block[0]-b[0]), 0)), b[1] + uint32(max(int32(block[1]-b[1]), 0))}
				p.ahead = slices.Delete(p.ahead, i, i+1)
				i--
			}
		}
		p.ahead = slices.Insert(p.ahead, 0, block)
		if again {
			s.answer(header.TCPFlagAck, [2]uint32{from, to})
		} else {
			s.answer(header.TCPFlagAck)
		}
	default:
		holes := len(p.ahead) > 0
		p.next = to
		for i := 0; i < len(p.ahead); i++ {
			if b := p.ahead[i]; int32(b[0]-p.next) <= 0 {
				p.next += uint32(max(int32(b[1]-p.next), 0))
				p.ahead = slices.Delete(p.ahead, i, i+1)
				i = -1
			}
		}
		if holes || p.next-p.told >= 2*1448 {
			s.answer(header.TCPFlagAck)
		} else if p.due == 0 {
			p.due = s.now + delayedACK
		}
	}
}

// answer has the peer send a segment without data; twice is what came twice.
func (s *simulation) answer(flags header.TCPFlags, twice ...[2]uint32) {
	p := &s.peer
	options := []byte{header.TCPOptionNOP, header.TCPOptionNOP, 11: 0}
	header.EncodeTSOption(uint32(s.now.Milliseconds()), p.echo, options[2:])
	seq := uint32(seqOfClient)
	if flags&header.TCPFlagSyn != 0 {
		seq--
		options = append(options, "\x02\x04\x05\xb4\x04\x02\x01\x01\x01\x01\x01\x03\x03\x07"...) // MSS, SACK permitted, window scale
	} else if blocks := slices.Concat(twice, p.ahead); len(blocks) > 0 {
		blocks = blocks[:min(len(blocks), 3)]
		options = append(options, header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionSACK, byte(2+8*len(blocks)))
		for _, b := range blocks {
			options = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(options, b[0]), b[1])
		}
	}
	for len(options)%4 != 0 {
		options = append(options, header.TCPOptionNOP)
	}
	if s.now < s.path.full || s.now >= s.path.read {
		p.edge = p.next + peerRoom
	}
	p.told, p.due = p.next, 0
	frame := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.TCPMinimumSize+len(options))
	copy(frame, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00")
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, 1}),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	t := header.TCP(ip[header.IPv4MinimumSize:])
	copy(t[header.TCPMinimumSize:], options)
	t.Encode(&header.TCPFields{
		SrcPort: 5000, DstPort: 80, SeqNum: seq, AckNum: p.next, DataOffset: uint8(len(t)), Flags: flags, WindowSize: uint16((p.edge - p.next) >> 7),
	})
	if flags&header.TCPFlagSyn != 0 {
		t.SetAckNumber(0)
		t.SetWindowSize(0xffff)
	}
	s.put(&s.toStack, frame)
}

// Waiting implements stack.Device.
func (s *simulation) Waiting() (n int) {
	for n < len(s.toStack) && s.toStack[n].at <= s.now {
		n++
	}
	return n
}

// Peek implements stack.Device.
func (s *simulation) Peek(most int) int {
	n := min(most, s.Waiting())
	s.peeked = s.peeked[:0]
	for _, o := range s.toStack[:n] {
		s.peeked = append(s.peeked, o.frame)
	}
	return n
}

func (s *simulation) Frame(i int) []byte { return s.peeked[i] }
func (s *simulation) Chained() bool      { return false }
func (s *simulation) More(int) bool      { return false }
func (s *simulation) Release(n int)      { s.toStack = slices.Delete(s.toStack, 0, n) }

// Reserve implements stack.Device.
func (s *simulation) Reserve() (f dataplane.TXFrame, b []byte, ok bool) {
	return f, s.frames[s.next][:], len(s.queued) < len(s.frames)
}

// Submit implements stack.Device.
func (s *simulation) Submit(_ dataplane.TXFrame, n int) {
	s.queued = append(s.queued, n)
	s.fresh++
	s.next = (s.next + 1) % len(s.frames)
}

func (s *simulation) TXChecksum() bool { return false }
func (s *simulation) SubmitPartial(f dataplane.TXFrame, n, _, _ int) {
	s.Submit(f, n)
}
func (s *simulation) Discard(dataplane.TXFrame) {}
func (s *simulation) Unpublished() int          { return s.fresh }
func (s *simulation) Pending() int              { return len(s.queued) }

// Kick implements stack.Device.
func (s *simulation) Kick() error {
	s.fresh = 0
	if !s.path.late || !s.isDown() {
		s.send()
	}
	return nil
}

func (s *simulation) send() {
	first := s.next - len(s.queued) + len(s.frames)
	for i, n := range s.queued {
		s.put(&s.toPeer, s.frames[(first+i)%len(s.frames)][:n])
	}
	s.queued = s.queued[:0]
}

func (s *simulation) Poll() bool                             { return s.Waiting() > 0 }
func (s *simulation) Wait(d time.Duration)                   { s.wait = d }
func (s *simulation) Wake()                                  {}
func (s *simulation) Lookup(int, netip.Addr) ([6]byte, bool) { return [6]byte{2, 0, 0, 0, 0, 2}, true }
func (s *simulation) Provoke(int, netip.Addr)                {}
func (s *simulation) Generation() uint64                     { return 1 }
func (s *simulation) Changed() <-chan struct{}               { return nil }
func (s *simulation) Routes() []dataplane.Route {
	return []dataplane.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), IfIndex: 1, Source: netip.MustParseAddr("10.1.0.1")}}
}
