package stack_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// loop drives a stack as a worker does, on a goroutine of its own.
type loop struct {
	*stacktest.Network
	t     *testing.T
	calls chan func()
	stop  atomic.Bool
	done  sync.WaitGroup
	every func() // runs each turn
	ready func(stack.Event)
	log   []stack.Event // every event, in order
}

func start(t *testing.T, configure func(*stack.Config), ready func(*loop, stack.Event)) *loop {
	return drive(t, stacktest.New(t, configure), ready)
}

// drive starts the loop of the network's Stack.
func drive(t *testing.T, n *stacktest.Network, ready func(*loop, stack.Event)) *loop {
	l := &loop{Network: n, t: t, calls: make(chan func(), 64), every: func() {}}
	l.ready = func(e stack.Event) { ready(l, e) }
	l.done.Add(1)
	go l.run()
	t.Cleanup(func() {
		l.stop.Store(true)
		l.Stack.Wake()
		l.done.Wait()
	})
	return l
}

func (l *loop) run() {
	defer l.done.Done()
	events := make([]stack.Event, 16)
	for !l.stop.Load() {
		_, work := l.Stack.Turn()
		for {
			n := l.Stack.Poller().Wait(events)
			if n == 0 {
				break
			}
			work += n
			for _, e := range events[:n] {
				l.log = append(l.log, e)
				l.ready(e)
			}
		}
		select {
		case f := <-l.calls:
			f()
			work++
		default:
		}
		l.every()
		l.Stack.Flush()
		if work == 0 {
			l.Stack.Sleep(-1)
		}
	}
}

// do runs f on the loop and waits for it.
func (l *loop) do(f func()) {
	l.t.Helper()
	ended := make(chan struct{})
	l.calls <- func() { f(); close(ended) }
	l.Stack.Wake()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		l.t.Fatal("the loop does not run")
	}
}

