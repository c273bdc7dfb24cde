package bpf

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// guarded is a program with testConfig, and the flow table of worker 0 of so many.
func guarded(t testing.TB, frags bool, workers int) (*Steer, *Flows, *FlowTable) {
	t.Helper()
	f, err := NewFlows()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Divide(workers); err != nil {
		t.Fatal(err)
	}
	s := load(t, Options{Frags: frags, Queues: 1, Flows: f})
	configure(t, s, testConfig)
	if err := s.SetSocket(0, socket(t)); err != nil {
		t.Fatal(err)
	}
	return s, f, flowTable(t, f, 0)
}

// flowTable maps the table as a worker does, by descriptors of its own.
func flowTable(t testing.TB, f *Flows, worker int) *FlowTable {
	t.Helper()
	table, err := openFlows(f, worker)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// flowOf is the flow of a segment from remote to local.
func flowOf(remote netip.Addr, remotePort uint16, local netip.Addr, localPort uint16) *Flow {
	return &Flow{Remote: remote.As16(), Local: local.As16(), RemotePort: remotePort, LocalPort: localPort}
}

// empty tells whether this worker has no flow in the table.
func (t *FlowTable) empty() bool {
	for at := t.worker; at < len(t.slots); at += int(t.flood.Bytes) {
		if t.slots[at] != 0 {
			return false
		}
	}
	return true
}

// withCookie has an ACK of a client, which acknowledges what follows number 1000 - 1, bring the cookie for a source port.
func withCookie(frame []byte, port uint16) []byte {
	f, at := CookieFlow{own4.AsSlice(), client4.AsSlice(), 80, port}, 14+20
	if frame[14]>>4 == 6 {
		f.Local, f.Remote, at = own6.AsSlice(), client6.AsSlice(), 14+40
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	var key CookieKey // of testConfig
	cookie := key.Cookie(&f, 1000-1, uint8(now.Sec/64), 3)
	binary.BigEndian.PutUint32(frame[at+8:], cookie+1)
	return frame
}

func TestStraysInAFlood(t *testing.T) {
	const ack, rst, fin, syn, synACK, null = 0x10, 0x04, 0x11, 0x02, 0x12, 0
	flagged := func(src, dst uint16, flags byte) []byte { return poke(tcp(src, dst), 13, flags) }
	client := func(v6 bool, src uint16, flags byte) []byte {
		if v6 {
			return ethernet(ip6(client6, own6, protoTCP, flagged(src, 80, flags)))
		}
		return ethernet(ip4(client4, own4, protoTCP, flagged(src, 80, flags)))
	}
	backend := func(v6 bool, dst uint16, flags byte) []byte {
		if v6 {
			return ethernet(ip6(backend6, own6, protoTCP, flagged(8080, dst, flags)))
		}
		return ethernet(ip4(backend4, own4, protoTCP, flagged(8080, dst, flags)))
	}
	first := func(v6 bool, src uint16) []byte {
		if v6 {
			return ethernet(ip6(client6, own6, fragment, fragmentHeader(protoTCP, 0, true, 9, flagged(src, 80, ack))))
		}
		return ethernet(ip4With(header4{id: 9, flags: 0x2000}, client4, own4, protoTCP, flagged(src, 80, ack)))
	}
	later := func(v6 bool) []byte {
		if v6 {
			return ethernet(ip6(client6, own6, fragment, fragmentHeader(protoTCP, 3, false, 9, []byte("the rest"))))
		}
		return ethernet(ip4With(header4{id: 9, flags: 3}, client4, own4, protoTCP, []byte("the rest")))
	}
	tooBig := func(v6 bool, dst uint16) []byte {
		if v6 {
			return ethernet(ip6(client6, own6, icmpv6, icmpError(2, 0, 1400, ip6(own6, client6, protoTCP, tcp(80, dst)))))
		}
		return ethernet(ip4(client4, own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, client4, protoTCP, tcp(80, dst)))))
	}
	const open, stray = 40000, 40001       // of clients
	const ourOpen, ourStray = 20000, 20001 // toward backends
	cases := []struct {
		name   string
		frame  func(v6 bool) []byte
		calm   Verdict
		flood  Verdict
		before func(v6 bool) []byte
	}{
		{"ACK", func(v6 bool) []byte { return client(v6, open, ack) }, RedirectListener, RedirectListener, nil},
		{"RST", func(v6 bool) []byte { return client(v6, open, rst) }, RedirectListener, RedirectListener, nil},
		{"FIN", func(v6 bool) []byte { return client(v6, open, fin) }, RedirectListener, RedirectListener, nil},
		{"fragment", func(v6 bool) []byte { return first(v6, open) }, RedirectFragment, RedirectFragment, nil},
		{"later fragment", later, RedirectFragment, RedirectFragment, func(v6 bool) []byte { return first(v6, open) }},
		{"ICMP", func(v6 bool) []byte { return tooBig(v6, open) }, RedirectICMP, RedirectICMP, nil},
		{"backend's ACK", func(v6 bool) []byte { return backend(v6, ourOpen, ack) }, RedirectBackend, RedirectBackend, nil},
		{"backend's SYN-ACK", func(v6 bool) []byte { return backend(v6, ourOpen, synACK) }, RedirectBackend, RedirectBackend, nil},

		{"stray SYN", func(v6 bool) []byte { return client(v6, stray, syn) }, RedirectListener, RedirectListener, nil},
		{"stray ACK", func(v6 bool) []byte { return client(v6, stray, ack) }, RedirectListener, DropStrayACK, nil},
		{"stray ACK with a cookie", func(v6 bool) []byte { return withCookie(client(v6, stray, ack), stray) }, RedirectListener, RedirectListener, nil},
		{"stray ACK with another's cookie", func(v6 bool) []byte { return withCookie(client(v6, stray, ack), stray+1) }, RedirectListener, DropStrayACK, nil},
		{"stray RST", func(v6 bool) []byte { return client(v6, stray, rst) }, RedirectListener, DropStray, nil},
		{"stray SYN with RST", func(v6 bool) []byte { return client(v6, stray, syn|rst) }, RedirectListener, DropStray, nil},
		{"stray FIN", func(v6 bool) []byte { return client(v6, stray, fin) }, RedirectListener, DropStray, nil},
		{"stray SYN-ACK", func(v6 bool) []byte { return client(v6, stray, synACK) }, RedirectListener, DropStray, nil},
		{"stray without flags", func(v6 bool) []byte { return client(v6, stray, null) }, RedirectListener, DropStray, nil},
		{"stray fragment", func(v6 bool) []byte { return first(v6, stray) }, RedirectFragment, DropStrayFragment, nil},
		{"stray ICMP", func(v6 bool) []byte { return tooBig(v6, stray) }, RedirectICMP, DropStrayICMP, nil},
		{"backend's stray ACK", func(v6 bool) []byte { return backend(v6, ourStray, ack) }, RedirectBackend, DropStrayACK, nil},
		{"backend's stray SYN", func(v6 bool) []byte { return backend(v6, ourStray, syn) }, RedirectBackend, DropStray, nil},
		{"backend's stray SYN-ACK", func(v6 bool) []byte { return backend(v6, ourStray, synACK) }, RedirectBackend, DropStray, nil},
		{"ssh", func(bool) []byte { return ethernet(ip4(client4, own4, protoTCP, flagged(stray, 22, rst))) }, PassOtherPort, PassOtherPort, nil},
	}
	for _, workers := range []int{1, 3, 20} { // a byte, half a word, several words
		for _, frags := range []bool{false, true} {
			s, f, table := guarded(t, frags, workers)
			last := flowTable(t, f, workers-1)
			table.flood.Key = [2]uint64{1, 2} // with one in some hundred others a stray has the slot of an open connection
			last.Mark(flowOf(client4, open, own4, 80))
			last.Mark(flowOf(client6, open, own6, 80))
			table.Mark(flowOf(backend4, 8080, own4, ourOpen))
			table.Mark(flowOf(backend6, 8080, own6, ourOpen))
			check := func(state string, v6 bool) {
				for _, c := range cases {
					want := c.calm
					if state == "flood" {
						want = c.flood
					}
					before, _ := table.Refused()
					forget(t, s)
					if c.before != nil {
						run(t, s, c.before(v6), 0)
					}
					if v := run(t, s, c.frame(v6), 0); v != want {
						t.Errorf("%s, %d workers, frags=%v, v6=%v: %s: %v, want %v", state, workers, frags, v6, c.name, v, want)
					}
					if n, _ := table.Refused(); (n-before == 1) != (c.flood != c.calm && state == "flood") {
						t.Errorf("%s: %s: %d refused", state, c.name, n-before)
					}
				}
			}
			for _, v6 := range []bool{false, true} {
				check("calm", v6)
				table.Guard(time.Hour, false)
				check("flood", v6)
				table.Guard(-time.Second, false) // the clock of the program is some milliseconds late
				check("lapsed", v6)
				if table.Guarding() || table.flood.Until != 0 {
					t.Errorf("still guarding until %d", table.flood.Until)
				}
			}
		}
	}
}

