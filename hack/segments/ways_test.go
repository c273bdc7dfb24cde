//go:build segments

package segments

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// way is how the IP packet or frame of a segment is made.
type way struct {
	name string
	rule string
	v4   func(p *peer, tcp []byte) // sends it; nil: not with this version
	v6   func(p *peer, tcp []byte)
}

// headerAlone is a packet without ports, which nobody can be said to have.
const headerAlone = "IP length of the header alone"

func (p *peer) addresses() (src, dst netip.Addr) { return p.local.Addr(), p.remote.Addr() }

// options4 is a way with IPv4 options.
func options4(o ...byte) func(*peer, []byte) {
	return func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		p.w.send(ip(src, dst, 6, tcp, o, 0))
	}
}

// headers6 is a way with IPv6 extension headers, of which the first has the protocol number next.
func headers6(next byte, h ...byte) func(*peer, []byte) {
	return func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		p.w.send(ip(src, dst, 6, tcp, h, next))
	}
}

// spoiled is a way in which something is done to the packet; the IPv4 checksum follows.
func spoiled(f func(packet []byte)) func(*peer, []byte) {
	return func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		b := ip(src, dst, 6, tcp, nil, 0)
		f(b)
		if b[0]>>4 == 4 {
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:20], 0))
		}
		p.w.send(b)
	}
}

// tagged is a way with VLAN tags.
func tagged(tags ...uint16) func(*peer, []byte) {
	return func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		b := ip(src, dst, 6, tcp, nil, 0)
		kind := uint16(0x0800)
		if src.Is6() {
			kind = 0x86dd
		}
		for i := len(tags) - 2; i >= 0; i -= 2 {
			b = append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, tags[i+1]), kind), b...)
			kind = tags[i]
		}
		p.w.sendFrame(p.w.ethernet(kind, b))
	}
}

// piece is a fragment: bytes from to to of the segment.
type piece struct {
	from, to int // to 0: the end
	more     bool
	xor      byte // what the bytes are changed by
}

// fragments cuts a segment.
func fragments(pieces ...piece) func(*peer, []byte) {
	return func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		id := uint16(p.stamp)<<1 ^ p.local.Port()
		for _, f := range pieces {
			if f.to == 0 {
				f.to = len(tcp)
			}
			part := append([]byte(nil), tcp[f.from:f.to]...)
			for i := range part {
				part[i] ^= f.xor
			}
			if src.Is4() {
				b := ip(src, dst, 6, part, nil, 0)
				binary.BigEndian.PutUint16(b[4:], id)
				flags := uint16(f.from / 8)
				if f.more {
					flags |= 0x2000
				}
				binary.BigEndian.PutUint16(b[6:], flags)
				b[10], b[11] = 0, 0
				binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b[:20], 0))
				p.w.send(b)
				continue
			}
			h := []byte{6, 0, 0, 0, 0, 0, byte(id >> 8), byte(id)}
			offset := uint16(f.from)
			if f.more {
				offset |= 1
			}
			binary.BigEndian.PutUint16(h[2:], offset)
			p.w.send(ip(src, dst, 6, part, h, 44))
		}
	}
}

// alike is a way for both versions.
func alike(name, rule string, f func(*peer, []byte)) way { return way{name, rule, f, f} }

