package dataplane

import (
	"errors"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	bpflink "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringroad/bpf"
)

// wantError asserts the sentinel, and that the message tells what it should.
func wantError(t testing.TB, err, sentinel error, tells ...string) {
	t.Helper()
	if !errors.Is(err, sentinel) {
		t.Errorf("error %v, want %v", err, sentinel)
		return
	}
	for _, s := range tells {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not tell %q", err, s)
		}
	}
}

func TestInspect(t *testing.T) {
	w := newWire(t, 1, 2)
	look := func() *Inspection {
		t.Helper()
		i, err := Inspect("rre0")
		must(t, err)
		return i
	}
	i := look()
	if i.Link.Driver != "veth" || i.Link.MTU != 1500 || i.Link.RXQueues != 2 || !i.Up || !i.Carrier || i.Kind != nil || i.Attached != nil {
		t.Errorf("got %+v", i)
	}
	if f, err := ReadFeatures(i.Link.Index); err != nil || i.Link.Features != f {
		t.Errorf("features %+v, the kernel says %+v, %v", i.Link.Features, f, err)
	}
	w.open(0)
	i = look()
	wantError(t, i.Attached, ErrProgramAttached, "rre0", "steer")
	if i.Holder == 0 {
		t.Error("the link that holds the program is not found")
	}
	if i.Peer != "" || i.PeerUnqueued {
		t.Errorf("a peer in another namespace: %+v", i)
	}
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: "rrp0", TxQLen: -1})
	pair.PeerName = "rrp1"
	must(t, netlink.LinkAdd(pair))
	t.Cleanup(func() { must(t, netlink.LinkDel(pair)) })
	peer, err := netlink.LinkByName("rrp1")
	must(t, err)
	for _, up := range []netlink.Link{pair, peer} {
		must(t, netlink.LinkSetUp(up))
	}
	for _, qdisc := range []string{"", "pfifo_fast"} {
		if qdisc != "" {
			must(t, netlink.QdiscReplace(&netlink.GenericQdisc{QdiscType: qdisc, QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: peer.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0),
			}}))
		}
		i, err := Inspect("rrp0")
		must(t, err)
		if want := qdisc == "" && !runningKernel().before(qdiscHolds); i.Peer != "rrp1" || i.PeerUnqueued != want {
			t.Errorf("peer %q with qdisc %q: unqueued %v, want %v", i.Peer, qdisc, i.PeerUnqueued, want)
		}
	}
	_, err = Inspect("rrnone")
	wantError(t, err, ErrNoInterface, "rre0")
	i, err = Inspect("lo")
	must(t, err)
	wantError(t, i.Kind, ErrNotEthernet)
}

func TestInterfaceTellsWhatItIs(t *testing.T) {
	w := newWire(t, 1, 2)
	in := w.open(0)
	a := w.edgeLink(0).Attrs()
	mac := in.MAC()
	if in.Name() != "rre0" || in.Index() != a.Index || in.MTU() != 1500 || in.RXQueues() != 2 || in.Driver() != "veth" ||
		in.Mode() != ModeNative || in.NativeFailure() != nil || !slices.Equal(mac[:], a.HardwareAddr) {
		t.Errorf("name %q index %d MTU %d queues %d driver %q mode %v MAC %x", in.Name(), in.Index(), in.MTU(), in.RXQueues(), in.Driver(), in.Mode(), mac)
	}
	addresses, err := in.Addresses()
	must(t, err)
	for _, want := range []netip.Prefix{netip.PrefixFrom(edgeIP(0), 24), netip.PrefixFrom(edgeIP6(0), 64)} {
		if !slices.Contains(addresses, want) {
			t.Errorf("addresses %v, without %v", addresses, want)
		}
	}
	s := w.station(0)
	q := w.openQueue(in, QueueOptions{RingEntries: 64, Frames: 80})
	if q.ZeroCopy() || !strings.Contains(q.ZeroCopyReason(), "veth") {
		t.Errorf("zero-copy %v because %q; veth has none", q.ZeroCopy(), q.ZeroCopyReason())
	}
	w.openQueue(in, QueueOptions{Queue: 1, RingEntries: 64, Frames: 80})
	s.send(s.segment(1, 100))
	await(t, "verdict is counted", func() bool {
		c, err := in.Counters()
		must(t, err)
		return c[bpf.RedirectListener] == 1
	})
}

