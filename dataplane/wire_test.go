package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"ringroad/bpf"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// wire is the world of a test: two anonymous network namespaces, gone with the test, and veth pairs between them.
//
//	test's thread: edge namespace               peer namespace
//	  rre0 10.77.0.1/24 fd77:0::1/64 ------------ rrp0 10.77.0.2/24 fd77:0::2/64
//	  rre1 10.77.1.1/24 fd77:1::1/64 ------------ rrp1 10.77.1.2/24 fd77:1::2/64
type wire struct {
	t      testing.TB
	peerNS netns.NsHandle
	edge   *netlink.Handle
	peer   *netlink.Handle
}

func edgeName(i int) string { return fmt.Sprintf("rre%d", i) }
func peerName(i int) string { return fmt.Sprintf("rrp%d", i) }

func edgeIP(i int) netip.Addr  { return netip.AddrFrom4([4]byte{10, 77, byte(i), 1}) }
func peerIP(i int) netip.Addr  { return netip.AddrFrom4([4]byte{10, 77, byte(i), 2}) }
func edgeIP6(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd77:%d::1", i)) }
func peerIP6(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd77:%d::2", i)) }

// newWire makes pairs of veths with the given number of queues on each end, and puts the test's thread into the edge
// namespace until the test ends.
func newWire(t testing.TB, pairs, queues int) *wire {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	must(t, err)
	w := &wire{t: t}
	w.peerNS, err = netns.New()
	must(t, err)
	w.loosenIPv6()
	edgeNS, err := netns.New()
	must(t, err)
	w.loosenIPv6()
	t.Cleanup(func() {
		if w.edge != nil {
			w.edge.Close()
			w.peer.Close()
		}
		err := errors.Join(netns.Set(home), home.Close(), edgeNS.Close(), w.peerNS.Close())
		if err != nil {
			t.Errorf("leave the namespaces: %v", err)
			return // the thread stays locked and dies with the goroutine
		}
		runtime.UnlockOSThread()
	})
	w.edge, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	must(t, err)
	w.peer, err = netlink.NewHandleAt(w.peerNS, unix.NETLINK_ROUTE)
	must(t, err)
	for i := range pairs {
		w.addPair(i, queues)
	}
	return w
}

// loosenIPv6 lets addresses of the current namespace be used at once, without duplicate address detection.
func (w *wire) loosenIPv6() {
	for _, f := range []string{"all", "default"} {
		must(w.t, os.WriteFile("/proc/sys/net/ipv6/conf/"+f+"/accept_dad", []byte("0"), 0))
	}
}

func (w *wire) addPair(i, queues int) {
	w.t.Helper()
	a := netlink.NewLinkAttrs()
	a.Name, a.NumRxQueues, a.NumTxQueues = edgeName(i), queues, queues
	must(w.t, w.edge.LinkAdd(&netlink.Veth{
		LinkAttrs: a, PeerName: peerName(i), PeerNamespace: netlink.NsFd(w.peerNS),
		PeerNumRxQueues: uint32(queues), PeerNumTxQueues: uint32(queues),
	}))
	for _, end := range []struct {
		h    *netlink.Handle
		name string
		ips  []netip.Addr
	}{
		{w.peer, peerName(i), []netip.Addr{peerIP(i), peerIP6(i)}},
		{w.edge, edgeName(i), []netip.Addr{edgeIP(i), edgeIP6(i)}},
	} {
		l, err := end.h.LinkByName(end.name)
		must(w.t, err)
		for _, ip := range end.ips {
			bits := 24
			if ip.Is6() {
				bits = 64
			}
			must(w.t, end.h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, bits)), Flags: unix.IFA_F_NODAD}))
		}
		must(w.t, end.h.LinkSetUp(l))
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (w *wire) edgeLink(i int) netlink.Link {
	w.t.Helper()
	l, err := w.edge.LinkByName(edgeName(i))
	must(w.t, err)
	return l
}

func (w *wire) peerLink(i int) netlink.Link {
	w.t.Helper()
	l, err := w.peer.LinkByName(peerName(i))
	must(w.t, err)
	return l
}

// open opens edge interface i and steers TCP to port 80 of its addresses.
func (w *wire) open(i int) *Interface {
	w.t.Helper()
	in, err := OpenInterface(InterfaceOptions{Name: edgeName(i), Mode: ModeNative})
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, in.Close()) })
	steer80(w.t, in, i)
	return in
}

func steer80(t testing.TB, in *Interface, i int) {
	t.Helper()
	must(t, in.Steer(bpf.Config{
		Addresses: []netip.Addr{edgeIP(i), edgeIP6(i)},
		Listeners: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("[::]:80")},
	}))
}

func (w *wire) openQueue(in *Interface, o QueueOptions) *Queue {
	w.t.Helper()
	q, err := in.OpenQueue(o)
	must(w.t, err)
	w.t.Cleanup(func() { must(w.t, q.Close()) })
	return q
}

