package stack_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/bpf"
	"ringroad/stack"
)

// program is what the XDP program and the flow table do, with a table in which no two flows meet, and a guard that has no clock.
type program struct {
	mu       sync.Mutex
	epoch    int
	flows    map[bpf.Flow]int // when they were marked
	marks    int
	guards   int
	guarding bool
	syns     bool      // said with a guard
	refused  [2]uint64 // all, and SYNs
}

func newProgram() *program { return &program{flows: map[bpf.Flow]int{}} }

func (p *program) locked(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *program) Mark(f *bpf.Flow) { p.locked(func() { p.flows[*f] = p.epoch; p.marks++ }) }
func (p *program) Marked() (n int)  { p.locked(func() { n = p.marks }); return n }

func (p *program) Sweep(open func()) {
	p.locked(func() { p.epoch++ })
	open()
	p.locked(func() {
		p.marks = 0
		for f, epoch := range p.flows {
			if epoch < p.epoch-1 {
				delete(p.flows, f)
			}
		}
	})
}

func (p *program) Guard(_ time.Duration, syns bool) {
	p.locked(func() { p.guards++; p.guarding = true; p.syns = p.syns || syns })
}
func (p *program) Guarding() (on bool) { p.locked(func() { on = p.guarding }); return on }
func (p *program) Refused() (n, syns uint64) {
	p.locked(func() { n, syns = p.refused[0], p.refused[1] })
	return n, syns
}
func (p *program) len() (n int) { p.locked(func() { n = len(p.flows) }); return n }

func (p *program) has(f *bpf.Flow) (ok bool) {
	p.locked(func() { _, ok = p.flows[*f] })
	return ok
}

// flowOfFrame is the flow of a TCP segment to the stack; ok is false for SYNs and what is no segment.
func flowOfFrame(frame []byte) (f bpf.Flow, ok bool) {
	t := frameTCP(frame)
	if t == nil || t.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagSyn {
		return f, false
	}
	if binary.BigEndian.Uint16(frame[12:]) == 0x0800 {
		ip := header.IPv4(frame[14:])
		src, dst := ip.SourceAddress(), ip.DestinationAddress()
		f.Remote, f.Local = netip.AddrFrom4(src.As4()).As16(), netip.AddrFrom4(dst.As4()).As16()
	} else {
		ip := header.IPv6(frame[14:])
		src, dst := ip.SourceAddress(), ip.DestinationAddress()
		f.Remote, f.Local = src.As16(), dst.As16()
	}
	f.RemotePort, f.LocalPort = t.SourcePort(), t.DestinationPort()
	return f, true
}

// pair relays between a client and a backend that echoes, and ends as the client's last byte says.
type pair struct {
	sides [2]*stack.Conn
	eof   [2]bool
	gone  bool
}

func (p *pair) end(how byte) {
	p.gone = true
	for _, c := range p.sides {
		if how == 'a' {
			c.Abort()
		} else {
			c.Close()
		}
	}
}

func (p *pair) run() {
	b := make([]byte, 4096)
	for i, c := range p.sides {
		for !p.gone && !p.eof[i] && (i == 1 || p.sides[1].Established()) {
			n, err := c.Read(b)
			if n > 0 {
				if how := b[n-1]; i == 1 && (how == 'a' || how == 'c') {
					p.end(how)
					return
				}
				p.sides[1-i].Write(b[:n]) //nolint:errcheck // a connection that fails has an event of its own
			}
			switch {
			case err == io.EOF:
				p.eof[i] = true
				p.sides[1-i].CloseWrite()
			case err == stack.ErrWouldBlock:
			case err != nil:
				p.end('a')
			}
			if err != nil {
				break
			}
		}
	}
	if !p.gone && p.eof[0] && p.eof[1] {
		p.end('c')
	}
}