// eventually waits until cond, evaluated on the loop, holds.
func (l *loop) eventually(what string, cond func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		var ok bool
		l.do(func() { ok = cond() })
		if ok {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// echo is a server that writes back what it reads.
type echo struct {
	conn *stack.Conn
	out  []byte
	eof  bool
}

func (s *echo) run() {
	for {
		for len(s.out) > 0 {
			n, err := s.conn.Write(s.out)
			s.out = s.out[n:]
			if err != nil {
				return
			}
		}
		if s.eof {
			s.conn.Close()
			return
		}
		p := make([]byte, 16<<10) // more than a jumbo frame holds
		n, err := s.conn.Read(p)
		s.out = p[:n]
		switch {
		case err == io.EOF:
			s.eof = true
		case err != nil && n == 0:
			return
		}
	}
}

// serveEcho accepts on the listener and echoes.
func serveEcho(l *loop, e stack.Event) {
	switch d := e.Data.(type) {
	case *stack.Listener:
		for {
			c, err := d.Accept()
			if err != nil {
				return
			}
			s := &echo{conn: c}
			l.Stack.Poller().AddConn(c, stack.Readable|stack.Writable, s)
		}
	case *echo:
		d.run()
	}
}

func (l *loop) listen(addrs ...string) {
	l.t.Helper()
	l.do(func() {
		for _, a := range addrs {
			ln, err := l.Stack.Listen(netip.MustParseAddrPort(a), 128)
			if err != nil {
				l.t.Error(err)
				return
			}
			l.Stack.Poller().AddListener(ln, ln)
		}
	})
}

func payload(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b) //nolint:errcheck // never fails
	return b
}

// roundTrip sends body, half-closes and compares what comes back.
func roundTrip(t *testing.T, c net.Conn, body []byte) {
	t.Helper()
	c.SetDeadline(time.Now().Add(60 * time.Second)) //nolint:errcheck // shows in Read
	go func() {
		if _, err := c.Write(body); err != nil {
			t.Error("write:", err)
		}
		c.(interface{ CloseWrite() error }).CloseWrite() //nolint:errcheck // shows in Read
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal("read:", err)
	}
	if sha256.Sum256(got) != sha256.Sum256(body) {
		t.Fatalf("echo of %d bytes differs: got %d bytes", len(body), len(got))
	}
}

func TestEchoSmallAndBulk(t *testing.T) {
	l := start(t, nil, serveEcho)
	l.listen("0.0.0.0:80", "[::]:80")
	for _, addr := range []string{"10.1.0.1:80", "[fd00:1::1]:80"} {
		for _, size := range []int{0, 1, 1447, 1448, 1449, 100_000, 2 << 20} {
			c, err := l.Client.Dial(addr)
			if err != nil {
				t.Fatalf("dial %s: %v", addr, err)
			}
			roundTrip(t, c, payload(size))
			c.Close()
		}
	}
	l.do(func() {
		st := l.Stack.LinkStats(1)
		if st.RXLean == 0 || st.TXLean == 0 || st.TXSegmented == 0 || st.RXMerged == 0 {
			t.Errorf("the lean path, merging or segmentation was not used: %+v", st)
		}
		if tcp := l.Stack.TCPStats(); tcp.ChecksumErrors != 0 || tcp.SegmentsInvalid != 0 {
			t.Errorf("bad segments: %+v", tcp)
		}
	})
	free, _, all := l.FreeFrames()
	if free != all {
		t.Errorf("%d of %d TX frames are free after the load", free, all)
	}
}

// A body is merged into few segments although a batch is smaller than it.
func TestMergedFramesDoNotCountInABatch(t *testing.T) {
	const batch, burst, segment = 4, 10, 1460
	p := puppetWith(t, func(c *stack.Config) { c.Batch = batch }, false, false, serveEcho)
	p.connect()
	body := string(payload(burst * segment))
	p.l.do(func() {
		for rest := body; rest != ""; rest = rest[segment:] {
			p.say(header.TCPFlagAck, rest[:segment])
			p.raw.seq += segment
		}
		merged := p.l.Stack.LinkStats(1).RXMerged
		if _, work := p.l.Stack.Turn(); work < burst {
			t.Errorf("a turn took %d frames of %d that merge", work, burst)
		}
		if merged = p.l.Stack.LinkStats(1).RXMerged - merged; merged != burst-1 {
			t.Errorf("%d of %d segments were merged", merged, burst)
		}
	})
	p.l.eventually("all is read", func() bool { return p.l.Stack.LoopStats().BytesRead == burst*segment })
}

func TestBodiesSurviveLoss(t *testing.T) {
	l := start(t, nil, serveEcho)
	l.listen("10.1.0.1:80")
	lossy := func(seed uint64) func([]byte) bool {
		r := rand.New(rand.NewPCG(seed, 1))
		return func([]byte) bool { return r.Float64() >= 0.02 }
	}
	l.LoseFromClient(lossy(1))
	l.LoseToClient(lossy(2))
	for range 3 {
		c, err := l.Client.Dial("10.1.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, payload(1<<20))
		c.Close()
	}
	l.do(func() {
		if l.Stack.TCPStats().Retransmits == 0 {
			t.Error("nothing was resent although frames were lost")
		}
	})
}

func TestCorruptSegmentsAreNotDelivered(t *testing.T) {
	l := start(t, nil, serveEcho)
	l.listen("10.1.0.1:80")
	r := rand.New(rand.NewPCG(3, 1))
	l.LoseFromClient(func(f []byte) bool {
		if len(f) > 200 && r.Float64() < 0.02 {
			f[60+r.IntN(len(f)-60)] ^= 0x10
		}
		return true
	})
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, payload(1<<20))
	l.do(func() {
		if l.Stack.TCPStats().ChecksumErrors == 0 {
			t.Error("no corrupt segment was counted")
		}
	})
}

// TestUnfilledChecksumsAreTaken has the client leave half of the checksums unfilled, as a kernel does at the other end of a veth; of the
// others, some segments come corrupted, as over a wire behind it.
func TestUnfilledChecksumsAreTaken(t *testing.T) {
	l := start(t, func(c *stack.Config) {
		for i := range c.Links {
			c.Links[i].Checksums = stack.ChecksumsUnfilled
		}
	}, serveEcho)
	l.listen("10.1.0.1:80")
	r := rand.New(rand.NewPCG(3, 1))
	unfill := func(f []byte) {
		ip := header.IPv4(f[header.EthernetMinimumSize:])
		segment := header.TCP(ip.Payload())
		segment.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(segment))))
	}
	var corrupted atomic.Uint64
	l.LoseFromClient(func(f []byte) bool {
		switch {
		case r.Float64() < 0.5:
			unfill(f)
		case len(f) > 200 && r.Float64() < 0.02:
			corrupted.Add(1)
			f[60+r.IntN(len(f)-60)] ^= 0x10
		}
		return true
	})
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, payload(1<<20))
	l.do(func() {
		if n := l.Stack.TCPStats().ChecksumErrors; n == 0 || n != corrupted.Load() {
			t.Errorf("%d segments were corrupt, %d dropped for it", corrupted.Load(), n)
		}
	})
	l.LoseFromClient(func(f []byte) bool { unfill(f); return true })
	if _, err := l.Client.Dial("10.1.0.1:81"); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a port without listener: %v, want a reset", err) // netstack's own answer
	}
}