// station is a raw socket on a peer interface.
type station struct {
	t    testing.TB
	i    int
	fd   int
	to   unix.SockaddrLinklayer
	from [6]byte // its MAC
	edge [6]byte // the other end's
}

// testEtherType is a local experimental one (IEEE 802): no kernel listens to it.
const testEtherType = 0x88b5

// station opens a raw socket on peer interface i. It hears only frames of testEtherType.
func (w *wire) station(i int) *station {
	w.t.Helper()
	here, err := netns.Get()
	must(w.t, err)
	must(w.t, netns.Set(w.peerNS))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(testEtherType)))
	must(w.t, errors.Join(err, netns.Set(here), here.Close()))
	s := &station{t: w.t, i: i, fd: fd, to: unix.SockaddrLinklayer{Ifindex: w.peerLink(i).Attrs().Index, Halen: 6}}
	copy(s.from[:], w.peerLink(i).Attrs().HardwareAddr)
	copy(s.edge[:], w.edgeLink(i).Attrs().HardwareAddr)
	w.t.Cleanup(func() { unix.Close(fd) })
	must(w.t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(testEtherType), Ifindex: s.to.Ifindex}))
	must(w.t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	must(w.t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}))
	return s
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// payloadAt is where a test frame's own bytes start: Ethernet, IPv4 and TCP headers.
const payloadAt = 14 + 20 + 20

// segment is a TCP frame to port 80 of the edge, n bytes long, with a number in its payload and a pattern behind.
func (s *station) segment(number uint32, n int) []byte {
	b := make([]byte, n)
	copy(b, s.edge[:])
	copy(b[6:], s.from[:])
	binary.BigEndian.PutUint16(b[12:], 0x0800)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], uint16(n-14))
	src, dst := peerIP(s.i).As4(), edgeIP(s.i).As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	tcp := ip[20:]
	binary.BigEndian.PutUint16(tcp, 1024+uint16(number%40000))
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12], tcp[13] = 5<<4, 0x10
	fillPayload(b[payloadAt:], number)
	return b
}

func fillPayload(b []byte, number uint32) {
	binary.BigEndian.PutUint32(b, number)
	for i := 4; i < len(b); i++ {
		b[i] = byte(number) + byte(i)
	}
}

func checkPayload(b []byte, number uint32) error {
	if got := binary.BigEndian.Uint32(b); got != number {
		return fmt.Errorf("frame number %d, want %d", got, number)
	}
	for i := 4; i < len(b); i++ {
		if b[i] != byte(number)+byte(i) {
			return fmt.Errorf("frame %d differs at byte %d of %d", number, i, len(b))
		}
	}
	return nil
}

// length varies frame lengths from the shortest to the longest of an MTU of 1500.
func length(number uint32) int { return payloadAt + 6 + int(number*131%1455) }

func (s *station) send(frame []byte) {
	if err := s.trySend(frame); err != nil {
		s.t.Errorf("send from the peer: %v", err)
	}
}

// trySend sends a frame. The runtime's preemption signals may interrupt the call.
func (s *station) trySend(frame []byte) (err error) {
	for {
		if err = unix.Sendto(s.fd, frame, 0, &s.to); err != unix.EINTR {
			return err
		}
	}
}

// receive returns the next frame of testEtherType.
func (s *station) receive(buf []byte) ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING {
			return buf[:n], nil
		}
	}
}

// put submits a frame of testEtherType of n bytes to the peer. It reports false when no frame is free.
func (s *station) put(q *Queue, number uint32, n int) bool {
	f, b, ok := q.Reserve()
	if !ok {
		return false
	}
	copy(b, s.from[:])
	copy(b[6:], s.edge[:])
	binary.BigEndian.PutUint16(b[12:], testEtherType)
	fillPayload(b[14:n], number)
	q.Submit(f, n)
	return true
}

// await polls without sleeping for long; it is for states that only change on their own.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// wantIdle waits until everything sent is completed and asserts that no frame is missing.
func wantIdle(t testing.TB, q *Queue) {
	t.Helper()
	await(t, "all frames sent come back", func() bool {
		must(t, q.Kick())
		return q.Levels().TX == 0
	})
	l, rx := q.Levels(), q.frames.rx
	want := Levels{Frames: l.Frames, Free: l.Frames - rx, Fill: rx, FillRing: rx, RingEntries: l.RingEntries, FrameBytes: l.FrameBytes, BacklogBytes: l.BacklogBytes}
	if l != want || l.Sum() != l.Frames {
		t.Errorf("idle levels %+v, want %+v", l, want)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// childVariable names, in the environment of this test binary executed again, which of children to run.
const childVariable = "RINGROAD_DATAPLANE_CHILD"

var children = map[string]func() error{}

func TestMain(m *testing.M) {
	if child := children[os.Getenv(childVariable)]; child != nil {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child prepares to run a child in the namespace of the calling thread.
func child(t testing.TB, name string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	c := exec.Command(self)
	c.Env = append(os.Environ(), childVariable+"="+name)
	c.Stderr = os.Stderr
	return c
}
