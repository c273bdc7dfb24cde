// Package stacktest is a network in memory for tests of package stack and of
// what stands on it: the stack under test between a client host and a backend
// host. The hosts are stock netstacks with blocking sockets, so that clients
// and servers of the standard library can be the peers.
//
//	client 10.1.0.2 ---- 10.1.0.1 stack 10.2.0.1 ---- 10.2.0.2 backend
//	     fd00:1::2       fd00:1::1     fd00:2::1      fd00:2::2
//
// No privilege is needed. Frames travel through the stack's link endpoints in
// both directions as they do on AF_XDP, with checksums filled and verified.
//
// The stack may be several, the workers of one host, joined by a handover in
// memory. Each interface has two queues for each worker; queue q is that of
// worker q modulo their number, and the test says which frame comes in where.
package stacktest

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/dataplane"
	"ringroad/stack"
)

const (
	mtu     = 1500
	hostMTU = 9000 // segments are as long as the stack's own MTU lets them be
)

// Network is the stack under test and its two neighbours.
type Network struct {
	Stack           *stack.Stack   // driven by the test's loop
	Stacks          []*stack.Stack // of all workers; Stack is the first
	Client, Backend *Host

	devices  [2][]*device // of the first queue of each worker
	inbound  [2]*fan      // client->stack, backend->stack
	outbound [2]*wire     // stack->client, stack->backend
	resolve  *resolver
	exchange *exchange
}

// Host is a peer with blocking sockets.
type Host struct {
	net      *netstack.Stack
	link     *channel.Endpoint
	v4, v6   tcpip.Address
	mac      [6]byte
	peerMAC  [6]byte
	outbound *fan

	// Several goroutines of the host's netstack announce output, and several of
	// the stack deliver input; frames must keep their order.
	sending, receiving sync.Mutex
}

// queuesPerWorker is how many queues a worker has on each interface.
const queuesPerWorker = 2

// New builds the network; it is taken down at the end of the test. configure,
// if not nil, may change the stack's configuration before it is built.
func New(t testing.TB, configure func(*stack.Config)) *Network {
	t.Helper()
	return NewWorkers(t, 1, func(_ int, c *stack.Config) {
		if configure != nil {
			configure(c)
		}
	})
}

// NewWorkers is New with several workers. All frames come in on queue 0 until
// the test steers them.
func NewWorkers(t testing.TB, workers int, configure func(worker int, c *stack.Config)) *Network {
	t.Helper()
	n := &Network{resolve: &resolver{changed: make(chan struct{}, 1), macs: map[netip.Addr][6]byte{}}, exchange: newExchange(workers)}
	for i := range n.inbound {
		n.inbound[i], n.outbound[i] = &fan{}, &wire{}
		for range queuesPerWorker * workers {
			n.inbound[i].wires = append(n.inbound[i].wires, &wire{})
		}
	}
	n.Client = newHost(t, 1, n.inbound[0])
	n.Backend = newHost(t, 2, n.inbound[1])
	for i, h := range []*Host{n.Client, n.Backend} {
		n.outbound[i].notify = h.receiver(n.outbound[i])
		net := byte(i + 1)
		for _, p := range addresses(net) {
			n.resolve.routes = append(n.resolve.routes, dataplane.Route{Prefix: p.Masked(), IfIndex: i + 1, Source: p.Addr()})
		}
		n.resolve.macs[netip.AddrFrom4([4]byte{10, net, 0, 2})] = h.mac
		n.resolve.macs[address6(net, 2)] = h.mac
	}
	n.resolve.known.Store(true)
	for w := range workers {
		c := n.config(w, workers)
		if configure != nil {
			configure(w, &c)
		}
		s, err := stack.New(c)
		if err != nil {
			t.Fatal(err)
		}
		n.Stacks = append(n.Stacks, s)
	}
	n.Stack = n.Stacks[0]
	t.Cleanup(func() {
		for _, s := range n.Stacks {
			s.Close()
		}
		n.Client.close()
		n.Backend.close()
	})
	return n
}

// config is the configuration of one worker.
func (n *Network) config(worker, workers int) stack.Config {
	waiter := &parker{wake: make(chan struct{}, 1)}
	c := stack.Config{
		Resolver: n.resolve, Waiter: waiter, FirstPort: 20000, LastPort: 29999,
		Worker: worker, Workers: workers,
	}
	if workers > 1 {
		h := n.exchange.workers[worker]
		h.wake = waiter.Wake
		c.Handover = h
	}
	for i := range n.inbound {
		net := byte(i + 1)
		l := stack.Link{
			Name: []string{"client", "backend"}[i], Index: i + 1, MTU: mtu,
			MAC:       [6]byte{2, 0, 0, 0, net, 1},
			Addresses: addresses(net),
		}
		for q := worker; q < len(n.inbound[i].wires); q += workers {
			in := n.inbound[i].wires[q]
			in.notify = waiter.Wake
			d := newDevice(in, n.outbound[i])
			d.partial = i == 0 // each network has another kind
			if q != worker {
				l.More = append(l.More, d)
				continue
			}
			l.Device = d
			n.devices[i] = append(n.devices[i], d)
		}
		c.Links = append(c.Links, l)
	}
	return c
}

