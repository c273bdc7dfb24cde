package capture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"
)

// Printer writes a line for each frame, much as tcpdump does.
type Printer struct {
	w     *bufio.Writer
	links []string
}

// NewPrinter prints to w.
func NewPrinter(w io.Writer) *Printer { return &Printer{w: bufio.NewWriterSize(w, 1<<16)} }

// Flush implements Consumer.
func (p *Printer) Flush() error { return p.w.Flush() }

// Close implements Consumer.
func (p *Printer) Close() error { return p.w.Flush() }

// Block implements Consumer.
func (p *Printer) Block(b Block) error {
	switch b.kind() {
	case blockInterface:
		p.links = append(p.links, linkName(b))
	case blockPacket:
		_, err := p.w.WriteString(p.line(b))
		return err
	}
	return nil
}

func (p *Printer) line(b Block) string {
	const fixed = 20
	body := b.body()
	if len(body) < fixed {
		return ""
	}
	link := "?"
	if i := binary.LittleEndian.Uint32(body); int(i) < len(p.links) {
		link = p.links[i]
	}
	ns := uint64(binary.LittleEndian.Uint32(body[4:]))<<32 | uint64(binary.LittleEndian.Uint32(body[8:]))
	kept := min(int(binary.LittleEndian.Uint32(body[12:])), len(body)-fixed)
	direction, queue, note := "?", uint32(0), ""
	b.options(fixed+(kept+3)&^3, func(code uint16, value []byte) {
		switch {
		case code == optionFlags && len(value) == 4:
			direction = "In"
			if binary.LittleEndian.Uint32(value)&3 == flagOutbound {
				direction = "Out"
			}
		case code == optionQueue && len(value) == 4:
			queue = binary.LittleEndian.Uint32(value)
		case code == optionComment:
			note = string(value)
		}
	})
	return fmt.Sprintf("%s %s queue %d %-3s %s (%s)\n", time.Unix(0, int64(ns)).Format("15:04:05.000000"), link, queue, direction,
		describe(body[fixed:fixed+kept]), note)
}

// describe says what a frame is.
func describe(frame []byte) string {
	if len(frame) < 14 {
		return fmt.Sprintf("%d bytes", len(frame))
	}
	kind, packet := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	for (kind == 0x8100 || kind == 0x88a8) && len(packet) >= 4 {
		kind, packet = binary.BigEndian.Uint16(packet[2:]), packet[4:]
	}
	switch {
	case kind == 0x0800 && len(packet) >= 20:
		return describeIPv4(packet)
	case kind == 0x86dd && len(packet) >= 40:
		from, to := netip.AddrFrom16([16]byte(packet[8:24])), netip.AddrFrom16([16]byte(packet[24:40]))
		return "IP6 " + describeTransport(packet[6], from, to, packet[40:], int(binary.BigEndian.Uint16(packet[4:])))
	}
	return fmt.Sprintf("ethertype 0x%04x, %d bytes", kind, len(packet))
}

func describeIPv4(packet []byte) string {
	from, to := netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
	size, total := int(packet[0]&0xf)*4, int(binary.BigEndian.Uint16(packet[2:]))
	if size > len(packet) || total < size {
		return fmt.Sprintf("IP %v > %v: malformed", from, to)
	}
	if offset := binary.BigEndian.Uint16(packet[6:]) & 0x1fff; offset != 0 {
		return fmt.Sprintf("IP %v > %v: fragment at %d, %d bytes", from, to, 8*int(offset), total-size)
	}
	return "IP " + describeTransport(packet[9], from, to, packet[size:], total-size)
}

// describeTransport describes what an IP packet carries: total bytes, of which b was
// kept.
func describeTransport(protocol byte, from, to netip.Addr, b []byte, total int) string {
	const tcp, icmp, icmp6 = 6, 1, 58
	switch {
	case protocol == tcp && len(b) >= 20:
		a, z := netip.AddrPortFrom(from, binary.BigEndian.Uint16(b)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))
		s := fmt.Sprintf("%v > %v: Flags [%s], seq %d", a, z, tcpFlags(b[13]), binary.BigEndian.Uint32(b[4:]))
		if b[13]&0x10 != 0 {
			s += fmt.Sprintf(", ack %d", binary.BigEndian.Uint32(b[8:]))
		}
		return s + fmt.Sprintf(", win %d, length %d", binary.BigEndian.Uint16(b[14:]), max(total-int(b[12]>>4)*4, 0))
	case (protocol == icmp || protocol == icmp6) && len(b) >= 2:
		return fmt.Sprintf("%v > %v: ICMP type %d, code %d, length %d", from, to, b[0], b[1], total)
	}
	return fmt.Sprintf("%v > %v: protocol %d, length %d", from, to, protocol, total)
}

// tcpFlags names flags as tcpdump does.
func tcpFlags(flags byte) string {
	var s strings.Builder
	for i, name := range "FSRP.UEW" {
		if flags&(1<<i) != 0 {
			s.WriteRune(name)
		}
	}
	if s.Len() == 0 {
		return "none"
	}
	return s.String()
}
