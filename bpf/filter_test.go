package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

func newFilter(t testing.TB, c FilterConfig) *Filter {
	t.Helper()
	if c.IPv4Bits == 0 && c.IPv6Bits == 0 {
		c.IPv4Bits, c.IPv6Bits = 32, 64
	}
	f, err := NewFilter(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// filtering is testConfig with a filter.
func filtering(f *Filter) Config {
	c := testConfig
	c.Filter = f
	return c
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func syn(src, dst uint16) []byte  { return poke(tcp(src, dst), 13, 0x02) }
func from4(src string) netip.Addr { return netip.MustParseAddr(src) }

// toListener is a segment from a source of either family to port 80.
func toListener(src string, segment []byte) []byte {
	a := netip.MustParseAddr(src)
	if a.Is4() {
		return ethernet(ip4(a, own4, protoTCP, segment))
	}
	return ethernet(ip6(a, own6, protoTCP, segment))
}

func TestLists(t *testing.T) {
	f := newFilter(t, FilterConfig{
		Deny:  prefixes("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32", "10.2.0.2/32", "203.0.113.0/24", "::/1"),
		Allow: prefixes("192.0.2.128/25", "2001:db8:1::/48", "203.0.113.0/24"),
	})
	ack := tcp(40000, 80)
	router4, router6 := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::1")
	quote4 := ip4(own4, from4("192.0.2.200"), protoTCP, tcp(80, 40000))
	cases := []struct {
		name   string
		before [][]byte
		frame  []byte
		want   Verdict
	}{
		{"denied", nil, toListener("192.0.2.7", ack), DropDenied},
		{"allowed within what is denied", nil, toListener("192.0.2.200", ack), RedirectListener},
		{"one address", nil, toListener("198.51.100.7", ack), DropDenied},
		{"next to it", nil, toListener("198.51.100.6", ack), RedirectListener},
		{"on both lists", nil, toListener("203.0.113.1", ack), RedirectListener},
		{"IPv6 denied", nil, toListener("2001:db8::7", ack), DropDenied},
		{"IPv6 allowed within", nil, toListener("2001:db8:1::7", ack), RedirectListener},
		{"IPv6 not listed", nil, toListener("fd01::7", ack), RedirectListener},
		{"half of IPv6 is no IPv4", nil, toListener("100.64.0.1", ack), RedirectListener},
		{"listener on one address", nil, ethernet(ip4(client4, second4, protoTCP, tcp(40000, 8443))), DropDenied},
		{"ssh from a denied address", nil, ethernet(ip4(client4, own4, protoTCP, tcp(40000, 22))), PassOtherPort},
		{"dns from a denied address", nil, ethernet(ip4(client4, own4, protoUDP, udp(40000, 80))), PassNotTCP},
		{"a denied backend", nil, ethernet(ip4(backend4, own4, protoTCP, tcp(8080, 20000))), RedirectBackend},
		{"a denied backend as a client", nil, ethernet(ip4(backend4, own4, protoTCP, tcp(40000, 80))), DropDenied},
		{"first fragment", nil, ethernet(ip4With(header4{id: 7, flags: 0x2000}, client4, own4, protoTCP, ack)), DropDenied},
		{"fragment whose first was denied", [][]byte{ethernet(ip4With(header4{id: 7, flags: 0x2000}, client4, own4, protoTCP, ack))},
			ethernet(ip4With(header4{id: 7, flags: 3}, client4, own4, protoTCP, ack)), PassUnknownFragment},
		{"error from a denied router about an allowed client", nil, ethernet(ip4(router4, own4, protoICMP, icmpError(3, 4, 1400, quote4))), RedirectICMP},
		{"error about a denied client", nil,
			ethernet(ip4(own4.Next(), own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, client4, protoTCP, tcp(80, 40000))))), DropDenied},
		{"IPv6 error about a denied client", nil,
			ethernet(ip6(router6, own6, icmpv6, icmpError(2, 0, 1400, ip6(own6, client6, protoTCP, tcp(80, 40000))))), DropDenied},
		{"error about a denied backend", nil,
			ethernet(ip4(router4, own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, backend4, protoTCP, tcp(20000, 8080))))), RedirectICMP},
		{"echo from a denied address", nil, ethernet(ip4(client4, own4, protoICMP, icmpError(8, 0, 1, nil))), PassICMP},
	}
	for _, frags := range []bool{false, true} {
		s := steering(t, frags)
		configure(t, s, filtering(f))
		for _, c := range cases {
			forget(t, s)
			for _, b := range c.before {
				run(t, s, b, 0)
			}
			if v := run(t, s, c.frame, 0); v != c.want {
				t.Errorf("%s, frags=%v: %v, want %v", c.name, frags, v, c.want)
			}
		}
	}
	if _, err := NewFilter(FilterConfig{Deny: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}); err == nil || !strings.Contains(err.Error(), "IPv4 or IPv6") {
		t.Errorf("a mapped prefix: %v", err)
	}
}

