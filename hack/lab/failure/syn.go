package failure

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
)

// stranger is an address at the client's end of the wire whose answers nobody reads, so that a handshake with it stays half-done.
var stranger = netip.MustParseAddr("10.1.0.77")

// flags of TCP.
const (
	flagSYN = 1 << 1
	flagRST = 1 << 2
)

// knowStranger tells the edge where the stranger is: frames go to the client, whose kernel drops them.
func knowStranger(l *lab.Lab) error {
	var mac net.HardwareAddr
	err := l.Client.Do(func() error {
		link, err := netlink.LinkByName("c0")
		if err == nil {
			mac = link.Attrs().HardwareAddr
		}
		return err
	})
	if err != nil {
		return err
	}
	return l.Edge.Do(func() error {
		link, err := netlink.LinkByName(lab.EdgeClientLink)
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, IP: stranger.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
		})
	})
}

// sendAsStranger sends n segments without payload to door, from as many ports.
func sendAsStranger(l *lab.Lab, n int, flags byte, seq uint32) error {
	to := netip.MustParseAddrPort(door)
	return l.Client.Do(func() error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.IPPROTO_RAW)
		if err != nil {
			return fmt.Errorf("open raw socket: %w", err)
		}
		defer syscall.Close(fd)
		for i := range n {
			p := segment(netip.AddrPortFrom(stranger, uint16(3000+i)), to, flags, seq)
			if err := syscall.Sendto(fd, p, 0, &syscall.SockaddrInet4{Addr: to.Addr().As4()}); err != nil {
				return fmt.Errorf("send a segment: %w", err)
			}
		}
		return nil
	})
}

// segment is an IPv4 packet with a bare TCP header (RFC 9293 3.1). The kernel fills in the checksum of the IPv4 header.
func segment(from, to netip.AddrPort, flags byte, seq uint32) []byte {
	const ip, tcp, window = 20, 20, 65535
	p := make([]byte, ip+tcp)
	p[0], p[8], p[9] = 0x45, 64, syscall.IPPROTO_TCP
	binary.BigEndian.PutUint16(p[2:], ip+tcp)
	copy(p[12:], from.Addr().AsSlice())
	copy(p[16:], to.Addr().AsSlice())
	t := p[ip:]
	binary.BigEndian.PutUint16(t, from.Port())
	binary.BigEndian.PutUint16(t[2:], to.Port())
	binary.BigEndian.PutUint32(t[4:], seq)
	t[12], t[13] = tcp/4<<4, flags
	binary.BigEndian.PutUint16(t[14:], window)
	sum := uint32(syscall.IPPROTO_TCP + tcp) // the pseudo-header, with the addresses
	for i := 12; i < len(p); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(t[16:], ^uint16(sum))
	return p
}
