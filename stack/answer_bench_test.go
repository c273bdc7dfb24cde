package stack_test

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/dataplane"
	"ringroad/stack"
)

// BenchmarkAnswer is one request taken in and answered on a kept connection, in turns
// of 32 frames from 64 connections, whose peers are the benchmark itself: what the
// stack costs for half of a relayed request. cpu-ns is the processor time of the
// process, which other programs on the machine disturb least.
func BenchmarkAnswer(b *testing.B) {
	const connections, batch = 64, 32
	d := &benchDevice{}
	s, err := stack.New(stack.Config{
		Resolver: d, Waiter: d, Batch: batch,
		Links: []stack.Link{{
			Name: "e0", Index: 1, MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, 1}, Device: d, TrustChecksum: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")},
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 1024)
	if err != nil {
		b.Fatal(err)
	}
	s.Poller().AddListener(l, l)
	request, answer, scratch := make([]byte, 200), make([]byte, 150), make([]byte, 4096)
	events := make([]stack.Event, 64)
	accepted := 0
	turn := func() {
		s.Turn()
		for n := s.Poller().Wait(events); n > 0; n = s.Poller().Wait(events) {
			for _, e := range events[:n] {
				switch at := e.Data.(type) {
				case *stack.Listener:
					for c, err := l.Accept(); err == nil; c, err = l.Accept() {
						s.Poller().AddConn(c, stack.Readable, c)
						accepted++
					}
				case *stack.Conn:
					if n, _ := at.Read(scratch); n > 0 {
						if _, err := at.Write(answer); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
		}
		s.Flush()
	}
	peers := make([]benchPeer, connections)
	for i := range peers {
		p := &peers[i]
		*p = benchPeer{port: uint16(5000 + i), seq: 1000}
		d.peers[p.port-5000] = p
		d.in = append(d.in, p.frame(header.TCPFlagSyn, nil, 2, 4, 0x05, 0xb4, 4, 2, 1, 1))
		for p.ack == 0 {
			turn()
		}
		p.seq++
		d.in = append(d.in, p.frame(header.TCPFlagAck, nil))
		for accepted <= i {
			turn()
		}
	}
	round := func() {
		for i := range batch {
			p := &peers[(d.next+i)%connections]
			d.in = append(d.in, p.frame(header.TCPFlagAck|header.TCPFlagPsh, request))
			p.seq += uint32(len(request))
		}
		d.next += batch
		turn()
	}
	for range 100 {
		round()
	}
	before, answered := processorTime(), d.answered
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		round()
	}
	b.StopTimer()
	n := d.answered - answered
	if n < b.N*9/10 {
		b.Fatalf("%d answers to %d requests", n, b.N)
	}
	b.ReportMetric(float64(processorTime()-before)/float64(n), "cpu-ns/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano())
}

// benchPeer is a client that acknowledges with its next request.
type benchPeer struct {
	port     uint16
	seq, ack uint32
	stamp    uint32
	echo     uint32 // timestamp of what came last
	buf      [2048]byte
}

func (p *benchPeer) frame(flags header.TCPFlags, data []byte, options ...byte) []byte {
	p.stamp++
	f := p.buf[:14+20+20+12+len(options)+len(data)]
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0})
	ip := header.IPv4(f[14:])
	if ip[0] == 0 || flags&header.TCPFlagPsh == 0 || ip.TotalLength() != uint16(len(f)-14) {
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(f) - 14), TTL: 64, Protocol: 6, SrcAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, 1})})
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	t := header.TCP(f[34:])
	t.Encode(&header.TCPFields{SrcPort: p.port, DstPort: 80, SeqNum: p.seq, AckNum: p.ack, DataOffset: uint8(32 + len(options)), Flags: flags, WindowSize: 60000})
	copy(t[20:], options)
	o := t[20+len(options):]
	copy(o, []byte{1, 1, 8, 10})
	binary.BigEndian.PutUint32(o[4:], p.stamp)
	binary.BigEndian.PutUint32(o[8:], p.echo)
	copy(o[12:], data)
	return f
}

// benchDevice is a device, and the waiter and resolver that it never needs.
type benchDevice struct {
	in       [][]byte
	out      [2048]byte
	next     int
	answered int
	peers    [64]*benchPeer
}

func (d *benchDevice) Waiting() int       { return len(d.in) }
func (d *benchDevice) Peek(max int) int   { return min(max, len(d.in)) }
func (d *benchDevice) Frame(i int) []byte { return d.in[i] }
func (d *benchDevice) Chained() bool      { return false }
func (d *benchDevice) More(int) bool      { return false }
func (d *benchDevice) Release(n int)      { d.in = d.in[:copy(d.in, d.in[n:])] }
func (d *benchDevice) Reserve() (f dataplane.TXFrame, b []byte, ok bool) {
	return f, d.out[:], true
}
func (d *benchDevice) Submit(_ dataplane.TXFrame, n int) {
	t := header.TCP(d.out[34:n])
	p := d.peers[t.DestinationPort()-5000]
	p.echo = t.ParsedOptions().TSVal
	p.ack = t.SequenceNumber() + uint32(n-34-int(t.DataOffset()))
	if t.Flags()&header.TCPFlagSyn != 0 {
		p.ack++
	}
	if n > 100 {
		d.answered++
	}
}
func (d *benchDevice) TXChecksum() bool                               { return false }
func (d *benchDevice) SubmitPartial(f dataplane.TXFrame, n, _, _ int) { d.Submit(f, n) }
func (d *benchDevice) Discard(dataplane.TXFrame)                      {}
func (d *benchDevice) Unpublished() int                               { return 0 }
func (d *benchDevice) Kick() error                                    { return nil }
func (d *benchDevice) Pending() int                                   { return 0 }
func (d *benchDevice) Poll() bool                                     { return false }
func (d *benchDevice) Wait(time.Duration)                             {}
func (d *benchDevice) Wake()                                          {}
func (d *benchDevice) Lookup(int, netip.Addr) ([6]byte, bool)         { return [6]byte{2, 0, 0, 0, 0, 2}, true }
func (d *benchDevice) Provoke(int, netip.Addr)                        {}
func (d *benchDevice) Generation() uint64                             { return 1 }
func (d *benchDevice) Changed() <-chan struct{}                       { return nil }
func (d *benchDevice) Routes() []dataplane.Route {
	return []dataplane.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), IfIndex: 1, Source: netip.MustParseAddr("10.1.0.1")}}
}