func TestLimits(t *testing.T) {
	// So slow that no token comes back while the test runs.
	slow := func(burst int) Rate { return Rate{1, burst} }
	tiny := ethernet(ip4With(header4{id: 9, flags: 0x2000}, client4, own4, protoTCP, syn(40000, 80)[:8]))
	first := ethernet(ip4With(header4{id: 9, flags: 0x2000}, client4, own4, protoTCP, tcp(40000, 80)))
	later := ethernet(ip4With(header4{id: 9, flags: 3}, client4, own4, protoTCP, []byte("rest")))
	quoted := func(from string) []byte {
		return ethernet(ip4(from4(from), own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, client4, protoTCP, tcp(80, 40000)))))
	}
	type step struct {
		frame []byte
		want  Verdict
	}
	open := func(src string, want Verdict) step { return step{toListener(src, syn(40000, 80)), want} }
	ack := func(src string, want Verdict) step { return step{toListener(src, tcp(40000, 80)), want} }
	for _, c := range []struct {
		name   string
		config FilterConfig
		steps  []step
	}{
		{"connections", FilterConfig{Connections: slow(2)}, []step{
			open("192.0.2.7", RedirectListener), open("192.0.2.7", RedirectListener), open("192.0.2.7", DropConnectionRate),
			ack("192.0.2.7", RedirectListener), open("192.0.2.8", RedirectListener),
			{toListener("192.0.2.7", poke(tcp(40000, 80), 13, 0x12)), RedirectListener}, // SYN and ACK
			{ethernet(ip4(client4, own4, protoTCP, syn(40000, 22))), PassOtherPort},
		}},
		{"a bucket that packets made has all its connections", FilterConfig{Connections: slow(1)}, []step{
			ack("192.0.2.7", RedirectListener), open("192.0.2.7", RedirectListener), open("192.0.2.7", DropConnectionRate),
		}},
		{"packets", FilterConfig{Packets: slow(3)}, []step{
			open("192.0.2.7", RedirectListener), ack("192.0.2.7", RedirectListener), ack("192.0.2.7", RedirectListener),
			ack("192.0.2.7", DropPacketRate), open("192.0.2.7", DropPacketRate), ack("192.0.2.8", RedirectListener),
			{ethernet(ip4(client4, own4, protoTCP, tcp(40000, 22))), PassOtherPort},
			{ethernet(ip4(backend4, own4, protoTCP, tcp(8080, 20000))), RedirectBackend},
			{ethernet(ip4(backend4, own4, protoTCP, tcp(8080, 20000))), RedirectBackend},
			{ethernet(ip4(backend4, own4, protoTCP, tcp(8080, 20000))), RedirectBackend},
			{ethernet(ip4(backend4, own4, protoTCP, tcp(8080, 20000))), RedirectBackend},
		}},
		{"prefixes", FilterConfig{Connections: slow(1), IPv4Bits: 24, IPv6Bits: 64}, []step{
			open("192.0.2.7", RedirectListener), open("192.0.2.8", DropConnectionRate), open("192.0.3.8", RedirectListener),
			open("2001:db8::1", RedirectListener), open("2001:db8::2", DropConnectionRate), open("2001:db8:0:1::2", RedirectListener),
		}},
		{"one bucket for all of IPv4", FilterConfig{Connections: slow(1), IPv4Bits: 0, IPv6Bits: 128}, []step{
			open("192.0.2.7", RedirectListener), open("10.0.0.8", DropConnectionRate),
			open("2001:db8::1", RedirectListener), open("2001:db8::2", RedirectListener), open("2001:db8::2", DropConnectionRate),
		}},
		{"allowed sources", FilterConfig{Packets: slow(1), Connections: slow(1), Allow: prefixes("192.0.2.0/24")}, []step{
			open("192.0.2.7", RedirectListener), open("192.0.2.7", RedirectListener), ack("192.0.2.7", RedirectListener),
		}},
		{"fragments", FilterConfig{Packets: slow(3)}, []step{
			{first, RedirectFragment}, {later, RedirectFragment}, {later, RedirectFragment}, {later, DropPacketRate}, {first, DropPacketRate},
			{later, PassUnknownFragment},
		}},
		{"a fragment without flags may be a SYN", FilterConfig{Connections: slow(1)}, []step{
			{tiny, RedirectFragment}, {tiny, DropConnectionRate}, {first, RedirectFragment},
		}},
		{"errors count for who sent them", FilterConfig{Packets: slow(1)}, []step{
			{quoted("198.51.100.1"), RedirectICMP}, {quoted("198.51.100.1"), DropPacketRate}, {quoted("198.51.100.2"), RedirectICMP},
			ack("192.0.2.7", RedirectListener),
		}},
	} {
		for _, frags := range []bool{false, true} {
			s := steering(t, frags)
			configure(t, s, filtering(newFilter(t, c.config)))
			for i, step := range c.steps {
				if v := run(t, s, step.frame, 0); v != step.want {
					t.Errorf("%s, frags=%v, step %d: %v, want %v", c.name, frags, i, v, step.want)
				}
			}
		}
	}
}