// addresses are those of the workers on one of the networks.
func addresses(net byte) []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, net, 0, 1}), 24),
		netip.PrefixFrom(address6(net, 1), 64),
	}
}

// LoseToClient and the like set which frames of one direction are lost: those
// for which keep returns false. keep runs on the sender's goroutine.
func (n *Network) LoseFromClient(keep func(frame []byte) bool) { n.inbound[0].setFilter(keep) }

// LoseToClient filters frames from the stack to the client.
func (n *Network) LoseToClient(keep func(frame []byte) bool) { n.outbound[0].setFilter(keep) }

// LoseFromBackend filters frames from the backend to the stack.
func (n *Network) LoseFromBackend(keep func(frame []byte) bool) { n.inbound[1].setFilter(keep) }

// LoseToBackend filters frames from the stack to the backend.
func (n *Network) LoseToBackend(keep func(frame []byte) bool) { n.outbound[1].setFilter(keep) }

// SteerFromClient sets the queue that each frame from the client comes in on.
// queue runs on the sender's goroutine.
func (n *Network) SteerFromClient(queue func(frame []byte) int) { n.inbound[0].setSteer(queue) }

// SteerFromBackend is the same for frames from the backend.
func (n *Network) SteerFromBackend(queue func(frame []byte) int) { n.inbound[1].setSteer(queue) }

// InjectFromClient puts a raw Ethernet frame on the wire to the stack.
func (n *Network) InjectFromClient(frame []byte) { n.inbound[0].put(frame) }

// InjectAt puts a raw Ethernet frame on a queue of the link of the given index,
// past filters and steering.
func (n *Network) InjectAt(link, queue int, frame []byte) { n.inbound[link].wires[queue].put(frame) }

// Waiting is how many frames wait on a queue of the link of the given index.
func (n *Network) Waiting(link, queue int) int {
	w := n.inbound[link].wires[queue]
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.frames)
}

// InjectHanded hands a frame to a worker as if another one had.
func (n *Network) InjectHanded(worker, link, origin int, frame []byte) {
	n.exchange.inject(worker, dataplane.Handed{Link: link, Origin: origin, Frame: frame})
}

// HandedWaiting is how many frames were handed over and not yet received.
func (n *Network) HandedWaiting() int { return n.exchange.waiting() }

// LimitHandover bounds the frames that wait for a worker to be received.
func (n *Network) LimitHandover(frames int) {
	n.exchange.mu.Lock()
	n.exchange.limit = frames
	n.exchange.mu.Unlock()
}

// SetNeighboursKnown makes the resolver forget all neighbours, or know them.
func (n *Network) SetNeighboursKnown(known bool) {
	n.resolve.known.Store(known)
	n.resolve.generation.Add(1)
	select {
	case n.resolve.changed <- struct{}{}:
	default:
	}
	for _, s := range n.Stacks[1:] {
		s.Wake()
	}
}

// StallBackendTX makes the device toward the backend take no frames, or take
// them again.
func (n *Network) StallBackendTX(stalled bool) {
	for i, d := range n.devices[1] {
		d.mu.Lock()
		d.stalled = stalled
		d.mu.Unlock()
		if !stalled {
			n.Stacks[i].Wake()
		}
	}
}

// FreeFrames is how many TX frames the devices of each link have free.
func (n *Network) FreeFrames() (client, backend, all int) {
	count := func(devices []*device) (free int) {
		for _, d := range devices {
			d.mu.Lock()
			free += len(d.free)
			d.mu.Unlock()
		}
		return free
	}
	return count(n.devices[0]), count(n.devices[1]), txFrames * len(n.Stacks)
}

func address6(net, host byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: net, 15: host})
}

