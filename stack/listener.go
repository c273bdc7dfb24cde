package stack

import (
	"fmt"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Listener is a listening socket: the SYN queue and the accept queue.
type Listener struct {
	source
	stack    *Stack
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
	addr     netip.AddrPort
	backlog  int

	handshakes int // of the SYN queue that are the listener's

	// Admits tells whether who sends a SYN may have another connection; nil: everybody may. It is called by the loop within
	// Turn. Who may not is answered with RST, for a tenth of what the connection would cost.
	Admits func(client netip.AddrPort) bool
}

// Listen binds addr and listens. An unspecified address stands for all own
// addresses of its family. backlog is the capacity of the accept queue; when
// as many handshakes are under way, SYN cookies are sent (flood.go).
func (s *Stack) Listen(addr netip.AddrPort, backlog int) (*Listener, error) {
	l := &Listener{stack: s, queue: new(waiter.Queue), addr: addr, backlog: backlog}
	ep, err := s.net.NewEndpoint(tcp.ProtocolNumber, protocolOf(addr.Addr()), l.queue)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, errorOf(err))
	}
	l.endpoint = ep
	ep.SocketOptions().SetReuseAddress(true)
	ep.SocketOptions().SetV6Only(true)
	bind := fullAddress(addr)
	if addr.Addr().IsUnspecified() {
		bind.Addr = tcpip.Address{}
	}
	if err := ep.Bind(bind); err != nil {
		ep.Close()
		return nil, fmt.Errorf("bind %s: %w", addr, errorOf(err))
	}
	// netstack keeps the last place of the backlog for cookies.
	if err := ep.Listen(backlog + 1); err != nil {
		ep.Close()
		return nil, fmt.Errorf("listen on %s: %w", addr, errorOf(err))
	}
	s.useCookies(ep.(*tcp.Endpoint))
	s.queues.Capacity += uint64(backlog)
	s.listeners = append(s.listeners, l)
	return l, nil
}

// Accept takes a connection off the accept queue. ErrWouldBlock: it is empty.
func (l *Listener) Accept() (*Conn, error) {
	ep, q, err := l.endpoint.Accept(nil)
	if err != nil {
		return nil, errorOf(err)
	}
	l.stack.accepted++
	id := &ep.(*tcp.Endpoint).ID
	c := &Conn{
		stack: l.stack, endpoint: ep, queue: q,
		local:  netip.AddrPortFrom(netipOf(id.LocalAddress), id.LocalPort),
		remote: netip.AddrPortFrom(netipOf(id.RemoteAddress), id.RemotePort),
	}
	if r := reusableOf(ep.(*tcp.Endpoint)); r != nil {
		r.conn = c
	}
	return c, nil
}

// SetBacklog changes the capacity of the accept queue, as listen(2) on a socket
// that listens already. It is refused when more connections wait there.
func (l *Listener) SetBacklog(n int) error {
	if err := l.endpoint.Listen(n + 1); err != nil {
		return fmt.Errorf("set the backlog of %s to %d: more connections wait to be accepted", l.addr, n)
	}
	l.stack.queues.Capacity += uint64(n) - uint64(l.backlog)
	l.backlog = n
	return nil
}

// Refuse answers new SYNs with RST from now on, or takes them again. Handshakes
// under way go on, and Accept returns what comes of them; Close would reset these.
func (l *Listener) Refuse(on bool) {
	ep := l.endpoint.(netstack.TransportEndpoint)
	s := l.stack
	s.refusing = slices.DeleteFunc(s.refusing, func(e netstack.TransportEndpoint) bool { return e == ep })
	if on {
		s.refusing = append(s.refusing, ep)
		for _, k := range s.links {
			s.answerSYNs(k, 0)
		}
	}
}

// refuses reports whether SYNs to a listener are answered with RST.
func (s *Stack) refuses(ep netstack.TransportEndpoint) bool { return slices.Contains(s.refusing, ep) }

// listenerOf is the listener with an endpoint.
func (s *Stack) listenerOf(ep *tcp.Endpoint) *Listener {
	for _, l := range s.listeners {
		if l.endpoint == tcpip.Endpoint(ep) {
			return l
		}
	}
	return nil
}

// Addr is the address given to Listen.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Close stops listening; connections not yet accepted are reset.
func (l *Listener) Close() {
	if l.gone {
		return
	}
	l.stack.poller.unregister(&l.source)
	l.gone = true
	l.Refuse(false)
	l.stack.synQueue.dropAll(l)
	l.stack.queues.Capacity -= uint64(l.backlog)
	l.stack.listeners = slices.DeleteFunc(l.stack.listeners, func(k *Listener) bool { return k == l })
	for {
		ep, _, err := l.endpoint.Accept(nil)
		if err != nil {
			break
		}
		l.stack.accepted++
		ep.Abort()
		ep.Close()
	}
	l.endpoint.Close()
}
