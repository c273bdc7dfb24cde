package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestConfigureReplacesWhatIsSteered(t *testing.T) {
	s := steering(t, false)
	listener := ethernet(ip4(client4, own4, protoTCP, tcp(40000, 80)))
	one := ethernet(ip6(client6, second6, protoTCP, tcp(40000, 8443)))
	backend := ethernet(ip6(backend6, own6, protoTCP, tcp(8080, 25000)))
	moved := ethernet(ip4(client4, other4, protoTCP, tcp(40000, 81)))
	next := Config{
		Addresses:    []netip.Addr{other4, second6, own6},
		Listeners:    []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:81")},
		Backends:     []netip.AddrPort{netip.AddrPortFrom(backend6, 8081)},
		BackendPorts: PortRange{20000, 29999},
	}
	for _, step := range []struct {
		config                        Config
		listener, one, backend, moved Verdict
	}{
		{testConfig, RedirectListener, RedirectListener, RedirectBackend, PassOtherAddress},
		{next, PassOtherAddress, PassOtherPort, PassOtherPort, RedirectListener},
		{Config{}, PassOtherAddress, PassOtherAddress, PassOtherAddress, PassOtherAddress},
		{testConfig, RedirectListener, RedirectListener, RedirectBackend, PassOtherAddress},
		{testConfig, RedirectListener, RedirectListener, RedirectBackend, PassOtherAddress},
	} {
		configure(t, s, step.config)
		got := []Verdict{run(t, s, listener, 0), run(t, s, one, 0), run(t, s, backend, 0), run(t, s, moved, 0)}
		if want := []Verdict{step.listener, step.one, step.backend, step.moved}; !slices.Equal(got, want) {
			t.Errorf("under %+v: %v, want %v", step.config, got, want)
		}
	}
}

func TestConfigureKeepsFamiliesApart(t *testing.T) {
	s := steering(t, false)
	c := Config{
		Addresses: []netip.Addr{own4, own6.WithZone("eth0")},
		Listeners: []netip.AddrPort{netip.MustParseAddrPort("[::]:80"), netip.AddrPortFrom(netip.AddrFrom16(own4.As16()), 81)},
	}
	configure(t, s, c)
	for _, f := range []struct {
		name  string
		frame []byte
		want  Verdict
	}{
		{":: is not IPv4", ethernet(ip4(client4, own4, protoTCP, tcp(40000, 80))), PassOtherPort},
		{":: is IPv6, whatever the zone", ethernet(ip6(client6, own6, protoTCP, tcp(40000, 80))), RedirectListener},
		{"a mapped listener is IPv4", ethernet(ip4(client4, own4, protoTCP, tcp(40000, 81))), RedirectListener},
		{"a mapped listener is not IPv6", ethernet(ip6(client6, own6, protoTCP, tcp(40000, 81))), PassOtherPort},
	} {
		if v := run(t, s, f.frame, 0); v != f.want {
			t.Errorf("%s: %v, want %v", f.name, v, f.want)
		}
	}
}

func TestConfigureRefuses(t *testing.T) {
	s := steering(t, false)
	var many []netip.Addr
	for a := netip.MustParseAddr("10.9.0.0"); len(many) < 513; a = a.Next() {
		many = append(many, a)
	}
	listener := func(v string) Config { return Config{Listeners: []netip.AddrPort{netip.MustParseAddrPort(v)}} }
	backend := func(v string) Config { return Config{Backends: []netip.AddrPort{netip.MustParseAddrPort(v)}} }
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Addresses: many}, "513 addresses, at most 512"},
		{Config{Addresses: []netip.Addr{{}}}, "address invalid IP"},
		{Config{Addresses: []netip.Addr{netip.IPv4Unspecified()}}, "address 0.0.0.0"},
		{Config{Addresses: []netip.Addr{netip.MustParseAddr("ff02::1")}}, "address ff02::1"},
		{Config{Addresses: []netip.Addr{netip.MustParseAddr("255.255.255.255")}}, "address 255.255.255.255"},
		{Config{Listeners: []netip.AddrPort{{}}}, "listener"},
		{listener("0.0.0.0:0"), "listener 0.0.0.0:0"},
		{listener("224.0.0.1:80"), "listener 224.0.0.1:80"},
		{backend("0.0.0.0:80"), "backend 0.0.0.0:80"},
		{backend("10.0.0.1:0"), "backend 10.0.0.1:0"},
		{Config{BackendPorts: PortRange{2, 1}}, "backend ports 2-1"},
		{Config{BackendPorts: PortRange{0, 1}}, "backend ports 0-1"},
	} {
		err := s.Configure(c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q in it", err, c.want)
		}
	}
	if v := run(t, s, ethernet(ip4(client4, own4, protoTCP, tcp(40000, 80))), 0); v != RedirectListener {
		t.Errorf("after refused configurations: %v", v)
	}
}

