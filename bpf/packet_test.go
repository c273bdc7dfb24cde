package bpf

import (
	"encoding/binary"
	"net/netip"
)

// Builders of frames, from the inside out: ethernet(ip4(client4, own4, protoTCP, tcp(40000, 80))).

const (
	protoTCP  = 6
	protoUDP  = 17
	protoICMP = 1
	protoNone = 59
	hopByHop  = 0
	routing   = 43
	fragment  = 44
	authn     = 51
	icmpv6    = 58
	destOpts  = 60
)

var (
	own4     = netip.MustParseAddr("10.0.0.1")
	second4  = netip.MustParseAddr("10.0.0.2")
	other4   = netip.MustParseAddr("10.0.0.9")
	client4  = netip.MustParseAddr("192.0.2.7")
	backend4 = netip.MustParseAddr("10.2.0.2")
	own6     = netip.MustParseAddr("fd00::1")
	second6  = netip.MustParseAddr("fd00::2")
	other6   = netip.MustParseAddr("fd00::9")
	client6  = netip.MustParseAddr("2001:db8::7")
	backend6 = netip.MustParseAddr("fd02::2")
)

// testConfig has every kind of rule in both families.
var testConfig = Config{
	Addresses: []netip.Addr{own4, second4, own6, second6},
	Listeners: []netip.AddrPort{
		netip.MustParseAddrPort("0.0.0.0:80"),
		netip.MustParseAddrPort("[::]:80"),
		netip.AddrPortFrom(second4, 8443),
		netip.AddrPortFrom(second6, 8443),
	},
	Backends:     []netip.AddrPort{netip.AddrPortFrom(backend4, 8080), netip.AddrPortFrom(backend6, 8080)},
	BackendPorts: PortRange{20000, 29999},
}

func be16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func tcp(src, dst uint16) []byte {
	b := be16(be16(nil, src), dst)
	b = be32(be32(b, 1000), 2000)
	return append(b, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0)
}

func udp(src, dst uint16) []byte {
	return append(be16(be16(nil, src), dst), 0, 8, 0, 0)
}

// header4 is what a test may want to set in an IPv4 header besides the addresses.
type header4 struct {
	id      uint16
	flags   uint16 // and fragment offset in 8-byte units
	options []byte // a multiple of 4
}

func ip4(src, dst netip.Addr, proto byte, payload []byte) []byte {
	return ip4With(header4{}, src, dst, proto, payload)
}

func ip4With(h header4, src, dst netip.Addr, proto byte, payload []byte) []byte {
	header := 20 + len(h.options)
	b := []byte{0x40 | byte(header/4), 0}
	b = be16(b, uint16(header+len(payload)))
	b = be16(be16(b, h.id), h.flags)
	b = append(b, 64, proto, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return append(append(b, h.options...), payload...)
}

func ip6(src, dst netip.Addr, next byte, payload []byte) []byte {
	b := be16([]byte{0x60, 0, 0, 0}, uint16(len(payload)))
	b = append(b, next, 64)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	return append(b, payload...)
}

// extension is a hop-by-hop or destination options header of 8 bytes and 8 for each unit.
func extension(next byte, units int, payload []byte) []byte {
	options := make([]byte, 6+8*units)
	options[0], options[1] = 1, byte(len(options)-2) // PadN
	return append(append([]byte{next, byte(units)}, options...), payload...)
}

func routingHeader(next, segmentsLeft byte, payload []byte) []byte {
	return append([]byte{next, 0, 4, segmentsLeft, 0, 0, 0, 0}, payload...)
}

// fragmentHeader takes the offset in 8-byte units.
func fragmentHeader(next byte, offset uint16, more bool, id uint32, payload []byte) []byte {
	offset <<= 3
	if more {
		offset |= 1
	}
	return append(be32(be16([]byte{next, 0}, offset), id), payload...)
}

// chain6 is a TCP segment behind the given number of destination options headers.
func chain6(headers int, src, dst netip.Addr) []byte {
	payload, next := tcp(40000, 80), byte(protoTCP)
	for range headers {
		payload, next = extension(next, 0, payload), destOpts
	}
	return ip6(src, dst, next, payload)
}

// icmpError is an error of either family; parameter carries an MTU or a pointer.
func icmpError(kind, code byte, parameter uint32, quoted []byte) []byte {
	return append(be32([]byte{kind, code, 0, 0}, parameter), quoted...)
}

type tag struct{ protocol, id uint16 }

// ethernet puts a unicast Ethernet header and tags before an IP packet.
func ethernet(packet []byte, tags ...tag) []byte {
	kind := uint16(0x0800)
	if packet[0]>>4 == 6 {
		kind = 0x86dd
	}
	return ethernetOf(kind, packet, tags...)
}

func ethernetOf(kind uint16, payload []byte, tags ...tag) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for _, t := range tags {
		b = be16(be16(b, t.protocol), t.id)
	}
	return append(be16(b, kind), payload...)
}

// toGroup makes the destination MAC address a group address.
func toGroup(frame []byte) []byte {
	frame[0] |= 1
	return frame
}

// poke returns frame with some bytes overwritten.
func poke(frame []byte, at int, bytes ...byte) []byte {
	copy(frame[at:], bytes)
	return frame
}