// dialer connects to the backend and remembers what it was told.
type dialer struct {
	conn   *stack.Conn
	events stack.Events
}

func collect(_ *loop, e stack.Event) {
	if d, ok := e.Data.(*dialer); ok {
		d.events |= e.Events
	}
}

func TestConnect(t *testing.T) {
	l := start(t, nil, collect)
	ln, err := l.Backend.Listen("10.2.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dial := func(addr string) (*dialer, error) {
		d := &dialer{}
		var err error
		l.do(func() {
			if d.conn, err = l.Stack.Connect(netip.MustParseAddrPort(addr)); err == nil {
				l.Stack.Poller().AddConn(d.conn, stack.Writable, d)
			}
		})
		return d, err
	}

	d, err := dial("10.2.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	l.eventually("established", func() bool { return d.events&stack.Writable != 0 && d.conn.Established() })
	if err := d.conn.Err(); err != nil {
		t.Error("error of a good connection:", err)
	}
	if p := d.conn.LocalAddr(); p.Addr() != netip.MustParseAddr("10.2.0.1") || p.Port() < 20000 || p.Port() > 29999 {
		t.Errorf("local address %s is not the link's, or its port is outside of the range", p)
	}

	d, err = dial("10.2.0.2:9") // nobody listens
	if err != nil {
		t.Fatal(err)
	}
	l.eventually("refused", func() bool { return d.events&(stack.Error|stack.Hangup) != 0 })
	l.do(func() {
		if err := d.conn.Err(); !errors.Is(err, stack.ErrRefused) {
			t.Errorf("error of a refused connection: %v", err)
		}
		if d.conn.Established() {
			t.Error("a refused connection says that it is established")
		}
		if _, err := d.conn.Write([]byte("x")); err == nil {
			t.Error("a refused connection takes data")
		}
	})

	if _, err = dial("192.0.2.1:80"); !errors.Is(err, stack.ErrNoRoute) {
		t.Errorf("connect without a route: %v", err)
	}
}

func TestConnectRunsOutOfPorts(t *testing.T) {
	l := start(t, func(c *stack.Config) { c.FirstPort, c.LastPort = 20000, 20002 }, collect)
	ln, err := l.Backend.Listen("10.2.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l.do(func() {
		ports := map[uint16]bool{}
		var conns []*stack.Conn
		for {
			c, err := l.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:8080"))
			if errors.Is(err, stack.ErrNoPort) {
				break
			}
			if err != nil || len(conns) > 3 {
				t.Fatalf("connection %d: %v", len(conns), err)
			}
			conns = append(conns, c)
			ports[c.LocalAddr().Port()] = true
		}
		if len(ports) != 3 || !ports[20000] || !ports[20001] || !ports[20002] {
			t.Errorf("ports used: %v", ports)
		}
		for _, c := range conns {
			c.Abort()
		}
	})
}

