package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// rebuildInterval is the least time between two snapshots. A single event is followed at once; a storm of events
	// costs one dump an interval.
	rebuildInterval = 20 * time.Millisecond
	// dumpRetry is when to try again after the kernel could not be asked.
	dumpRetry = 100 * time.Millisecond
	// netlinkTimeout bounds one request, so that Close never waits for long.
	netlinkTimeout = 2 * time.Second
)

// usableStates are the neighbour states in which the kernel itself would send to the address (NUD_CONNECTED, and those
// in which it sends while it verifies).
const usableStates = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE |
	netlink.NUD_PERMANENT | netlink.NUD_NOARP

// Neighbours follows what the kernel knows about getting to other hosts by some interfaces: addresses and routes of
// the main table, and Ethernet addresses (ARP and ND stay with the kernel). Two goroutines of its own listen and ask;
// the answers are in an immutable snapshot. All methods but Close may be called from any goroutine.
//
// The kernel's TCP does not see our traffic, so to the kernel every neighbour looks idle. Those looked up within the
// last minute are therefore verified whenever they go stale: a changed or dead neighbour is noticed, and the entry is
// not collected.
type Neighbours struct {
	interfaces []int
	snapshot   atomic.Pointer[snapshot]
	changed    chan struct{}

	requests *netlink.Handle
	events   *nl.NetlinkSocket
	dirty    atomic.Uint32 // tables to read again: dirtyNeighbours, dirtyRoutes
	poke     chan struct{} // capacity 1: dirty is not zero

	provoked  chan neighbourKey
	datagrams datagrams
	provokes  map[neighbourKey]time.Time // the follower's: last attempt for each address

	stopping atomic.Bool
	stop     chan struct{}
	stopped  sync.WaitGroup
}

const (
	dirtyNeighbours = 1 << iota
	dirtyRoutes
)

// snapshot is never changed once it is published, but for what neighbour says.
type snapshot struct {
	generation uint64
	neighbours map[neighbourKey]*neighbour
	routes     []Route
}

type neighbourKey struct {
	ifindex int
	ip      netip.Addr // IPv4 unmapped, IPv6 without zone
}

// neighbour is an entry; it lives on in later snapshots for as long as its MAC address stays.
type neighbour struct {
	mac  [6]byte
	used atomic.Bool // looked up since the last tick

	// The rest is the follower's.
	stale bool
	idle  int // ticks since it was last looked up
}

// NewNeighbours reads the tables for the interfaces with these indices and starts to follow them.
func NewNeighbours(ifindex ...int) (*Neighbours, error) {
	n := &Neighbours{
		interfaces: slices.Clone(ifindex),
		changed:    make(chan struct{}, 1),
		poke:       make(chan struct{}, 1),
		provoked:   make(chan neighbourKey, 256),
		provokes:   map[neighbourKey]time.Time{},
		stop:       make(chan struct{}),
	}
	if err := n.open(); err != nil {
		n.release()
		return nil, fmt.Errorf("follow neighbours and routes: %w", err)
	}
	n.stopped.Add(2)
	go n.listen()
	go n.follow()
	return n, nil
}

func (n *Neighbours) open() (err error) {
	if n.requests, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	if err = n.requests.SetSocketTimeout(netlinkTimeout); err != nil {
		return fmt.Errorf("set up netlink: %w", err)
	}
	n.datagrams = openDatagrams()
	// Listen before the first look, so that nothing falls between.
	n.events, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_NEIGH, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	n.snapshot.Store(&snapshot{})
	for attempt := 0; ; attempt++ {
		if err = n.rebuild(dirtyNeighbours | dirtyRoutes); err == nil || attempt == 5 {
			return err
		}
	}
}

// Lookup is the Ethernet address of a neighbour that may be sent to. It does not allocate or lock. Not ok: the kernel
// does not know it, or no more; see [Neighbours.Provoke]. A caller that caches answers by [Neighbours.Generation]
// should look up again every few seconds, which is what keeps the entry verified.
func (n *Neighbours) Lookup(ifindex int, ip netip.Addr) (mac [6]byte, ok bool) {
	e := n.snapshot.Load().neighbours[keyOf(ifindex, ip)]
	if e == nil {
		return mac, false
	}
	if !e.used.Load() { // do not dirty the cache line a packet
		e.used.Store(true)
	}
	return e.mac, true
}

func keyOf(ifindex int, ip netip.Addr) neighbourKey {
	return neighbourKey{ifindex, ip.Unmap().WithZone("")}
}

// Generation changes whenever an answer of Lookup or Routes may.
func (n *Neighbours) Generation() uint64 { return n.snapshot.Load().generation }

// Routes are the unicast routes of the main table by our interfaces, the most specific first and then by metric. The
// slice must not be changed.
func (n *Neighbours) Routes() []Route { return n.snapshot.Load().routes }

// Changed has a value after the generation changed, once for any number of changes. It is never closed.
func (n *Neighbours) Changed() <-chan struct{} { return n.changed }