// Tokens come back with the time; a rate is kept over a longer run, and by several CPUs together.
func TestLimitRefills(t *testing.T) {
	const perSecond, burst, cpus = 2000, 10, 4
	s := steering(t, false)
	configure(t, s, filtering(newFilter(t, FilterConfig{Packets: Rate{perSecond, burst}})))
	frame := toListener("192.0.2.7", tcp(40000, 80))
	before := counters(t, s)
	start := time.Now()
	done := make(chan error)
	for range cpus {
		go func() {
			for time.Since(start) < 200*time.Millisecond {
				if _, err := s.Program().Run(&ebpf.RunOptions{Data: frame, Repeat: 50}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cpus {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	after := counters(t, s)
	most := float64(burst+1) + perSecond*took.Seconds()
	if n := float64(after[RedirectListener] - before[RedirectListener]); n > most || n <= burst {
		t.Errorf("%v packets in %v, more than %v and at most %v", n, took, burst, most)
	}
	if after[DropPacketRate] == before[DropPacketRate] {
		t.Error("none was too many")
	}
}

// A new filter replaces the old one, and a refused one leaves it.
func TestConfigureReplacesTheFilter(t *testing.T) {
	s := steering(t, false)
	one, two, ack := "192.0.2.7", "192.0.2.8", tcp(40000, 80)
	deny := func(list ...string) *Filter { return newFilter(t, FilterConfig{Deny: prefixes(list...)}) }
	limits := newFilter(t, FilterConfig{Packets: Rate{1, 1}})
	both := newFilter(t, FilterConfig{Packets: Rate{1, 1}, Deny: prefixes("192.0.2.7/32")})
	for i, c := range []struct {
		filter   *Filter
		one, two Verdict
	}{
		{deny("192.0.2.7/32"), DropDenied, RedirectListener},
		{deny("192.0.2.8/32", "10.0.0.0/8", "2001:db8::/32"), RedirectListener, DropDenied}, // more than before
		{nil, RedirectListener, RedirectListener},
		{deny("192.0.2.0/24"), DropDenied, DropDenied},
		{limits, RedirectListener, RedirectListener},
		{limits, DropPacketRate, DropPacketRate}, // what is known of sources stays
		{both, DropDenied, DropPacketRate},
		{newFilter(t, FilterConfig{}), RedirectListener, RedirectListener},
		{limits, RedirectListener, RedirectListener}, // and is gone with the limits
		{nil, RedirectListener, RedirectListener},
	} {
		configure(t, s, filtering(c.filter))
		if v := run(t, s, toListener(one, ack), 0); v != c.one {
			t.Errorf("step %d: %v, want %v", i, v, c.one)
		}
		if v := run(t, s, toListener(two, ack), 0); v != c.two {
			t.Errorf("step %d, the other: %v, want %v", i, v, c.two)
		}
	}
	configure(t, s, filtering(deny("192.0.2.7/32")))
	bad := filtering(nil)
	bad.Addresses = []netip.Addr{{}}
	if s.Configure(bad) == nil {
		t.Error("an invalid address was taken")
	}
	if v := run(t, s, toListener(one, ack), 0); v != DropDenied {
		t.Errorf("after a refused configuration: %v", v)
	}
}

// While lists are replaced, what both deny is denied at every moment.
func TestReplacingListsLeavesNoGap(t *testing.T) {
	s := steering(t, false)
	a := newFilter(t, FilterConfig{Deny: prefixes("192.0.2.0/24")})
	b := newFilter(t, FilterConfig{Deny: prefixes("192.0.2.7/32", "10.0.0.0/8")})
	configure(t, s, filtering(a))
	before := counters(t, s)
	frame := toListener("192.0.2.7", tcp(40000, 80))
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := s.Program().Run(&ebpf.RunOptions{Data: frame, Repeat: 200}); err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 40 {
		configure(t, s, filtering([]*Filter{a, b}[i%2]))
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := counters(t, s)[RedirectListener] - before[RedirectListener]; n != 0 {
		t.Errorf("%d frames of a denied source came through", n)
	}
}

// manyPrefixes are n different ones, three of four IPv4 addresses, spread as block lists are.
func manyPrefixes(n int) []netip.Prefix {
	all := make([]netip.Prefix, 0, n)
	for i := range uint32(n) {
		x := i * 2654435769 // a bijection of 32 bits
		if i%4 != 0 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], x)
			all = append(all, netip.PrefixFrom(netip.AddrFrom4(b), 32))
			continue
		}
		b := [16]byte{0: 0x20, 1: 0x01}
		binary.BigEndian.PutUint32(b[2:], x)
		all = append(all, netip.PrefixFrom(netip.AddrFrom16(b), 48))
	}
	return all
}

// BenchmarkLoadLists loads a million prefixes; B/prefix is the kernel's memory for one, as its fdinfo says.
func BenchmarkLoadLists(b *testing.B) {
	all := manyPrefixes(1_000_000)
	for b.Loop() {
		f, err := NewFilter(FilterConfig{Deny: all})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(memlock(b, f.list))/float64(len(all)), "B/prefix")
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func memlock(b *testing.B, m *ebpf.Map) (bytes int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", m.FD()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "memlock: %d", &bytes)
	}
	return bytes
}

// BenchmarkFilter measures the program with each kind of filter; the kernel repeats it b.N times in one system call.
func BenchmarkFilter(b *testing.B) {
	many := manyPrefixes(1_000_000)
	v4, v6 := toListener("192.0.2.7", tcp(40000, 80)), toListener("2001:db8::7", tcp(40000, 80))
	denied := ethernet(ip4(many[1].Addr(), own4, protoTCP, tcp(40000, 80)))
	for _, c := range []struct {
		name   string
		filter *Filter
		frame  []byte
	}{
		{"none, IPv4", nil, v4},
		{"none, IPv6", nil, v6},
		{"ten prefixes, IPv4", newFilter(b, FilterConfig{Deny: many[:10]}), v4},
		{"a million prefixes, IPv4", newFilter(b, FilterConfig{Deny: many}), v4},
		{"a million prefixes, IPv6", newFilter(b, FilterConfig{Deny: many}), v6},
		{"a million prefixes, denied", newFilter(b, FilterConfig{Deny: many}), denied},
		{"limits, within", newFilter(b, FilterConfig{Packets: Rate{1e8, 1e8}, Connections: Rate{100, 100}}), v4},
		{"limits, beyond", newFilter(b, FilterConfig{Packets: Rate{1, 1}}), v4},
	} {
		s := steering(b, false)
		configure(b, s, filtering(c.filter))
		b.Run(c.name, func(b *testing.B) {
			if _, err := s.Program().Run(&ebpf.RunOptions{Data: c.frame, Repeat: uint32(b.N)}); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func TestManyPrefixes(t *testing.T) {
	all := manyPrefixes(50_000)
	s := steering(t, false)
	configure(t, s, filtering(newFilter(t, FilterConfig{Deny: all[:40_000]})))
	for _, i := range []int{0, 1, 2, 16383, 16384, 39_999, 40_000, 49_999} {
		want := DropDenied
		if i >= 40_000 {
			want = RedirectListener
		}
		if v := run(t, s, toListener(all[i].Addr().String(), tcp(40000, 80)), 0); v != want && !slices.Contains(testConfig.Addresses, all[i].Addr()) {
			t.Errorf("%v: %v, want %v", all[i], v, want)
		}
	}
}