// What a flood may still bring to the stack has limits, and those of a kind are its own.
func TestLimitsInAFlood(t *testing.T) {
	s, _, table := guarded(t, false, 1)
	table.Mark(flowOf(client4, 40000, own4, 80))
	table.Guard(time.Hour, false)
	frames := []struct {
		frame      []byte
		pass, drop Verdict
		bucket     func(cpu int) *uint64
		perSecond  float64
	}{
		{withCookie(ethernet(ip4(client4, own4, protoTCP, tcp(40001, 80))), 40001), RedirectListener, DropStrayACK, func(i int) *uint64 { return &table.flood.Cpu[i].Acks }, 20000},
		{ethernet(ip4(client4, own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, client4, protoTCP, tcp(80, 40000))))), RedirectICMP, DropStrayICMP,
			func(i int) *uint64 { return &table.flood.Cpu[i].Errors }, 2000},
		{ethernet(ip4With(header4{id: 9, flags: 0x2000}, client4, own4, protoTCP, tcp(40000, 80))), RedirectFragment, DropStrayFragment,
			func(i int) *uint64 { return &table.flood.Cpu[i].Fragments }, 2000},
	}
	for _, c := range frames {
		before, start := counters(t, s), time.Now()
		const n = 50_000
		if _, err := s.Program().Run(&ebpf.RunOptions{Data: c.frame, Repeat: n}); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		after := counters(t, s)
		passed, dropped := after[c.pass]-before[c.pass], after[c.drop]-before[c.drop]
		if most := float64(runtime.NumCPU()) * (2000 + 1 + c.perSecond*took.Seconds()); passed+dropped != n || passed < 1000 || float64(passed) > most {
			t.Errorf("%v: of %d in %v %d passed, at most %v may, and %d were dropped", c.drop, n, took, passed, most, dropped)
		}
		// What comes of one kind takes nothing from the others.
		for i := range table.flood.Cpu {
			*c.bucket(i) = table.now() + uint64(time.Hour)
		}
		for _, other := range frames {
			want := other.pass
			if other.drop == c.drop {
				want = c.drop
			}
			if v := run(t, s, other.frame, 0); v != want {
				t.Errorf("with the bucket of %v used up: %v, want %v", c.drop, v, want)
			}
		}
		for i := range table.flood.Cpu {
			*c.bucket(i) = 0
		}
	}
	if v := run(t, s, toListener("192.0.2.7", tcp(40000, 80)), 0); v != RedirectListener {
		t.Errorf("the open connection's ACK: %v", v)
	}
}

