package e2e

import (
	"bytes"
	be "encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/hack/lab"
	"ringroad/hack/lab/flood"
)

// cookieConfig has a SYN queue that a flood fills at once.
const cookieConfig = `interfaces: [e0, e1]
rx_checksum: verify
listeners: [{address: "10.1.0.1:80", upstream: nginx, backlog: 8}]
upstreams: {nginx: {servers: ["10.2.0.2:8080"]}}
log: {access: off}
filter: {syn_cookies: xdp}
`

const (
	answered = "interfaces.e0.verdicts.answer_syn_cookie"
	entered  = "stack.syn_cookies_received"
	byLoop   = "stack.syn_cookies_sent"
)

// TestSYNCookiesOfXDP floods a listener with a few thousand SYNs a second: the XDP program answers nearly all, new clients get in by its
// cookies, also when the worker was replaced between SYN and ACK, and after the flood the loop answers again.
func TestSYNCookiesOfXDP(t *testing.T) {
	for _, mode := range []string{"generic", "native"} {
		t.Run(mode, func(t *testing.T) {
			l, err := lab.Up(lab.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			// veth hands over what XDP sends only to an end with NAPI.
			if _, err := l.Client.Run(5*time.Second, "ethtool", "-K", "c0", "gro", "on"); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Edge.Run(5*time.Second, "ip", "route", "add", flood.Sources.String(), "via", lab.Client4.String()); err != nil {
				t.Fatal(err)
			}
			r := startIn(t, l, cookieConfig+"xdp_mode: "+mode+"\n")
			mustServe(t, l)
			mac, err := flood.Gateway(l.Edge, lab.EdgeClientLink)
			if err != nil {
				t.Fatal(err)
			}
			stop, sent := make(chan struct{}), make(chan int, 1)
			go func() {
				n, err := flood.Send(l.Client, "c0", mac, flood.Options{
					Kind: flood.SYN, To: netip.MustParseAddrPort(nginx4), Frames: 200_000, For: time.Minute, Rate: 3000,
				}, stop)
				if err != nil {
					t.Error(err)
				}
				sent <- n
			}()
			ended := false
			end := func() {
				if !ended {
					ended = true
					close(stop)
					<-sent
				}
			}
			t.Cleanup(end)

			answers := func(more float64) {
				t.Helper()
				from := stats(t, r)[answered]
				wait(t, 20*time.Second, "the XDP program answers", func() (bool, string) {
					now := stats(t, r)[answered]
					return now >= from+more, fmt.Sprintf("%v SYNs, before %v", now, from)
				})
			}
			answers(1000)
			for range 3 {
				mustServe(t, l)
			}
			wait(t, 20*time.Second, "clients get in by cookies", func() (bool, string) {
				now := stats(t, r)[entered]
				return now >= 3, fmt.Sprintf("%v got in", now)
			})
			if s := stats(t, r); s[byLoop] > s[answered]/2 {
				t.Errorf("the loop answered %v SYNs, the XDP program %v", s[byLoop], s[answered])
			}

			h := newHandshake(t, l, mac)
			h.open(t)
			pid := workerPID(t, r, 0)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			replaced(t, r, 0, pid, 20*time.Second)
			answers(100)
			h.ask(t)

			end()
			before := stats(t, r)[byLoop]
			wait(t, 20*time.Second, "the loop answers", func() (bool, string) {
				mustServe(t, l)
				now := stats(t, r)[byLoop]
				return now > before, fmt.Sprintf("%v SYNs, before %v", now, before)
			})
		})
	}
}

// handshake is a TCP connection by hand, from an address that is nobody's, so that no kernel answers for it.
type handshake struct {
	fd       int
	mac, own net.HardwareAddr
	next     uint32 // number that the listener expects
	ack      uint32
}

var handshakeFrom = netip.MustParseAddrPort("198.19.255.254:40001")

func newHandshake(t *testing.T, l *lab.Lab, mac net.HardwareAddr) *handshake {
	t.Helper()
	h := &handshake{mac: mac, next: 1000}
	err := l.Client.Do(func() error {
		i, err := net.InterfaceByName("c0")
		if err != nil {
			return err
		}
		h.own = i.HardwareAddr
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if h.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(h.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return err
		}
		return unix.Bind(h.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(h.fd) })
	return h
}

// send sends one segment.
func (h *handshake) send(t *testing.T, flags byte, payload string) {
	t.Helper()
	to := netip.MustParseAddrPort(nginx4)
	segment := be.BigEndian.AppendUint16(nil, handshakeFrom.Port())
	segment = be.BigEndian.AppendUint16(segment, to.Port())
	segment = be.BigEndian.AppendUint32(segment, h.next)
	segment = be.BigEndian.AppendUint32(segment, h.ack)
	segment = append(append(segment, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0), payload...)
	packet := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0}
	be.BigEndian.PutUint16(packet[2:], uint16(20+len(segment)))
	packet = append(append(packet, handshakeFrom.Addr().AsSlice()...), to.Addr().AsSlice()...)
	pseudo := append([]byte{0, unix.IPPROTO_TCP, byte(len(segment) >> 8), byte(len(segment))}, packet[12:20]...)
	be.BigEndian.PutUint16(segment[16:], checksumOf(append(pseudo, segment...)))
	be.BigEndian.PutUint16(packet[10:], checksumOf(packet))
	frame := append(append(append(append([]byte(nil), h.mac...), h.own...), 8, 0), append(packet, segment...)...)
	if _, err := unix.Write(h.fd, frame); err != nil {
		t.Fatal(err)
	}
}

// hear returns the next TCP segment for h, nil if none comes for a moment.
func (h *handshake) hear() []byte {
	want := handshakeFrom.Addr().As4()
	for buf, until := make([]byte, 2048), time.Now().Add(300*time.Millisecond); time.Now().Before(until); {
		n, err := unix.Read(h.fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil
		}
		f := buf[:n]
		if n >= 54 && f[12] == 8 && f[23] == unix.IPPROTO_TCP && bytes.Equal(f[30:34], want[:]) {
			return f[34 : 14+int(be.BigEndian.Uint16(f[16:]))]
		}
	}
	return nil
}

// open sends the SYN until it is answered.
func (h *handshake) open(t *testing.T) {
	t.Helper()
	wait(t, 20*time.Second, "the SYN is answered", func() (bool, string) {
		h.ack = 0
		h.send(t, 0x02, "")
		for {
			s := h.hear()
			if s == nil {
				return false, "no answer"
			}
			if s[13] == 0x12 && be.BigEndian.Uint32(s[8:]) == h.next+1 {
				h.next, h.ack = h.next+1, be.BigEndian.Uint32(s[4:])+1
				return true, ""
			}
		}
	})
}

// ask completes the handshake with a request, until it is answered.
func (h *handshake) ask(t *testing.T) {
	t.Helper()
	wait(t, 20*time.Second, "the request is answered", func() (bool, string) {
		h.send(t, 0x18, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		for {
			s := h.hear()
			if s == nil {
				return false, "no answer"
			}
			if s[13]&0x04 != 0 {
				t.Fatal("the cookie was answered with RST")
			}
			if bytes.HasPrefix(s[min(int(s[12]>>4)*4, len(s)):], []byte("HTTP/1.1 200 ")) {
				return true, ""
			}
		}
	})
}

// checksumOf is the Internet checksum (RFC 1071).
func checksumOf(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
