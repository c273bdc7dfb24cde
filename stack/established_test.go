package stack_test

import (
	"errors"
	"io"
	"runtime/debug"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// The functions of netstack that segment_unsafe.go links to, and that unlocked_unsafe.go, reuse_unsafe.go and dial_unsafe.go do again, were read in this version:
// what they take and do is no contract, so another one has to be read first.
func TestLinkedFunctionsAreOfTheVersionThatWasRead(t *testing.T) {
	const read = "v0.0.0-20260905035102-160fafc42237"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("the test has no build information")
	}
	for _, d := range info.Deps {
		if d.Path == "gvisor.dev/gvisor" && d.Version != read {
			t.Errorf("netstack is of version %s: compare the functions named in stack/segment_unsafe.go, unlocked_unsafe.go, reuse_unsafe.go and dial_unsafe.go with those of %s, and then change the version here", d.Version, read)
		}
	}
}

// established is how many segments took the short way in, and out.
func (p *puppet) established() (in, out uint64) {
	p.l.t.Helper()
	p.l.do(func() { s := p.l.Stack.LinkStats(1); in, out = s.RXEstablished, s.TXEstablished })
	return in, out
}

func TestNextSegmentsOfConnectionsTakeTheShortWay(t *testing.T) {
	for _, stamped := range []bool{false, true} {
		p := newPuppet(t, false, false)
		if stamped {
			p.stamp = 100
		}
		p.connect()
		p.talk("first")
		p.stamp += p.stamp / 100
		p.talk("second")
		if in, out := p.established(); in != 2 || out != 2 {
			t.Errorf("stamped %v: of 2 segments and their answers %d and %d took the short way", stamped, in, out)
		}
		// These do not.
		for i, change := range []func() header.TCPFlags{
			func() header.TCPFlags { p.raw.seq += 3; return header.TCPFlagAck },
			func() header.TCPFlags { p.raw.seq -= 2; return header.TCPFlagAck },
			func() header.TCPFlags { return header.TCPFlagAck | header.TCPFlagUrg },
		} {
			good := p.raw
			p.say(change(), "pre")
			p.raw = good
			p.l.eventually("received", func() bool { return p.l.Stack.LinkStats(1).RXFrames == uint64(5+i) })
		}
		if in, _ := p.established(); in != 2 {
			t.Errorf("stamped %v: %d segments took the short way that should not", stamped, in-2)
		}
	}
}

// What the short way does to a connection is what netstack does, but for the congestion
// window, which one segment at a time does not fill.
func TestShortWayInLeavesTheStateThatNetstackWouldLeave(t *testing.T) {
	for _, sack := range []bool{false, true} {
		for _, stamp := range []uint32{0, 100} {
			run := func(long bool) (states []string, window uint64) {
				var c *stack.Conn
				p := puppetOf(t, false, false, func(l *loop, e stack.Event) {
					if ln, ok := e.Data.(*stack.Listener); ok {
						c, _ = ln.Accept()
						if long {
							c.GoLongWay()
						}
					}
				})
				p.stamp = stamp
				var options []byte
				if sack {
					options = []byte{4, 2, 1, 1}
				}
				p.connect(options...)
				p.l.eventually("accepted", func() bool { return c != nil })
				note := func() { p.l.do(func() { states = append(states, c.State()) }) }
				received := uint64(2) // frames
				await := func() {
					received++
					p.l.eventually("received", func() bool { return p.l.Stack.LinkStats(1).RXFrames == received })
					note()
				}
				say := func(data string) {
					p.say(header.TCPFlagAck, data)
					p.raw.seq += uint32(len(data))
					await()
				}
				write := func(data ...string) {
					for _, d := range data {
						if _, err := c.Write([]byte(d)); err != nil {
							t.Error(err)
						}
						p.raw.ack += uint32(len(d))
						states = append(states, c.State())
					}
				}
				answer := func(data string) { p.l.do(func() { write(data) }) }
				say("a request")
				p.l.do(func() {
					if n, err := c.Read(make([]byte, 100)); n != 9 || err != nil && !errors.Is(err, stack.ErrWouldBlock) {
						t.Errorf("read %d bytes, %v", n, err)
					}
				})
				note()
				answer("an answer")
				p.stamp += stamp / 50
				say("the next request acknowledges it")
				say("and one more, to be answered by nothing")
				p.raw.window--
				say("")
				// Two are probed after 2 ms, if the ACK is not there by then.
				p.l.do(func() {
					write("two answers", "at once")
					p.say(header.TCPFlagAck, "")
				})
				await()
				answer("an answer")
				say("")
				p.l.do(func() { window = c.Info().CongestionWindow })
				return states, window
			}
			want, grown := run(true)
			got, window := run(false)
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("SACK %v, timestamps %v: after step %d the short way leaves\n%snetstack\n%s", sack, stamp > 0, i, got[i], want[i])
				}
			}
			if window >= grown {
				t.Errorf("SACK %v, timestamps %v: the congestion window is %d by the short way, %d by netstack", sack, stamp > 0, window, grown)
			}
		}
	}
}

