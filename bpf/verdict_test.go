package bpf

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
)

// verdictCase is a frame and what becomes of it under testConfig.
type verdictCase struct {
	name    string
	before  [][]byte // frames seen earlier
	frame   []byte
	padding int // bytes of frame behind the IP packet
	want    Verdict
	bench   bool
}

func verdictCases() []verdictCase {
	return slices.Concat(tcpCases(), linkCases(), headerCases(), fragmentCases(), icmpCases(), malformedCases())
}

func tcpCases() []verdictCase {
	tcp4 := func(src, dst uint16) []byte { return ethernet(ip4(client4, own4, protoTCP, tcp(src, dst))) }
	tcp6 := func(src, dst uint16) []byte { return ethernet(ip6(client6, own6, protoTCP, tcp(src, dst))) }
	reply4 := func(src, dst uint16) []byte { return ethernet(ip4(backend4, own4, protoTCP, tcp(src, dst))) }
	reply6 := func(src, dst uint16) []byte { return ethernet(ip6(backend6, own6, protoTCP, tcp(src, dst))) }
	return []verdictCase{
		{name: "tcp4 listener on any address", frame: tcp4(40000, 80), want: RedirectListener, bench: true},
		{name: "tcp6 listener on any address", frame: tcp6(40000, 80), want: RedirectListener, bench: true},
		{name: "tcp4 listener on any, second address", frame: ethernet(ip4(client4, second4, protoTCP, tcp(40000, 80))), want: RedirectListener},
		{name: "tcp4 listener on one address", frame: ethernet(ip4(client4, second4, protoTCP, tcp(40000, 8443))), want: RedirectListener, bench: true},
		{name: "tcp6 listener on one address", frame: ethernet(ip6(client6, second6, protoTCP, tcp(40000, 8443))), want: RedirectListener},
		{name: "tcp4 port of another address", frame: tcp4(40000, 8443), want: PassOtherPort},
		{name: "tcp6 port of another address", frame: tcp6(40000, 8443), want: PassOtherPort},
		{name: "tcp4 ssh", frame: tcp4(40000, 22), want: PassOtherPort, bench: true},
		{name: "tcp6 ssh", frame: tcp6(40000, 22), want: PassOtherPort},
		{name: "tcp4 listening port as source", frame: tcp4(80, 40000), want: PassOtherPort},
		{name: "tcp4 to another host", frame: ethernet(ip4(client4, other4, protoTCP, tcp(40000, 80))), want: PassOtherAddress},
		{name: "tcp6 to another host", frame: ethernet(ip6(client6, other6, protoTCP, tcp(40000, 80))), want: PassOtherAddress},
		{name: "backend4 to first port", frame: reply4(8080, 20000), want: RedirectBackend, bench: true},
		{name: "backend4 to last port", frame: reply4(8080, 29999), want: RedirectBackend},
		{name: "backend6", frame: reply6(8080, 20000), want: RedirectBackend, bench: true},
		{name: "backend4 below the range", frame: reply4(8080, 19999), want: PassOtherPort},
		{name: "backend4 above the range", frame: reply4(8080, 30000), want: PassOtherPort},
		{name: "backend4 from another port", frame: reply4(8081, 20000), want: PassOtherPort},
		{name: "backend6 from another port", frame: reply6(8081, 20000), want: PassOtherPort},
		{name: "stranger to backend range", frame: tcp4(8080, 20000), want: PassOtherPort},
		{name: "backend4 to another host", frame: ethernet(ip4(backend4, other4, protoTCP, tcp(8080, 20000))), want: PassOtherAddress},
		{name: "backend4 as a client", frame: reply4(40000, 80), want: RedirectListener},
		{name: "dns4", frame: ethernet(ip4(client4, own4, protoUDP, udp(53, 40000))), want: PassNotTCP, bench: true},
		{name: "dns6", frame: ethernet(ip6(client6, own6, protoUDP, udp(53, 40000))), want: PassNotTCP},
		{name: "udp to a listening port", frame: ethernet(ip4(client4, own4, protoUDP, udp(40000, 80))), want: PassNotTCP},
		{name: "ethernet padding", frame: append(tcp4(40000, 80), make([]byte, 6)...), padding: 6, want: RedirectListener},
	}
}

