package stacktest

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/dataplane"
	"ringroad/stack"
)

// Direct is a network without hosts, for benchmarks: what the stack sends goes to a
// function when it is kicked, what the function puts comes in next, and neither costs
// anything. It is a stack's device, waiter and resolver at once; the stack is 10.1.0.1
// on 10.1.0.0/24, where every neighbour is known.
type Direct struct {
	// Sent is shown each segment that the stack sends.
	Sent func(Segment)

	in     [][]byte
	frames [256][2048]byte // of TX, used in turn
	queued []int           // bytes in those submitted
	next   int             // the frame after the last submitted
}

var (
	_ stack.Device   = (*Direct)(nil)
	_ stack.Waiter   = (*Direct)(nil)
	_ stack.Resolver = (*Direct)(nil)
)

// Link is the link that d is.
func (d *Direct) Link() stack.Link {
	return stack.Link{
		Name: "e0", Index: 1, MTU: mtu, MAC: [6]byte{2, 0, 0, 0, 0, 1}, Device: d, Checksums: stack.ChecksumsAny,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")},
	}
}

// Put has frames come in. They may be changed when they have.
func (d *Direct) Put(frames ...[]byte) { d.in = append(d.in, frames...) }

// Waiting implements stack.Device.
func (d *Direct) Waiting() int { return len(d.in) }

// Peek implements stack.Device.
func (d *Direct) Peek(most int) int { return min(most, len(d.in)) }

// Frame implements stack.Device.
func (d *Direct) Frame(i int) []byte { return d.in[i] }

// Chained implements stack.Device.
func (d *Direct) Chained() bool { return false }

// More implements stack.Device.
func (d *Direct) More(int) bool { return false }

// Release implements stack.Device.
func (d *Direct) Release(n int) { d.in = d.in[:copy(d.in, d.in[n:])] }

// Reserve implements stack.Device.
func (d *Direct) Reserve() (f dataplane.TXFrame, b []byte, ok bool) {
	return f, d.frames[d.next][:], len(d.queued) < len(d.frames)
}

// Submit implements stack.Device.
func (d *Direct) Submit(_ dataplane.TXFrame, n int) {
	d.queued = append(d.queued, n)
	d.next = (d.next + 1) % len(d.frames)
}

// TXChecksum implements stack.Device.
func (d *Direct) TXChecksum() bool { return false }

// SubmitPartial implements stack.Device.
func (d *Direct) SubmitPartial(f dataplane.TXFrame, n, _, _ int) { d.Submit(f, n) }

// Discard implements stack.Device.
func (d *Direct) Discard(dataplane.TXFrame) {}

// Unpublished implements stack.Device.
func (d *Direct) Unpublished() int { return len(d.queued) }

// Kick implements stack.Device.
func (d *Direct) Kick() error {
	first := d.next - len(d.queued) + len(d.frames)
	for i, n := range d.queued {
		d.Sent(segmentOf(d.frames[(first+i)%len(d.frames)][leastIPBytes:n]))
	}
	d.queued = d.queued[:0]
	return nil
}

// Pending implements stack.Device.
func (d *Direct) Pending() int { return len(d.queued) }

// Poll implements stack.Waiter.
func (d *Direct) Poll() bool { return len(d.in) > 0 }

// Wait implements stack.Waiter.
func (d *Direct) Wait(time.Duration) { runtime.Gosched() }

// Wake implements stack.Waiter.
func (d *Direct) Wake() {}

// Lookup implements stack.Resolver.
func (d *Direct) Lookup(int, netip.Addr) ([6]byte, bool) { return [6]byte{2, 0, 0, 0, 0, 2}, true }

// Provoke implements stack.Resolver.
func (d *Direct) Provoke(int, netip.Addr) {}

// Generation implements stack.Resolver.
func (d *Direct) Generation() uint64 { return 1 }

// Changed implements stack.Resolver.
func (d *Direct) Changed() <-chan struct{} { return nil }

// Routes implements stack.Resolver.
func (d *Direct) Routes() []dataplane.Route {
	return []dataplane.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), IfIndex: 1, Source: netip.MustParseAddr("10.1.0.1")}}
}

