package stack_test

import (
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// BenchmarkAnswer is one request taken in and answered on a kept connection, in turns
// of 32 frames from 64 connections, whose peers are the benchmark itself: what the
// stack costs for half of a relayed request. cpu-ns is the processor time of the
// process, which other programs on the machine disturb least.
func BenchmarkAnswer(b *testing.B) {
	const connections, batch = 64, 32
	s := newBenchServer(b, batch, false)
	peers := make([]stacktest.Peer, connections)
	answered := 0
	s.net.Sent = func(t stacktest.Segment) {
		peers[t.To-firstBenchPort].Take(&t)
		if t.Bytes > 0 {
			answered++
		}
	}
	for i := range peers {
		p := &peers[i]
		*p = stacktest.Peer{Host: 2, Port: firstBenchPort + uint16(i), To: 80, Seq: 1000}
		s.net.Put(p.Send(stacktest.SYN, ""))
		for p.Ack == 0 {
			s.turn()
		}
		s.net.Put(p.Send(stacktest.ACK, ""))
		for s.accepted <= i {
			s.turn()
		}
	}
	next := 0
	round := func() {
		for range batch {
			s.net.Put(peers[next%connections].Send(stacktest.ACK|stacktest.PSH, benchRequest))
			next++
		}
		s.turn()
	}
	for range 100 {
		round()
	}
	before, first := processorTime(), answered
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		round()
	}
	b.StopTimer()
	n := answered - first
	if n < b.N*9/10 {
		b.Fatalf("%d answers to %d requests", n, b.N)
	}
	b.ReportMetric(float64(processorTime()-before)/float64(n), "cpu-ns/op")
}

// BenchmarkConnection is a connection for one request, in turns of 32 frames of 24
// connections: SYN of some, the ACK that ends the handshake and the request of others, and
// the FIN of others that acknowledges the answer and the server's FIN. As many end as begin.
// cpu-ns is as in BenchmarkAnswer.
func BenchmarkConnection(b *testing.B) {
	const batch = 32
	s := newBenchServer(b, batch, true)
	peers := make([]stacktest.Peer, 28232) // the ports that Linux gives clients
	for i := range peers {
		peers[i] = stacktest.Peer{Host: 2, Port: firstBenchPort + uint16(i), To: 80, Seq: 1000}
	}
	ended := 0
	s.net.Sent = func(t stacktest.Segment) {
		p := &peers[t.To-firstBenchPort]
		p.Take(&t)
		switch {
		case t.Flags&stacktest.SYN != 0:
			s.net.Put(p.Send(stacktest.ACK, ""), p.Send(stacktest.ACK|stacktest.PSH, benchRequest))
		case t.Flags&stacktest.FIN != 0:
			s.net.Put(p.Send(stacktest.ACK|stacktest.FIN, ""))
		default:
			ended++
		}
	}
	next := 0
	round := func() {
		for range batch / 4 {
			p := &peers[next%len(peers)]
			p.Seq += 1 << 20 // of a new connection (RFC 9293 3.4.1)
			s.net.Put(p.Send(stacktest.SYN, ""))
			next++
		}
		s.turn()
	}
	for next < len(peers) { // all wait in TIME_WAIT then
		round()
	}
	before, first := processorTime(), ended
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch / 4 {
		round()
	}
	b.StopTimer()
	n := ended - first
	if n < b.N*9/10 || ended < next-100 {
		b.Fatalf("%d of %d connections ended", n, b.N)
	}
	b.ReportMetric(float64(processorTime()-before)/float64(n), "cpu-ns/op")
}