func TestEdgeTriggered(t *testing.T) {
	var conn *stack.Conn
	l := start(t, nil, func(l *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			if c, err := ln.Accept(); err == nil {
				conn = c
				l.Stack.Poller().AddConn(c, stack.Readable, "conn")
			}
		}
	})
	l.listen("10.1.0.1:80")
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	readable := func() (n int) {
		for _, e := range l.log {
			if e.Data == "conn" && e.Events&stack.Readable != 0 {
				n++
			}
		}
		return n
	}
	l.eventually("accepted", func() bool { return conn != nil })
	c.Write([]byte("one")) //nolint:errcheck // the event tells
	l.eventually("first event", func() bool { return readable() == 1 })
	// Nothing new: no new event, though data are unread.
	for range 20 {
		l.do(func() {})
	}
	l.do(func() {
		if n := readable(); n != 1 {
			t.Errorf("%d events for one arrival", n)
		}
		// MOD re-arms at once, because the connection is readable.
		l.Stack.Poller().ModConn(conn, stack.Readable|stack.Writable)
	})
	l.eventually("event after MOD", func() bool { return readable() == 2 })
	c.Write([]byte("two")) //nolint:errcheck // the event tells
	l.eventually("event of the second arrival", func() bool { return readable() == 3 })
	l.do(func() {
		p := make([]byte, 16)
		if n, err := conn.Read(p[:3]); err != nil || string(p[:n]) != "one" {
			t.Errorf("read %q, %v", p[:n], err)
		}
		if n, err := conn.Read(p); err != stack.ErrWouldBlock || string(p[:n]) != "two" {
			t.Errorf("read of the rest: %q, %v", p[:n], err)
		}
		if _, err := conn.Read(p); !errors.Is(err, stack.ErrWouldBlock) {
			t.Errorf("read of a drained buffer: %v", err)
		}
	})
	c.Close()
	l.eventually("event of FIN", func() bool { return readable() == 4 })
	l.do(func() {
		if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read after FIN: %v", err)
		}
		// Queued, then closed: the event must not come.
		l.Stack.Poller().ModConn(conn, stack.Readable)
		conn.Close()
	})
	l.do(func() {
		if n := readable(); n != 4 {
			t.Errorf("%d events, one of them after Close", n)
		}
	})
}

func TestWriteStopsAtFullBufferAndResumes(t *testing.T) {
	body := payload(8 << 20)
	var conn *stack.Conn
	rest := body
	blocked := 0
	l := start(t, nil, func(l *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			if c, err := ln.Accept(); err == nil {
				conn = c
				l.Stack.Poller().AddConn(c, stack.Writable, "conn")
			}
			return
		}
		n, err := conn.Write(rest)
		if rest = rest[n:]; len(rest) == 0 {
			conn.Close()
		} else if errors.Is(err, stack.ErrWouldBlock) {
			blocked++
		}
	})
	l.listen("10.1.0.1:80")
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	// The client does not read: the window closes, then the buffer fills.
	l.eventually("blocked", func() bool { return blocked > 0 })
	c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // shows in ReadAll
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("got %d of %d bytes, %v", len(got), len(body), err)
	}
}

// A server that answers and closes in one turn needs one frame for both.
func TestFINLeavesWithTheLastData(t *testing.T) {
	for _, size := range []int{1, 100, 1448, 20_000} {
		body := payload(size)
		l := start(t, nil, func(l *loop, e stack.Event) {
			switch d := e.Data.(type) {
			case *stack.Listener:
				if c, err := d.Accept(); err == nil {
					l.Stack.Poller().AddConn(c, stack.Readable, c)
				}
			case *stack.Conn:
				d.Read(make([]byte, 64)) //nolint:errcheck // a request
				d.Write(body)            //nolint:errcheck // the client tells
				d.Close()
			}
		})
		l.listen("10.1.0.1:80", "[fd00:1::1]:80")
		for _, addr := range []string{"10.1.0.1:80", "[fd00:1::1]:80"} {
			c, err := l.Client.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // shows in Read
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, body) {
				t.Fatalf("%s: got %d of %d bytes, %v", addr, len(got), size, err)
			}
			c.Close()
		}
		// 20,000 bytes are more than the initial window of ten segments: their
		// FIN cannot come with the first turn's data.
		l.do(func() {
			if n := l.Stack.LinkStats(1).FinsMerged; size < 14_000 && n != 2 {
				t.Errorf("%d bytes: %d FINs merged, want 2", size, n)
			}
		})
	}
}

