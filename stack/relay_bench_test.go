package stack_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/dataplane"
	"ringroad/stack"
)

// BenchmarkRelay is 64 KB relayed from a backend to a client, which acknowledges every fourth segment, on 16 kept pairs of
// connections with frames of 1514 bytes, whose checksums are verified: what the stack costs for a large answer, whose peers
// are the benchmark itself.
func BenchmarkRelay(b *testing.B) {
	const pairs = 16
	w := &relayWire{}
	client, backend := &relayDevice{wire: w}, &relayDevice{wire: w}
	client.init()
	backend.init()
	at := func(index byte, d stack.Device) stack.Link {
		return stack.Link{
			Index: int(index), MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, index}, Device: d,
			Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, index, 0, 1}), 24)},
		}
	}
	s, err := stack.New(stack.Config{Resolver: w, Waiter: w, Links: []stack.Link{at(1, client), at(2, backend)}, FirstPort: 20000, LastPort: 29999})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 1024)
	if err != nil {
		b.Fatal(err)
	}
	s.Poller().AddListener(l, l)
	var list []*relayPair
	pairOf := func(end *relayEnd) *relayPair { return list[end.pair] }
	buf, events := make([]byte, 64<<10), make([]stack.Event, 64)
	turn := func() {
		s.Turn()
		for n := s.Poller().Wait(events); n > 0; n = s.Poller().Wait(events) {
			for _, e := range events[:n] {
				switch at := e.Data.(type) {
				case *stack.Listener:
					for c, err := l.Accept(); err == nil; c, err = l.Accept() {
						p := list[len(list)-1]
						p.client = c
						s.Poller().AddConn(c, stack.Readable, &relayEnd{pair: len(list) - 1, ofClient: true})
					}
				case *relayEnd:
					p := pairOf(at)
					from, to := p.backend, p.client
					if at.ofClient {
						from, to = to, from
					}
					for {
						n, err := from.Read(buf)
						if n > 0 {
							if _, err := to.Write(buf[:n]); err != nil {
								b.Fatal(err)
							}
						}
						if err != nil || n == 0 {
							break
						}
					}
				}
			}
		}
		s.Flush()
	}
	for i := range pairs {
		p := &relayPair{}
		list = append(list, p)
		p.c.init(1, uint16(5000+i), 80)
		client.peers[p.c.port] = &p.c
		client.push(p.c.syn(0))
		for p.client == nil {
			turn()
			if p.c.synced && p.c.seq == 1000 {
				p.c.seq++
				client.push(p.c.frame(header.TCPFlagAck, 0))
			}
		}
		if p.backend, err = s.Connect(netip.MustParseAddrPort("10.2.0.2:8080")); err != nil {
			b.Fatal(err)
		}
		port := p.backend.LocalAddr().Port()
		p.b.init(2, 8080, port)
		backend.peers[port] = &p.b
		s.Poller().AddConn(p.backend, stack.Readable, &relayEnd{pair: i})
		p.b.ack = backend.opened
		backend.push(p.b.syn(header.TCPFlagAck))
		p.b.seq++
		for !p.backend.Established() {
			turn()
		}
	}
	answer := func() {
		for _, p := range list {
			want := p.c.received + relayBytes
			client.push(p.c.frame(header.TCPFlagAck|header.TCPFlagPsh, requestBytes))
			p.c.seq += requestBytes
			for p.b.received < p.c.sent() {
				turn()
			}
			backend.respond(&p.b)
			for rounds := 0; p.c.received < want; rounds++ {
				if rounds > 1000 {
					b.Fatalf("%d bytes of %d", relayBytes-want+p.c.received, relayBytes)
				}
				turn()
				time.Sleep(0)
			}
		}
	}
	for range 30 {
		answer()
	}
	frames, acks := client.sent, backend.sent
	before := processorTime()
	b.SetBytes(relayBytes)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += pairs {
		answer()
	}
	b.StopTimer()
	n := float64((b.N + pairs - 1) / pairs * pairs)
	b.ReportMetric(float64(processorTime()-before)/n, "cpu-ns/op")
	b.ReportMetric(float64(client.sent-frames)/n, "frames/op")
	b.ReportMetric(float64(backend.sent-acks)/n, "to-backend/op")
}

