package pcapfilter

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
)

// Where things are in an Ethernet frame.
const (
	atEtherType  = 12
	atNetwork    = 14
	atFragment4  = atNetwork + 6
	atProtocol4  = atNetwork + 9
	atAddresses4 = atNetwork + 12
	atNext6      = atNetwork + 6
	atAddresses6 = atNetwork + 8
	atTransport6 = atNetwork + 40

	etherIPv4, etherIPv6, etherARP = 0x0800, 0x86dd, 0x0806

	protocolFragment6 = 44
)

// protocols are those that names stand for.
var protocols = map[string]uint32{"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "esp": 50, "ah": 51, "icmp6": 58, "sctp": 132}

// withPorts are the protocols whose header begins with two ports.
var withPorts = []string{"tcp", "udp", "sctp"}

func equal(at, size int, val uint32) node {
	return test{code: []bpf.Instruction{bpf.LoadAbsolute{Off: uint32(at), Size: size}}, cond: bpf.JumpEqual, val: val}
}

func masked(at int, mask, val uint32) node {
	return test{code: []bpf.Instruction{
		bpf.LoadAbsolute{Off: uint32(at), Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask},
	}, cond: bpf.JumpEqual, val: val}
}

var (
	isIPv4 = equal(atEtherType, 2, etherIPv4)
	isIPv6 = equal(atEtherType, 2, etherIPv6)
	isARP  = equal(atEtherType, 2, etherARP)
	// isFirst4 is true for what has a transport header.
	isFirst4 = not{test{code: []bpf.Instruction{bpf.LoadAbsolute{Off: atFragment4, Size: 2}}, cond: bpf.JumpBitsSet, val: 0x1fff}}
)

func carries4(protocol uint32) node { return and{isIPv4, equal(atProtocol4, 1, protocol)} }

// carries6 looks behind a fragment header, as tcpdump does.
func carries6(protocol uint32) node {
	return and{isIPv6, or{equal(atNext6, 1, protocol), and{equal(atNext6, 1, protocolFragment6), equal(atTransport6, 1, protocol)}}}
}

// ofProtocol is a protocol's name as a primitive.
func ofProtocol(name string) node {
	switch name {
	case "ip":
		return isIPv4
	case "ip6":
		return isIPv6
	case "arp":
		return isARP
	case "icmp", "igmp":
		return carries4(protocols[name])
	case "icmp6":
		return carries6(protocols[name])
	}
	return or{carries4(protocols[name]), carries6(protocols[name])}
}

// direction says which of two things is meant.
type direction int

const (
	anyDirection direction = iota
	source
	destination
	bothDirections
)

func (d direction) of(src, dst node) node {
	switch d {
	case source:
		return src
	case destination:
		return dst
	case bothDirections:
		return and{src, dst}
	}
	return or{src, dst}
}

// inNet is true for packets from or to a network.
func inNet(n netip.Prefix, d direction) node {
	if n.Addr().Is4() {
		a := n.Addr().As4()
		word := binary.BigEndian.Uint32(a[:])
		mask := maskOf(n.Bits())
		return and{isIPv4, d.of(masked(atAddresses4, mask, word), masked(atAddresses4+4, mask, word))}
	}
	a := n.Addr().As16()
	words := func(at int) node {
		var tests []node
		for i := 0; i < 4 && n.Bits() > 32*i; i++ {
			tests = append(tests, masked(at+4*i, maskOf(min(n.Bits()-32*i, 32)), binary.BigEndian.Uint32(a[4*i:])))
		}
		if len(tests) == 0 {
			return isIPv6
		}
		return all(tests...)
	}
	return and{isIPv6, d.of(words(atAddresses6), words(atAddresses6+16))}
}

func maskOf(bits int) uint32 { return uint32(^uint64(0xffffffff >> bits)) }

// inPorts is true for the given protocols' packets from or to a range of ports, over
// IPv4, IPv6 or both.
func inPorts(names []string, v4, v6 bool, d direction, first, last uint32) node {
	within := func(load ...bpf.Instruction) node {
		if first == last {
			return test{code: load, cond: bpf.JumpEqual, val: first}
		}
		return and{test{code: load, cond: bpf.JumpGreaterOrEqual, val: first}, test{code: load, cond: bpf.JumpLessOrEqual, val: last}}
	}
	port4 := func(at uint32) node {
		return within(bpf.LoadMemShift{Off: atNetwork}, bpf.LoadIndirect{Off: atNetwork + at, Size: 2})
	}
	port6 := func(at uint32) node { return within(bpf.LoadAbsolute{Off: atTransport6 + at, Size: 2}) }
	var is4, is6, ways []node
	for _, name := range names {
		is4 = append(is4, equal(atProtocol4, 1, protocols[name]))
		is6 = append(is6, equal(atNext6, 1, protocols[name]))
	}
	if v4 {
		ways = append(ways, all(isIPv4, either(is4...), isFirst4, d.of(port4(0), port4(2))))
	}
	if v6 {
		ways = append(ways, all(isIPv6, either(is6...), d.of(port6(0), port6(2))))
	}
	return either(ways...)
}

// hasMAC is true for frames from or to an Ethernet address.
func hasMAC(mac [6]byte, d direction) node {
	at := func(at int) node {
		return and{equal(at, 4, binary.BigEndian.Uint32(mac[:])), equal(at+4, 2, uint32(binary.BigEndian.Uint16(mac[4:])))}
	}
	return d.of(at(6), at(0))
}