func linkCases() []verdictCase {
	v4 := ip4(client4, own4, protoTCP, tcp(40000, 80))
	v6 := ip6(client6, own6, protoTCP, tcp(40000, 80))
	c, s := tag{0x8100, 100}, tag{0x88a8, 5}
	return []verdictCase{
		{name: "priority tag", frame: ethernet(v4, tag{0x8100, 0xe000}), want: RedirectListener},
		{name: "802.1Q tag", frame: ethernet(v4, c), want: RedirectListener},
		{name: "802.1Q tag, IPv6", frame: ethernet(v6, c), want: RedirectListener},
		{name: "802.1ad tag", frame: ethernet(v4, s), want: RedirectListener},
		{name: "802.1ad and 802.1Q tags", frame: ethernet(v4, s, c), want: RedirectListener},
		{name: "two 802.1Q tags, IPv6", frame: ethernet(v6, c, c), want: RedirectListener},
		{name: "two tags, ssh", frame: ethernet(ip4(client4, own4, protoTCP, tcp(40000, 22)), s, c), want: PassOtherPort},
		{name: "three tags", frame: ethernet(v4, s, c, c), want: PassVLANDepth},
		{name: "tag without a type", frame: ethernetOf(0x8100, []byte{0, 100}), want: PassMalformed},
		{name: "arp", frame: ethernetOf(0x0806, make([]byte, 28)), want: PassNotIP, bench: true},
		{name: "tagged arp", frame: ethernetOf(0x0806, make([]byte, 28), c), want: PassNotIP},
		{name: "lldp", frame: ethernetOf(0x88cc, make([]byte, 28)), want: PassNotIP},
		{name: "ethernet header alone", frame: ethernetOf(0x0800, nil), want: PassMalformed},
		{name: "broadcast MAC", frame: toGroup(ethernet(v4)), want: PassGroupMAC},
		{name: "multicast MAC, IPv6", frame: toGroup(ethernet(v6)), want: PassGroupMAC},
		{name: "IPv6 behind the type of IPv4", frame: ethernetOf(0x0800, v6), want: PassMalformed},
		{name: "IPv4 behind the type of IPv6", frame: ethernetOf(0x86dd, append(v4, make([]byte, 20)...)), want: PassMalformed},
	}
}

func headerCases() []verdictCase {
	segment := tcp(40000, 80)
	v6 := func(next byte, payload []byte) []byte { return ethernet(ip6(client6, own6, next, payload)) }
	options := func(n int) []byte {
		return ethernet(ip4With(header4{options: bytes.Repeat([]byte{1}, n)}, client4, own4, protoTCP, segment))
	}
	cases := []verdictCase{
		{name: "IPv4 options, 4 bytes", frame: options(4), want: RedirectListener, bench: true},
		{name: "IPv4 options, 40 bytes", frame: options(40), want: RedirectListener},
		{name: "IPv4 options, ssh", frame: ethernet(ip4With(header4{options: make([]byte, 8)}, client4, own4, protoTCP, tcp(40000, 22))), want: PassOtherPort},
		{name: "IPv4 options, backend", frame: ethernet(ip4With(header4{options: make([]byte, 8)}, backend4, own4, protoTCP, tcp(8080, 20000))), want: RedirectBackend},
		{name: "hop-by-hop", frame: v6(hopByHop, extension(protoTCP, 0, segment)), want: RedirectListener},
		{name: "hop-by-hop, 24 bytes", frame: v6(hopByHop, extension(protoTCP, 2, segment)), want: RedirectListener},
		{name: "destination options", frame: v6(destOpts, extension(protoTCP, 1, segment)), want: RedirectListener, bench: true},
		{name: "routing, no segments left", frame: v6(routing, routingHeader(protoTCP, 0, segment)), want: RedirectListener},
		{name: "routing, segments left", frame: v6(routing, routingHeader(protoTCP, 1, segment)), want: PassSourceRouted},
		{name: "atomic fragment", frame: v6(fragment, fragmentHeader(protoTCP, 0, false, 9, segment)), want: RedirectListener},
		{
			name: "one of each kind",
			frame: v6(hopByHop, extension(destOpts, 1, extension(routing, 0,
				routingHeader(fragment, 0, fragmentHeader(destOpts, 0, false, 9, extension(protoTCP, 0, segment)))))),
			want: RedirectListener,
		},
		{name: "destination options, ssh", frame: v6(destOpts, extension(protoTCP, 0, tcp(40000, 22))), want: PassOtherPort},
		{name: "destination options, udp", frame: v6(destOpts, extension(protoUDP, 0, udp(53, 40000))), want: PassNotTCP},
		{name: "no next header", frame: v6(protoNone, nil), want: PassNotTCP},
		{name: "authentication header", frame: v6(authn, extension(protoTCP, 1, segment)), want: PassNotTCP},
		{name: "too many headers, another host", frame: ethernet(chain6(9, client6, other6)), want: PassOtherAddress},
		{
			name:  "two fragment headers",
			frame: v6(fragment, fragmentHeader(fragment, 0, false, 9, fragmentHeader(protoTCP, 0, false, 9, segment))),
			want:  DropHeaderChain,
		},
	}
	for headers := 1; headers <= 12; headers++ {
		want := RedirectListener
		if headers > 8 {
			want = DropHeaderChain
		}
		cases = append(cases, verdictCase{
			name: fmt.Sprintf("%d extension headers", headers), frame: ethernet(chain6(headers, client6, own6)), want: want,
		})
	}
	return cases
}

