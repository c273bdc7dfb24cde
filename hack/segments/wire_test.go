//go:build segments

package segments

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/hack/lab"
)

// packet is a TCP segment that came from the edge.
type packet struct {
	remote     netip.AddrPort
	local      netip.AddrPort
	tcp        header.TCP
	data       []byte
	moreOrFrag bool
}

// wire sends and receives frames on the client's interface.
type wire struct {
	fd        int
	own, edge net.HardwareAddr
	stop      chan struct{}
	done      sync.WaitGroup

	mu    sync.Mutex
	peers map[netip.AddrPort]chan packet // by the peer's own address
}

// newWire opens c0 of the lab and makes the peers' addresses known to the edge.
func newWire(l *lab.Lab, peers ...netip.Addr) (*wire, error) {
	w := &wire{stop: make(chan struct{}), peers: map[netip.AddrPort]chan packet{}}
	err := l.Client.Do(func() error {
		link, err := net.InterfaceByName("c0")
		if err != nil {
			return err
		}
		w.own = link.HardwareAddr
		all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("open c0: %w", err)
	}
	err = l.Edge.Do(func() error {
		link, err := net.InterfaceByName(lab.EdgeClientLink)
		if err != nil {
			return err
		}
		w.edge = link.HardwareAddr
		for _, a := range peers {
			n := &netlink.Neigh{LinkIndex: link.Index, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: w.own}
			if err := netlink.NeighSet(n); err != nil {
				return fmt.Errorf("make %v a neighbour: %w", a, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, unix.Close(w.fd))
	}
	w.done.Go(w.receive)
	return w, nil
}

func (w *wire) close() error {
	close(w.stop)
	w.done.Wait()
	return unix.Close(w.fd)
}

// open returns where segments to a come.
func (w *wire) open(a netip.AddrPort) chan packet {
	c := make(chan packet, 4096)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.peers[a] != nil {
		panic(fmt.Sprintf("two peers at %v", a))
	}
	w.peers[a] = c
	return c
}

func (w *wire) receive() {
	b := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(w.fd, b, 0)
		select {
		case <-w.stop:
			return
		default:
		}
		if err != nil {
			continue // the time-out
		}
		if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if p, ok := parse(append([]byte(nil), b[:n]...)); ok {
			w.mu.Lock()
			c := w.peers[p.local]
			w.mu.Unlock()
			if c != nil {
				c <- p
			}
		}
	}
}

// parse reads a TCP segment without IP options; its checksums must be right.
func parse(frame []byte) (p packet, ok bool) {
	if len(frame) < header.EthernetMinimumSize {
		return p, false
	}
	ip := frame[header.EthernetMinimumSize:]
	var segment []byte
	var sum uint16
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		h := header.IPv4(ip)
		if len(ip) < header.IPv4MinimumSize || h.Protocol() != 6 || int(h.TotalLength()) > len(ip) || int(h.HeaderLength()) > len(ip) {
			return p, false
		}
		segment = ip[h.HeaderLength():h.TotalLength()]
		p.moreOrFrag = h.More() || h.FragmentOffset() != 0
		p.remote, p.local = addrPort(ip[12:16]), addrPort(ip[16:20])
		sum = checksum.Checksum(ip[12:20], 6)
	case 0x86dd:
		h := header.IPv6(ip)
		if len(ip) < header.IPv6MinimumSize || h.NextHeader() != 6 || header.IPv6MinimumSize+int(h.PayloadLength()) > len(ip) {
			return p, false
		}
		segment = ip[header.IPv6MinimumSize:][:h.PayloadLength()]
		p.remote, p.local = addrPort(ip[8:24]), addrPort(ip[24:40])
		sum = checksum.Checksum(ip[8:40], 6)
	default:
		return p, false
	}
	t := header.TCP(segment)
	if len(t) < header.TCPMinimumSize || int(t.DataOffset()) < header.TCPMinimumSize || int(t.DataOffset()) > len(t) ||
		checksum.Checksum(segment, checksum.Combine(sum, uint16(len(segment)))) != 0xffff {
		return p, false
	}
	p.tcp, p.data = t[:t.DataOffset()], t[t.DataOffset():]
	p.remote = netip.AddrPortFrom(p.remote.Addr(), t.SourcePort())
	p.local = netip.AddrPortFrom(p.local.Addr(), t.DestinationPort())
	return p, true
}

func addrPort(b []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, 0)
}

// send puts an Ethernet frame around an IP packet.
func (w *wire) send(ip []byte) {
	kind := uint16(0x0800)
	if ip[0]>>4 == 6 {
		kind = 0x86dd
	}
	w.sendFrame(w.ethernet(kind, ip))
}

func (w *wire) ethernet(kind uint16, payload []byte) []byte {
	f := append(append([]byte(nil), w.edge...), w.own...)
	return append(binary.BigEndian.AppendUint16(f, kind), payload...)
}

// sendFrame fails only when the interface is gone, and then nothing is answered.
func (w *wire) sendFrame(f []byte) { _, _ = unix.Write(w.fd, f) }

// ip puts an IP header with the given options (IPv4) or extension headers (IPv6, the first of protocol next) around a payload.
func ip(src, dst netip.Addr, protocol byte, payload, options []byte, next byte) []byte {
	if src.Is4() {
		p := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(options)+len(payload))
		p[0], p[6], p[8], p[9] = byte(0x40|(header.IPv4MinimumSize+len(options))/4), 0x40, 64, protocol
		binary.BigEndian.PutUint16(p[2:], uint16(cap(p)))
		copy(p[12:], src.AsSlice())
		copy(p[16:], dst.AsSlice())
		p = append(p, options...)
		binary.BigEndian.PutUint16(p[10:], ^checksum.Checksum(p, 0))
		return append(p, payload...)
	}
	p := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(options)+len(payload))
	p[0], p[6], p[7] = 0x60, protocol, 64
	if len(options) > 0 {
		p[6] = next
	}
	binary.BigEndian.PutUint16(p[4:], uint16(len(options)+len(payload)))
	copy(p[8:], src.AsSlice())
	copy(p[24:], dst.AsSlice())
	return append(append(p, options...), payload...)
}

// sumTCP fills the checksum of a TCP segment.
func sumTCP(src, dst netip.Addr, segment []byte) { sumUpper(src, dst, segment, 6, 16) }

// sumUpper fills the checksum at an offset of what an upper protocol sends, with the pseudo-header.
func sumUpper(src, dst netip.Addr, b []byte, protocol uint16, at int) {
	b[at], b[at+1] = 0, 0
	sum := checksum.Checksum(append(src.AsSlice(), dst.AsSlice()...), protocol)
	binary.BigEndian.PutUint16(b[at:], ^checksum.Checksum(b, checksum.Combine(sum, uint16(len(b)))))
}
