package dataplane

import (
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// keepAliveTick is how often entries in use are looked at. The kernel collects stale entries after
	// gc_stale_time, 60 s by default.
	keepAliveTick = 5 * time.Second
	// keepAliveTicks is for how many ticks an entry counts as in use after its last look-up.
	keepAliveTicks = 12
	// provokeInterval is the least time between two attempts for an address: the kernel itself asks three times, a
	// second apart.
	provokeInterval = time.Second
)

// discardPort is where the datagrams go that only serve to make the kernel resolve (RFC 863).
const discardPort = 9

// Provoke asks the kernel to resolve a neighbour; when it has, the generation changes. It never blocks. It is limited
// to one attempt a second for an address, so it may be called for every packet that waits.
func (n *Neighbours) Provoke(ifindex int, ip netip.Addr) {
	select {
	case n.provoked <- keyOf(ifindex, ip):
	default: // full: the caller asks again
	}
}

// provoke is the follower's part.
func (n *Neighbours) provoke(k neighbourKey, now time.Time) {
	if last, tried := n.provokes[k]; tried && now.Sub(last) < provokeInterval {
		return
	}
	if n.snapshot.Load().neighbours[k] != nil {
		return // resolved meanwhile
	}
	n.provokes[k] = now
	n.use(k)
}

// keepAlive verifies entries that are in use and stale, and forgets old attempts.
func (n *Neighbours) keepAlive(now time.Time) {
	for k, e := range n.snapshot.Load().neighbours {
		e.idle++
		if e.used.Swap(false) {
			e.idle = 0
		}
		if e.stale && e.idle <= keepAliveTicks {
			n.use(k)
		}
	}
	for k, last := range n.provokes {
		if now.Sub(last) >= provokeInterval {
			delete(n.provokes, k)
		}
	}
}

// use makes the kernel behave as if it had a packet for the neighbour: resolve it, or verify it if it is stale. An
// entry made this way is an ordinary one and goes away when it is no longer used. Without CAP_NET_ADMIN, which a
// worker gives up, a datagram to the discard port does the same.
//
// It must not be called for a permanent entry: the kernel would make it an ordinary one (__neigh_update with
// NEIGH_UPDATE_F_USE).
func (n *Neighbours) use(k neighbourKey) {
	if n.datagrams.only {
		n.datagrams.send(k)
		return
	}
	err := n.requests.NeighSet(&netlink.Neigh{
		LinkIndex: k.ifindex,
		IP:        k.ip.AsSlice(),
		State:     netlink.NUD_NONE,
		Flags:     netlink.NTF_USE,
	})
	if err != nil {
		n.datagrams.only = err == unix.EPERM
		n.datagrams.send(k)
	}
}

// datagrams are sockets for provoking without privilege. They are made in advance, in the network namespace of the
// interfaces.
type datagrams struct {
	v4, v6 int  // -1: not to be had
	only   bool // netlink does not allow it
}

func openDatagrams() datagrams {
	open := func(family int) int {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return -1 // this protocol is switched off in the kernel
		}
		return fd
	}
	return datagrams{v4: open(unix.AF_INET), v6: open(unix.AF_INET6)}
}

// send is best effort: what does not resolve is provoked again.
func (d *datagrams) send(k neighbourKey) {
	if k.ip.Is4() {
		_, _ = unix.SendmsgN(d.v4, nil, unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(k.ifindex)}),
			&unix.SockaddrInet4{Port: discardPort, Addr: k.ip.As4()}, unix.MSG_DONTWAIT)
		return
	}
	_, _ = unix.SendmsgN(d.v6, nil, unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(k.ifindex)}),
		&unix.SockaddrInet6{Port: discardPort, Addr: k.ip.As16(), ZoneId: uint32(k.ifindex)}, unix.MSG_DONTWAIT)
}

func (d *datagrams) close() {
	for _, fd := range []int{d.v4, d.v6} {
		if fd > 0 {
			unix.Close(fd)
		}
	}
}