// BenchmarkDial is a connection that the stack begins, for one request, in turns as those of BenchmarkConnection: the peer
// sends FIN behind its answer, and the stack closes then. cpu-ns is as in BenchmarkAnswer.
func BenchmarkDial(b *testing.B) {
	const batch = 32
	s := newBenchServer(b, batch, false)
	remote := netip.MustParseAddrPort("10.1.0.2:8080")
	peers := make(map[uint16]*stacktest.Peer)
	ended, frames := 0, 0
	s.net.Sent = func(t stacktest.Segment) {
		frames++
		p := peers[t.From]
		if p == nil {
			p = &stacktest.Peer{Host: 2, Port: 8080, To: t.From, Seq: 1000}
			peers[t.From] = p
		}
		p.Take(&t)
		switch {
		case t.Flags&stacktest.SYN != 0:
			p.Seq += 1 << 20
			s.net.Put(p.Send(stacktest.SYN|stacktest.ACK, ""))
		case t.Bytes > 0:
			s.net.Put(p.Send(stacktest.ACK|stacktest.PSH, benchAnswer), p.Send(stacktest.ACK|stacktest.FIN, ""))
		case t.Flags&stacktest.FIN != 0:
			s.net.Put(p.Send(stacktest.ACK, ""))
			ended++
		}
	}
	request := []byte(benchRequest)
	next := 0
	turn := func() {
		for range batch / 4 {
			c, err := s.stack.Connect(remote)
			if err != nil {
				b.Fatal(err)
			}
			s.stack.Poller().AddConn(c, stack.Readable|stack.Writable, c)
			next++
		}
		s.stack.Turn()
		for n := s.stack.Poller().Wait(s.events[:]); n > 0; n = s.stack.Poller().Wait(s.events[:]) {
			for _, e := range s.events[:n] {
				c := e.Data.(*stack.Conn)
				if n, err := c.Read(s.scratch[:]); n == 0 && err == stack.ErrWouldBlock {
					_, _ = c.Write(request)
				} else if err == io.EOF {
					c.Close()
				} else if n > 0 && err == nil {
					c.Close() // FIN came with it
				}
			}
		}
		s.stack.Flush()
	}
	for range 1000 {
		turn()
	}
	before, first := processorTime(), ended
	frames = 0
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch / 4 {
		turn()
	}
	b.StopTimer()
	n := ended - first
	if n < b.N*9/10 || ended < next-100 {
		b.Fatalf("%d of %d connections ended", n, b.N)
	}
	b.ReportMetric(float64(processorTime()-before)/float64(n), "cpu-ns/op")
	b.ReportMetric(float64(frames)/float64(n), "frames/op")
}

const firstBenchPort = 32768

var benchRequest, benchAnswer = strings.Repeat("r", 200), strings.Repeat("a", 150)

// benchServer answers what it reads.
type benchServer struct {
	net      *stacktest.Direct
	stack    *stack.Stack
	listener *stack.Listener
	closes   bool // behind the answer, as the proxy does (proxy/linger.go)
	accepted int
	took     func(*stack.Conn) // is shown what was accepted, if not nil
	events   [64]stack.Event
	scratch  [4096]byte
	answer   []byte
}

func newBenchServer(b testing.TB, batch int, closes bool) *benchServer {
	d := new(stacktest.Direct)
	s, err := stack.New(stack.Config{Resolver: d, Waiter: d, Batch: batch, Links: []stack.Link{d.Link()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	l, err := s.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 1024)
	if err != nil {
		b.Fatal(err)
	}
	s.Poller().AddListener(l, l)
	return &benchServer{net: d, stack: s, listener: l, closes: closes, answer: []byte(benchAnswer)}
}

func (s *benchServer) turn() {
	s.stack.Turn()
	for n := s.stack.Poller().Wait(s.events[:]); n > 0; n = s.stack.Poller().Wait(s.events[:]) {
		for _, e := range s.events[:n] {
			switch at := e.Data.(type) {
			case *stack.Listener:
				for c, err := at.Accept(); err == nil; c, err = at.Accept() {
					s.stack.Poller().AddConn(c, stack.Readable|stack.Writable, c)
					s.accepted++
					if s.took != nil {
						s.took(c)
					}
				}
			case *stack.Conn:
				s.serve(at)
			}
		}
	}
	s.stack.Flush()
}

// serve answers, or closes at the end of what the client sends.
func (s *benchServer) serve(c *stack.Conn) {
	n, err := c.Read(s.scratch[:])
	if n > 0 {
		if _, err := c.Write(s.answer); err == nil && s.closes {
			c.CloseWrite()
		}
	} else if err != stack.ErrWouldBlock {
		c.Close()
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano())
}
