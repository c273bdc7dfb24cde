package stack_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack/stacktest"
)

// frameTCP is the TCP segment in a frame without options and extension headers,
// nil if there is none.
func frameTCP(f []byte) header.TCP {
	switch {
	case len(f) >= 14+20+20 && f[14] == 0x45 && f[14+9] == 6:
		return f[14+20 : 14+int(binary.BigEndian.Uint16(f[16:]))]
	case len(f) >= 14+40+20 && f[14]>>4 == 6 && f[14+6] == 6:
		return f[14+40:]
	}
	return nil
}

func frameFlags(f []byte) header.TCPFlags {
	if t := frameTCP(f); t != nil {
		return t.Flags()
	}
	return 0
}

// resetCounter counts the resets sent to one peer. Those behind both FINs do not
// count: a slow machine sends a FIN again, and a connection that has ended
// answers it so.
type resetCounter struct {
	mu    sync.Mutex
	fins  map[uint32]header.TCPFlags // by the peer's port and ours: directions that ended
	count int
}

const (
	toPeer header.TCPFlags = 1 << iota
	fromPeer
)

// see is told of a frame of one direction.
func (r *resetCounter) see(direction header.TCPFlags, f []byte) {
	s := frameTCP(f)
	if s == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fins == nil {
		r.fins = map[uint32]header.TCPFlags{}
	}
	peer, own := s.DestinationPort(), s.SourcePort()
	if direction == fromPeer {
		peer, own = own, peer
	}
	key := uint32(peer)<<16 | uint32(own)
	switch flags := s.Flags(); {
	case flags&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagSyn:
		delete(r.fins, key)
	case flags&header.TCPFlagFin != 0:
		r.fins[key] |= direction
	case flags&header.TCPFlagRst != 0 && direction == toPeer && r.fins[key] != toPeer|fromPeer:
		r.count++
	}
}

func (r *resetCounter) resets() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// watchClient counts the resets to the client.
func watchClient(n *stacktest.Network) *resetCounter {
	r := new(resetCounter)
	n.LoseToClient(func(f []byte) bool { r.see(toPeer, f); return true })
	n.LoseFromClient(func(f []byte) bool { r.see(fromPeer, f); return true })
	return r
}

// rawSegment is a segment from the client's host to the stack's.
type rawSegment struct {
	v6        bool
	src       netip.Addr // zero: the client's
	from, to  uint16
	seq, ack  uint32
	flags     header.TCPFlags
	ipOptions []byte // of IPv4, whole words
	options   []byte // of TCP, whole words
	window    uint16
	data      string
}

// frame is r on the wire.
func (r rawSegment) frame() []byte {
	ip, src, dst := header.IPv4MinimumSize+len(r.ipOptions), "10.1.0.2", "10.1.0.1"
	if r.v6 {
		ip, src, dst = header.IPv6MinimumSize, "fd00:1::2", "fd00:1::1"
	}
	if !r.src.IsValid() {
		r.src = netip.MustParseAddr(src)
	}
	f := make([]byte, 14+ip+header.TCPMinimumSize+len(r.options)+len(r.data))
	copy(f, []byte{2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 0x08, 0x00})
	p := f[14:]
	addresses := p[12:20]
	if r.v6 {
		f[12], f[13] = 0x86, 0xdd
		addresses = p[8:40]
		p[0], p[6], p[7] = 0x60, 6, 64
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-ip))
	} else {
		p[0], p[8], p[9] = 0x40|byte(ip/4), 64, 6
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		copy(p[header.IPv4MinimumSize:], r.ipOptions)
	}
	copy(addresses[copy(addresses, r.src.AsSlice()):], netip.MustParseAddr(dst).AsSlice())
	if !r.v6 {
		header.IPv4(p).SetChecksum(^header.IPv4(p).CalculateChecksum())
	}
	s := header.TCP(p[ip:])
	s.Encode(&header.TCPFields{
		SrcPort: r.from, DstPort: r.to, SeqNum: r.seq, AckNum: r.ack,
		DataOffset: uint8(header.TCPMinimumSize + len(r.options)), Flags: r.flags, WindowSize: r.window,
	})
	copy(s[header.TCPMinimumSize+copy(s[header.TCPMinimumSize:], r.options):], r.data)
	sum := checksum.Combine(checksum.Checksum(addresses, 6), uint16(len(s)))
	s.SetChecksum(^checksum.Checksum(s, sum))
	return f
}

func rawTCP(v6 bool, from, to uint16, seq, ack uint32, flags header.TCPFlags, data string) []byte {
	return rawSegment{window: 1000, v6: v6, from: from, to: to, seq: seq, ack: ack, flags: flags, data: data}.frame()
}