// ways are all for a segment of 32 bytes of header and more of data, or a SYN of 40 bytes.
var ways = []way{
	alike("plain", "", spoiled(func([]byte) {})),
	{"IP option NOP", "RFC 9293 3.9.2", options4(1, 1, 1, 1), nil},
	{"IP option end of list", "RFC 791 3.1", options4(0, 0, 0, 0), nil},
	{"IP option record route", "RFC 791 3.1", options4(7, 7, 4, 0, 0, 0, 0, 0), nil},
	{"IP option record route, full", "RFC 791 3.1", options4(7, 7, 8, 10, 9, 8, 7, 0), nil},
	{"IP option time stamp", "RFC 791 3.1", options4(68, 8, 5, 0, 0, 0, 0, 0), nil},
	{"IP option router alert", "RFC 2113", options4(148, 4, 0, 0), nil},
	{"IP option unknown", "RFC 1122 3.2.1.8", options4(0x9e, 4, 0, 0), nil},
	{"IP option loose source route", "RFC 1122 3.2.1.8", options4(131, 7, 8, 10, 1, 0, 77, 0), nil},
	{"IP option strict source route, not at its end", "RFC 1122 3.2.1.8", options4(137, 7, 4, 10, 1, 0, 2, 0), nil},
	{"IP option of length 0", "RFC 791 3.1", options4(7, 0, 0, 0), nil},
	{"IP option longer than the header", "RFC 791 3.1", options4(7, 40, 4, 0), nil},
	{"40 bytes of IP options", "RFC 791 3.1", options4(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0), nil},
	{"hop-by-hop options", "RFC 8200 4.3", nil, headers6(0, 6, 0, 1, 4, 0, 0, 0, 0)},
	{"destination options", "RFC 8200 4.6", nil, headers6(60, 6, 0, 1, 4, 0, 0, 0, 0)},
	{"hop-by-hop and destination options", "RFC 8200 4.1", nil, headers6(0, 60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0)},
	{"hop-by-hop options not first", "RFC 8200 4.1", nil, headers6(60, 0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0)},
	{"option to be discarded", "RFC 8200 4.2", nil, headers6(60, 6, 0, 0x5e, 4, 0, 0, 0, 0)},
	{"routing header without segments left", "RFC 8200 4.4", nil, headers6(43, 6, 0, 253, 0, 0, 0, 0, 0)},
	{"routing header with segments left", "RFC 5095", nil, headers6(43, 6, 2, 0, 1, 0, 0, 0, 0, 0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9)},
	{"atomic fragment", "RFC 6946", nil, headers6(44, 6, 0, 0, 0, 0, 0, 0, 1)},
	{"nine destination options", "RFC 8200 4.1", nil, func(p *peer, tcp []byte) {
		h := []byte{}
		for range 8 {
			h = append(h, 60, 0, 1, 4, 0, 0, 0, 0)
		}
		headers6(60, append(h, 6, 0, 1, 4, 0, 0, 0, 0)...)(p, tcp)
	}},
	{"extension header longer than the packet", "RFC 8200 4.6", nil, headers6(60, 6, 200, 1, 4, 0, 0, 0, 0)},
	{"no next header", "RFC 8200 4.7", nil, headers6(59)},
	alike("two fragments", "RFC 791 3.2, RFC 8200 4.5", fragments(piece{0, 32, true, 0}, piece{32, 0, false, 0})),
	alike("two fragments, the second first", "RFC 791 3.2", fragments(piece{32, 0, false, 0}, piece{0, 32, true, 0})),
	alike("fragments of 8 bytes", "RFC 791 3.2", fragments(piece{0, 8, true, 0}, piece{8, 16, true, 0}, piece{16, 24, true, 0}, piece{24, 32, true, 0}, piece{32, 0, false, 0})),
	alike("a fragment twice", "RFC 791 3.2", fragments(piece{0, 32, true, 0}, piece{0, 32, true, 0}, piece{32, 0, false, 0})),
	alike("overlapping fragments", "RFC 5722", fragments(piece{0, 32, true, 0}, piece{24, 32, true, 0}, piece{32, 0, false, 0})),
	alike("overlapping fragments that differ", "RFC 5722", fragments(piece{0, 32, true, 0}, piece{24, 32, true, 1}, piece{32, 0, false, 0})),
	alike("first fragment alone", "RFC 791 3.2", fragments(piece{0, 32, true, 0})),
	alike("last fragment alone", "RFC 791 3.2", fragments(piece{32, 0, false, 0})),
	alike("priority tag", "IEEE 802.1Q 9.6", tagged(0x8100, 0xe000)),
	alike("two priority tags", "IEEE 802.1Q 9.6", tagged(0x88a8, 0, 0x8100, 0)),
	alike("tag of VLAN 5", "IEEE 802.1Q 9.6", tagged(0x8100, 5)),
	alike("QinQ of VLANs 5 and 6", "IEEE 802.1Q 9.6", tagged(0x88a8, 5, 0x8100, 6)),
	{"TTL 1", "RFC 1122 3.2.1.7", spoiled(func(b []byte) { b[8] = 1 }), spoiled(func(b []byte) { b[7] = 1 })},
	{"TTL 0", "RFC 1122 3.2.1.7", spoiled(func(b []byte) { b[8] = 0 }), spoiled(func(b []byte) { b[7] = 0 })},
	{"congestion experienced", "RFC 3168", spoiled(func(b []byte) { b[1] = 3 }), spoiled(func(b []byte) { b[1] = 0x30 })},
	{"reserved flag", "RFC 791 3.1", spoiled(func(b []byte) { b[6] |= 0x80 }), nil},
	{"corrupt IP checksum", "RFC 1122 3.2.1.2", func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		b := ip(src, dst, 6, tcp, nil, 0)
		b[10] ^= 1
		p.w.send(b)
	}, nil},
	{"IP version 5", "RFC 1122 3.2.1.1", spoiled(func(b []byte) { b[0] = 0x55 }), spoiled(func(b []byte) { b[0] = 0x50 })},
	{"IP length longer than the frame", "RFC 791 3.1", spoiled(func(b []byte) { b[3] += 4 }), spoiled(func(b []byte) { b[5] += 4 })},
	{"IP length shorter than the frame", "RFC 894", func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		p.w.send(append(ip(src, dst, 6, tcp, nil, 0), 1, 2, 3, 4, 5, 6))
	}, func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		p.w.send(append(ip(src, dst, 6, tcp, nil, 0), 1, 2, 3, 4, 5, 6))
	}},
	{headerAlone, "RFC 791 3.1", spoiled(func(b []byte) { b[2], b[3] = 0, 20 }), spoiled(func(b []byte) { b[4], b[5] = 0, 0 })},
	alike("to a group MAC address", "RFC 1122 3.3.6", func(p *peer, tcp []byte) {
		src, dst := p.addresses()
		kind := uint16(0x0800)
		if src.Is6() {
			kind = 0x86dd
		}
		f := p.w.ethernet(kind, ip(src, dst, 6, tcp, nil, 0))
		copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		p.w.sendFrame(f)
	}),
}

