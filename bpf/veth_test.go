package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/asavie/xdp"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestSocketReceivesWhatTheKernelDoesNot runs the program where it is meant to run, on this topology in a network
// namespace that dies with the test's thread:
//
//	raw socket ─► rrNb ═══veth═══ rrNa ─ XDP ─ ours ─► AF_XDP socket
//	                                      └─ not ours ─► kernel (a packet socket sees it)
func TestSocketReceivesWhatTheKernelDoesNot(t *testing.T) {
	for _, frags := range []bool{false, true} {
		t.Run(fmt.Sprintf("frags=%v", frags), func(t *testing.T) {
			near, far := veth(t, frags)
			s := load(t, Options{Frags: frags, Queues: 1})
			configure(t, s, testConfig)
			attached, err := link.AttachXDP(link.XDPOptions{
				Program: s.Program(), Interface: near.Attrs().Index, Flags: link.XDPDriverMode,
			})
			if err != nil {
				t.Fatal("attach to veth:", err)
			}
			t.Cleanup(func() { _ = attached.Close() })
			xsk := boundSocket(t, near.Attrs().Index, frags)
			if err := s.SetSocket(0, xsk.FD()); err != nil {
				t.Fatal(err)
			}
			kernel := packetSocket(t, near.Attrs().Index)
			peer := packetSocket(t, far.Attrs().Index)

			ours := [][]byte{
				ethernet(ip4(client4, own4, protoTCP, tcp(40000, 80)), tag{0x8100, 100}),
				ethernet(ip6(backend6, own6, destOpts, extension(protoTCP, 0, tcp(8080, 20000)))),
				ethernet(ip4With(header4{id: 7, flags: 0x2000}, client4, own4, protoTCP, tcp(40000, 80))),
				ethernet(ip4With(header4{id: 7, flags: 3}, client4, own4, protoTCP, []byte("the rest"))),
				ethernet(ip4(other4, own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, client4, protoTCP, tcp(80, 40000))))),
			}
			if frags {
				payload := append(tcp(40000, 80), bytes.Repeat([]byte("jumbo"), 1700)...)
				ours = append(ours, ethernet(ip4(client4, own4, protoTCP, payload)))
			}
			ssh := ethernet(ip4(client4, own4, protoTCP, tcp(40000, 22)))
			for _, f := range append(ours, ssh) {
				if _, err := unix.Write(peer, f); err != nil {
					t.Fatalf("send %d bytes: %v", len(f), err)
				}
			}
			for i, f := range ours {
				if got := receive(t, xsk, len(f)); !bytes.Equal(got, f) {
					t.Errorf("frame %d: socket got %x, sent %x", i, got, f)
				}
			}
			// The last one sent passes: when the kernel has it, it had the time for all before.
			for buf := make([]byte, 16<<10); ; {
				n, err := unix.Read(kernel, buf)
				if err == unix.EINTR { // a preemption signal of the runtime
					continue
				}
				if err != nil {
					t.Fatal("the frame to ssh did not reach the kernel:", err)
				}
				if bytes.Equal(buf[:n], ssh) {
					break
				}
				for i, f := range ours {
					if bytes.Equal(buf[:n], f) {
						t.Errorf("frame %d reached the kernel", i)
					}
				}
			}
			redirected, c := uint64(0), counters(t, s)
			for v := range c {
				if Verdict(v).Redirected() {
					redirected += c[v]
				}
			}
			if redirected != uint64(len(ours)) || c[PassOtherPort] != 1 {
				t.Errorf("%d frames counted as redirected, %d sent; %d as passed to ssh, 1 sent", redirected, len(ours), c[PassOtherPort])
			}
		})
	}
}

// veth makes a pair in a network namespace of its own, both ends up.
func veth(t *testing.T, jumbo bool) (near, far netlink.Link) {
	t.Helper()
	// Never unlocked: the runtime ends the thread with the goroutine, and nothing else ever runs in the namespace.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal("make network namespace:", err)
	}
	name := fmt.Sprintf("rr%d", os.Getpid())
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name + "a"
	attrs.MTU = 1500
	if jumbo {
		attrs.MTU = 9000
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "b", PeerMTU: uint32(attrs.MTU)}); err != nil {
		t.Fatal("make veth:", err)
	}
	links := make([]netlink.Link, 2)
	for i, end := range []string{"a", "b"} {
		l, err := netlink.LinkByName(name + end)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatalf("set %s%s up: %v", name, end, err)
		}
		links[i] = l
	}
	// The AF_XDP socket's mappings keep the namespace until the process ends; the links need not wait for that.
	t.Cleanup(func() { _ = netlink.LinkDel(links[0]) })
	return links[0], links[1]
}

// boundSocket binds an AF_XDP socket to queue 0, with a full fill ring.
func boundSocket(t *testing.T, ifindex int, frags bool) *xdp.Socket {
	t.Helper()
	o := xdp.DefaultSocketOptions
	o.FrameSize = 4096
	if frags {
		xdp.DefaultSocketFlags = unix.XDP_USE_SG
		defer func() { xdp.DefaultSocketFlags = 0 }()
	}
	xsk, err := xdp.NewSocket(ifindex, 0, &o)
	if err != nil {
		t.Fatal("bind AF_XDP socket:", err)
	}
	t.Cleanup(func() { _ = xsk.Close() })
	xsk.Fill(xsk.GetDescs(xsk.NumFreeFillSlots()))
	return xsk
}

// receive reads buffers from the socket until it has n bytes, or none came for some seconds.
func receive(t *testing.T, xsk *xdp.Socket, n int) (frame []byte) {
	t.Helper()
	for len(frame) < n {
		descs := xsk.Receive(1)
		if len(descs) == 1 {
			frame = append(frame, xsk.GetFrame(descs[0])...)
			continue
		}
		fds := []unix.PollFd{{Fd: int32(xsk.FD()), Events: unix.POLLIN}}
		switch ready, err := unix.Poll(fds, 5000); {
		case err != nil && !errors.Is(err, unix.EINTR):
			t.Fatal("poll:", err)
		case ready == 0:
			t.Fatalf("socket got %d of %d bytes", len(frame), n)
		}
	}
	return frame
}

// packetSocket opens a raw socket on an interface that sends, and receives what passes XDP.
func packetSocket(t *testing.T, ifindex int) int {
	t.Helper()
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal("open packet socket:", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}); err != nil {
		t.Fatal("bind packet socket:", err)
	}
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	return fd
}