// Of SYNs beyond the limit those get through that are sent again, as long as it is known that there are too many, and who answers them.
func TestSYNsInAFlood(t *testing.T) {
	syn := func(v6 bool, port uint16) []byte {
		segment := poke(tcp(port, 80), 13, 0x02)
		if v6 {
			return ethernet(ip6(client6, own6, protoTCP, segment))
		}
		return ethernet(ip4(client4, own4, protoTCP, segment))
	}
	s, _, table := guarded(t, false, 1)
	check := func(state string, port uint16, want ...Verdict) {
		t.Helper()
		for _, v6 := range []bool{false, true} {
			for i, w := range want {
				if v := run(t, s, syn(v6, port), 0); v != w {
					t.Errorf("%s: SYN %d, v6 %v: %v, want %v", state, i, v6, v, w)
				}
			}
		}
	}
	table.Guard(time.Hour, false)
	check("strays only", 40000, RedirectListener, RedirectListener)
	table.Guard(time.Hour, true)
	check("below the limit", 40001, RedirectListener, RedirectListener)
	const n = 3000
	start, passed := time.Now(), 0
	for i := range uint16(n) {
		if run(t, s, syn(false, 10_000+i), 0) == RedirectListener {
			passed++
		}
	}
	if most := float64(runtime.NumCPU()) * (2000 + 1 + 10_000*time.Since(start).Seconds()); passed < 1990 || float64(passed) > most {
		t.Errorf("%d of %d SYNs passed, %.0f may", passed, n, most)
	}
	for i := range table.flood.Cpu {
		table.flood.Cpu[i].Syns = table.now() + uint64(time.Hour)
	}
	_, before := table.Refused()
	check("beyond the limit", 40002, DropFirstSYN, RedirectListener, RedirectListener)
	check("beyond the limit, another", 40003, DropFirstSYN, RedirectListener)
	if _, syns := table.Refused(); syns-before != 4 {
		t.Errorf("%d SYNs refused, want 4", syns-before)
	}
	// What was dropped is remembered while others are, one for each 64 that there is room for.
	for i := range uint16(1 << 15) {
		run(t, s, syn(true, i), 0)
	}
	check("after many others", 40003, RedirectListener)
	c := testConfig
	c.Cookies = Cookies{Window: 65535, MTU: 1500, Answer: true}
	configure(t, s, c)
	check("the program answers", 40004, RedirectListener)
	configure(t, s, testConfig)
	table.Guard(-time.Second, true)
	check("lapsed", 40005, RedirectListener)
}

