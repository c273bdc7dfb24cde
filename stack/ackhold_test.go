package stack_test

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// sinkPuppet is a client of a server that says nothing, whose stack holds ACKs as long as
// it may: what is acknowledged at all is acknowledged at once.
func sinkPuppet(t *testing.T, v6, ipOptions bool) *puppet {
	return puppetWith(t, func(c *stack.Config) { c.TCP.AckDelay = time.Hour }, v6, ipOptions, func(l *loop, e stack.Event) {
		switch d := e.Data.(type) {
		case *stack.Listener:
			for c, err := d.Accept(); err == nil; c, err = d.Accept() {
				l.Stack.Poller().AddConn(c, stack.Readable, c)
			}
		case *stack.Conn:
			for n, err := 1, error(nil); n > 0 && err == nil; {
				n, err = d.Read(make([]byte, 4096))
			}
		}
	})
}

// send sends the next n bytes.
func (p *puppet) send(flags header.TCPFlags, n int) {
	p.say(header.TCPFlagAck|flags, strings.Repeat("x", n))
	p.raw.seq += uint32(n)
}

// A sender whose window is two segments waits for the ACK of the second, whatever a full
// segment is on its way to us.
func TestSecondFullSegmentIsAcknowledgedAtOnce(t *testing.T) {
	for _, c := range []struct {
		v6    bool
		stamp uint32
		bytes int
	}{
		{false, 0, 1460}, {false, 1, 1448}, {true, 0, 1440}, {true, 1, 1428}, // Ethernet
		{false, 1, 1440}, {true, 1, 1420}, // PPPoE (RFC 2516)
		{false, 1, 536 - 12},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			p := sinkPuppet(t, c.v6, false)
			p.stamp = c.stamp
			p.connect()
			for range 5 {
				p.send(0, c.bytes)
				p.send(0, c.bytes)
				p.wantAnswer("the second segment")
			}
			// These are no two full ones.
			p.send(header.TCPFlagPsh, c.bytes/2)
			p.send(header.TCPFlagPsh, c.bytes)
			received := func() uint64 { return p.l.Stack.LinkStats(1).RXFrames }
			p.wantSilence("one and a half", received, 2+12)
		})
	}
}

// What fills a gap, or a part of one, is acknowledged at once (RFC 5681 4.2), also where it
// is little.
func TestFilledGapIsAcknowledgedAtOnce(t *testing.T) {
	for _, stamp := range []uint32{0, 1} {
		p := sinkPuppet(t, false, false)
		p.stamp = stamp
		p.connect(1, 1, 4, 2) // SACK permitted
		first := p.raw
		p.raw.seq += 20
		p.send(header.TCPFlagPsh, 10)
		all := p.raw
		p.raw = first
		p.wantAnswer("what came out of order")
		p.send(header.TCPFlagPsh, 10)
		p.wantAnswer("a part of the gap")
		p.send(header.TCPFlagPsh, 10)
		p.raw = all
		p.wantAnswer("the rest of the gap")
	}
}

// The request carries the ACK that ends the handshake of a connection that we open; where none is written it leaves
// by itself.
func TestRequestCarriesTheACKOfTheHandshake(t *testing.T) {
	for _, remote := range []string{"10.2.0.2:8080", "[fd00:2::2]:8080"} {
		var writes atomic.Bool
		l := start(t, nil, func(_ *loop, e stack.Event) {
			if c, ok := e.Data.(*stack.Conn); ok && e.Events&stack.Writable != 0 && writes.Load() {
				_, _ = c.Write([]byte("request"))
			}
		})
		ln, err := l.Backend.Listen(remote)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		sent := make(chan header.TCP, 100)
		l.LoseToBackend(func(f []byte) bool {
			if t := frameTCP(f); t != nil {
				sent <- append(header.TCP(nil), t...)
			}
			return true
		})
		for _, w := range []bool{true, false} {
			writes.Store(w)
			l.do(func() {
				c, err := l.Stack.Connect(netip.MustParseAddrPort(remote))
				if err != nil {
					t.Error(err)
					return
				}
				l.Stack.Poller().AddConn(c, stack.Writable, c)
			})
			if _, err := ln.Accept(); err != nil {
				t.Fatal(err)
			}
			if first := <-sent; first.Flags() != header.TCPFlagSyn {
				t.Fatalf("first came %v", first.Flags())
			}
			want := ""
			if w {
				want = "request"
			}
			if second := <-sent; second.Flags()&header.TCPFlagAck == 0 || string(second.Payload()) != want {
				t.Errorf("the handshake was ended by %v with %q, want %q", second.Flags(), second.Payload(), want)
			}
		}
	}
}