// fromElsewhere sends a SYN with a source or to a destination that cannot be answered; the peer sees what comes to itself.
func fromElsewhere(src, dst string) func(p *peer) string {
	return func(p *peer) string {
		s := segment{flags: syn, options: p.options}
		if src != "" {
			s.src = netip.MustParseAddr(src)
		}
		if dst != "" {
			s.dst = netip.MustParseAddr(dst)
		}
		p.say(s)
		return p.outcome()
	}
}

var elsewhere = []struct{ name, src4, dst4, src6, dst6 string }{
	{name: "from itself", src4: "10.1.0.1", src6: "fd00:1::1"},
	{name: "from its other address", src4: "10.2.0.1", src6: "fd00:2::1"},
	{name: "from loopback", src4: "127.0.0.1", src6: "::1"},
	{name: "from nowhere", src4: "0.0.0.0", src6: "::"},
	{name: "from broadcast", src4: "255.255.255.255"},
	{name: "from the network's broadcast", src4: "10.1.0.255"},
	{name: "from multicast", src4: "224.0.0.1", src6: "ff02::1"},
	{name: "to broadcast", dst4: "255.255.255.255"},
	{name: "to the network's broadcast", dst4: "10.1.0.255"},
	{name: "to multicast", dst4: "224.0.0.1", dst6: "ff02::1"},
	{name: "to loopback", dst4: "127.0.0.1", dst6: "::1"},
}

// over makes the trial that sends a request on an established connection one way.
func over(f func(*peer, []byte)) func(p *peer) string {
	return func(p *peer) string {
		if err := established.setup(p); err != nil {
			return "cannot begin: " + err.Error()
		}
		p.stamp++
		f(p, p.tcp(segment{flags: ack | psh, data: request}))
		o := p.outcome()
		if strings.Contains(o, "data") {
			return "taken"
		}
		p.want, p.got = p.far, nil
		if err := established.lives(p); err != nil {
			return o + "; then " + err.Error()
		}
		return o + "; lives"
	}
}

// synOver makes the trial that sends a SYN one way.
func synOver(f func(*peer, []byte)) func(p *peer) string {
	return func(p *peer) string {
		p.stamp++
		f(p, p.tcp(segment{flags: syn, options: p.options}))
		return p.outcome()
	}
}

