package stack_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

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