func servePairs(l *loop, e stack.Event) {
	switch d := e.Data.(type) {
	case *stack.Listener:
		for {
			c, err := d.Accept()
			if err != nil {
				return
			}
			to := "10.2.0.2:8080"
			if c.RemoteAddr().Addr().Is6() {
				to = "[fd00:2::2]:8080"
			}
			b, err := l.Stack.Connect(netip.MustParseAddrPort(to))
			if err != nil {
				c.Abort()
				continue
			}
			p := &pair{sides: [2]*stack.Conn{c, b}}
			for _, side := range p.sides {
				l.Stack.Poller().AddConn(side, stack.Readable|stack.Writable, p)
			}
		}
	case *pair:
		if !d.gone {
			d.run()
		}
	}
}

// Whatever comes for a connection finds it in the table, from its handshake to the end of TIME_WAIT, and nothing stays
// there: connections are closed by both sides, half, with data unread, aborted, and segments are lost.
func TestOpenConnectionsAreInTheTable(t *testing.T) {
	p := newProgram()
	l := start(t, func(c *stack.Config) { c.Flows, c.TCP.TimeWait = p, 20*time.Millisecond }, servePairs)
	var seen, missed atomic.Int64
	look := func(frame []byte) bool {
		if f, ok := flowOfFrame(frame); ok {
			seen.Add(1)
			if !p.has(&f) && l.Stack.IsOpen(&f) {
				missed.Add(1)
			}
		}
		return rand.IntN(100) != 0
	}
	l.LoseFromClient(look)
	l.LoseFromBackend(look)
	l.do(func() { l.every = l.Stack.SweepFlows })
	for _, at := range []string{"10.2.0.2:8080", "[fd00:2::2]:8080"} {
		ln, err := l.Backend.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					io.Copy(c, c) //nolint:errcheck // it ends as it ends
				}()
			}
		}()
	}
	l.listen("0.0.0.0:80", "[::]:80")
	var endpoints uint64
	l.do(func() { endpoints = l.Stack.TCPStats().Endpoints })
	var all sync.WaitGroup
	for k := range 8 {
		all.Go(func() {
			for i := range 12 {
				to := "10.1.0.1:80"
				if (k+i)%2 == 0 {
					to = "[fd00:1::1]:80"
				}
				if c, err := l.Client.Dial(to); err != nil {
					t.Error(err)
				} else {
					behave(t, c, i)
				}
			}
		})
	}
	all.Wait()
	l.eventually("all connections are gone", func() bool {
		return l.Stack.TCPStats().Endpoints == endpoints && l.Stack.LinkStats(1).TimeWait+l.Stack.LinkStats(2).TimeWait == 0
	})
	l.eventually("the table is empty", func() bool { return p.len() == 0 })
	if missed.Load() != 0 || seen.Load() < 500 {
		t.Errorf("%d of %d segments did not find their connection in the table", missed.Load(), seen.Load())
	}
}

// behave is a client that ends its connection in one of several ways.
func behave(t *testing.T, c net.Conn, way int) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // never fails
	b := make([]byte, 100)
	for range 1 + way%3 {
		if _, err := c.Write(b); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Error(err)
		}
	}
	switch way % 6 {
	case 0: // the client closes first
	case 1: // one half first
		c.(interface{ CloseWrite() error }).CloseWrite() //nolint:errcheck // what is read tells
		io.Copy(io.Discard, c)                           //nolint:errcheck // any end will do
	case 2: // data unread
		c.Write(b) //nolint:errcheck // any end will do
	case 3: // the server closes first
		c.Write([]byte{'c'})   //nolint:errcheck // any end will do
		io.Copy(io.Discard, c) //nolint:errcheck // any end will do
	case 4: // and resets
		c.Write([]byte{'a'})   //nolint:errcheck // any end will do
		io.Copy(io.Discard, c) //nolint:errcheck // any end will do
	case 5: // the server closes first, and the client at the same time
		c.Write([]byte{'c'}) //nolint:errcheck // any end will do
	}
}

