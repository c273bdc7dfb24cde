package stack_test

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// flooded is a stack whose answers are counted, beside those to the puppet.
type flooded struct {
	*puppet
	synACKs, resets, others atomic.Int64
	oddOptions              atomic.Int64 // of SYN-ACKs with more than an MSS
}

func newFlooded(t *testing.T, v6 bool) *flooded {
	return floodedOf(t, v6, nil)
}

// floodedOf is one whose configuration configure changes.
func floodedOf(t *testing.T, v6 bool, configure func(*stack.Config)) *flooded {
	f := &flooded{puppet: puppetWith(t, configure, v6, false, serveEcho)}
	f.l.LoseToClient(func(frame []byte) bool {
		s := frameTCP(frame)
		switch {
		case s == nil:
		case s.DestinationPort() < 6000: // the puppet's, which the test changes
			f.answers <- append(header.TCP(nil), s...)
		case s.Flags() == header.TCPFlagSyn|header.TCPFlagAck:
			f.synACKs.Add(1)
			if s.DataOffset() != header.TCPMinimumSize+header.TCPOptionMSSLength {
				f.oddOptions.Add(1)
			}
		case s.Flags()&header.TCPFlagRst != 0:
			f.resets.Add(1)
		default:
			f.others.Add(1)
		}
		return false
	})
	return f
}

// calm is how many frames may wait without SYNs being shed.
const calm = 64

// rain sends n segments from ports of others, lot at a time.
func (f *flooded) rain(n, lot int, flags header.TCPFlags) {
	f.l.t.Helper()
	for i := range n {
		r := rawSegment{v6: f.raw.v6, from: uint16(10_000 + i%50_000), to: 80, seq: uint32(i) * 7919, ack: 1, flags: flags, window: 1000}
		if flags == header.TCPFlagSyn {
			r.ack, r.options = 0, []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
		}
		f.l.InjectFromClient(r.frame())
		if i%lot == lot-1 {
			f.settle()
		}
	}
	f.settle()
}

// settle waits until the rings are empty.
func (f *flooded) settle() {
	f.l.t.Helper()
	f.l.eventually("all frames are taken", func() bool { return f.l.Waiting(0, 0) == 0 })
}

func (f *flooded) link() (st stack.LinkStats) {
	f.l.do(func() { st = f.l.Stack.LinkStats(1) })
	return st
}

func (f *flooded) tcp() (st stack.TCPStats) {
	f.l.do(func() { st = f.l.Stack.TCPStats() })
	return st
}

// What finds the SYN queue full gets a cookie, with nothing kept, and the connection that
// comes of one works; an earlier one goes on.
func TestSYNFlood(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		f := newFlooded(t, v6)
		f.connect()
		f.talk("before")
		const backlog, n = 128, 5000 // of puppetOf
		before := f.tcp()
		endpoints := before.Endpoints
		f.rain(n, calm, header.TCPFlagSyn)
		f.l.eventually("all SYNs are answered", func() bool { return f.synACKs.Load() >= n })
		st := f.tcp()
		if received := st.SegmentsReceived - before.SegmentsReceived; received != n {
			t.Errorf("v6 %v: %d segments received, %d SYNs sent", v6, received, n)
		}
		damaged := rawSegment{v6: v6, from: 60_001, to: 80, seq: 1, flags: header.TCPFlagSyn, window: 1000}.frame()
		damaged[len(damaged)-6]++ // of the window
		f.l.InjectFromClient(damaged)
		f.settle()
		if now := f.tcp(); now.ChecksumErrors != before.ChecksumErrors+1 || now.SegmentsReceived != st.SegmentsReceived || f.synACKs.Load() != n {
			t.Errorf("v6 %v: after a damaged SYN %d checksum errors, %d segments received, %d answers", v6, now.ChecksumErrors, now.SegmentsReceived, f.synACKs.Load())
		}
		if st.SynCookiesSent < n-backlog-1 || st.SynCookiesSent >= n || st.Endpoints > endpoints+backlog+1 || f.resets.Load() != 0 {
			t.Errorf("v6 %v: %d cookies, %d resets, %d endpoints after %d", v6, st.SynCookiesSent, f.resets.Load(), st.Endpoints, endpoints)
		}
		// The others come from netstack: those of the SYN queue, and cookies for SYNs that were
		// queued for it while it filled the queue.
		if odd := f.oddOptions.Load(); odd > n/4 {
			t.Errorf("v6 %v: %d of %d answers have more options than an MSS", v6, odd, f.synACKs.Load())
		}
		if shed := f.link().SynsShed; shed != 0 {
			t.Errorf("v6 %v: %d SYNs shed", v6, shed)
		}
		for f.link().SynsShed == 0 {
			f.rain(3000, 3000, header.TCPFlagSyn) // more than there is time for
		}
		f.talk("meanwhile")
		for i, mss := range []byte{255, 100, 0} {
			f.raw.from++
			f.raw.seq, f.raw.ack = uint32(i)<<30, 0
			f.connect(2, 4, mss>>6, mss) // of less than an MSS of the cookie's table
			f.talk("with a cookie")
		}
		if got := f.tcp().SynCookiesReceived; got != 3 {
			t.Errorf("v6 %v: %d cookies came back", v6, got)
		}
	}
}

