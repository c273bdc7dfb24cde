package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// reference decides like the program, written from the RFCs over slices and netip, without limits a verifier sets. The
// fuzz test compares the two.
type reference struct {
	config Config
	firsts map[string]bool // first fragments of our flows, by fragment name
}

func newReference(c Config) *reference {
	return &reference{config: c, firsts: map[string]bool{}}
}

// datagram is an IP packet, or a fragment of one, after its network headers.
type datagram struct {
	src, dst netip.Addr
	proto    byte
	payload  []byte
	offset   int // in bytes
	more     bool
	name     string // of the fragmented packet; valid iff fragment()
}

func (d *datagram) fragment() bool { return d.offset > 0 || d.more }

func (r *reference) verdict(frame []byte) Verdict {
	if frame[0]&1 != 0 {
		return PassGroupMAC
	}
	kind, packet := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	vlan := []uint16{0x8100, 0x88a8}
	for tags := 0; slices.Contains(vlan, kind); tags++ {
		if tags == 2 {
			return PassVLANDepth
		}
		if len(packet) < 4 {
			return PassMalformed
		}
		kind, packet = binary.BigEndian.Uint16(packet[2:]), packet[4:]
	}
	switch kind {
	case 0x0800:
		return r.ipv4(packet)
	case 0x86dd:
		return r.ipv6(packet)
	}
	return PassNotIP
}

// ipv4 decodes RFC 791 3.1.
func (r *reference) ipv4(b []byte) Verdict {
	if len(b) < 20 || b[0]>>4 != 4 {
		return PassMalformed
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || total > len(b) {
		return PassMalformed
	}
	d := datagram{proto: b[9], payload: b[header:total]}
	d.src, _ = netip.AddrFromSlice(b[12:16])
	d.dst, _ = netip.AddrFromSlice(b[16:20])
	d.offset = int(binary.BigEndian.Uint16(b[6:])&0x1fff) * 8
	d.more = b[6]&0x20 != 0
	d.name = fmt.Sprintf("%v %v %d %x", d.src, d.dst, d.proto, b[4:6])
	if !r.own(d.dst) {
		return PassOtherAddress
	}
	switch {
	case d.proto == 1 && d.fragment():
		return PassICMP
	case d.proto == 1:
		return r.icmp(d, []byte{3, 11, 12}, quoted4)
	case d.proto != 6:
		return PassNotTCP
	}
	return r.tcp(d)
}

// ipv6 decodes RFC 8200 3.
func (r *reference) ipv6(b []byte) Verdict {
	if len(b) < 40 || b[0]>>4 != 6 {
		return PassMalformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if 40+length > len(b) {
		return PassMalformed
	}
	d := datagram{proto: b[6], payload: b[40 : 40+length]}
	d.src, d.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	if d.src.Is4In6() || d.dst.Is4In6() {
		return PassMalformed
	}
	if !r.own(d.dst) {
		return PassOtherAddress
	}
	v, final := d.unwrap()
	if !final {
		v = r.upper6(d)
	}
	if d.more && d.offset == 0 && !v.Redirected() {
		delete(r.firsts, d.name)
	}
	return v
}

func (r *reference) upper6(d datagram) Verdict {
	switch {
	case d.offset > 0:
		return r.tcp(d)
	case d.proto == 58 && d.fragment():
		return PassICMP
	case d.proto == 58:
		return r.icmp(d, []byte{1, 2, 3, 4}, quoted6)
	case d.proto != 6:
		return PassNotTCP
	}
	return r.tcp(d)
}

// unwrap removes IPv6 extension headers (RFC 8200 4.1) until an upper-layer header or the inside of a fragment. A final
// verdict says why it could not.
func (d *datagram) unwrap() (v Verdict, final bool) {
	fragments := 0
	for headers := 0; ; headers++ {
		kind := d.proto
		if !slices.Contains([]byte{0, 43, 44, 60}, kind) {
			return 0, false
		}
		if kind == 44 {
			fragments++
		}
		if headers == 8 || fragments == 2 {
			return DropHeaderChain, true
		}
		if kind == 43 && len(d.payload) >= 4 && d.payload[3] > 0 {
			return PassSourceRouted, true
		}
		size := 8
		if kind != 44 && len(d.payload) >= 2 {
			size += 8 * int(d.payload[1])
		}
		if len(d.payload) < size {
			if d.more {
				return DropTinyFragment, true
			}
			return PassMalformed, true
		}
		header := d.payload[:size]
		d.proto, d.payload = header[0], d.payload[size:]
		if kind == 44 {
			word := binary.BigEndian.Uint16(header[2:])
			d.offset, d.more = int(word&^7), word&1 != 0
			d.name = fmt.Sprintf("%v %v %x", d.src, d.dst, header[4:8])
			if d.offset > 0 {
				return 0, false
			}
		}
	}
}

// tcp decides on a segment, whole or in fragments.
func (r *reference) tcp(d datagram) Verdict {
	if d.offset > 0 {
		if r.firsts[d.name] {
			return RedirectFragment
		}
		return PassUnknownFragment
	}
	if d.more && len(d.payload) < 4 {
		delete(r.firsts, d.name)
		return DropTinyFragment
	}
	if !d.more && len(d.payload) < 20 {
		return PassMalformed
	}
	v := r.flow(ports(d.src, d.payload), ports(d.dst, d.payload[2:]))
	if !d.more {
		return v
	}
	delete(r.firsts, d.name)
	if v.Redirected() {
		r.firsts[d.name] = true
		return RedirectFragment
	}
	return v
}

func ports(a netip.Addr, b []byte) netip.AddrPort {
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b))
}

