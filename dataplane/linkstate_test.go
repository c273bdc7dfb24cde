package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// changed waits for an event.
func changed(t *testing.T, e *LinkEvents, what string) {
	t.Helper()
	select {
	case <-e.Changed():
	case <-time.After(patience):
		t.Fatalf("no event: %s", what)
	}
}

func TestLinkEventsAndState(t *testing.T) {
	w := newWire(t, 1, 2)
	in := w.open(0)
	e, err := NewLinkEvents(in.Index())
	must(t, err)
	t.Cleanup(e.Close)
	state := func() LinkState {
		t.Helper()
		s, err := in.State()
		must(t, err)
		return s
	}
	if s := state(); s != (LinkState{Name: "rre0", MTU: 1500, MAC: in.MAC(), RXQueues: 2, Up: true, Carrier: true}) {
		t.Errorf("state at start: %+v", s)
	}
	// until waits for events until the state is as wanted: one change may come as several events, and earlier ones may be
	// on the way.
	until := func(what string, ok func(LinkState) bool) {
		t.Helper()
		await(t, what, func() bool {
			if ok(state()) {
				return true
			}
			changed(t, e, what)
			return false
		})
	}

	must(t, w.peer.LinkSetDown(w.peerLink(0)))
	until("carrier is lost", func(s LinkState) bool { return !s.Carrier && s.Up })
	must(t, w.peer.LinkSetUp(w.peerLink(0)))
	until("carrier is back", func(s LinkState) bool { return s.Carrier })
	must(t, w.edge.LinkSetMTU(w.edgeLink(0), 1400))
	until("MTU changed", func(s LinkState) bool { return s.MTU == 1400 })
	must(t, w.edge.LinkSetDown(w.edgeLink(0)))
	until("down", func(s LinkState) bool { return !s.Up })
	must(t, w.edge.LinkSetUp(w.edgeLink(0)))
	until("up again", func(s LinkState) bool { return s.Up && s.Carrier })

	more := netip.MustParsePrefix("10.77.0.9/32")
	must(t, w.edge.AddrAdd(w.edgeLink(0), &netlink.Addr{IPNet: ipNet(more)}))
	addresses := func() []netip.Prefix {
		t.Helper()
		list, err := in.Addresses()
		must(t, err)
		return list
	}
	await(t, "address is there", func() bool {
		changed(t, e, "address added")
		return slices.Contains(addresses(), more)
	})

	must(t, w.edge.LinkSetName(w.edgeLink(0), "other"))
	until("renamed", func(s LinkState) bool { return s.Name == "other" && s.RXQueues == 2 })
	l, err := w.edge.LinkByName("other")
	must(t, err)
	must(t, w.edge.LinkDel(l))
	var gone error
	await(t, "gone", func() bool {
		changed(t, e, "removed")
		_, gone = in.State()
		return gone != nil
	})
	wantError(t, gone, ErrInterfaceGone, "rre0")
}

func TestOtherInterfacesMakeNoEvents(t *testing.T) {
	e := &LinkEvents{interfaces: []int{1, 3}}
	for index, want := range map[byte]bool{1: true, 2: false, 3: true} {
		message := binary.NativeEndian.AppendUint32(make([]byte, 4), uint32(index))
		if got := e.concerns(message); got != want {
			t.Errorf("a message about interface %d concerns %v: %v", index, e.interfaces, got)
		}
	}
	if e.concerns([]byte{0, 0, 0, 0, 1}) {
		t.Error("a message without an index concerns somebody")
	}
}

func TestQueuesThatComeIntoUse(t *testing.T) {
	w := newWire(t, 1, 2)
	home, err := netns.Get()
	must(t, err)
	defer home.Close()
	must(t, netns.Set(w.peerNS))
	setChannels(t, peerName(0), 1) // veth wants no more than the other end has
	must(t, netns.Set(home))
	setChannels(t, edgeName(0), 1)
	in := w.open(0)
	if in.RXQueues() != 1 {
		t.Fatalf("%d queues in use, want 1", in.RXQueues())
	}
	first := w.openQueue(in, QueueOptions{RingEntries: 64, Frames: 80})
	setChannels(t, edgeName(0), 2)
	s, err := in.State()
	must(t, err)
	if s.RXQueues != 2 {
		t.Fatalf("%d queues in use, want 2", s.RXQueues)
	}
	second := w.openQueue(in, QueueOptions{Queue: 1, RingEntries: 64, Frames: 80}) // the program can steer to it
	st := w.station(0)
	st.send(st.segment(1, 100))
	await(t, "frame arrives on a queue", func() bool { return first.Peek(1)+second.Peek(1) == 1 })
}

// setChannels is `ethtool -L NAME rx N tx N`.
func setChannels(t *testing.T, name string, n uint32) {
	t.Helper()
	c := ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	must(t, askEthtool(name, unsafe.Pointer(&c)))
	c.cmd, c.rx = unix.ETHTOOL_SCHANNELS, n
	c.tx = n
	must(t, askEthtool(name, unsafe.Pointer(&c)))
}