// fragmentationNeeded is an ICMP error, from the client's or the backend's host,
// that quotes the headers of a segment of ours.
func fragmentationNeeded(link int, quoted []byte, mtu uint16) []byte {
	net := byte(link + 1)
	f := []byte{2, 0, 0, 0, net, 1, 2, 0, 0, 0, net, 2, 0x08, 0x00}
	if quoted[0]>>4 == 4 {
		quoted = quoted[:28]
		icmp := header.ICMPv4(append(make([]byte, 8), quoted...))
		icmp.SetType(header.ICMPv4DstUnreachable)
		icmp.SetCode(header.ICMPv4FragmentationNeeded)
		icmp.SetMTU(mtu)
		icmp.SetChecksum(^checksum.Checksum(icmp, 0))
		ip := header.IPv4(make([]byte, 20))
		ip[0], ip[8], ip[9] = 0x45, 64, 1
		ip.SetTotalLength(uint16(20 + len(icmp)))
		copy(ip[12:], []byte{10, net, 0, 2, 10, net, 0, 1})
		ip.SetChecksum(^ip.CalculateChecksum())
		return append(append(f, ip...), icmp...)
	}
	f[12], f[13] = 0x86, 0xdd
	icmp := header.ICMPv6(append(make([]byte, 8), quoted...))
	icmp.SetType(header.ICMPv6PacketTooBig)
	icmp.SetMTU(uint32(mtu))
	ip := header.IPv6(make([]byte, 40))
	ip[0], ip[6], ip[7] = 0x60, 58, 64
	ip.SetPayloadLength(uint16(len(icmp)))
	copy(ip[8:], quoted[24:40])
	copy(ip[24:], quoted[8:24])
	sum := checksum.Combine(checksum.Checksum(ip[8:40], 58), uint16(len(icmp)))
	icmp.SetChecksum(^checksum.Checksum(icmp, sum))
	return append(append(f, ip...), icmp...)
}

// watcher remembers the largest data frame of one direction, and its packet, and loses them all while asked to.
type watcher struct {
	lose    atomic.Bool
	mu      sync.Mutex
	largest int
	packet  []byte
}

func (w *watcher) see(f []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(f) - 14; frameTCP(f) != nil && n > w.largest {
		w.largest, w.packet = n, append([]byte(nil), f[14:]...)
	}
	return !w.lose.Load()
}

func (w *watcher) take() (largest int, packet []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	largest, packet = w.largest, w.packet
	w.largest, w.packet = 0, nil
	return largest, packet
}

// fragments cuts the packet of a frame into two fragments.
func fragments(f []byte, first int) [][]byte {
	cut := func(f []byte, ip, from, to int, more bool) []byte {
		g := append(append([]byte(nil), f[:14+ip]...), f[14+ip+from:14+ip+to]...)
		p := g[14:]
		field := uint16(from)
		if p[0]>>4 == 4 {
			field >>= 3
			if more {
				field |= 0x2000
			}
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
			binary.BigEndian.PutUint16(p[4:], 77)
			binary.BigEndian.PutUint16(p[6:], field)
			header.IPv4(p).SetChecksum(0)
			header.IPv4(p).SetChecksum(^header.IPv4(p).CalculateChecksum())
			return g
		}
		if more {
			field |= 1
		}
		binary.BigEndian.PutUint16(p[4:], uint16(8+to-from))
		p[6] = 44
		extension := []byte{6, 0, byte(field >> 8), byte(field), 0, 0, 0, 77}
		return append(append(append([]byte(nil), g[:14+ip]...), extension...), g[14+ip:]...)
	}
	ip := 20
	if f[14]>>4 == 6 {
		ip = 40
	}
	all := len(f) - 14 - ip
	return [][]byte{cut(f, ip, 0, first, true), cut(f, ip, first, all, false)}
}

// withOptions puts an IPv4 option, or an IPv6 hop-by-hop header, into a frame.
func withOptions(f []byte) [][]byte {
	ip, options := 20, []byte{1, 1, 1, 0}
	if f[14]>>4 == 6 {
		ip, options = 40, []byte{6, 0, 1, 4, 0, 0, 0, 0}
	}
	g := append(append(append([]byte(nil), f[:14+ip]...), options...), f[14+ip:]...)
	p := g[14:]
	if ip == 40 {
		p[6] = 0
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	} else {
		p[0] = 0x46
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		header.IPv4(p).SetChecksum(0)
		header.IPv4(p).SetChecksum(^header.IPv4(p).CalculateChecksum())
	}
	return [][]byte{g}
}