// Largest to largest, nothing in common: the maps hold both for a moment.
func TestConfigureAtCapacity(t *testing.T) {
	s := load(t, Options{Queues: 1})
	full := func(first string) (c Config) {
		a := netip.MustParseAddr(first)
		for i := range 8192 {
			if i < 512 {
				c.Addresses = append(c.Addresses, a)
			}
			if i < 2048 {
				c.Listeners = append(c.Listeners, netip.AddrPortFrom(a, uint16(i+1)))
			}
			c.Backends = append(c.Backends, netip.AddrPortFrom(a, uint16(i+1)))
			a = a.Next()
		}
		c.BackendPorts = PortRange{1, 65535}
		return c
	}
	configure(t, s, full("10.8.0.0"))
	configure(t, s, full("fd08::"))
	for _, m := range []struct {
		m    *ebpf.Map
		want int
	}{{s.maps.Addresses, 512}, {s.maps.Listeners, 2048}, {s.maps.Backends, 8192}} {
		n := 0
		var key []byte
		var value uint8
		for i := m.m.Iterate(); i.Next(&key, &value); {
			n++
		}
		if n != m.want {
			t.Errorf("%v holds %d entries, want %d", m.m, n, m.want)
		}
	}
}

// What cannot be installed must not stay half installed.
func TestConfigureFailureKeepsTheOld(t *testing.T) {
	s := steering(t, false)
	for i := range s.maps.Listeners.MaxEntries() {
		err := s.maps.Listeners.Put(steerEndpoint{Address: steerAddress{Word: [4]uint32{0, 1}}, Port: uint16(i)}, uint8(1))
		if errors.Is(err, unix.E2BIG) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err := s.Configure(Config{
		Addresses: []netip.Addr{other4},
		Listeners: []netip.AddrPort{netip.AddrPortFrom(other4, 80)},
		Backends:  []netip.AddrPort{netip.AddrPortFrom(backend4, 8081)},
	})
	if !errors.Is(err, unix.E2BIG) {
		t.Fatal("error with a full map:", err)
	}
	for _, f := range []struct {
		frame []byte
		want  Verdict
	}{
		{ethernet(ip4(client4, other4, protoTCP, tcp(40000, 80))), PassOtherAddress},
		{ethernet(ip4(backend4, own4, protoTCP, tcp(8081, 20000))), PassOtherPort},
		{ethernet(ip4(backend4, own4, protoTCP, tcp(8080, 20000))), RedirectBackend},
		{ethernet(ip4(client4, second4, protoTCP, tcp(40000, 8443))), RedirectListener},
	} {
		if v := run(t, s, f.frame, 0); v != f.want {
			t.Errorf("verdict %v, want %v", v, f.want)
		}
	}
}

// Flows that are in every configuration are redirected at every moment, whatever else changes.
func TestConfigureLeavesNoGap(t *testing.T) {
	s := steering(t, false)
	add := func(c Config, f func(*Config)) Config {
		c.Addresses, c.Listeners, c.Backends = slices.Clone(c.Addresses), slices.Clone(c.Listeners), slices.Clone(c.Backends)
		f(&c)
		return c
	}
	configs := []Config{
		testConfig,
		add(testConfig, func(c *Config) { // a listener on any address becomes one on this address
			c.Listeners[0] = netip.AddrPortFrom(own4, 80)
			c.Listeners[1] = netip.AddrPortFrom(own6, 80)
		}),
		add(testConfig, func(c *Config) { // the range moves, both contain the port used below
			c.BackendPorts = PortRange{25000, 35000}
			c.Backends = append(c.Backends, netip.AddrPortFrom(other4, 1))
		}),
		add(testConfig, func(c *Config) {
			slices.Reverse(c.Addresses)
			c.Addresses = append(c.Addresses, other4)
			c.Listeners = append(c.Listeners, netip.AddrPortFrom(other4, 8443), netip.AddrPortFrom(own4, 80))
		}),
	}
	frames := [][]byte{
		ethernet(ip4(client4, own4, protoTCP, tcp(40000, 80))),
		ethernet(ip6(client6, own6, protoTCP, tcp(40000, 80))),
		ethernet(ip4(backend4, own4, protoTCP, tcp(8080, 25000))),
		ethernet(ip6(backend6, own6, protoTCP, tcp(8080, 29999))),
		ethernet(ip4(client4, own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, client4, protoTCP, tcp(80, 40000))))),
	}
	const rounds = 3000
	var round atomic.Int32
	done := make(chan error, 1)
	go func() {
		for ; round.Load() < rounds; round.Add(1) {
			for i, f := range frames {
				action, err := s.Program().Run(&ebpf.RunOptions{Data: f})
				if err == nil && action != xdpRedirect {
					err = fmt.Errorf("frame %d: action %d", i, action)
				}
				if err != nil {
					round.Store(rounds)
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	for i := 0; round.Load() < rounds; i++ {
		configure(t, s, configs[i%len(configs)])
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
