package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Behind adds a host to a lab that is up, reached through the client or the backend, which routes to it:
//
//	edge ── client or backend ── r<net> 10.<net>.0.1 ── f<net> 10.<net>.0.2
//	                             fd00:<net>::1          fd00:<net>::2
//
// Both ends have the lab's MTU; a test that wants a narrow path makes that of r<net> smaller.
func (l *Lab) Behind(router *Namespace, subnet int) (far *Namespace, far4, far6 netip.Addr, err error) {
	address := func(host int) []netip.Prefix {
		return []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.%d.0.%d/24", subnet, host)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:%d::%d/64", subnet, host)),
		}
	}
	near := end{router, fmt.Sprintf("r%d", subnet), address(1)}
	if far, err = l.namespace(fmt.Sprintf("far%d", subnet)); err != nil {
		return nil, far4, far6, err
	}
	other := end{far, fmt.Sprintf("f%d", subnet), address(2)}
	if err = l.veth(near, other); err == nil {
		err = router.SetSysctls(map[string]string{"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})
	}
	if err == nil {
		err = far.defaultRoutes(other.name, near.addresses[0].Addr(), near.addresses[1].Addr())
	}
	if err == nil {
		via := []netip.Addr{Client4, Client6}
		if router == l.Backend {
			via = []netip.Addr{Backend4, Backend6}
		}
		err = l.Edge.Do(func() error {
			for i, a := range near.addresses {
				n := a.Masked()
				r := &netlink.Route{Gw: via[i].AsSlice(), Dst: &net.IPNet{IP: n.Addr().AsSlice(), Mask: net.CIDRMask(n.Bits(), n.Addr().BitLen())}}
				if err := netlink.RouteAdd(r); err != nil {
					return fmt.Errorf("add route to %v: %w", n, err)
				}
			}
			return nil
		})
	}
	return far, other.addresses[0].Addr(), other.addresses[1].Addr(), err
}
