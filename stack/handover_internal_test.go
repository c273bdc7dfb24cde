package stack

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/dataplane"
)

// nothing is a device, a waiter, a resolver, a handover and a placement that do
// nothing.
type nothing struct{ sent int }

func (*nothing) Waiting() int                                   { return 0 }
func (*nothing) Peek(int) int                                   { return 0 }
func (*nothing) Frame(int) []byte                               { return nil }
func (*nothing) Chained() bool                                  { return false }
func (*nothing) More(int) bool                                  { return false }
func (*nothing) Release(int)                                    {}
func (*nothing) Reserve() (dataplane.TXFrame, []byte, bool)     { return 0, nil, false }
func (*nothing) Submit(dataplane.TXFrame, int)                  {}
func (*nothing) TXChecksum() bool                               { return false }
func (*nothing) SubmitPartial(dataplane.TXFrame, int, int, int) {}
func (*nothing) Discard(dataplane.TXFrame)                      {}
func (*nothing) Unpublished() int                               { return 0 }
func (*nothing) Kick() error                                    { return nil }
func (*nothing) Pending() int                                   { return 0 }
func (*nothing) Wait(time.Duration)                             {}
func (*nothing) Wake()                                          {}
func (*nothing) Poll() bool                                     { return false }
func (*nothing) Lookup(int, netip.Addr) ([6]byte, bool)         { return [6]byte{}, false }
func (*nothing) Provoke(int, netip.Addr)                        {}
func (*nothing) Generation() uint64                             { return 0 }
func (*nothing) Routes() []dataplane.Route                      { return routes }
func (*nothing) Port(netip.Addr, netip.AddrPort) (uint16, bool) {
	return 23333, true
}
func (*nothing) Changed() <-chan struct{}          { return nil }
func (n *nothing) Send(int, int, int, []byte) bool { n.sent++; return true }
func (*nothing) Receive() (dataplane.Handed, bool) { return dataplane.Handed{}, false }
func (*nothing) Flush()                            {}
func (*nothing) Park() bool                        { return true }
func (*nothing) Unpark()                           {}

var routes = []dataplane.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), IfIndex: 1}}

// idleLink is the link of worker 1 of 3, on a device that does nothing.
func idleLink(t testing.TB) (*link, *nothing) {
	n := new(nothing)
	s, err := New(Config{
		Links:    []Link{{Device: n, MTU: 1500, Index: 1, Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}}},
		Resolver: n, Waiter: n, Handover: n, Worker: 1, Workers: 3, FirstPort: 20000, LastPort: 29999,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.links[0], n
}

// ackTo is the frame of an ACK to a port.
func ackTo(port uint16) []byte {
	f := make([]byte, etherBytes+40)
	f[12] = 0x08
	p := f[etherBytes:]
	header.IPv4(p).Encode(&header.IPv4Fields{
		TotalLength: 40, TTL: 64, Protocol: 6,
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 1, 0, 1}),
	})
	header.IPv4(p).SetChecksum(^header.IPv4(p).CalculateChecksum())
	binary.BigEndian.PutUint16(p[20:], 40000)
	binary.BigEndian.PutUint16(p[22:], port)
	p[32], p[33] = 5<<4, byte(header.TCPFlagAck)
	putTCPChecksum(p)
	return f
}

func TestHandingOverDoesNotAllocate(t *testing.T) {
	l, n := idleLink(t)
	for name, port := range map[string]uint16{"to the owner": 29000, "round": 80} {
		f := ackTo(port)
		n.sent = 0
		if got := testing.AllocsPerRun(100, func() { l.deliver(f); l.flushFrames() }); got != 0 {
			t.Errorf("%s: %v allocations", name, got)
		}
		if n.sent != 101 {
			t.Errorf("%s: %d frames were handed over", name, n.sent)
		}
	}
}

func TestFindingAPortDoesNotAllocate(t *testing.T) {
	l, n := idleLink(t)
	l.stack.SetPlacement(1, n)
	l.timeWait.add(&flowKey{ports: 1})
	remote := netip.MustParseAddrPort("10.1.0.2:8080")
	if got := testing.AllocsPerRun(100, func() {
		p := l.stack.place(remote)
		port, ok := p.link.Placement.Port(p.ip, remote)
		if !p.wanted() || !ok || l.inUse(p.local, port, remote) {
			t.Fatal("no port")
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestOwnerOfAPort(t *testing.T) {
	for _, c := range []struct{ first, last uint16 }{{20000, 29999}, {1024, 65535}, {1, 65535}, {65530, 65535}, {1, 7}} {
		for workers := 2; workers <= 5; workers++ {
			p := newPeers(&Config{Handover: new(nothing), Workers: workers, FirstPort: c.first, LastPort: c.last})
			for port := range 1 << 16 {
				want := nobody
				for w := range workers {
					if from, to := PortBlock(c.first, c.last, w, workers); int(from) <= port && port <= int(to) {
						want = w
					}
				}
				if got := p.owner(uint16(port)); got != want {
					t.Fatalf("%d-%d, %d workers: port %d is %d's, want %d", c.first, c.last, workers, port, got, want)
				}
			}
		}
	}
}
