package stack

import (
	"math/rand/v2"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/dataplane"
)

// A connection to a backend is best begun from a port whose replies the NIC
// hashes to a queue of this worker: nothing need be handed over then. The link's
// Placement names such ports; which of them are free is known here.

// Placement chooses local ports by the queue that their replies come in on.
// [dataplane.Placement] is the real one. The loop alone calls it.
type Placement interface {
	// Port returns another port of the worker's block for a connection from
	// local to remote. False: it finds none.
	Port(local netip.Addr, remote netip.AddrPort) (uint16, bool)
}

var _ Placement = (*dataplane.Placement)(nil)

const (
	// placementTries is how many ports are tried for a connection before
	// any will do.
	placementTries = 16
	// maxOutlets bounds the memory of routes to backends.
	maxOutlets = 1024
)

// outlet is how packets to a remote address leave.
type outlet struct {
	link  *link // nil: there is no route
	local tcpip.Address
	ip    netip.Addr // local
}

// placing is the search for the port of one connection.
type placing struct {
	outlet
	remote netip.AddrPort
	tries  int // left
}

// SetPlacement replaces the placement of the link with this kernel interface
// index; nil: any port will do. Connections that exist are left alone.
func (s *Stack) SetPlacement(ifindex int, p Placement) {
	if l := s.linkByIndex(ifindex); l != nil {
		l.Placement = p
	}
}

// place begins the search for a port toward remote. Its link is nil when there is no route.
func (s *Stack) place(remote netip.AddrPort) placing {
	return placing{s.outletTo(remote.Addr()), remote, placementTries}
}

// outletTo finds how packets to ip leave. It remembers until routes change,
// because netstack allocates a route for the answer.
func (s *Stack) outletTo(ip netip.Addr) outlet {
	o, ok := s.outlets[ip]
	if ok {
		return o
	}
	if r, err := s.net.FindRoute(0, tcpip.Address{}, addressOf(ip), protocolOf(ip), false); err == nil {
		local := r.LocalAddress()
		o = outlet{s.links[r.NICID()-1], local, netipOf(local)}
		r.Release()
	}
	if len(s.outlets) >= maxOutlets {
		clear(s.outlets)
	}
	s.outlets[ip] = o
	return o
}

// wanted reports whether the connection is to be placed.
func (p *placing) wanted() bool { return p.link != nil && p.link.Placement != nil }

// register has segments of a connection find r, from the next free port that the link's Placement names, or else from any free one,
// chosen by chance as RFC 6056 3.3.1 has it. It reports false when there is none.
func (p *placing) register(s *Stack, r *reusable, number tcpip.NetworkProtocolNumber) bool {
	id := &r.endpoint.ID
	id.LocalAddress, id.RemoteAddress, id.RemotePort = p.local, addressOf(p.remote.Addr()), p.remote.Port()
	take := func(port uint16) bool {
		id.LocalPort = port
		return !s.listensOn(port) && (port != id.RemotePort || id.LocalAddress != id.RemoteAddress) && s.register(r, number)
	}
	if p.wanted() {
		for ; p.tries > 0; p.tries-- {
			port, ok := p.link.Placement.Port(p.ip, p.remote)
			if !ok {
				break
			}
			if !p.link.inUse(p.local, port, p.remote) && take(port) {
				p.link.stats.PortsPlaced++
				return true
			}
		}
	}
	first, last := s.net.PortRange()
	n := uint32(last) - uint32(first) + 1
	at := rand.Uint32N(n)
	for range n {
		if take(first + uint16(at)) {
			if p.wanted() {
				p.link.stats.PortsUnplaced++
			}
			return true
		}
		if at++; at == n {
			at = 0
		}
	}
	return false
}

// listensOn reports whether a listener has a port.
func (s *Stack) listensOn(port uint16) bool {
	for _, l := range s.listeners {
		if l.addr.Port() == port {
			return true
		}
	}
	return false
}

// inUse reports whether a connection with this tuple exists, or waits in
// TIME_WAIT.
func (l *link) inUse(local tcpip.Address, port uint16, remote netip.AddrPort) bool {
	id := netstack.TransportEndpointID{LocalAddress: local, LocalPort: port, RemoteAddress: addressOf(remote.Addr()), RemotePort: remote.Port()}
	ep := l.stack.net.FindTransportEndpoint(protocolOf(remote.Addr()), tcp.ProtocolNumber, id, l.id)
	if ep != nil && !isListener(ep) {
		return true
	}
	key := flowKey{hopBytes(id.LocalAddress), hopBytes(id.RemoteAddress), uint32(port)<<16 | uint32(remote.Port())}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.timeWait.find(&key) != nil
}