func TestTXFramesExhausted(t *testing.T) {
	body := payload(4 << 20)
	l := start(t, nil, func(l *loop, e stack.Event) {
		if d, ok := e.Data.(*dialer); ok {
			for len(body) > 0 {
				n, err := d.conn.Write(body)
				body = body[n:]
				if err != nil {
					return
				}
			}
			d.conn.Close()
		}
	})
	want := sha256.Sum256(body)
	ln, err := l.Backend.Listen("10.2.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sum := make(chan [32]byte, 1)
	accepted := make(chan struct{})
	go func() {
		c, err := ln.Accept()
		close(accepted)
		if err == nil {
			h := sha256.New()
			io.Copy(h, c) //nolint:errcheck // the sum tells
			sum <- [32]byte(h.Sum(nil))
		}
	}()
	l.do(func() {
		c, err := l.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:8080"))
		if err != nil {
			t.Error(err)
			return
		}
		l.Stack.Poller().AddConn(c, stack.Writable, &dialer{conn: c})
	})
	<-accepted
	l.StallBackendTX(true)
	l.eventually("congested or waiting for the window", func() bool {
		_, free, _ := l.FreeFrames()
		return l.Stack.Congested() || free < 500
	})
	l.StallBackendTX(false)
	select {
	case got := <-sum:
		if got != want {
			t.Error("the body differs")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the transfer did not resume")
	}
	l.eventually("all frames free", func() bool { _, free, all := l.FreeFrames(); return free == all })
}

func TestUnknownNeighbourDelaysButLosesNothing(t *testing.T) {
	l := start(t, nil, collect)
	ln, err := l.Backend.Listen("10.2.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l.SetNeighboursKnown(false)
	d := &dialer{}
	l.do(func() {
		if d.conn, err = l.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:8080")); err == nil {
			l.Stack.Poller().AddConn(d.conn, stack.Writable, d)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	l.eventually("waits", func() bool { return l.Stack.LinkStats(2).TXUnresolved == 1 })
	l.SetNeighboursKnown(true)
	l.eventually("established", func() bool { return d.conn.Established() })
	l.do(func() {
		if st := l.Stack.LinkStats(2); st.TXUnresolvedDropped != 0 || l.Stack.TCPStats().Retransmits != 0 {
			t.Errorf("the SYN was dropped or resent: %+v", st)
		}
	})
}

func TestAckHolding(t *testing.T) {
	var respond atomic.Bool
	respond.Store(true)
	// Long enough for an answer also on a slow machine.
	l := start(t, func(c *stack.Config) { c.TCP.AckDelay = 100 * time.Millisecond }, func(l *loop, e stack.Event) {
		if s, ok := e.Data.(*echo); ok && !respond.Load() {
			s.conn.Read(make([]byte, 4096)) //nolint:errcheck // swallows
			return
		}
		serveEcho(l, e)
	})
	l.listen("10.1.0.1:80")
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // shows in Read
	for range 200 {
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	l.do(func() {
		st := l.Stack.LinkStats(1)
		// The first ACK of a flow is not held.
		if st.AcksHeld < 190 || st.AcksSaved < 150 {
			t.Errorf("of 200 requests %d ACKs were held and %d carried by the answer", st.AcksHeld, st.AcksSaved)
		}
	})
	// Without an answer the ACK leaves when its delay ends: the client's
	// netstack must not resend (its RTO is 200 ms).
	respond.Store(false)
	var before stack.LinkStats
	l.do(func() { before = l.Stack.LinkStats(1) })
	if _, err := c.Write([]byte("unanswered")); err != nil {
		t.Fatal(err)
	}
	l.eventually("the held ACK is sent", func() bool { return l.Stack.LinkStats(1).AcksExpired > before.AcksExpired })
}

func TestFlowsAndConnectionsAreForgotten(t *testing.T) {
	l := start(t, func(c *stack.Config) { c.TCP.TimeWait = 10 * time.Millisecond }, serveEcho)
	l.listen("10.1.0.1:80")
	var base uint64
	l.do(func() { base = l.Stack.TCPStats().Endpoints })
	for range 50 {
		c, err := l.Client.Dial("10.1.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, []byte("x"))
		c.Close()
	}
	l.eventually("no endpoint is left but the listener", func() bool {
		n, _ := l.Stack.Walk()
		return n == base && l.Stack.TCPStats().Endpoints == base
	})
}

// hangUp is a server that closes as soon as it reads something, first.
func hangUp(l *loop, e stack.Event) {
	switch d := e.Data.(type) {
	case *stack.Listener:
		for {
			c, err := d.Accept()
			if err != nil {
				return
			}
			l.Stack.Poller().AddConn(c, stack.Readable, c)
		}
	case *stack.Conn:
		d.Read(make([]byte, 64)) //nolint:errcheck // a request
		d.Write([]byte("bye"))   //nolint:errcheck // the client tells
		d.Close()
	}
}

// TestClosedConnectionDoesNotWaitForEver: a peer that acknowledges and never opens its window
// again cannot keep what was written to it.
func TestClosedConnectionDoesNotWaitForEver(t *testing.T) {
	var server *stack.Conn
	refused := 0
	l := start(t, func(c *stack.Config) { c.TCP.FinWait2 = 500 * time.Millisecond }, func(l *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			server, _ = ln.Accept()
			l.Stack.Poller().AddConn(server, stack.Writable, server)
		}
	})
	l.listen("0.0.0.0:80")
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The client takes what its receive buffer holds, and no more.
	l.eventually("both buffers are full", func() bool {
		if server == nil {
			return false
		}
		n, _ := server.Write(make([]byte, 1<<20))
		if refused++; n > 0 {
			refused = 0
		}
		return refused == 20
	})
	l.do(func() { server.Close() })
	l.eventually("the connection is gone", func() bool { return l.Stack.TCPStats().Endpoints == 1 }) // the listener
}

func TestTimeWaitAnswersALateFINAndLetsTheTupleBeUsedAgain(t *testing.T) {
	for _, addr := range []string{"10.1.0.1:80", "[fd00:1::1]:80"} {
		l := start(t, nil, hangUp)
		l.listen("0.0.0.0:80", "[::]:80")
		ip := 14 + 20
		if addr[0] == '[' {
			ip = 14 + 40
		}
		// The ACK of the client's FIN is lost, so that the FIN comes again.
		var finSeen, dropped, resets atomic.Int32
		l.LoseFromClient(func(f []byte) bool {
			if len(f) > ip+13 && f[ip+13]&1 != 0 {
				finSeen.Add(1)
			}
			return true
		})
		l.LoseToClient(func(f []byte) bool {
			if len(f) > ip+13 && f[ip+13]&4 != 0 {
				resets.Add(1)
			}
			return finSeen.Load() == 0 || len(f) <= ip+13 || f[ip+13] != 0x10 || !dropped.CompareAndSwap(0, 1)
		})
		say := func() {
			c, err := l.Client.DialFrom(40000, addr)
			if err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // shows in Read
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
				t.Fatalf("%s: read %q, %v", addr, got, err)
			}
			c.Close()
		}
		say()
		l.eventually("the FIN came again and was answered", func() bool {
			return finSeen.Load() >= 2 && l.Stack.LinkStats(1).TimeWaitSegments >= 1
		})
		l.do(func() {
			if st := l.Stack.LinkStats(1); st.TimeWait != 1 || l.Stack.TCPStats().Endpoints > 2 {
				t.Errorf("%d connections wait, %d endpoints are left of two listeners", st.TimeWait, l.Stack.TCPStats().Endpoints)
			}
		})
		l.eventually("the client is done", func() bool { return l.Client.Connections() == 0 })
		say() // the same tuple
		if n := resets.Load(); n != 0 {
			t.Errorf("%s: %d resets were sent", addr, n)
		}
	}
}

func TestAbortAndUnreadDataReset(t *testing.T) {
	for _, how := range []string{"abort", "close with unread data"} {
		t.Run(how, func(t *testing.T) {
			got := make(chan *stack.Conn, 1)
			l := start(t, nil, func(l *loop, e stack.Event) {
				switch d := e.Data.(type) {
				case *stack.Listener:
					if c, err := d.Accept(); err == nil {
						l.Stack.Poller().AddConn(c, stack.Readable, c)
					}
				case *stack.Conn:
					select {
					case got <- d:
					default:
					}
				}
			})
			l.listen("10.1.0.1:80")
			c, err := l.Client.Dial("10.1.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("data")) //nolint:errcheck // the event tells
			conn := <-got
			l.do(func() {
				if how == "abort" {
					conn.Abort()
				} else {
					conn.Close()
				}
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, stack.ErrClosed) {
					t.Errorf("read of a closed connection: %v", err)
				}
			})
			c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // shows in Read
			if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF || errors.Is(err, net.ErrClosed) {
				t.Errorf("the peer read %v, want a reset", err)
			}
		})
	}
}

func TestGarbageFramesAreCounted(t *testing.T) {
	l := start(t, nil, serveEcho)
	l.listen("10.1.0.1:80")
	vlan := append(make([]byte, 12), 0x81, 0x00, 0x00, 0x64, 0x08, 0x00)
	priority := append(make([]byte, 12), 0x81, 0x00, 0xe0, 0x00, 0x08, 0x00, 0x45)
	for _, f := range [][]byte{{}, make([]byte, 13), append(make([]byte, 12), 0x88, 0xcc, 0), vlan, priority, vlan[:15]} {
		l.InjectFromClient(slices.Clone(f))
	}
	l.eventually("counted", func() bool {
		st := l.Stack.LinkStats(1)
		return st.RXFrames == 6 && st.RXMalformed == 4 && st.RXForeignVLAN == 1
	})
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, payload(1000))
}