func fragmentCases() []verdictCase {
	rest := []byte("the rest of the data")
	f4 := func(id, flags uint16, payload []byte) []byte {
		return ethernet(ip4With(header4{id: id, flags: flags}, client4, own4, protoTCP, payload))
	}
	f6 := func(id uint32, offset uint16, more bool, next byte, payload []byte) []byte {
		return ethernet(ip6(client6, own6, fragment, fragmentHeader(next, offset, more, id, payload)))
	}
	const more = 0x2000
	first4 := f4(7, more, tcp(40000, 80))
	first6 := f6(7, 0, true, protoTCP, tcp(40000, 80))
	stranger := ethernet(ip4With(header4{id: 7, flags: 3}, other4, own4, protoTCP, rest))
	udp4 := ethernet(ip4With(header4{id: 7, flags: 3}, client4, own4, protoUDP, rest))
	return []verdictCase{
		{name: "first", frame: first4, want: RedirectFragment},
		{name: "first, backend", frame: ethernet(ip4With(header4{id: 7, flags: more}, backend4, own4, protoTCP, tcp(8080, 20000))), want: RedirectFragment},
		{name: "first with the ports alone", frame: f4(7, more, tcp(40000, 80)[:8]), want: RedirectFragment},
		{name: "first, ssh", frame: f4(7, more, tcp(40000, 22)), want: PassOtherPort},
		{name: "don't fragment is no fragment", frame: f4(7, 0x4000, tcp(40000, 80)), want: RedirectListener},
		{name: "middle", before: [][]byte{first4}, frame: f4(7, more|3, rest), want: RedirectFragment},
		{name: "last", before: [][]byte{first4}, frame: f4(7, 6, rest), want: RedirectFragment, bench: true},
		{name: "last with the highest offset", before: [][]byte{first4}, frame: f4(7, 0x1fff, rest[:4]), want: RedirectFragment},
		{name: "later, tagged and with options", before: [][]byte{first4},
			frame: ethernet(ip4With(header4{id: 7, flags: 3, options: make([]byte, 4)}, client4, own4, protoTCP, rest), tag{0x8100, 1}), want: RedirectFragment},
		{name: "later, unknown", frame: f4(7, 3, rest), want: PassUnknownFragment},
		{name: "later with the lowest offset", frame: f4(7, 1, tcp(40000, 80)), want: PassUnknownFragment},
		{name: "later, another identification", before: [][]byte{first4}, frame: f4(8, 3, rest), want: PassUnknownFragment},
		{name: "later, another source", before: [][]byte{first4}, frame: stranger, want: PassUnknownFragment},
		{name: "later, another protocol", before: [][]byte{first4}, frame: udp4, want: PassNotTCP},
		{name: "later, ssh", before: [][]byte{f4(7, more, tcp(40000, 22))}, frame: f4(7, 3, rest), want: PassUnknownFragment},
		{name: "later, another host", frame: ethernet(ip4With(header4{id: 7, flags: 3}, client4, other4, protoTCP, rest)), want: PassOtherAddress},
		{name: "tiny first", frame: f4(7, more, tcp(40000, 80)[:3]), want: DropTinyFragment},
		{name: "empty first", frame: f4(7, more, nil), want: DropTinyFragment},
		{name: "tiny first, another host", frame: ethernet(ip4With(header4{flags: more}, client4, other4, protoTCP, []byte{1})), want: PassOtherAddress},
		{name: "tiny first, udp", frame: ethernet(ip4With(header4{flags: more}, client4, own4, protoUDP, []byte{1})), want: PassNotTCP},

		{name: "IPv6 first", frame: first6, want: RedirectFragment},
		{name: "IPv6 first, destination options within", frame: f6(7, 0, true, destOpts, extension(protoTCP, 0, tcp(40000, 80))), want: RedirectFragment},
		{name: "IPv6 first, ssh", frame: f6(7, 0, true, protoTCP, tcp(40000, 22)), want: PassOtherPort},
		{name: "IPv6 first, udp", frame: f6(7, 0, true, protoUDP, udp(1, 2)), want: PassNotTCP},
		{name: "IPv6 first, icmp", frame: f6(7, 0, true, icmpv6, icmpError(2, 0, 1400, ip6(own6, client6, protoTCP, tcp(80, 40000)))), want: PassICMP},
		{name: "IPv6 middle", before: [][]byte{first6}, frame: f6(7, 3, true, protoTCP, rest), want: RedirectFragment},
		{name: "IPv6 last", before: [][]byte{first6}, frame: f6(7, 3, false, protoTCP, rest), want: RedirectFragment},
		{name: "IPv6 last with another next header", before: [][]byte{first6}, frame: f6(7, 3, false, destOpts, rest), want: RedirectFragment},
		{name: "IPv6 later, unknown", frame: f6(7, 3, false, protoTCP, rest), want: PassUnknownFragment},
		{name: "IPv6 later with the lowest offset", frame: f6(7, 1, false, protoTCP, tcp(40000, 80)), want: PassUnknownFragment},
		{name: "IPv6 later, another identification", before: [][]byte{first6}, frame: f6(8, 3, false, protoTCP, rest), want: PassUnknownFragment},
		{name: "IPv6 later, first reused by udp", before: [][]byte{first6, f6(7, 0, true, protoUDP, udp(1, 2))}, frame: f6(7, 3, false, protoUDP, rest), want: PassUnknownFragment},
		{name: "IPv6 tiny first", frame: f6(7, 0, true, protoTCP, tcp(40000, 80)[:3]), want: DropTinyFragment},
		{name: "IPv6 first cut in an extension header", frame: f6(7, 0, true, destOpts, extension(protoTCP, 1, nil)[:8]), want: DropTinyFragment},
		{name: "IPv6 first cut after an extension header", frame: f6(7, 0, true, destOpts, extension(protoTCP, 0, nil)), want: DropTinyFragment},
	}
}