// The program finds every flow that Go marked: one at a time is in the table, so that no other can stand for it.
func TestHashesAreTheSame(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, workers := range []int{1, 2, 9, 256} {
		s, f, _ := guarded(t, false, workers)
		table := flowTable(t, f, random.IntN(workers))
		table.Guard(time.Hour, false)
		for i := range 200 {
			port := uint16(random.UintN(1 << 16))
			segment := poke(tcp(port, 80), 13, 0x04)
			var a [16]byte
			for k := range a {
				a[k] = byte(random.Uint32())
			}
			remote, frame := netip.AddrFrom16(a), []byte(nil)
			local := own6
			if i%2 == 0 {
				remote, local = netip.AddrFrom4([4]byte(a[:4])), own4
				frame = ethernet(ip4(remote, local, protoTCP, segment))
			} else {
				frame = ethernet(ip6(remote, local, protoTCP, segment))
			}
			if v := run(t, s, frame, 0); v != DropStray {
				t.Fatalf("%v port %d before it is open: %v", remote, port, v)
			}
			table.Mark(flowOf(remote, port, local, 80))
			if v := run(t, s, frame, 0); v != RedirectListener {
				t.Fatalf("%v port %d is open: %v", remote, port, v)
			}
			for range 3 {
				table.Sweep(func() {})
			}
			if !table.empty() {
				t.Fatal("the table is not empty")
			}
		}
	}
}

// SipHash-1-3 of 40 bytes, but for the length, which is always the same and left out.
func TestFlowHash(t *testing.T) {
	o := &steerFlood{Key: [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}}
	a, b := flowOf(client4, 40000, own4, 80), flowOf(client4, 40000, own4, 81)
	if o.hash(a) == o.hash(b) {
		t.Error("two flows have one hash")
	}
	// Each bit of the result is as often 0 as 1.
	var ones [64]int
	for i := range 4096 {
		h := o.hash(flowOf(client4, uint16(i), own4, 80))
		for k := range ones {
			ones[k] += int(h >> k & 1)
		}
	}
	for k, n := range ones {
		if n < 1850 || n > 2250 { // 6 sigma
			t.Errorf("bit %d is 1 in %d of 4096", k, n)
		}
	}
}

func TestWorkersClearWhatTheyLeft(t *testing.T) {
	_, f, first := guarded(t, false, 3)
	second := flowTable(t, f, 1)
	flow := flowOf(client4, 40000, own4, 80)
	first.Mark(flow)
	second.Mark(flow)
	if again := flowTable(t, f, 1); !again.empty() || !second.empty() || first.empty() {
		t.Error("a worker that starts anew clears what is its own, and nothing else")
	}
	for _, n := range []int{-1, 8} {
		if _, err := openFlows(f, n); err == nil {
			t.Errorf("there is a worker %d", n)
		}
	}
	if err := f.Divide(maxFlowBytes + 1); err == nil {
		t.Error("there may be any number of workers")
	}
}

func openFlows(f *Flows, worker int) (*FlowTable, error) {
	var files [2]*os.File
	for i, fd := range f.FDs() {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		files[i] = os.NewFile(uintptr(n), fmt.Sprint("map ", i))
		defer files[i].Close()
	}
	return OpenFlows(files[0], files[1], worker)
}
