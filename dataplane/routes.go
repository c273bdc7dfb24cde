package dataplane

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route is a way to a prefix by one of our interfaces. A route with several next hops gives one Route for each of them
// that is ours.
type Route struct {
	Prefix  netip.Prefix
	Gateway netip.Addr // zero: the destination is on the link
	IfIndex int
	Source  netip.Addr // address to send from; zero if the interface has none of this family
	Metric  int        // the lower is preferred among equal prefixes
}

// readRoutes dumps the main table.
func (n *Neighbours) readRoutes() ([]Route, error) {
	var routes []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		sources, err := n.readSources(family)
		if err != nil {
			return nil, err
		}
		filter := &netlink.Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}
		err = n.requests.RouteListFilteredIter(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE, func(r netlink.Route) bool {
			routes = n.appendRoutes(routes, r, family, sources)
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
	}
	slices.SortStableFunc(routes, func(a, b Route) int {
		return cmp.Or(-cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()), cmp.Compare(a.Metric, b.Metric))
	})
	return routes, nil
}

// appendRoutes appends what r offers by our interfaces.
func (n *Neighbours) appendRoutes(routes []Route, r netlink.Route, family int, sources map[int][]netip.Prefix) []Route {
	if r.Flags&(unix.RTNH_F_DEAD) != 0 {
		return routes
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw, Via: r.Via}}
	}
	prefix, ok := prefixOf(r.Dst)
	if !ok { // the default route
		prefix = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if family == netlink.FAMILY_V6 {
			prefix = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	for _, hop := range hops {
		if !slices.Contains(n.interfaces, hop.LinkIndex) || hop.Flags&(unix.RTNH_F_DEAD) != 0 {
			continue
		}
		out := Route{Prefix: prefix, Gateway: gatewayOf(hop), IfIndex: hop.LinkIndex, Metric: r.Priority}
		out.Source = addrOf(r.Src)
		if !out.Source.IsValid() {
			out.Source = sourceFor(out, sources[hop.LinkIndex])
		}
		routes = append(routes, out)
	}
	return routes
}

// gatewayOf is the next hop's address, which may be IPv6 for an IPv4 route (RFC 8950).
func gatewayOf(hop *netlink.NexthopInfo) netip.Addr {
	if via, ok := hop.Via.(*netlink.Via); ok {
		return addrOf(via.Addr)
	}
	return addrOf(hop.Gw)
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// readSources lists the addresses that can be sent from, by interface, in the kernel's order.
func (n *Neighbours) readSources(family int) (map[int][]netip.Prefix, error) {
	addrs, err := n.requests.AddrList(nil, family)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	// A tentative address is not ours yet, a deprecated one not to be used for new connections (RFC 4862 5.5.4).
	const unfit = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED
	sources := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok && a.Flags&unfit == 0 {
			sources[a.LinkIndex] = append(sources[a.LinkIndex], p)
		}
	}
	return sources, nil
}

// sourceFor chooses as the kernel does for a route without a source: an address whose subnet holds the next hop, else
// the first of the destination's scope.
func sourceFor(r Route, addresses []netip.Prefix) netip.Addr {
	next := r.Gateway
	if !next.IsValid() {
		next = r.Prefix.Addr()
	}
	linkLocal := r.Prefix.Bits() > 0 && r.Prefix.Addr().IsLinkLocalUnicast()
	var first netip.Addr
	for _, a := range addresses {
		if a.Addr().Is4() != r.Prefix.Addr().Is4() || a.Addr().IsLinkLocalUnicast() != linkLocal {
			continue
		}
		if a.Contains(next) {
			return a.Addr()
		}
		if !first.IsValid() {
			first = a.Addr()
		}
	}
	return first
}