func icmpCases() []verdictCase {
	error4 := func(kind, code byte, quoted []byte) []byte {
		return ethernet(ip4(other4, own4, protoICMP, icmpError(kind, code, 1400, quoted)))
	}
	error6 := func(kind byte, quoted []byte) []byte {
		return ethernet(ip6(other6, own6, icmpv6, icmpError(kind, 0, 1400, quoted)))
	}
	response4 := ip4(own4, client4, protoTCP, tcp(80, 40000))
	request4 := ip4(own4, backend4, protoTCP, tcp(20000, 8080))
	ssh4 := ip4(own4, client4, protoTCP, tcp(22, 40000))
	response6 := ip6(own6, client6, protoTCP, tcp(80, 40000))
	request6 := ip6(own6, backend6, protoTCP, tcp(20000, 8080))
	cases := []verdictCase{
		{name: "fragmentation needed, response", frame: error4(3, 4, response4), want: RedirectICMP, bench: true},
		{name: "fragmentation needed, request to backend", frame: error4(3, 4, request4), want: RedirectICMP},
		{name: "fragmentation needed, from a listener on one address",
			frame: ethernet(ip4(other4, second4, protoICMP, icmpError(3, 4, 1400, ip4(second4, client4, protoTCP, tcp(8443, 40000))))), want: RedirectICMP},
		{name: "port unreachable", frame: error4(3, 3, response4), want: RedirectICMP},
		{name: "time exceeded", frame: error4(11, 0, response4), want: RedirectICMP},
		{name: "parameter problem", frame: error4(12, 0, response4), want: RedirectICMP},
		{name: "quoted 8 bytes", frame: error4(3, 4, response4[:28]), want: RedirectICMP},
		{name: "quoted options", frame: error4(3, 4, ip4With(header4{options: make([]byte, 8)}, own4, client4, protoTCP, tcp(80, 40000))), want: RedirectICMP},
		{name: "quoted first fragment", frame: error4(11, 1, ip4With(header4{flags: 0x2000}, own4, client4, protoTCP, tcp(80, 40000))), want: RedirectICMP},
		{name: "error with options and tag", frame: ethernet(ip4With(header4{options: make([]byte, 4)}, other4, own4, protoICMP, icmpError(3, 4, 1400, response4)), tag{0x8100, 7}), want: RedirectICMP},
		{name: "quoted later fragment", frame: error4(11, 1, ip4With(header4{flags: 5}, own4, client4, protoTCP, tcp(80, 40000))), want: PassICMP},
		{name: "quoted ssh", frame: error4(3, 4, ssh4), want: PassICMP},
		{name: "quoted to a stranger from the backend range", frame: error4(3, 4, ip4(own4, client4, protoTCP, tcp(20000, 8080))), want: PassICMP},
		{name: "quoted udp", frame: error4(3, 3, ip4(own4, client4, protoUDP, udp(80, 40000))), want: PassICMP},
		{name: "quoted from another address", frame: error4(3, 4, ip4(second4, client4, protoTCP, tcp(80, 40000))), want: PassICMP},
		{name: "quoted in the wrong direction", frame: error4(3, 4, ip4(client4, own4, protoTCP, tcp(40000, 80))), want: PassICMP},
		{name: "quoted IPv6", frame: error4(3, 4, response6), want: PassICMP},
		{name: "quoted header too short", frame: error4(3, 4, poke(bytes.Clone(response4), 0, 0x44)), want: PassICMP},
		{name: "quoted ports missing", frame: error4(3, 4, response4[:23]), want: PassICMP},
		{name: "quoted header cut", frame: error4(3, 4, response4[:19]), want: PassICMP},
		{name: "quoted nothing", frame: error4(3, 4, nil), want: PassICMP},
		{name: "error to another host", frame: ethernet(ip4(client4, other4, protoICMP, icmpError(3, 4, 1400, response4))), want: PassOtherAddress},
		{name: "fragmented error", frame: ethernet(ip4With(header4{flags: 0x2000}, other4, own4, protoICMP, icmpError(3, 4, 1400, response4))), want: PassICMP},
		{name: "icmp cut", frame: ethernet(ip4(other4, own4, protoICMP, []byte{3, 4, 0, 0})), want: PassMalformed},
		{name: "IPv6 protocol number in IPv4", frame: ethernet(ip4(other4, own4, icmpv6, icmpError(2, 0, 1400, response4))), want: PassNotTCP},

		{name: "ICMPv6 request to backend", frame: error6(2, request6), want: RedirectICMP},
		{name: "ICMPv6 quoted 8 bytes", frame: error6(2, response6[:48]), want: RedirectICMP},
		{name: "ICMPv6 behind hop-by-hop",
			frame: ethernet(ip6(other6, own6, hopByHop, extension(icmpv6, 0, icmpError(2, 0, 1400, response6)))), want: RedirectICMP},
		{name: "ICMPv6 quoted fragment", frame: error6(3, ip6(own6, client6, fragment, fragmentHeader(protoTCP, 0, true, 1, tcp(80, 40000)))), want: RedirectICMP},
		{name: "ICMPv6 quoted destination options", frame: error6(2, ip6(own6, client6, destOpts, extension(protoTCP, 1, tcp(80, 40000)))), want: RedirectICMP},
		{name: "ICMPv6 quoted later fragment", frame: error6(3, ip6(own6, client6, fragment, fragmentHeader(protoTCP, 8, true, 1, tcp(80, 40000)))), want: PassICMP},
		{name: "ICMPv6 quoted ssh", frame: error6(2, ip6(own6, client6, protoTCP, tcp(22, 40000))), want: PassICMP},
		{name: "ICMPv6 quoted udp", frame: error6(1, ip6(own6, client6, protoUDP, udp(80, 40000))), want: PassICMP},
		{name: "ICMPv6 quoted from another address", frame: error6(2, ip6(second6, client6, protoTCP, tcp(80, 40000))), want: PassICMP},
		{name: "ICMPv6 quoted to the mapped address of a backend",
			frame: error6(2, ip6(own6, netip.AddrFrom16(backend4.As16()), protoTCP, tcp(20000, 8080))), want: PassICMP},
		{name: "ICMPv6 quoted IPv4", frame: error6(2, append(bytes.Clone(response4), make([]byte, 20)...)), want: PassICMP},
		{name: "ICMPv6 quoted ports missing", frame: error6(2, response6[:43]), want: PassICMP},
		{name: "ICMPv6 quoted header cut", frame: error6(2, response6[:39]), want: PassICMP},
		{name: "ICMPv6 to another host", frame: ethernet(ip6(client6, other6, icmpv6, icmpError(2, 0, 1400, response6))), want: PassOtherAddress},
		{name: "ICMPv6 cut", frame: ethernet(ip6(other6, own6, icmpv6, []byte{2, 0, 0, 0})), want: PassMalformed},
		{name: "IPv4 protocol number in IPv6", frame: ethernet(ip6(other6, own6, protoICMP, icmpError(3, 4, 1400, response6))), want: PassNotTCP},
	}
	for _, kind := range []byte{1, 2, 3, 4} {
		cases = append(cases, verdictCase{name: fmt.Sprintf("ICMPv6 error %d", kind), frame: error6(kind, response6), want: RedirectICMP})
	}
	// Echo, source quench, redirect, timestamp; an unassigned error, echo, router and neighbour discovery, redirect.
	for _, kind := range []byte{0, 4, 5, 8, 13} {
		cases = append(cases, verdictCase{name: fmt.Sprintf("icmp %d", kind), frame: error4(kind, 0, response4), want: PassICMP})
	}
	for _, kind := range []byte{0, 5, 128, 129, 134, 135, 136, 137} {
		cases = append(cases, verdictCase{name: fmt.Sprintf("ICMPv6 %d", kind), frame: error6(kind, response6), want: PassICMP})
	}
	return cases
}

