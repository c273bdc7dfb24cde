// Package clients counts what each client has and does, in memory that the workers of
// a proxy share: its connections, and the rate of its requests.
//
// A client is a prefix of addresses. The table has a fixed size: a client is looked for
// in the one set of 16 entries that a keyed hash of its prefix chooses, so that nobody
// can aim at the set of another. The client with the oldest requests and without a
// connection makes room for a new one.
//
// What is exact, with any number of workers: a client never has more requests than its
// rate and burst permit, and its connections are counted one by one; of two that come
// to two workers in the same instant each sees the other. What is not: where two
// workers choose the same entry for two clients in the same instant, the connection of
// one is counted as the other's until it ends, or a request is forgotten. A client that
// was put out of the table, which Evictions counts, begins again with its whole burst.
package clients

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// ways is how many entries a set has. With half as many clients as entries fewer
	// than one in 200 finds its set full.
	ways = 16
	// attempts is how often a client is looked for again when another worker took the
	// entry meanwhile.
	attempts = 4
	// KeyBytes is how many random bytes the memory begins with.
	KeyBytes = 16

	headerWords = 8 // the key, and the rest of a cache line
)

// Words is how many words of memory a table takes: 16 bytes an entry, and 8 for each
// worker. They are zero at first, but for the KeyBytes.
func Words(entries, workers int) int {
	return headerWords + sets(entries)*ways*(2+workers)
}

func sets(entries int) int { return (entries + ways - 1) / ways }

// Entry is the place of a client in the table; 0: it has none.
type Entry uint32

// Table is one worker's view of the table. Its methods belong to the worker's loop.
type Table struct {
	key   [2]uint64       // of the hash
	names []atomic.Uint64 // hash of the client of each entry; 0: free
	times []atomic.Uint64 // when its rate permits nothing more until, ns
	open  [][]atomic.Uint64
	mine  []atomic.Uint64 // the one of open that this worker writes: connections of each entry

	Evictions uint64 // clients put out whose requests still mattered
	Full      uint64 // clients that found no entry
}

// New makes a table for one worker.
func New(entries int) *Table {
	memory := make([]atomic.Uint64, Words(entries, 1))
	var key [KeyBytes]byte
	rand.Read(key[:]) //nolint:errcheck // it never fails
	memory[0].Store(binary.NativeEndian.Uint64(key[:8]))
	memory[1].Store(binary.NativeEndian.Uint64(key[8:]))
	t, err := Open(memory, entries, 0, 1)
	if err != nil {
		panic(err) // Words says how many there must be
	}
	return t
}

// Open is the view of worker self. It has no connection yet: what a process before it
// had is over.
func Open(memory []atomic.Uint64, entries, self, workers int) (*Table, error) {
	if len(memory) != Words(entries, workers) {
		return nil, fmt.Errorf("open the table of clients: it has %d words, want %d", len(memory), Words(entries, workers))
	}
	n := sets(entries) * ways
	t := &Table{key: [2]uint64{memory[0].Load(), memory[1].Load()}}
	take := func() (part []atomic.Uint64) {
		part, memory = memory[:n], memory[n:]
		return part
	}
	memory = memory[headerWords:]
	t.names, t.times = take(), take()
	for range workers {
		t.open = append(t.open, take())
	}
	t.mine = t.open[self]
	for i := range t.mine {
		if t.mine[i].Load() != 0 { // a write would make a page of memory real
			t.mine[i].Store(0)
		}
	}
	return t, nil
}

