package stack

import (
	"testing"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"ringroad/bpf"
)

//go:linkname createCookie gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*listenContext).createCookie
func createCookie(context unsafe.Pointer, id netstack.TransportEndpointID, seq seqnum.Value, data uint32) seqnum.Value

//go:linkname isCookieValid gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*listenContext).isCookieValid
func isCookieValid(context unsafe.Pointer, id netstack.TransportEndpointID, cookie, seq seqnum.Value) (data uint32, ok bool)

// A listener of netstack makes the cookies that package bpf makes, and takes them, whichever
// worker made them and when.
func TestCookiesAreNetstacks(t *testing.T) {
	key := bpf.CookieKey{1, 2, 3}
	const boot = 254*cookieStep + time.Second
	worker := func(epoch time.Duration) (*Stack, unsafe.Pointer) {
		s := &Stack{cookies: key, clock: newClock(func() {})}
		s.clock.epoch = epoch
		s.net = netstack.New(netstack.Options{
			NetworkProtocols:   []netstack.NetworkProtocolFactory{ipv4.NewProtocol},
			TransportProtocols: []netstack.TransportProtocolFactory{tcp.NewProtocol}, Clock: s.clock,
		})
		t.Cleanup(s.net.Destroy)
		ep, err := s.net.NewEndpoint(tcp.ProtocolNumber, header.IPv4ProtocolNumber, new(waiter.Queue))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ep.Close)
		if err := ep.Bind(tcpip.FullAddress{Port: 80}); err != nil {
			t.Fatal(err)
		}
		if err := ep.Listen(1); err != nil {
			t.Fatal(err)
		}
		s.useCookies(ep.(*tcp.Endpoint))
		return s, listenContextOf(ep.(*tcp.Endpoint))
	}
	one, context := worker(boot)
	_, later := worker(boot + 2*cookieStep)
	_, late := worker(boot + 4*cookieStep)
	for _, a := range [][2]tcpip.Address{
		{tcpip.AddrFrom4([4]byte{10, 1, 0, 1}), tcpip.AddrFrom4([4]byte{192, 0, 2, 7})},
		{tcpip.AddrFrom16([16]byte{0x20, 1, 15: 1}), tcpip.AddrFrom16([16]byte{0x20, 1, 15: 7})},
	} {
		s := segment{id: netstack.TransportEndpointID{LocalAddress: a[0], LocalPort: 80, RemoteAddress: a[1], RemotePort: 40000}}
		for mss := range uint32(4) {
			cookie := key.Cookie(s.cookieFlow(), 1000, one.cookieTime(), mss)
			if got := createCookie(context, s.id, 1000, mss); got != seqnum.Value(cookie) {
				t.Fatalf("netstack's cookie is %#x, ours %#x", got, cookie)
			}
			for _, c := range []struct {
				context unsafe.Pointer
				valid   bool
			}{{context, true}, {later, true}, {late, false}} {
				if data, ok := isCookieValid(c.context, s.id, seqnum.Value(cookie), 1000); ok != c.valid || ok && data != mss {
					t.Errorf("netstack takes it for MSS %d of %d, %v; want %v", data, mss, ok, c.valid)
				}
			}
			if data, _ := isCookieValid(context, s.id, seqnum.Value(cookie), 1001); data == mss {
				t.Error("netstack takes the cookie for another number")
			}
		}
	}
}

// What a cookie costs.
func BenchmarkCookie(b *testing.B) {
	s := segment{id: netstack.TransportEndpointID{LocalAddress: tcpip.AddrFrom4([4]byte{10, 1, 0, 1}), RemoteAddress: tcpip.AddrFrom4([4]byte{10, 1, 0, 2})}}
	key := bpf.CookieKey{1}
	b.ReportAllocs()
	for i := range b.N {
		key.Cookie(s.cookieFlow(), uint32(i), 0, 3)
	}
}