// A handshake is in the table until it fails, and a cookie's connection from the moment that it comes back.
func TestHandshakesAreInTheTable(t *testing.T) {
	p := newProgram()
	f := floodedOf(t, false, func(c *stack.Config) { c.Flows = p })
	flow := func() (b bpf.Flow) {
		f.raw.flags = header.TCPFlagAck
		b, _ = flowOfFrame(f.raw.frame())
		return b
	}
	f.say(header.TCPFlagSyn, "")
	answer := f.hear()
	if b := flow(); !p.has(&b) || !f.l.Stack.IsOpen(&b) {
		t.Error("a handshake that has begun is not in the table")
	}
	f.raw.seq, f.raw.ack = f.raw.seq+1, answer.SequenceNumber()+1
	f.say(header.TCPFlagRst, "")
	f.l.eventually("the handshake has failed", func() bool { b := flow(); return !f.l.Stack.IsOpen(&b) })
	f.l.do(func() { f.l.Stack.SweepFlows(); f.l.Stack.SweepFlows() })
	if p.len() != 0 {
		t.Errorf("%d flows are left", p.len())
	}

	f.rain(300, calm, header.TCPFlagSyn) // fills the SYN queue
	f.raw.from++
	f.raw.seq, f.raw.ack = 1, 0
	f.l.do(func() { f.l.Stack.SweepFlows(); f.l.Stack.SweepFlows() })
	f.say(header.TCPFlagSyn, "")
	answer = f.hear()
	if b := flow(); p.has(&b) {
		t.Error("a cookie was sent, and its flow is in the table")
	}
	f.raw.seq, f.raw.ack = f.raw.seq+1, answer.SequenceNumber()+1
	f.talk("a request that completes the handshake")
	if b := flow(); !p.has(&b) {
		t.Error("the connection of a cookie is not in the table")
	}
}

// The guard goes up when something is shed, stays while the program refuses much, and is not asked for any more then.
func TestFloodIsToldToTheProgram(t *testing.T) {
	stack.LimitFloods(t, 100)
	p := newProgram()
	f := floodedOf(t, false, func(c *stack.Config) { c.Flows = p })
	f.connect()
	f.talk("before")
	if p.Guarding() {
		t.Error("there is a guard before the flood")
	}
	f.rain(1000, 256, header.TCPFlagAck)
	f.l.eventually("the program guards", p.Guarding)
	guards := func() (n int) { p.locked(func() { n = p.guards }); return n }
	// renewed waits until the guard is renewed twice, for strays that the program refuses.
	renewed := func() {
		for lasts := guards() + 2; guards() < lasts; {
			p.locked(func() { p.refused[0] += 1_000_000 })
			f.l.Stack.Wake()
		}
	}
	renewed()
	var st stack.LoopStats
	f.l.do(func() { st = f.l.Stack.LoopStats() })
	if st.Floods != 1 || st.FloodGuard != 1 {
		t.Errorf("%d floods, guard %d", st.Floods, st.FloodGuard)
	}
	// The guard's time ends: nobody renews it.
	p.locked(func() { p.guarding = false })
	last := guards()
	f.talk("after")
	f.l.eventually("it is seen that the guard is down", func() bool { return f.l.Stack.LoopStats().FloodGuard == 0 })
	if guards() != last {
		t.Errorf("the guard was renewed %d times after the flood", guards()-last)
	}
	f.rain(1000, 256, header.TCPFlagAck)
	f.l.eventually("another flood is told", func() bool { return f.l.Stack.LoopStats().Floods == 2 })
	syns := func() (told bool) { p.locked(func() { told = p.syns }); return told }
	if syns() {
		t.Error("a flood of ACKs is told to be one of SYNs")
	}
	for f.link().SynsShed == 0 {
		f.rain(3000, 3000, header.TCPFlagSyn)
	}
	f.l.eventually("a flood of SYNs is told", syns)
	f.l.do(func() {}) // it is told at the beginning of a turn; this is one later
	shed := f.link().SynsShed
	f.rain(3000, 3000, header.TCPFlagSyn)
	if more := f.link().SynsShed - shed; more != 0 {
		t.Errorf("%d SYNs are shed that the program lets pass", more)
	}
	// That lasts by the SYNs that the program refuses alone.
	renewed() // the last that were shed have been seen
	p.locked(func() { p.syns = false })
	renewed()
	if syns() {
		t.Error("strays make a flood of SYNs last")
	}
	f.l.eventually("refused SYNs make it last", func() bool {
		p.locked(func() { p.refused[0] += 1_000_000; p.refused[1] += 1_000_000 })
		f.l.Stack.Wake()
		return syns()
	})
}