func TestGenericModeReceivesAndSends(t *testing.T) {
	w := newWire(t, 1, 1)
	in, err := OpenInterface(InterfaceOptions{Name: edgeName(0), Mode: ModeGeneric})
	must(t, err)
	t.Cleanup(func() { must(t, in.Close()) })
	steer80(t, in, 0)
	if in.Mode() != ModeGeneric {
		t.Fatalf("mode %v", in.Mode())
	}
	q := w.openQueue(in, QueueOptions{RingEntries: 64, Frames: 80})
	s := w.station(0)
	for number := range uint32(500) {
		s.send(s.segment(number, length(number)))
		await(t, "frame arrives", func() bool { return q.Peek(1) == 1 })
		must(t, checkPayload(q.Frame(0)[payloadAt:], number))
		q.Release(1)
		s.put(q, number, length(number))
		must(t, q.Kick())
	}
	hear(t, s, 500)
	wantIdle(t, q)
}

// A bridge has no native mode.
func TestAutoFallsBackToGenericAndSaysWhy(t *testing.T) {
	w := newWire(t, 0, 0)
	a := netlink.NewLinkAttrs()
	a.Name = "rrbridge"
	must(t, w.edge.LinkAdd(&netlink.Bridge{LinkAttrs: a}))
	l, err := w.edge.LinkByName("rrbridge")
	must(t, err)
	must(t, w.edge.LinkSetUp(l))
	_, err = OpenInterface(InterfaceOptions{Name: "rrbridge", Mode: ModeNative})
	wantError(t, err, ErrUnsupported, "rrbridge", "native")
	in, err := OpenInterface(InterfaceOptions{Name: "rrbridge"})
	must(t, err)
	if in.Mode() != ModeGeneric || in.NativeFailure() == nil || !strings.Contains(in.NativeFailure().Error(), "bridge") {
		t.Errorf("mode %v, native failure %v", in.Mode(), in.NativeFailure())
	}
	must(t, in.Close())
}

func TestOpenInterfaceRefusals(t *testing.T) {
	w := newWire(t, 3, 1)
	must(t, w.edge.LinkSetDown(w.edgeLink(1)))
	must(t, w.edge.LinkSetMTU(w.edgeLink(2), maxMTU+1))
	lo, err := w.edge.LinkByName("lo")
	must(t, err)
	must(t, w.edge.LinkSetUp(lo))
	for _, tc := range []struct {
		name     string
		sentinel error
		tells    []string
	}{
		{"rre9", ErrNoInterface, []string{"rre9", "there is rre0, rre1, rre2"}},
		{"rre1", ErrInterfaceDown, []string{"ip link set dev rre1 up"}},
		{"rre2", ErrMTU, []string{"9217", "9216", "mtu 9216"}},
		{"lo", ErrNotEthernet, []string{"loopback"}},
	} {
		_, err := OpenInterface(InterfaceOptions{Name: tc.name})
		wantError(t, err, tc.sentinel, tc.tells...)
	}
}

func TestOtherPrograms(t *testing.T) {
	w := newWire(t, 1, 1)
	other, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebodys", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	must(t, err)
	defer other.Close()
	for _, mode := range []bpflink.XDPAttachFlags{bpflink.XDPDriverMode, bpflink.XDPGenericMode} {
		l, err := bpflink.AttachXDP(bpflink.XDPOptions{Program: other, Interface: w.edgeLink(0).Attrs().Index, Flags: mode})
		must(t, err)
		_, err = OpenInterface(InterfaceOptions{Name: "rre0"})
		wantError(t, err, ErrProgramAttached, "somebodys", "xdp off", "rre0")
		must(t, l.Close())
	}
	// And one that came in between.
	in := w.open(0)
	again := &Interface{link: in.link, steer: in.steer, netlink: in.netlink}
	wantError(t, again.attach(ModeAuto), ErrProgramAttached, "ringroad")
}

