package dataplane

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (w *wire) neighbours(pairs ...int) *Neighbours {
	w.t.Helper()
	var indices []int
	for _, i := range pairs {
		indices = append(indices, w.edgeLink(i).Attrs().Index)
	}
	n, err := NewNeighbours(indices...)
	must(w.t, err)
	w.t.Cleanup(n.Close)
	return n
}

// awaitChange waits for done, looking whenever the snapshot changes.
func awaitChange(t testing.TB, n *Neighbours, what string, done func() bool) {
	t.Helper()
	limit := time.After(patience)
	for !done() {
		select {
		case <-n.Changed():
		case <-limit:
			t.Fatalf("%s: not within %v; routes %v", what, patience, n.Routes())
		}
	}
}

func TestNeighbourIsResolvedAndFollowed(t *testing.T) {
	for name, ip := range map[string]netip.Addr{"IPv4": peerIP(0), "IPv6": peerIP6(0)} {
		w := newWire(t, 1, 1)
		n := w.neighbours(0)
		index := w.edgeLink(0).Attrs().Index
		if _, ok := n.Lookup(index, ip); ok {
			t.Fatalf("%s: known before it was asked for", name)
		}
		generation := n.Generation()
		n.Provoke(index, ip)
		awaitChange(t, n, name+" resolved", func() bool { _, ok := n.Lookup(index, ip); return ok })
		mac, _ := n.Lookup(index, ip)
		if want := [6]byte(w.peerLink(0).Attrs().HardwareAddr); mac != want || n.Generation() == generation {
			t.Errorf("%s: MAC %x, want %x; generation %d, was %d", name, mac, want, n.Generation(), generation)
		}
		if _, ok := n.Lookup(index+1, ip); ok {
			t.Errorf("%s: known on another interface too", name)
		}

		// The peer gets another MAC, and the kernel is told.
		moved := [6]byte{2, 0x77, 0, 0, 0, 9}
		must(t, w.edge.NeighSet(&netlink.Neigh{LinkIndex: index, IP: ip.AsSlice(), State: netlink.NUD_REACHABLE, HardwareAddr: moved[:]}))
		awaitChange(t, n, name+" MAC followed", func() bool { mac, ok := n.Lookup(index, ip); return ok && mac == moved })

		must(t, w.edge.NeighDel(&netlink.Neigh{LinkIndex: index, IP: ip.AsSlice()}))
		awaitChange(t, n, name+" forgotten", func() bool { _, ok := n.Lookup(index, ip); return !ok })
	}
}

func TestProvokeFindsTheNewMACOfAPeer(t *testing.T) {
	w := newWire(t, 1, 1)
	n := w.neighbours(0)
	index, ip := w.edgeLink(0).Attrs().Index, peerIP(0)
	n.Provoke(index, ip)
	awaitChange(t, n, "resolved", func() bool { _, ok := n.Lookup(index, ip); return ok })

	// The peer's address changes in silence. What is stale and in use is verified, found dead, and resolved anew.
	moved := [6]byte{2, 0x77, 0, 0, 0, 7}
	must(t, w.peer.LinkSetHardwareAddr(w.peerLink(0), moved[:]))
	must(t, w.edge.NeighDel(&netlink.Neigh{LinkIndex: index, IP: ip.AsSlice()}))
	awaitChange(t, n, "the new MAC", func() bool {
		mac, ok := n.Lookup(index, ip)
		if !ok {
			n.Provoke(index, ip)
			time.AfterFunc(provokeInterval, func() { n.Provoke(index, ip) })
		}
		return ok && mac == moved
	})
}

// A stale entry in use is verified, one that nobody looks up is not.
func TestStaleNeighbourInUseIsVerified(t *testing.T) {
	w := newWire(t, 2, 1)
	n := w.neighbours(0, 1)
	used, unused := w.edgeLink(0).Attrs().Index, w.edgeLink(1).Attrs().Index
	for i, index := range []int{used, unused} {
		must(t, w.edge.NeighSet(&netlink.Neigh{LinkIndex: index, IP: peerIP(i).AsSlice(), State: netlink.NUD_STALE,
			HardwareAddr: w.peerLink(i).Attrs().HardwareAddr}))
	}
	awaitChange(t, n, "both known", func() bool { return len(n.snapshot.Load().neighbours) == 2 })
	n.Lookup(used, peerIP(0))
	n.snapshot.Load().neighbours[keyOf(unused, peerIP(1))].idle = keepAliveTicks // written before the first tick
	state := func(index int) int {
		entries, err := w.edge.NeighList(index, netlink.FAMILY_V4)
		must(t, err)
		return entries[0].State
	}
	await(t, "verified", func() bool { return state(used)&(netlink.NUD_DELAY|netlink.NUD_PROBE|netlink.NUD_REACHABLE) != 0 })
	if s := state(unused); s != netlink.NUD_STALE {
		t.Errorf("the unused entry is in state %#x", s)
	}
}

