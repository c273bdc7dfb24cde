package dataplane

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

var placementPairs = []struct {
	local  netip.Addr
	remote netip.AddrPort
}{
	{netip.MustParseAddr("10.2.0.1"), netip.MustParseAddrPort("10.2.0.2:8080")},
	{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddrPort("198.51.100.200:443")},
	{netip.MustParseAddr("fd77::1"), netip.MustParseAddrPort("[fd77::2]:8080")},
	{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddrPort("[2001:db8:1:2:3:4:5:6]:80")},
	{netip.MustParseAddr("::ffff:10.2.0.1"), netip.MustParseAddrPort("10.2.0.2:8080")},
}

// randomKey is a key as drivers have: random, here always the same.
func randomKey(seed uint64) []byte {
	source := rand.New(rand.NewPCG(seed, 1))
	key := make([]byte, rssKeyBytes)
	for i := range key {
		key[i] = byte(source.Uint32())
	}
	return key
}

// usable lists the ports of a block whose replies arrive at the worker, by the plain definition.
func usable(r *RSS, worker, workers int, local netip.Addr, remote netip.AddrPort, first, last uint16) map[uint16]bool {
	ports := map[uint16]bool{}
	for port := int(first); port <= int(last); port++ {
		if r.Queue(remote, netip.AddrPortFrom(local, uint16(port)))%workers == worker {
			ports[uint16(port)] = true
		}
	}
	return ports
}

// Every port that suits is used, in turn, and no other.
func TestPlacementUsesEveryPortThatSuits(t *testing.T) {
	const first, last = 40000, 40299
	for _, key := range [][]byte{microsoftKey, randomKey(1)} {
		for queues := 1; queues <= 16; queues++ {
			r := DefaultRSS(key, queues)
			for workers := 1; workers <= queues; workers++ {
				pair := placementPairs[(queues+workers)%len(placementPairs)]
				for worker := range workers {
					want := usable(r, worker, workers, pair.local, pair.remote, first, last)
					p := NewPlacement(r, worker, workers, first, last)
					for round := range 2 {
						seen := map[uint16]bool{}
						for range want {
							port, ok := p.Port(pair.local, pair.remote)
							if !ok || !want[port] || seen[port] {
								t.Fatalf("%d queues, worker %d of %d, round %d: port %d (%v), suits: %v, used before: %v",
									queues, worker, workers, round, port, ok, want[port], seen[port])
							}
							seen[port] = true
						}
					}
				}
			}
		}
	}
}

// Each of several backends gets only ports that suit, and a port comes again only after the block was gone round.
func TestPlacementServesSeveralBackendsInTurn(t *testing.T) {
	r := DefaultRSS(randomKey(3), 4)
	p := NewPlacement(r, 3, 4, 1024, 65535)
	last := map[int]map[uint16]int{}
	for n := range 100000 {
		i := n % len(placementPairs)
		pair := placementPairs[i]
		port, ok := p.Port(pair.local, pair.remote)
		if !ok || r.Queue(pair.remote, netip.AddrPortFrom(pair.local, port)) != 3 {
			t.Fatalf("port %d (%v) for %v", port, ok, pair)
		}
		if last[i] == nil {
			last[i] = map[uint16]int{}
		}
		// Each call skips on average three ports of four, so a round takes about a quarter of 64512 calls.
		if before, used := last[i][port]; used && n-before < 64512/8 {
			t.Fatalf("port %d for %v again after %d calls", port, pair, n-before)
		}
		last[i][port] = n
	}
}

func TestPlacementFindsNothing(t *testing.T) {
	pair := placementPairs[0]
	two := DefaultRSS(microsoftKey, 2)
	odd := &RSS{Key: microsoftKey, Table: []uint32{0, 1, 2}}
	for name, p := range map[string]*Placement{
		"without RSS":            NewPlacement(nil, 0, 1, 1, 65535),
		"worker without a queue": NewPlacement(two, 2, 3, 1, 65535),
		"odd table":              NewPlacement(odd, 0, 1, 1, 65535),
		"empty table":            NewPlacement(&RSS{Key: microsoftKey}, 0, 1, 1, 65535),
		"empty block":            NewPlacement(two, 0, 2, 5, 4),
	} {
		if port, ok := p.Port(pair.local, pair.remote); ok {
			t.Errorf("%s: port %d", name, port)
		}
	}
	p := NewPlacement(two, 0, 2, 1, 65535)
	if port, ok := p.Port(pair.local, placementPairs[2].remote); ok {
		t.Errorf("port %d from an IPv4 to an IPv6 address", port)
	}
	// A key of zeros hashes everything to 0: half of the workers have every port, the others none, soon found out.
	zero := DefaultRSS(make([]byte, 40), 2)
	if _, ok := NewPlacement(zero, 0, 2, 1, 65535).Port(pair.local, pair.remote); !ok {
		t.Error("no port of the queue that gets everything")
	}
	p = NewPlacement(zero, 1, 2, 1, 65535)
	before := p.next
	if port, ok := p.Port(pair.local, pair.remote); ok {
		t.Errorf("port %d of a queue that gets nothing", port)
	}
	if looked := (p.next - before + p.ports) % p.ports; looked != placementSearch {
		t.Errorf("looked at %d ports, want %d", looked, placementSearch)
	}
	one := NewPlacement(DefaultRSS(microsoftKey, 1), 0, 1, 65535, 65535)
	for range 3 {
		if port, ok := one.Port(pair.local, pair.remote); !ok || port != 65535 {
			t.Errorf("port %d (%v) of a block of one", port, ok)
		}
	}
}

// A table that sends one entry of 128 to a queue still leaves its worker ports.
func TestPlacementWithAnUnevenTable(t *testing.T) {
	r := DefaultRSS(randomKey(4), 1)
	r.Table[77] = 1
	for _, pair := range placementPairs {
		p := NewPlacement(r, 1, 2, 1024, 65535)
		port, ok := p.Port(pair.local, pair.remote)
		if !ok || r.Queue(pair.remote, netip.AddrPortFrom(pair.local, port)) != 1 {
			t.Errorf("%v: port %d (%v)", pair, port, ok)
		}
	}
}

func TestPlacementDoesNotAllocate(t *testing.T) {
	p := NewPlacement(DefaultRSS(microsoftKey, 16), 5, 16, 1024, 65535)
	n := testing.AllocsPerRun(1000, func() {
		for _, pair := range placementPairs {
			p.Port(pair.local, pair.remote)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func BenchmarkPlacementPort(b *testing.B) {
	for _, queues := range []int{1, 2, 4, 16, 64} {
		for _, i := range []int{0, 2} {
			pair := placementPairs[i]
			b.Run(fmt.Sprintf("%d queues to %v", queues, pair.remote.Addr()), func(b *testing.B) {
				p := NewPlacement(DefaultRSS(randomKey(5), queues), queues-1, queues, 1024, 65535)
				for b.Loop() {
					p.Port(pair.local, pair.remote)
				}
			})
		}
	}
}
