package stack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// updateRoutes makes netstack's route table what the kernel's is, as far as it
// concerns the links. netstack takes the first match, so the order given by
// the resolver, most specific first, decides.
func (s *Stack) updateRoutes() {
	s.generation = s.resolver.Generation()
	routes := s.resolver.Routes()
	table := make([]tcpip.Route, 0, len(routes))
	s.routes = s.routes[:0]
	for _, r := range routes {
		l := s.linkByIndex(r.IfIndex)
		if l == nil {
			continue
		}
		subnet, err := tcpip.NewSubnet(addressOf(r.Prefix.Masked().Addr()), maskOf(r.Prefix))
		if err != nil {
			continue // Masked makes every prefix a valid subnet
		}
		route := tcpip.Route{Destination: subnet, NIC: l.id}
		if r.Gateway.IsValid() {
			route.Gateway = addressOf(r.Gateway)
		}
		if _, own := l.addresses[r.Source]; own {
			route.SourceHint = addressOf(r.Source)
		}
		table = append(table, route)
		s.routes = append(s.routes, hopRoute{r.Prefix, l, r.Gateway})
	}
	s.net.SetRouteTable(table)
	clear(s.outlets)
	for _, l := range s.links {
		l.forgetRoutes()
	}
}

// hopRoute is a route without what only netstack needs.
type hopRoute struct {
	prefix  netip.Prefix
	link    *link
	gateway netip.Addr // invalid: the destination is a neighbour
}

// hopTo is the next hop to a remote address that l is the way to. netstack's FindRoute
// makes a Route of it, which was an eighth of what a SYN cookie costs.
func (l *link) hopTo(remote tcpip.Address) [16]byte {
	ip := netipOf(remote)
	for i := range l.stack.routes {
		if r := &l.stack.routes[i]; r.link == l && r.prefix.Contains(ip) {
			if r.gateway.IsValid() {
				return r.gateway.As16()
			}
			break
		}
	}
	return hopBytes(remote)
}

// routeBits makes a link remember netstack's routes to 256 remote addresses.
const routeBits = 8

// routeTo is netstack's route for the segments that answer those of id, which the caller releases. A look-up takes six locks and
// 200 bytes, so the last routes are kept: most clients that connect were here just before.
func (l *link) routeTo(id *netstack.TransportEndpointID, number tcpip.NetworkProtocolNumber) (*netstack.Route, tcpip.Error) {
	hop := hopBytes(id.RemoteAddress)
	kept := &l.recent[binary.BigEndian.Uint32(hop[12:])*2654435769>>(32-routeBits)] // Knuth's multiplier
	if r := *kept; r != nil && r.RemoteAddress() == id.RemoteAddress && r.LocalAddress() == id.LocalAddress {
		r.Acquire()
		return r, nil
	}
	r, err := l.stack.net.FindRoute(l.id, id.LocalAddress, id.RemoteAddress, number, false)
	if err != nil {
		return nil, err
	}
	if *kept != nil {
		(*kept).Release()
	}
	*kept = r
	r.Acquire()
	return r, nil
}

// forgetRoutes is told that other routes may hold now.
func (l *link) forgetRoutes() {
	for i, r := range l.recent {
		if r != nil {
			r.Release()
			l.recent[i] = nil
		}
	}
}

func (s *Stack) linkByIndex(index int) *link {
	for _, l := range s.links {
		if l.Index == index {
			return l
		}
	}
	return nil
}

func addressOf(a netip.Addr) tcpip.Address {
	if a = a.Unmap(); a.Is4() {
		return tcpip.AddrFrom4(a.As4())
	}
	return tcpip.AddrFrom16(a.As16())
}

func netipOf(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}

func maskOf(p netip.Prefix) tcpip.AddressMask {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return tcpip.MaskFromBytes(mask)
}