// Flags of a segment.
const (
	FIN = byte(header.TCPFlagFin)
	SYN = byte(header.TCPFlagSyn)
	RST = byte(header.TCPFlagRst)
	PSH = byte(header.TCPFlagPsh)
	ACK = byte(header.TCPFlagAck)
)

// Segment is what the stack sent.
type Segment struct {
	From, To uint16 // ports
	Flags    byte
	Bytes    int    // of payload
	Acked    uint32 // the acknowledgment
	Window   uint16 // not scaled

	next, stamp uint32 // the sequence number behind it, and its timestamp
}

func segmentOf(t header.TCP) Segment {
	s := Segment{
		From: t.SourcePort(), To: t.DestinationPort(), Flags: byte(t.Flags()), Bytes: len(t) - int(t.DataOffset()),
		Acked: t.AckNumber(), Window: t.WindowSize(), stamp: header.ParseTCPOptions(t.Options()).TSVal,
	}
	s.next = t.SequenceNumber() + uint32(s.Bytes)
	if s.Flags&(SYN|FIN) != 0 {
		s.next++
	}
	return s
}

// Peer is the other end of a connection on a Direct: where it is in it, and the frames
// that it sends.
type Peer struct {
	Host     byte   // it is 10.1.0.Host
	Port, To uint16 // its port, and the stack's
	Seq, Ack uint32 // of what it sends next
	Bare     bool   // it sends no options
	Stopped  bool   // its clock of timestamps is

	stamp, echo uint32 // its last timestamp, and the stack's
	buffers     [2][512]byte
	last        int
}

const (
	etherBytes   = header.EthernetMinimumSize
	leastIPBytes = etherBytes + header.IPv4MinimumSize
	stampBytes   = 12
)

// Take is told of a segment for the peer, which acknowledges it with the next that it sends, and reports whether there is
// something new in it.
func (p *Peer) Take(s *Segment) (fresh bool) {
	fresh = p.Ack == 0 || int32(s.next-p.Ack) > 0
	if fresh {
		p.Ack = s.next
	}
	p.echo = s.stamp
	return fresh
}

// Finish makes the length and the checksums of a frame right, to which Send's was made longer.
func Finish(frame []byte) {
	ip := header.IPv4(frame[etherBytes:])
	ip.SetTotalLength(uint16(len(ip)))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	t := header.TCP(ip[header.IPv4MinimumSize:])
	t.SetChecksum(0)
	t.SetChecksum(^checksum.Checksum(t, header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(t)))))
}

// Send returns the frame of the next segment, in memory that the one after the next
// overwrites. SYN has the options of a usual client.
func (p *Peer) Send(flags byte, data string) []byte {
	if !p.Stopped {
		p.stamp++
	}
	p.last ^= 1
	options := ""
	if flags&SYN != 0 {
		options = "\x02\x04\x05\xb4\x04\x02\x01\x01\x01\x03\x03\x07" // MSS, SACK permitted, window scale
	}
	n := header.TCPMinimumSize + len(options) + stampBytes
	if p.Bare {
		n = header.TCPMinimumSize
	}
	f := p.buffers[p.last][:leastIPBytes+n+len(data)]
	copy(f, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00")
	ip := header.IPv4(f[etherBytes:])
	if total := uint16(len(f) - etherBytes); ip[0] == 0 || ip.TotalLength() != total {
		ip.Encode(&header.IPv4Fields{
			TotalLength: total, TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, p.Host}), DstAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, 1}),
		})
		ip.SetChecksum(^ip.CalculateChecksum())
	}
	t := header.TCP(f[leastIPBytes:])
	t.Encode(&header.TCPFields{SrcPort: p.Port, DstPort: p.To, SeqNum: p.Seq, AckNum: p.Ack, DataOffset: uint8(n), Flags: header.TCPFlags(flags), WindowSize: 60000})
	if !p.Bare {
		o := t[header.TCPMinimumSize+copy(t[header.TCPMinimumSize:], options):]
		copy(o, "\x01\x01\x08\x0a")
		binary.BigEndian.PutUint32(o[4:], p.stamp)
		binary.BigEndian.PutUint32(o[8:], p.echo)
	}
	copy(t[n:], data)
	p.Seq += uint32(len(data))
	if flags&(SYN|FIN) != 0 {
		p.Seq++
	}
	return f
}