func newHost(t testing.TB, net byte, outbound *fan) *Host {
	t.Helper()
	h := &Host{
		v4: tcpip.AddrFrom4([4]byte{10, net, 0, 2}), v6: tcpip.AddrFrom16(address6(net, 2).As16()),
		mac: [6]byte{2, 0, 0, 0, net, 2}, peerMAC: [6]byte{2, 0, 0, 0, net, 1}, outbound: outbound,
	}
	h.net = netstack.New(netstack.Options{
		NetworkProtocols:   []netstack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocolWithOptions(ipv6.Options{})},
		TransportProtocols: []netstack.TransportProtocolFactory{tcp.NewProtocolCUBIC},
	})
	// With RACK a host could stall after a loss (stack/rearm.go).
	recovery := tcpip.TCPRecovery(0)
	if err := h.net.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery); err != nil {
		t.Fatal(err)
	}
	h.link = channel.New(ringFrames, hostMTU, "")
	h.link.AddNotify(h)
	fatal := func(err tcpip.Error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal(h.net.CreateNIC(1, h.link))
	for _, a := range []struct {
		number tcpip.NetworkProtocolNumber
		addr   tcpip.Address
		bits   int
	}{{header.IPv4ProtocolNumber, h.v4, 24}, {header.IPv6ProtocolNumber, h.v6, 64}} {
		fatal(h.net.AddProtocolAddress(1, tcpip.ProtocolAddress{
			Protocol: a.number, AddressWithPrefix: tcpip.AddressWithPrefix{Address: a.addr, PrefixLen: a.bits},
		}, netstack.AddressProperties{}))
	}
	h.net.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}, {Destination: header.IPv6EmptySubnet, NIC: 1}})
	return h
}

// WriteNotify implements channel.Notification: the host's netstack has output.
func (h *Host) WriteNotify() {
	h.sending.Lock()
	defer h.sending.Unlock()
	for {
		p := h.link.Read()
		if p == nil {
			return
		}
		v := p.ToView()
		frame := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+v.Size())
		copy(frame, h.peerMAC[:])
		copy(frame[6:], h.mac[:])
		frame[12], frame[13] = byte(p.NetworkProtocolNumber>>8), byte(p.NetworkProtocolNumber)
		frame = append(frame, v.AsSlice()...)
		v.Release()
		p.DecRef()
		h.outbound.put(frame)
	}
}

// receiver returns the wire's notification: it delivers to the host.
func (h *Host) receiver(in *wire) func() {
	return func() {
		h.receiving.Lock()
		defer h.receiving.Unlock()
		for _, frame := range in.take(ringFrames) {
			number := tcpip.NetworkProtocolNumber(uint16(frame[12])<<8 | uint16(frame[13]))
			p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{
				Payload: buffer.MakeWithData(frame[header.EthernetMinimumSize:]),
			})
			h.link.InjectInbound(number, p)
			p.DecRef()
		}
	}
}

// Connections is how many connections and listeners the host has, those in
// TIME_WAIT included.
func (h *Host) Connections() int { return len(h.net.RegisteredEndpoints()) }

func (h *Host) close() {
	h.net.Close()
	h.link.Close()
	h.net.Destroy()
}

// Dial connects to "ip:port", with a limit of 10 s.
func (h *Host) Dial(address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return h.DialContext(ctx, "tcp", address)
}

// DialFrom is Dial from a given local port.
func (h *Host) DialFrom(port uint16, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	a, number, err := h.parse(address)
	if err != nil {
		return nil, err
	}
	local := tcpip.FullAddress{NIC: 1, Addr: h.v4, Port: port}
	if number == header.IPv6ProtocolNumber {
		local.Addr = h.v6
	}
	return gonet.DialTCPWithBind(ctx, h.net, local, a, number)
}

// DialContext has the signature http.Transport wants.
func (h *Host) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	a, number, err := h.parse(address)
	if err != nil {
		return nil, err
	}
	return gonet.DialContextTCP(ctx, h.net, a, number)
}

// Listen listens on "ip:port" of this host.
func (h *Host) Listen(address string) (net.Listener, error) {
	a, number, err := h.parse(address)
	if err != nil {
		return nil, err
	}
	return gonet.ListenTCP(h.net, a, number)
}

func (h *Host) parse(address string) (tcpip.FullAddress, tcpip.NetworkProtocolNumber, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return tcpip.FullAddress{}, 0, err
	}
	number := header.IPv4ProtocolNumber
	if ap.Addr().Is6() {
		number = header.IPv6ProtocolNumber
	}
	return tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFromSlice(ap.Addr().AsSlice()), Port: ap.Port()}, number, nil
}

// resolver is a stack.Resolver with fixed answers.
type resolver struct {
	macs       map[netip.Addr][6]byte
	routes     []dataplane.Route
	known      atomic.Bool
	generation atomic.Uint64
	changed    chan struct{}
}

func (r *resolver) Lookup(_ int, ip netip.Addr) ([6]byte, bool) {
	mac, ok := r.macs[ip]
	return mac, ok && r.known.Load()
}

func (r *resolver) Provoke(int, netip.Addr)   {}
func (r *resolver) Generation() uint64        { return r.generation.Load() }
func (r *resolver) Routes() []dataplane.Route { return r.routes }
func (r *resolver) Changed() <-chan struct{}  { return r.changed }