func TestOpenQueueRefusals(t *testing.T) {
	w := newWire(t, 1, 2)
	in := w.open(0)
	held := w.openQueue(in, QueueOptions{Queue: 1, RingEntries: 64, Frames: 80})
	descriptors := countDescriptors(t)
	for _, tc := range []struct { // no subtests: they would run outside the namespace
		o        QueueOptions
		sentinel error
		tells    []string
	}{
		{QueueOptions{Queue: 1, RingEntries: 64, Frames: 80, BindTimeout: 50 * time.Millisecond}, ErrQueueBusy, []string{"queue 1 of rre0", "50ms", "ss --xdp"}},
		{QueueOptions{Queue: 2}, ErrNoQueue, []string{"rre0 has 2"}},
		{QueueOptions{ZeroCopy: ZeroCopyOn}, ErrUnsupported, []string{"zero-copy", "veth", "has none", "zero_copy to auto"}},
		{QueueOptions{RingEntries: 100}, ErrOptions, []string{"100", "power of two"}},
	} {
		q, err := in.OpenQueue(tc.o)
		if err == nil {
			q.Close()
		}
		wantError(t, err, tc.sentinel, tc.tells...)
	}
	if maps, err := socketMappings(); err != nil || len(maps) != 1 {
		t.Errorf("mapped: %v, %v; want those of %s only", maps, err, held.name)
	}
	if n := countDescriptors(t); n != descriptors {
		t.Errorf("%d descriptors open, %d before", n, descriptors)
	}
}

func TestFrameTooSmallForMTU(t *testing.T) {
	w := newWire(t, 1, 1)
	must(t, w.edge.LinkSetMTU(w.edgeLink(0), 3000))
	must(t, w.peer.LinkSetMTU(w.peerLink(0), 3000))
	in := w.open(0)
	_, err := in.OpenQueue(QueueOptions{RingEntries: 64, Frames: 80, FrameBytes: 2048})
	wantError(t, err, ErrMTU, "3000", "4096")
	q := w.openQueue(in, QueueOptions{RingEntries: 64, Frames: 80}) // of a size that holds them
	s := w.station(0)
	s.send(s.segment(5, 3014))
	await(t, "frame arrives", func() bool { return q.Peek(1) == 1 })
	must(t, checkPayload(q.Frame(0)[payloadAt:], 5))
	q.Release(1)
	wantIdle(t, q)
}

// withoutCapabilities runs f on a thread whose effective set lacks some.
func withoutCapabilities(t *testing.T, f func(), bits ...int) {
	t.Helper()
	runtime.LockOSThread() // a capability set belongs to a thread
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var full, less [2]unix.CapUserData
	must(t, unix.Capget(&header, &full[0]))
	less = full
	for _, b := range bits {
		less[b/32].Effective &^= 1 << (b % 32)
	}
	must(t, unix.Capset(&header, &less[0]))
	f()
	must(t, unix.Capset(&header, &full[0]))
}

func TestMissingCapabilitiesAreNamed(t *testing.T) {
	w := newWire(t, 1, 1)
	in := w.open(0)
	var err error
	withoutCapabilities(t, func() { _, err = OpenInterface(InterfaceOptions{Name: "rre0"}) }, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_NET_ADMIN)
	wantError(t, err, ErrPermission, "CAP_BPF, CAP_NET_ADMIN", "root")
	withoutCapabilities(t, func() { _, err = in.OpenQueue(QueueOptions{}) }, unix.CAP_NET_RAW)
	wantError(t, err, ErrPermission, "CAP_NET_RAW", "queue 0 of rre0")
}

func TestLockedMemoryLimit(t *testing.T) {
	w := newWire(t, 1, 1)
	in := w.open(0)
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 64 << 10, Max: old.Max}))
	var err error
	withoutCapabilities(t, func() { _, err = in.OpenQueue(QueueOptions{}) }, unix.CAP_IPC_LOCK)
	must(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old))
	wantError(t, err, ErrLockedMemory, "7168 KiB", "64 KiB", "ulimit -l")
}

func TestProgramDoesNotOutliveItsInterface(t *testing.T) {
	w := newWire(t, 1, 1)
	in, err := OpenInterface(InterfaceOptions{Name: "rre0"})
	must(t, err)
	if x := w.edgeLink(0).Attrs().Xdp; x == nil || !x.Attached {
		t.Fatal("not attached")
	}
	must(t, in.Close())
	must(t, in.Close())
	if out, err := exec.Command("ip", "link", "show", "dev", "rre0").Output(); err != nil || strings.Contains(string(out), "xdp") {
		t.Errorf("after Close: %s, %v", out, err)
	}
}
