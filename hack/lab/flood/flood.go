// Package flood sends floods from a network namespace of a test's own: SYNs, ACKs, RSTs, IP fragments and ICMP errors of sources
// that are made up. It is bounded in frames and in time, and sends by a packet socket, past the sender's own TCP.
package flood

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/hack/lab"
)

// Sources are those of floods: addresses for benchmarks (RFC 2544), which must be routed to the sender and to nobody else.
var Sources = netip.MustParsePrefix("198.18.0.0/15")

// Kind is what a flood consists of.
type Kind string

// The kinds.
const (
	SYN      Kind = "syn"
	ACK      Kind = "ack"
	RST      Kind = "rst"
	Fragment Kind = "fragment" // first fragments of segments whose other ones never come
	ICMP     Kind = "icmp"     // errors about connections that do not exist
)

// Kinds are those against a listener.
var Kinds = []Kind{SYN, ACK, RST, Fragment, ICMP}

// Options say what to send. Frames and For are both bounds; Rate 0 is as fast as it goes.
type Options struct {
	Kind   Kind
	To     netip.AddrPort // a listener, IPv4
	Frames int
	For    time.Duration
	Rate   int          // frames a second; 0: no limit
	From   netip.Prefix // of the sources; the zero value is Sources
}

// batch is how many frames go between two looks at the clock.
const batch = 64

// Send floods from the namespace through the link until a bound is reached, or stop is closed, and returns how many frames went.
func Send(n *lab.Namespace, link string, gateway net.HardwareAddr, o Options, stop <-chan struct{}) (sent int, err error) {
	err = n.Do(func() error {
		sent, err = SendHere(link, gateway, o, stop)
		return err
	})
	return sent, err
}

// SendHere is [Send] from the namespace of the calling thread.
func SendHere(link string, gateway net.HardwareAddr, o Options, stop <-chan struct{}) (sent int, err error) {
	if !o.From.IsValid() {
		o.From = Sources
	}
	fd, to, err := open(link)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	copy(to.frame[0:6], gateway)
	start := time.Now()
	for sent < o.Frames {
		took := time.Since(start)
		if took > o.For {
			break
		}
		select {
		case <-stop:
			return sent, nil
		default:
		}
		if ahead := time.Duration(sent)*time.Second/time.Duration(max(o.Rate, 1)) - took; o.Rate > 0 && ahead > time.Millisecond {
			time.Sleep(ahead) // paces, and waits for nothing
			continue
		}
		for range min(batch, o.Frames-sent) {
			// A full queue of the sender is no reason to stop.
			if err := unix.Send(fd, to.make(&o, uint32(sent)), 0); err != nil && err != unix.ENOBUFS && err != unix.EAGAIN {
				return sent, fmt.Errorf("send a frame: %w", err)
			}
			sent++
		}
	}
	return sent, nil
}

// Gateway is the Ethernet address of a link in a namespace.
func Gateway(n *lab.Namespace, link string) (mac net.HardwareAddr, err error) {
	err = n.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	return mac, err
}

// sender makes frames in one buffer.
type sender struct{ frame [14 + 20 + 8 + 20 + 20]byte }

func open(link string) (fd int, s *sender, err error) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return -1, nil, err
	}
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("open packet socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0, Ifindex: i.Index})
	if err == nil {
		// Past the queueing discipline, straight to the driver.
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, fmt.Errorf("bind packet socket to %s: %w", link, err)
	}
	s = new(sender)
	copy(s.frame[6:12], i.HardwareAddr)
	return fd, s, nil
}

// make is the frame of number n: the number is spread over sources, ports and sequence numbers.
func (s *sender) make(o *Options, n uint32) []byte {
	const eth, ip = 14, 20
	x := n * 2654435769 // a bijection of 32 bits: no source repeats before all had their turn
	host := x >> o.From.Bits()
	from := o.From.Addr().As4()
	binary.BigEndian.PutUint32(from[:], binary.BigEndian.Uint32(from[:])|host)
	to := o.To.Addr().As4()
	port := uint16(1024 + x%60000)
	p := s.frame[eth:]
	clear(p)
	s.frame[12], s.frame[13] = 0x08, 0x00 // IPv4
	size := ip + 20
	switch o.Kind {
	case SYN:
		segment(p[ip:], port, o.To.Port(), x, 0x02)
	case ACK:
		segment(p[ip:], port, o.To.Port(), x, 0x10)
	case RST:
		segment(p[ip:], port, o.To.Port(), x, 0x04)
	case Fragment:
		segment(p[ip:], port, o.To.Port(), x, 0x10)
		size = ip + 16 // a multiple of 8
		p[6] = 0x20    // more fragments
	case ICMP:
		size = ip + 8 + ip + 8
		p[ip], p[ip+1] = 3, 4 // fragmentation needed
		binary.BigEndian.PutUint16(p[ip+6:], 576)
		quoted := p[ip+8:]
		header(quoted, to, from, unix.IPPROTO_TCP, 1500, uint16(x))
		segment(quoted[ip:], o.To.Port(), port, x, 0x10)
		binary.BigEndian.PutUint16(p[ip+2:], checksum(p[ip:size], 0))
		header(p, from, to, unix.IPPROTO_ICMP, size, uint16(n))
		return s.frame[:eth+size]
	}
	binary.BigEndian.PutUint16(p[ip+16:], tcpChecksum(from, to, p[ip:ip+20]))
	flags := p[6]
	header(p, from, to, unix.IPPROTO_TCP, size, uint16(n))
	if flags != 0 {
		p[6] = flags
		binary.BigEndian.PutUint16(p[10:], 0)
		binary.BigEndian.PutUint16(p[10:], checksum(p[:ip], 0))
	}
	return s.frame[:eth+size]
}

// segment is a TCP header without options (RFC 9293 3.1).
func segment(t []byte, from, to uint16, seq uint32, flags byte) {
	binary.BigEndian.PutUint16(t, from)
	binary.BigEndian.PutUint16(t[2:], to)
	binary.BigEndian.PutUint32(t[4:], seq)
	if len(t) < 20 {
		return // quoted
	}
	if flags&0x10 != 0 {
		binary.BigEndian.PutUint32(t[8:], seq+1)
	}
	t[12], t[13] = 0x50, flags
	binary.BigEndian.PutUint16(t[14:], 65535)
}

// header is an IPv4 header (RFC 791 3.1).
func header(p []byte, from, to [4]byte, proto byte, size int, id uint16) {
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(size))
	binary.BigEndian.PutUint16(p[4:], id)
	p[6] = 0
	copy(p[12:], from[:])
	copy(p[16:], to[:])
	binary.BigEndian.PutUint16(p[10:], 0)
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20], 0))
}

func tcpChecksum(from, to [4]byte, t []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(t))
	for _, a := range [][4]byte{from, to} {
		sum += uint32(a[0])<<8 + uint32(a[1]) + uint32(a[2])<<8 + uint32(a[3])
	}
	return checksum(t, sum)
}

func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