// TestHandshakesTakeWhatIsSaid: what a handshake costs that nobody ends, as synqueue.go has it.
func TestHandshakesTakeWhatIsSaid(t *testing.T) {
	f := newFlooded(t, false)
	const handshakes, most = 4096, 350 // bytes each
	f.l.do(func() {
		if _, err := f.l.Stack.Listen(netip.MustParseAddrPort("10.1.0.1:80"), handshakes+1); err != nil {
			t.Error(err)
		}
	})
	heap := func() int64 {
		for range 2 { // the first time what is in a sync.Pool stays
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	f.rain(handshakes, calm/2, header.TCPFlagSyn)
	f.l.eventually("all SYNs are answered", func() bool { return f.synACKs.Load() >= handshakes })
	if sent := f.tcp().SynCookiesSent; sent != 0 {
		t.Fatalf("%d were answered with cookies", sent)
	}
	if each := (heap() - before) / handshakes; each > most {
		t.Errorf("a handshake takes %d bytes, want at most %d", each, most)
	}
}

// Strays are answered up to a limit; connections, and what opens one, are none.
func TestFloodOfStrays(t *testing.T) {
	stack.LimitFloods(t, 100)
	for _, flags := range []header.TCPFlags{header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagFin, header.TCPFlagSyn | header.TCPFlagAck} {
		f := newFlooded(t, false)
		f.connect()
		const n = 3000
		f.rain(n, 256, flags)
		f.l.eventually("some are not answered", func() bool { return f.l.Stack.LinkStats(1).StraysShed > 0 })
		f.l.eventually("the others are", func() bool { return f.resets.Load()+int64(f.l.Stack.LinkStats(1).StraysShed) == n })
		f.talk("goes on")
		f.raw.from++
		f.connect()
		f.talk("new")
	}
}

// A SYN of who is not admitted is answered with RST, up to a limit, and nothing is kept of it; others, and who is admitted again,
// are served.
func TestClientsNotAdmitted(t *testing.T) {
	stack.LimitFloods(t, 100)
	f := newFlooded(t, false)
	const n = 1000
	admits := false
	asked := 0
	f.l.do(func() {
		ln, err := f.l.Stack.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 1)
		if err != nil {
			t.Error(err)
			return
		}
		ln.Admits = func(client netip.AddrPort) bool {
			asked++
			return admits || client.Port() == 5000
		}
		f.l.Stack.Poller().AddListener(ln, ln)
	})
	f.connect()
	f.talk("admitted")
	f.raw.from++
	f.raw.ack = 0
	f.say(header.TCPFlagSyn, "")
	if a := f.hear(); a.Flags() != header.TCPFlagRst|header.TCPFlagAck || a.SequenceNumber() != 0 || a.AckNumber() != f.raw.seq+1 {
		t.Errorf("the SYN was answered with %v, number %d, of %d, want %d", a.Flags(), a.SequenceNumber(), a.AckNumber(), f.raw.seq+1)
	}
	endpoints := f.tcp().Endpoints
	f.rain(n, calm, header.TCPFlagSyn)
	f.l.eventually("all were judged", func() bool { return asked == n+2 })
	if sent, kept := f.resets.Load(), f.tcp().Endpoints-endpoints; sent == 0 || sent > n/2 || f.synACKs.Load() != 0 || kept != 0 {
		t.Errorf("%d resets and %d SYN-ACKs for %d SYNs, %d kept", sent, f.synACKs.Load(), n, kept)
	}
	if st := f.link(); st.StraysShed+st.SynsShed != 0 {
		t.Errorf("%d strays and %d SYNs shed: what is no flood to others counts as one", st.StraysShed, st.SynsShed)
	}
	f.l.do(func() { admits = true })
	f.connect()
	f.talk("admitted again")
}

// A cookie is judged while nothing else without a connection is.
func TestCookieInAFloodOfStrays(t *testing.T) {
	stack.LimitFloods(t, 100)
	f := newFlooded(t, false)
	f.rain(300, calm, header.TCPFlagSyn) // fills the SYN queue
	f.say(header.TCPFlagSyn, "")
	answer := f.hear()
	f.raw.seq, f.raw.ack = f.raw.seq+1, answer.SequenceNumber()+1
	for shed := uint64(0); shed < 2000; shed = f.link().StraysShed {
		f.rain(1000, 256, header.TCPFlagAck)
	}
	f.talk("a request that completes the handshake")
	if got := f.tcp().SynCookiesReceived; got != 1 {
		t.Errorf("%d cookies came back", got)
	}
}

func TestFloodOfFragments(t *testing.T) {
	stack.LimitFloods(t, 100)
	f := newFlooded(t, false)
	f.connect()
	frame := rawSegment{src: netip.MustParseAddr("10.1.0.9"), from: 1, to: 80, flags: header.TCPFlagSyn, window: 1000}.frame()
	ip := header.IPv4(frame[14:])
	ip.SetFlagsFragmentOffset(header.IPv4FlagMoreFragments, 0)
	for i := range 3000 {
		binary.BigEndian.PutUint16(ip[4:], uint16(i))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		f.l.InjectFromClient(append([]byte(nil), frame...))
		if i%256 == 255 {
			f.settle()
		}
	}
	f.l.eventually("some are dropped", func() bool { return f.l.Stack.LinkStats(1).StrangeShed > 0 })
	f.talk("goes on")
}