func TestProvokeWithoutPrivilege(t *testing.T) {
	for _, ip := range []netip.Addr{peerIP(0), peerIP6(0)} {
		w := newWire(t, 1, 1)
		n := w.neighbours(0)
		n.datagrams.only = true // as after EPERM; read only when provoked
		index := w.edgeLink(0).Attrs().Index
		n.Provoke(index, ip)
		awaitChange(t, n, ip.String(), func() bool { _, ok := n.Lookup(index, ip); return ok })
	}
}

func TestRoutesAreFollowed(t *testing.T) {
	w := newWire(t, 2, 1)
	n := w.neighbours(0)
	index := w.edgeLink(0).Attrs().Index
	other := w.edgeLink(1).Attrs().Index
	connected := Route{Prefix: netip.MustParsePrefix("10.77.0.0/24"), IfIndex: index, Source: edgeIP(0)}
	connected6 := Route{Prefix: netip.MustParsePrefix("fd77:0::/64"), IfIndex: index, Source: edgeIP6(0), Metric: 256}
	for _, r := range []Route{connected, connected6} {
		if !slices.Contains(n.Routes(), r) {
			t.Errorf("routes %v, without %v", n.Routes(), r)
		}
	}
	byGateway := func(dst, gateway string, link int) *netlink.Route {
		return &netlink.Route{LinkIndex: link, Gw: net.ParseIP(gateway), Dst: ipNet(netip.MustParsePrefix(dst))}
	}
	for _, tc := range []struct {
		add  *netlink.Route
		want Route
	}{
		{byGateway("192.0.2.0/24", "10.77.0.2", index), Route{netip.MustParsePrefix("192.0.2.0/24"), peerIP(0), index, edgeIP(0), 0}},
		{byGateway("0.0.0.0/0", "10.77.0.2", index), Route{netip.MustParsePrefix("0.0.0.0/0"), peerIP(0), index, edgeIP(0), 0}},
		{byGateway("2001:db8::/32", "fd77:0::2", index), Route{netip.MustParsePrefix("2001:db8::/32"), peerIP6(0), index, edgeIP6(0), 1024}},
		{byGateway("::/0", "fd77:0::2", index), Route{netip.MustParsePrefix("::/0"), peerIP6(0), index, edgeIP6(0), 1024}},
		{&netlink.Route{Dst: ipNet(netip.MustParsePrefix("198.51.100.0/24")), Priority: 7, MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: index, Gw: net.ParseIP("10.77.0.2")}, {LinkIndex: other, Gw: net.ParseIP("10.77.1.2")}}},
			Route{netip.MustParsePrefix("198.51.100.0/24"), peerIP(0), index, edgeIP(0), 7}},
	} {
		must(t, w.edge.RouteAdd(tc.add))
		awaitChange(t, n, "route added", func() bool { return slices.Contains(n.Routes(), tc.want) })
		must(t, w.edge.RouteDel(tc.add))
		awaitChange(t, n, "route removed", func() bool { return !slices.Contains(n.Routes(), tc.want) })
	}

	// Others' routes are not shown, and what is shown is in order of preference.
	must(t, w.edge.RouteAdd(byGateway("192.0.2.128/25", "10.77.1.2", other)))
	for _, dst := range []string{"0.0.0.0/0", "192.0.2.0/25", "192.0.2.0/24"} {
		for _, metric := range []int{30, 10} {
			r := byGateway(dst, "10.77.0.2", index)
			r.Priority = metric
			must(t, w.edge.RouteAdd(r))
		}
	}
	awaitChange(t, n, "all routes", func() bool { return len(n.Routes()) >= 8 })
	for i, r := range n.Routes() {
		if r.IfIndex != index {
			t.Errorf("route of another interface: %v", r)
		}
		if i > 0 {
			before := n.Routes()[i-1]
			if before.Prefix.Bits() < r.Prefix.Bits() || before.Prefix.Bits() == r.Prefix.Bits() && before.Metric > r.Metric {
				t.Errorf("%v comes before %v", before, r)
			}
		}
	}

	// The link goes down, and its routes with it.
	must(t, w.edge.LinkSetDown(w.edgeLink(0)))
	awaitChange(t, n, "routes gone with the link", func() bool { return !slices.Contains(n.Routes(), connected) })
	must(t, w.edge.LinkSetUp(w.edgeLink(0)))
	awaitChange(t, n, "routes back", func() bool { return slices.Contains(n.Routes(), connected) })
}

