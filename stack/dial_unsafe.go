package stack

import (
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/bpf"
)

// Connections are begun here as netstack's Endpoint.Connect begins them, with what the last connection of the endpoint left: its
// handshake with the timer, and its place in netstack's table of endpoints. No port is reserved: that a flow has one endpoint
// only the table sees to, and listeners are asked.

// dial begins the connection that was placed.
func (s *Stack) dial(place *placing) (*reusable, error) {
	number := protocolOf(place.remote.Addr())
	l, id := place.link, netstack.TransportEndpointID{LocalAddress: place.local, RemoteAddress: addressOf(place.remote.Addr())}
	if l == nil {
		return nil, ErrNoRoute
	}
	route, err := l.routeTo(&id, number)
	if err != nil {
		return nil, errorOf(err)
	}
	r := s.opening.endpoint(s, number)
	ep := r.endpoint
	ep.StopWork()
	if !place.register(s, r, number) {
		ep.ResumeWork()
		ep.Close()
		route.Release()
		return nil, ErrNoPort
	}
	at := unsafe.Pointer(ep)
	*(**netstack.Route)(unsafe.Add(at, routeField.Offset)) = route
	*(*[]tcpip.NetworkProtocolNumber)(unsafe.Add(at, effectiveField.Offset)) = effective[number]
	enableGSO(ep)
	flow := bpf.CookieFlow{
		Local: ep.ID.LocalAddress.AsSlice(), Remote: ep.ID.RemoteAddress.AsSlice(), LocalPort: ep.ID.LocalPort, RemotePort: ep.ID.RemotePort,
	}
	h := r.handshake
	if h != nil {
		timer := h.retransmitTimer
		*h = netHandshake{
			ep: ep, active: true, flags: header.TCPFlagSyn,
			rcvWnd: seqnum.Size(s.openingWindow(l.ownMSS(ep.ID.RemoteAddress))), rcvWndScale: s.openingScale(), retransmitTimer: timer,
		}
		timer.timeout, timer.maxTimeout = tcp.InitialRTO, tcp.MaxRTO
		timer.t.Reset(timer.timeout)
		*(**netHandshake)(unsafe.Add(at, handshakeField.Offset)) = h
	} else {
		h = newHandshake(ep)
	}
	// All connections have their numbers from here: only one clock and one secret make those of a flow grow (RFC 6528 3).
	h.iss = seqnum.Value(s.initialNumber(&flow))
	*(*uint32)(unsafe.Pointer(&ep.TSOffset)) = s.timestampOffset(&flow)
	setState(ep, tcp.StateSynSent)
	startHandshake(h)
	ep.ResumeWork()
	s.net.Stats().TCP.ActiveConnectionOpenings.Increment()
	return r, nil
}

// register has segments of its flow find r, which is locked. It reports false when they find another endpoint.
func (s *Stack) register(r *reusable, number tcpip.NetworkProtocolNumber) bool {
	if r.place != nil && r.number == number {
		if !s.tableOf(number).add(&r.endpoint.ID, r.place) {
			return false
		}
	} else if s.net.RegisterTransportEndpoint(effective[number], tcp.ProtocolNumber, r.endpoint.ID, r.endpoint, ports.Flags{}, 0) != nil {
		return false
	}
	r.place, r.number = nil, number
	*(*bool)(unsafe.Add(unsafe.Pointer(r.endpoint), registeredField.Offset)) = true
	return true
}

// unregister has segments find r no more, which is locked, and keeps its place for register: netstack makes five pieces of it.
func (s *Stack) unregister(r *reusable, number tcpip.NetworkProtocolNumber) {
	if registered := (*bool)(unsafe.Add(unsafe.Pointer(r.endpoint), registeredField.Offset)); *registered {
		*registered = false
		r.place = s.tableOf(number).take(&r.endpoint.ID)
	}
}

// newHandshake makes the handshake of an endpoint that is locked and has a route, and starts its timer.
//
//go:linkname newHandshake gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).newHandshake
func newHandshake(ep *tcp.Endpoint) *netHandshake

// startHandshake sends SYN.
//
//go:linkname startHandshake gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*handshake).start
func startHandshake(h *netHandshake)

// registeredField is where an endpoint knows that segments find it. A netstack that has another makes the program panic at once.
var registeredField = fieldOf(reflect.TypeFor[tcp.Endpoint](), "isRegistered", reflect.Bool)