// flow decides on a segment from peer to local, whose address is own.
func (r *reference) flow(peer, local netip.AddrPort) Verdict {
	for _, l := range r.config.Listeners {
		any := l.Addr().IsUnspecified() && l.Addr().Is4() == local.Addr().Is4()
		if l.Port() == local.Port() && (any || l.Addr() == local.Addr()) {
			return RedirectListener
		}
	}
	p := r.config.BackendPorts
	if slices.Contains(r.config.Backends, peer) && p.First <= local.Port() && local.Port() <= p.Last {
		return RedirectBackend
	}
	return PassOtherPort
}

// icmp decides on RFC 792 and RFC 4443 messages: both quote the packet in error after 8 bytes.
func (r *reference) icmp(d datagram, errors []byte, quoted func([]byte) (datagram, bool)) Verdict {
	if len(d.payload) < 8 {
		return PassMalformed
	}
	if !slices.Contains(errors, d.payload[0]) {
		return PassICMP
	}
	q, ok := quoted(d.payload[8:])
	if !ok || q.proto != 6 || q.offset > 0 || len(q.payload) < 4 || q.src != d.dst {
		return PassICMP
	}
	if r.flow(ports(q.dst, q.payload[2:]), ports(q.src, q.payload)).Redirected() {
		return RedirectICMP
	}
	return PassICMP
}

// quoted4 takes the lengths in the quoted header for nothing: routers shorten the packet, some hosts change the field.
func quoted4(b []byte) (datagram, bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[0]&15 < 5 || len(b) < int(b[0]&15)*4 {
		return datagram{}, false
	}
	d := datagram{proto: b[9], payload: b[int(b[0]&15)*4:]}
	d.src, d.dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	d.offset = int(binary.BigEndian.Uint16(b[6:]) & 0x1fff)
	return d, true
}

func quoted6(b []byte) (datagram, bool) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return datagram{}, false
	}
	d := datagram{proto: b[6], payload: b[40:]}
	d.src, d.dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	_, final := d.unwrap()
	return d, !final && !d.dst.Is4In6()
}

func (r *reference) own(a netip.Addr) bool { return slices.Contains(r.config.Addresses, a) }