// A link without carrier keeps its routes, as it does for the kernel: connections wait for it instead of failing. The kernel gives them up
// when it is told to ignore them, and so do we.
func TestRoutesOutliveALostCarrier(t *testing.T) {
	for name, ignored := range map[string]bool{"by default": false, "ignore_routes_with_linkdown": true} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, 2, 1)
			if ignored {
				for _, family := range []string{"ipv4", "ipv6"} {
					must(t, os.WriteFile("/proc/sys/net/"+family+"/conf/"+edgeName(0)+"/ignore_routes_with_linkdown", []byte("1"), 0))
				}
			}
			n := w.neighbours(0, 1)
			must(t, w.peer.LinkSetDown(w.peerLink(0)))
			await(t, "the carrier is lost", func() bool { return w.edgeLink(0).Attrs().OperState != netlink.OperUp })
			// The tables are read once more for each of these.
			for _, dst := range []string{"192.0.2.0/24", "2001:db8::/32"} {
				gateway := peerIP(1)
				if strings.Contains(dst, ":") {
					gateway = peerIP6(1)
				}
				prefix := netip.MustParsePrefix(dst)
				must(t, w.edge.RouteAdd(&netlink.Route{LinkIndex: w.edgeLink(1).Attrs().Index, Gw: gateway.AsSlice(), Dst: ipNet(prefix)}))
				awaitChange(t, n, "route added", func() bool {
					return slices.ContainsFunc(n.Routes(), func(r Route) bool { return r.Prefix == prefix })
				})
			}
			for _, want := range []string{"10.77.0.0/24", "fd77:0::/64"} {
				there := slices.ContainsFunc(n.Routes(), func(r Route) bool { return r.Prefix == netip.MustParsePrefix(want) })
				if there == ignored {
					t.Errorf("%s is among the routes: %v; all: %v", want, there, n.Routes())
				}
			}
		})
	}
}

// Notifications that overflow the socket are made up for by reading the tables again.
func TestOverflowOfNotifications(t *testing.T) {
	w := newWire(t, 1, 1)
	n := w.neighbours(0)
	index := w.edgeLink(0).Attrs().Index
	must(t, unix.SetsockoptInt(n.events.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)) // the kernel's least
	const total = 400
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)}) }
	for i := range total {
		must(t, w.edge.NeighSet(&netlink.Neigh{LinkIndex: index, IP: address(1000 + i).AsSlice(), State: netlink.NUD_PERMANENT,
			HardwareAddr: net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}}))
	}
	awaitChange(t, n, "all entries", func() bool {
		for i := range total {
			if mac, ok := n.Lookup(index, address(1000+i)); !ok || mac != [6]byte{2, 0, 0, 0, byte(i >> 8), byte(i)} {
				return false
			}
		}
		return true
	})
}

func TestNeighboursCloseLeavesNothing(t *testing.T) {
	w := newWire(t, 1, 1)
	index := w.edgeLink(0).Attrs().Index
	descriptors, goroutines := countDescriptors(t), runtime.NumGoroutine()
	for range 5 {
		n, err := NewNeighbours(index)
		must(t, err)
		n.Provoke(index, peerIP(0))
		n.Close()
		n.Close()
		n.Lookup(index, peerIP(0))
	}
	await(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= goroutines })
	if d := countDescriptors(t); d != descriptors {
		t.Errorf("%d descriptors open, %d before", d, descriptors)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	w := newWire(t, 1, 1)
	n := w.neighbours(0)
	index := w.edgeLink(0).Attrs().Index
	n.Provoke(index, peerIP6(0))
	zoned := peerIP6(0).WithZone("rre0")
	awaitChange(t, n, "resolved", func() bool { _, ok := n.Lookup(index, zoned); return ok })
	mapped := netip.AddrFrom16(peerIP(0).As16())
	if a := testing.AllocsPerRun(100, func() {
		n.Lookup(index, zoned)
		n.Lookup(index, mapped)
		_ = n.Generation()
		_ = n.Routes()
	}); a != 0 {
		t.Errorf("%v allocations", a)
	}
}