const (
	requestBytes = 200
	relayBytes   = 64 << 10
	fullBytes    = 1448 // of payload in a frame
)

// relayPair are a connection from a client and the one to a backend that it is relayed to.
type relayPair struct {
	client, backend *stack.Conn
	c, b            relayPeer
}

// relayEnd says whose event it is.
type relayEnd struct {
	pair     int
	ofClient bool
}

// relayPeer is the other end of a connection. Its frames are written once; what changes is then patched.
type relayPeer struct {
	net         byte
	port, local uint16 // its own, and the stack's
	seq, ack    uint32
	stamp       uint32
	echo        uint32
	received    int
	unanswered  int
	synced      bool
	sums        map[int]uint16 // of payloads, by their length
	mem         [64][2048]byte
	next        int
}

func (p *relayPeer) init(net byte, port, local uint16) {
	*p = relayPeer{net: net, port: port, local: local, seq: 1000}
	p.sums = map[int]uint16{}
	for i := range p.mem {
		for k := range p.mem[i][66:] {
			p.mem[i][66+k] = byte(k*7 + k>>8)
		}
	}
	for _, n := range []int{0, requestBytes, fullBytes, relayBytes % fullBytes} {
		p.sums[n] = checksum.Checksum(p.mem[0][66:66+n], 0)
	}
}

func (p *relayPeer) sent() int { return int(p.seq - 1001) }

// frame is a segment with the first n bytes of the payload.
func (p *relayPeer) frame(flags header.TCPFlags, n int) []byte {
	f := p.mem[p.next%len(p.mem)][:14+20+20+12+n]
	p.next++
	return p.finish(f, flags, 12, p.sums[n])
}

// syn is a SYN with an MSS of 1460, SACK permitted, a scale of the window and timestamps.
func (p *relayPeer) syn(flags header.TCPFlags) []byte {
	f := make([]byte, 14+20+20+24)
	copy(f[54:], []byte{2, 4, 0x05, 0xb4, 4, 2, 1, 1, 1, 3, 3, 7})
	return p.finish(f, flags|header.TCPFlagSyn, 24, 0)
}

// finish writes the headers of a frame, whose last option is timestamps and whose payload has the sum.
func (p *relayPeer) finish(f []byte, flags header.TCPFlags, options int, sum uint16) []byte {
	copy(f, []byte{2, 0, 0, 0, 0, p.net, 2, 0, 0, 0, 0, 9, 8, 0})
	ip, t := header.IPv4(f[14:]), header.TCP(f[34:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), TTL: 64, Protocol: 6, SrcAddr: tcpip.AddrFrom4([4]byte{10, p.net, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, p.net, 0, 1})})
	ip.SetChecksum(^ip.CalculateChecksum())
	t.Encode(&header.TCPFields{SrcPort: p.port, DstPort: p.local, SeqNum: p.seq, AckNum: p.ack, DataOffset: uint8(20 + options), Flags: flags, WindowSize: 60000})
	o := t[20+options-12:]
	copy(o, []byte{1, 1, 8, 10})
	binary.BigEndian.PutUint32(o[4:], p.stamp)
	binary.BigEndian.PutUint32(o[8:], p.echo)
	sum = checksum.Combine(sum, header.PseudoHeaderChecksum(6, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(t))))
	t.SetChecksum(^t.CalculateChecksum(sum))
	return f
}

// relayDevice is the device of one link, whose frames are as many as a queue's.
type relayDevice struct {
	wire   *relayWire
	in     [][]byte
	out    [][2048]byte
	next   int
	sent   int
	opened uint32 // what acknowledges the SYN that was sent last
	peers  map[uint16]*relayPeer
}