// ACKs are owed as they are held: one is made when its time comes, and at once for
// a second full segment.
func TestOwedACKsLeaveInTime(t *testing.T) {
	p := newPuppet(t, false, false)
	p.l.do(func() {
		p.l.ready = func(e stack.Event) { // takes connections and says nothing
			if ln, ok := e.Data.(*stack.Listener); ok {
				for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
					p.l.Stack.Poller().AddConn(c, stack.Readable, nil)
				}
			}
		}
	})
	wantACK := func() {
		for a := p.hear(); a.AckNumber() != p.raw.seq; a = p.hear() {
			if a.Flags() != header.TCPFlagAck || len(a.Payload()) != 0 {
				t.Fatalf("%v instead of an ACK", a.Flags())
			}
		}
	}
	p.connect()
	p.say(header.TCPFlagAck|header.TCPFlagPsh, "hello")
	p.raw.seq += 5
	wantACK()
	for range 3 {
		for range 2 {
			p.say(header.TCPFlagAck|header.TCPFlagPsh, strings.Repeat("x", 1460))
			p.raw.seq += 1460
		}
		wantACK()
	}
	p.l.do(func() {
		if s := p.l.Stack.LinkStats(1); s.RXEstablished != 7 || s.AcksHolding != 0 {
			t.Errorf("%d of 7 segments took the short way, %d ACKs are owed still", s.RXEstablished, s.AcksHolding)
		}
	})
}

// Reads, short and long ones, of one segment or several: every byte once and in order,
// nothing is left of it, and the end of the stream behind it.
func TestReadsOfAnySizeLoseNothing(t *testing.T) {
	for _, segments := range [][]int{{1}, {300}, {1460}, {5, 7}, {1460, 1, 1460}, {1, 2, 3, 4}} {
		for _, size := range []int{1, 6, 299, 300, 1460, 4096} {
			var c *stack.Conn
			p := puppetOf(t, false, false, func(_ *loop, e stack.Event) {
				if ln, ok := e.Data.(*stack.Listener); ok {
					c, _ = ln.Accept()
				}
			})
			p.connect()
			p.l.eventually("accepted", func() bool { return c != nil })
			var sent string
			for i, n := range segments {
				data := strings.Repeat(string(rune('a'+i)), n)
				p.say(header.TCPFlagAck, data)
				p.raw.seq += uint32(n)
				sent += data
			}
			p.l.eventually("received", func() bool { return c.Buffered().Received == len(sent) })
			var got []byte
			b := make([]byte, size)
			read := func() (n int, err error) {
				n, err = c.Read(b)
				got = append(got, b[:n]...)
				return n, err
			}
			p.l.do(func() {
				n, err := read()
				for ; n > 0; n, err = read() {
					if left := len(sent) - len(got); c.Buffered().Received != left || errors.Is(err, stack.ErrWouldBlock) != (n < size) {
						t.Errorf("%v read by %d: after %d bytes %v, and %d are buffered, want %d", segments, size, n, err, c.Buffered().Received, left)
					}
				}
				if string(got) != sent || !errors.Is(err, stack.ErrWouldBlock) {
					t.Errorf("%v read by %d: %d of %d bytes, as sent %v, then %v", segments, size, len(got), len(sent), string(got) == sent, err)
				}
			})
			p.say(header.TCPFlagAck|header.TCPFlagFin, "end")
			p.l.eventually("ended", func() bool { _, err := read(); return errors.Is(err, io.EOF) })
			if string(got) != sent+"end" {
				t.Errorf("%v read by %d: at the end %q", segments, size, got[len(sent):])
			}
		}
	}
}

// A request right behind the ACK that ends the handshake is one of an established connection.
func TestRequestBehindTheHandshakeTakesTheShortWay(t *testing.T) {
	p := newPuppet(t, false, false)
	p.say(header.TCPFlagSyn, "")
	s := p.hear()
	p.raw.seq++
	p.raw.ack = s.SequenceNumber() + 1
	p.l.do(func() { // both come in one batch
		p.say(header.TCPFlagAck, "")
		p.say(header.TCPFlagAck|header.TCPFlagPsh, "request")
	})
	for s = p.hear(); string(s.Payload()) != "request"; s = p.hear() {
		if len(s.Payload()) > 0 {
			t.Fatalf("answered with %q", s.Payload())
		}
	}
	if in, out := p.established(); in != 1 || out != 1 {
		t.Errorf("%d in, %d out", in, out)
	}
}
