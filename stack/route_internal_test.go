package stack

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ringroad/dataplane"
)

// A route is used again for the same addresses, and only as long as it holds.
func TestRoutesAreKeptUntilTheyChange(t *testing.T) {
	l, _ := idleLink(t)
	before := routes
	t.Cleanup(func() { routes = before })
	to := func(host byte) *netstack.Route {
		t.Helper()
		id := netstack.TransportEndpointID{LocalAddress: tcpip.AddrFrom4([4]byte{10, 1, 0, 1}), RemoteAddress: tcpip.AddrFrom4([4]byte{10, 1, 0, host})}
		r, err := l.routeTo(&id, header.IPv4ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		if r.RemoteAddress() != id.RemoteAddress || r.LocalAddress() != id.LocalAddress {
			t.Fatalf("a route from %s to %s", r.LocalAddress(), r.RemoteAddress())
		}
		return r
	}
	first := to(2)
	if to(2) != first {
		t.Error("the route was looked up again")
	}
	for host := byte(2); host < 250; host++ { // some share a place
		to(host).Release()
	}
	routes = []dataplane.Route{{Prefix: before[0].Prefix, IfIndex: 1, Gateway: netip.MustParseAddr("10.1.0.254")}}
	l.stack.updateRoutes()
	if r := to(2); r.NextHop() != tcpip.AddrFrom4([4]byte{10, 1, 0, 254}) {
		t.Errorf("the next hop is %s after the route changed", r.NextHop())
	}
}