// Close ends the goroutines. The last snapshot can still be read.
func (n *Neighbours) Close() {
	if n.stopping.Swap(true) {
		return
	}
	close(n.stop)
	n.events.Close()
	n.stopped.Wait()
	n.events = nil
	n.release()
}

func (n *Neighbours) release() {
	if n.events != nil {
		n.events.Close()
	}
	if n.requests != nil {
		n.requests.Close()
	}
	n.datagrams.close()
}

// listen turns the kernel's notifications into dirty bits.
func (n *Neighbours) listen() {
	defer n.stopped.Done()
	for {
		messages, _, err := n.events.Receive()
		if n.stopping.Load() {
			return
		}
		if err != nil {
			// ENOBUFS: notifications were lost, so read everything again. Anything else is as unknown, and must not
			// spin.
			if !errors.Is(err, unix.ENOBUFS) {
				select {
				case <-time.After(dumpRetry):
				case <-n.stop:
					return
				}
			}
			n.mark(dirtyNeighbours | dirtyRoutes)
			continue
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
				// struct ndmsg: family, 3 bytes of padding, ifindex.
				if len(m.Data) >= 8 && slices.Contains(n.interfaces, int(binary.NativeEndian.Uint32(m.Data[4:8]))) {
					n.mark(dirtyNeighbours)
				}
			default:
				n.mark(dirtyRoutes)
			}
		}
	}
}

func (n *Neighbours) mark(tables uint32) {
	n.dirty.Or(tables)
	select {
	case n.poke <- struct{}{}:
	default:
	}
}

// follow rebuilds the snapshot, provokes and keeps alive.
func (n *Neighbours) follow() {
	defer n.stopped.Done()
	tick := time.NewTicker(keepAliveTick)
	defer tick.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-n.poke:
			pause := rebuildInterval
			if tables := n.dirty.Swap(0); n.rebuild(tables) != nil {
				// Interrupted by a change, or the kernel is short of memory: the old snapshot stays until it works.
				n.mark(tables)
				pause = dumpRetry
			}
			if !n.rest(pause) {
				return
			}
		case k := <-n.provoked:
			n.provoke(k, time.Now())
		case now := <-tick.C:
			n.keepAlive(now)
		}
	}
}

// rest lets events gather, while provoking goes on. It reports whether to go on.
func (n *Neighbours) rest(d time.Duration) bool {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-n.stop:
			return false
		case k := <-n.provoked:
			n.provoke(k, time.Now())
		case <-over.C:
			return true
		}
	}
}

// rebuild reads tables again and publishes a snapshot if it differs.
func (n *Neighbours) rebuild(tables uint32) error {
	old := n.snapshot.Load()
	next := &snapshot{generation: old.generation + 1, neighbours: old.neighbours, routes: old.routes}
	var err error
	if tables&dirtyNeighbours != 0 {
		if next.neighbours, err = n.readNeighbours(old.neighbours); err != nil {
			return err
		}
	}
	if tables&dirtyRoutes != 0 {
		if next.routes, err = n.readRoutes(); err != nil {
			return err
		}
	}
	// An entry is the same pointer exactly if its MAC stayed.
	if old.generation > 0 && maps.Equal(old.neighbours, next.neighbours) && slices.Equal(old.routes, next.routes) {
		return nil
	}
	n.snapshot.Store(next)
	select {
	case n.changed <- struct{}{}:
	default:
	}
	return nil
}

// readNeighbours dumps the usable entries, taking over those of old that are still right.
func (n *Neighbours) readNeighbours(old map[neighbourKey]*neighbour) (map[neighbourKey]*neighbour, error) {
	next := make(map[neighbourKey]*neighbour, len(old)+1)
	for _, index := range n.interfaces {
		entries, err := n.requests.NeighList(index, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list neighbours: %w", err)
		}
		for _, e := range entries {
			ip, ok := netip.AddrFromSlice(e.IP)
			if !ok || ip.IsMulticast() || e.State&usableStates == 0 || e.Flags&netlink.NTF_PROXY != 0 || len(e.HardwareAddr) != 6 {
				continue
			}
			k := keyOf(index, ip)
			entry := &neighbour{mac: [6]byte(e.HardwareAddr)}
			if was := old[k]; was != nil {
				if was.mac == entry.mac {
					entry = was
				} else {
					entry.used.Store(was.used.Load())
					entry.idle = was.idle
				}
			}
			entry.stale = e.State == netlink.NUD_STALE
			next[k] = entry
		}
	}
	return next, nil
}

// prefixOf converts the library's type, unmapping IPv4.
func prefixOf(p *net.IPNet) (netip.Prefix, bool) {
	if p == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(p.IP)
	ones, bits := p.Mask.Size()
	if ok && ip.Is4In6() && bits == 32 {
		ip = ip.Unmap()
	}
	return netip.PrefixFrom(ip, ones), ok
}