// Join counts a connection of the client with the address, which must be Left.
// bits4 and bits6 are how long the prefix of a client is. Entry 0: the set is full of
// clients that have connections.
func (t *Table) Join(a netip.Addr, bits4, bits6 int, now time.Duration) Entry {
	name := t.name(a, bits4, bits6)
	first := t.set(name)
	for range attempts {
		i, found := t.find(first, name)
		if i < 0 {
			break
		}
		if !found {
			was := t.names[i].Load()
			until := time.Duration(t.times[i].Load())
			if was == name || t.connections(i) > 0 || !t.names[i].CompareAndSwap(was, name) {
				continue // another worker was here
			}
			t.times[i].Store(0)
			if was != 0 && until > now {
				t.Evictions++
			}
		}
		t.mine[i].Store(t.mine[i].Load() + 1)
		if t.names[i].Load() == name {
			return Entry(i + 1)
		}
		t.Leave(Entry(i + 1))
	}
	t.Full++
	return 0
}

// Count is how many connections the client with the address has, of all workers.
func (t *Table) Count(a netip.Addr, bits4, bits6 int) int {
	name := t.name(a, bits4, bits6)
	if i, found := t.find(t.set(name), name); found {
		return t.connections(i)
	}
	return 0
}

// set is the first entry of the set of a client.
func (t *Table) set(name uint64) int {
	high, _ := bits.Mul64(name, uint64(len(t.names)/ways))
	return int(high) * ways
}

// find returns the entry of the client, or the one that it may take; -1: none.
func (t *Table) find(first int, name uint64) (i int, found bool) {
	for i := first; i < first+ways; i++ {
		if t.names[i].Load() == name {
			return i, true
		}
	}
	best := -1
	var oldest time.Duration
	for i := first; i < first+ways; i++ {
		if t.names[i].Load() == 0 {
			return i, false
		}
		if until := time.Duration(t.times[i].Load()); (best < 0 || until < oldest) && t.connections(i) == 0 {
			best, oldest = i, until
		}
	}
	return best, false
}

// Leave ends a connection.
func (t *Table) Leave(e Entry) {
	p := &t.mine[e-1]
	p.Store(p.Load() - 1)
}

// Connections is how many connections the client has, of all workers.
func (t *Table) Connections(e Entry) int { return t.connections(int(e - 1)) }

func (t *Table) connections(i int) int {
	var n uint64
	for _, open := range t.open {
		n += open[i].Load()
	}
	return int(n)
}

// Take counts a request, if the client may have one: one each interval, and as many at
// once as the interval goes into tolerance (the generic cell rate algorithm of ITU-T
// I.371). Otherwise it returns how long it takes until it may. now is a time that all
// workers have in common.
func (t *Table) Take(e Entry, now, interval, tolerance time.Duration) (wait time.Duration) {
	p := &t.times[e-1]
	for {
		was := p.Load()
		// A rate or burst that was another one before a reload must not count for longer
		// than the burst of now.
		next := min(max(time.Duration(was), now), now+tolerance) + interval
		if next > now+tolerance {
			return next - now - tolerance
		}
		if p.CompareAndSwap(was, uint64(next)) {
			return 0
		}
	}
}

// name is the keyed hash of a client; never 0.
func (t *Table) name(a netip.Addr, bits4, bits6 int) uint64 {
	keep := bits6
	if a.Is4() || a.Is4In6() {
		keep = 96 + bits4
	}
	b := a.As16()
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if keep < 64 {
		high &^= ^uint64(0) >> keep
		low = 0
	} else {
		low &^= ^uint64(0) >> (keep - 64)
	}
	return max(t.hash(high, low), 1)
}

// hash is SipHash-2-4 of two words.
func (t *Table) hash(a, b uint64) uint64 {
	v0, v1 := t.key[0]^0x736f6d6570736575, t.key[1]^0x646f72616e646f6d
	v2, v3 := t.key[0]^0x6c7967656e657261, t.key[1]^0x7465646279746573
	round := func() {
		v0 += v1
		v2 += v3
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v1
		v0 += v3
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 = bits.RotateLeft64(v2, 32)
	}
	for _, m := range [...]uint64{a, b, 16 << 56} {
		v3 ^= m
		round()
		round()
		v0 ^= m
	}
	v2 ^= 0xff
	for range 4 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}