func (d *relayDevice) init() {
	d.out, d.peers = make([][2048]byte, 128), map[uint16]*relayPeer{}
}

func (d *relayDevice) push(f []byte) { d.in = append(d.in, f) }

// respond has p send relayBytes.
func (d *relayDevice) respond(p *relayPeer) {
	p.stamp++
	for left := relayBytes; left > 0; {
		n := min(left, fullBytes)
		flags := header.TCPFlagAck
		if left -= n; left == 0 {
			flags |= header.TCPFlagPsh
		}
		d.push(p.frame(flags, n))
		p.seq += uint32(n)
	}
}

func (d *relayDevice) Waiting() int       { return len(d.in) }
func (d *relayDevice) Peek(max int) int   { return min(max, len(d.in)) }
func (d *relayDevice) Frame(i int) []byte { return d.in[i] }
func (d *relayDevice) Chained() bool      { return false }
func (d *relayDevice) More(int) bool      { return false }
func (d *relayDevice) Release(n int)      { d.in = d.in[:copy(d.in, d.in[n:])] }
func (d *relayDevice) Reserve() (f dataplane.TXFrame, b []byte, ok bool) {
	d.next = (d.next + 1) % len(d.out)
	return dataplane.TXFrame(d.next), d.out[d.next][:], true
}

// Submit has the peer take a frame.
func (d *relayDevice) Submit(f dataplane.TXFrame, n int) {
	d.sent++
	t := header.TCP(d.out[f][34:n])
	port := t.DestinationPort()
	if port == 8080 {
		port = t.SourcePort()
	}
	if t.Flags()&header.TCPFlagSyn != 0 {
		d.opened = t.SequenceNumber() + 1
	}
	p := d.peers[port]
	if p == nil {
		return
	}
	p.echo = binary.BigEndian.Uint32(t[t.DataOffset()-8:])
	bytes := n - 34 - int(t.DataOffset())
	if t.Flags()&header.TCPFlagSyn != 0 {
		p.ack, p.synced = d.opened, true
		return
	}
	if bytes == 0 || t.SequenceNumber() != p.ack {
		return
	}
	p.ack += uint32(bytes)
	p.received += bytes
	if p.unanswered++; p.net == 1 && (p.unanswered == 4 || p.received%relayBytes == 0) {
		p.unanswered = 0
		d.push(p.frame(header.TCPFlagAck, 0))
	}
}

func (d *relayDevice) TXChecksum() bool                               { return false }
func (d *relayDevice) SubmitPartial(f dataplane.TXFrame, n, _, _ int) { d.Submit(f, n) }
func (d *relayDevice) Discard(dataplane.TXFrame)                      {}
func (d *relayDevice) Unpublished() int                               { return 0 }
func (d *relayDevice) Kick() error                                    { return nil }
func (d *relayDevice) Pending() int                                   { return 0 }

// relayWire is the waiter and the resolver, which are never needed.
type relayWire struct{}

func (*relayWire) Poll() bool                             { return false }
func (*relayWire) Wait(time.Duration)                     {}
func (*relayWire) Wake()                                  {}
func (*relayWire) Lookup(int, netip.Addr) ([6]byte, bool) { return [6]byte{2, 0, 0, 0, 0, 9}, true }
func (*relayWire) Provoke(int, netip.Addr)                {}
func (*relayWire) Generation() uint64                     { return 1 }
func (*relayWire) Changed() <-chan struct{}               { return nil }
func (*relayWire) Routes() []dataplane.Route {
	return []dataplane.Route{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24"), IfIndex: 1, Source: netip.MustParseAddr("10.1.0.1")},
		{Prefix: netip.MustParsePrefix("10.2.0.0/24"), IfIndex: 2, Source: netip.MustParseAddr("10.2.0.1")},
	}
}