// handshake is a SYN's options, and what is looked at.
type handshake struct {
	name    string
	rule    string
	options []byte
	stamps  bool
	window  int
	data    string
}

var handshakes = []handshake{
	{name: "no options", rule: "RFC 9293 3.7.1"},
	{name: "all options", options: []byte{2, 4, 5, 180, 4, 2, 1, 3, 3, 7}, stamps: true},
	{name: "MSS 0", options: []byte{2, 4, 0, 0}},
	{name: "MSS 1", options: []byte{2, 4, 0, 1}},
	{name: "MSS 47", options: []byte{2, 4, 0, 47}},
	{name: "MSS 100", options: []byte{2, 4, 0, 100}},
	{name: "MSS 1, with timestamps", options: []byte{2, 4, 0, 1}, stamps: true},
	{name: "MSS 65535", options: []byte{2, 4, 255, 255}},
	{name: "MSS twice", options: []byte{2, 4, 2, 0, 2, 4, 4, 0}},
	{name: "MSS of length 3", options: []byte{2, 3, 5, 0}},
	{name: "window scale 14", options: []byte{2, 4, 5, 180, 3, 3, 14}, window: 1},
	{name: "window scale 15", options: []byte{2, 4, 5, 180, 3, 3, 15}, window: 1},
	{name: "window scale 255", options: []byte{2, 4, 5, 180, 3, 3, 255}, window: 1},
	{name: "window scale of length 2", options: []byte{2, 4, 5, 180, 3, 2, 0, 0}},
	{name: "end of options first", options: []byte{0, 2, 4, 5, 180, 4, 2, 0}},
	{name: "option of length 1", options: []byte{254, 1, 0, 0, 2, 4, 5, 180}},
	{name: "option longer than the header", options: []byte{2, 4, 5, 180, 254, 20, 0, 0}},
	{name: "unknown option", options: []byte{2, 4, 5, 180, 254, 4, 1, 2}},
	{name: "Fast Open without a cookie", options: []byte{2, 4, 5, 180, 34, 2, 0, 0}},
	{name: "Fast Open with a cookie and data", options: []byte{2, 4, 5, 180, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8}, data: request},
	{name: "data", options: []byte{2, 4, 5, 180}, data: request},
	{name: "window 0", options: []byte{2, 4, 5, 180}, window: -1},
}

// do makes a handshake and asks for a file.
func (h *handshake) do(p *peer) string {
	p.stamps, p.window = h.stamps, 65535
	p.say(segment{flags: syn, options: h.options, window: h.window, data: h.data})
	var s packet
	for end := time.Now().Add(patience); ; {
		var ok bool
		if s, ok = p.hear(time.Until(end)); !ok {
			return "silence"
		}
		if s.tcp.Flags()&syn != 0 {
			break
		}
	}
	o := fmt.Sprintf("SYN-ACK ack%+d", int32(s.tcp.AckNumber()-p.next))
	for options := []byte(s.tcp[header.TCPMinimumSize:]); len(options) > 0; {
		if options[0] < 2 {
			options = options[1:]
			continue
		}
		o += fmt.Sprintf(" %d", options[0])
		options = options[options[1]:]
	}
	p.next++
	p.irs, p.want = s.tcp.SequenceNumber(), s.tcp.SequenceNumber()+1
	p.note(&s)
	p.say(segment{flags: ack})
	p.sendData("GET /f/64k HTTP/1.1\r\nHost: x\r\n\r\n")
	most := 0
	for end := time.Now().Add(patience); len(p.got) < 30000; {
		s, ok := p.hear(time.Until(end))
		if !ok || s.tcp.Flags()&rst != 0 {
			return fmt.Sprint(o, "; ended after ", len(p.got), " bytes")
		}
		if most = max(most, len(s.data)); s.tcp.SequenceNumber() == p.want && len(s.data) > 0 {
			p.got, p.want = append(p.got, s.data...), p.want+uint32(len(s.data))
			p.say(segment{flags: ack})
		}
	}
	p.say(segment{flags: rst})
	return fmt.Sprintf("%s; segments of %d", o, most)
}