func malformedCases() []verdictCase {
	segment := tcp(40000, 80)
	v4 := func() []byte { return ethernet(ip4(client4, own4, protoTCP, segment)) }
	v6 := func() []byte { return ethernet(ip6(client6, own6, protoTCP, segment)) }
	mappedOwn, mappedBackend := netip.AddrFrom16(own4.As16()), netip.AddrFrom16(backend4.As16())
	return []verdictCase{
		{name: "IPv4 version 5", frame: poke(v4(), 14, 0x55), want: PassMalformed},
		{name: "IPv4 header of 16 bytes", frame: poke(v4(), 14, 0x44), want: PassMalformed},
		{name: "IPv4 header longer than the packet", frame: poke(v4(), 14, 0x4f), want: PassMalformed},
		{name: "IPv4 length 0", frame: poke(v4(), 16, 0, 0), want: PassMalformed},
		{name: "IPv4 length below the header", frame: poke(v4(), 16, 0, 19), want: PassMalformed},
		{name: "IPv4 length beyond the frame", frame: poke(v4(), 16, 0, 41), want: PassMalformed},
		{name: "IPv4 ports in the padding", frame: poke(v4(), 16, 0, 20), want: PassMalformed},
		{name: "IPv4 segment of 19 bytes", frame: poke(v4(), 16, 0, 39), want: PassMalformed},
		{name: "IPv6 version 4", frame: poke(v6(), 14, 0x40), want: PassMalformed},
		{name: "IPv6 length 0", frame: poke(v6(), 18, 0, 0), want: PassMalformed},
		{name: "IPv6 length beyond the frame", frame: poke(v6(), 18, 0, 21), want: PassMalformed},
		{name: "IPv6 segment of 19 bytes", frame: poke(v6(), 18, 0, 19), want: PassMalformed},
		{name: "IPv6 header alone", frame: ethernet(ip6(client6, own6, destOpts, nil)), want: PassMalformed},
		{name: "IPv6 extension header longer than the packet", frame: ethernet(ip6(client6, own6, destOpts, []byte{protoTCP, 9, 1, 4, 0, 0, 0, 0})), want: PassMalformed},
		{name: "IPv6 fragment header cut", frame: ethernet(ip6(client6, own6, fragment, []byte{protoTCP, 0, 0, 1})), want: PassMalformed},
		{name: "IPv6 destination that maps an own IPv4 address", frame: ethernet(ip6(client6, mappedOwn, protoTCP, segment)), want: PassMalformed},
		{name: "IPv6 source that maps a backend", frame: ethernet(ip6(mappedBackend, own6, protoTCP, tcp(8080, 20000))), want: PassMalformed},
	}
}
