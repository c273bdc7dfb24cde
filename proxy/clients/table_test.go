package clients

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// start is a time of the common clock.
const start = 1000 * time.Hour

func addr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func views(t *testing.T, entries, workers int) (list []*Table) {
	t.Helper()
	memory := make([]atomic.Uint64, Words(entries, workers))
	memory[0].Store(rand.Uint64())
	for self := range workers {
		v, err := Open(memory, entries, self, workers)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	return list
}

// TestHash: the vector of the reference implementation for 16 bytes 00, 01, ... 0f.
func TestHash(t *testing.T) {
	table := Table{key: [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}}
	if got := table.hash(0x0706050403020100, 0x0f0e0d0c0b0a0908); got != 0x3f2acc7f57c29bdb {
		t.Errorf("got %#x", got)
	}
}

func TestRate(t *testing.T) {
	const interval, burst = 100 * time.Millisecond, 3
	table := New(16)
	e := table.Join(addr(1), 32, 64, start)
	other := table.Join(addr(2), 32, 64, start)
	for i, step := range []struct {
		at, wait time.Duration
	}{
		{0, 0}, {0, 0}, {0, 0}, // the burst
		{0, 100 * time.Millisecond}, {40 * time.Millisecond, 60 * time.Millisecond}, // what is refused does not count
		{100 * time.Millisecond, 0}, {100 * time.Millisecond, 100 * time.Millisecond},
		{350 * time.Millisecond, 0}, {350 * time.Millisecond, 0}, {350 * time.Millisecond, 50 * time.Millisecond},
		{time.Hour, 0}, {time.Hour, 0}, {time.Hour, 0}, {time.Hour, 100 * time.Millisecond}, // no more than the burst
	} {
		if wait := table.Take(e, start+step.at, interval, burst*interval); wait != step.wait {
			t.Errorf("step %d: wait %v, want %v", i, wait, step.wait)
		}
	}
	if wait := table.Take(other, start, interval, burst*interval); wait != 0 {
		t.Errorf("another client has to wait %v", wait)
	}
	for range 3000 {
		table.Take(e, start+2*time.Hour, interval, 3000*interval)
	}
	if wait := table.Take(e, start+2*time.Hour, interval, burst*interval); wait != interval {
		t.Errorf("after a reload with a smaller burst: wait %v, want %v", wait, interval)
	}
}

func TestPrefixes(t *testing.T) {
	for _, tt := range []struct {
		a, b         string
		bits4, bits6 int
		same         bool
	}{
		{"192.0.2.1", "192.0.2.2", 32, 64, false},
		{"192.0.2.1", "::ffff:192.0.2.1", 32, 64, true},
		{"192.0.2.1", "192.0.2.255", 24, 64, true},
		{"192.0.2.1", "192.0.3.1", 24, 64, false},
		{"2001:db8::1", "2001:db8::ffff:1", 32, 64, true},
		{"2001:db8::1", "2001:db8:0:1::1", 32, 64, false},
		{"2001:db8::1", "2001:db8:0:1::1", 32, 56, true},
		{"2001:db8::1", "2001:db8::2", 32, 128, false},
		{"fe80::1%eth0", "fe80::1", 32, 128, true},
	} {
		t.Run(fmt.Sprintf("%s %s %d %d", tt.a, tt.b, tt.bits4, tt.bits6), func(t *testing.T) {
			table := New(64)
			a := table.Join(netip.MustParseAddr(tt.a), tt.bits4, tt.bits6, start)
			b := table.Join(netip.MustParseAddr(tt.b), tt.bits4, tt.bits6, start)
			if (a == b) != tt.same {
				t.Errorf("entries %d and %d", a, b)
			}
		})
	}
}

// TestFull: a set makes room for new clients at the expense of those that were quiet
// for longest, and never of one that has a connection.
func TestFull(t *testing.T) {
	table := New(ways) // one set
	second := func(n int) time.Duration { return start + time.Duration(n)*time.Second }
	var entries []Entry
	for n := range ways {
		e := table.Join(addr(n), 32, 64, start)
		table.Take(e, second(n), time.Second, time.Second)
		entries = append(entries, e)
	}
	if e := table.Join(addr(100), 32, 64, second(100)); e != 0 || table.Full != 1 {
		t.Errorf("entry %d, though all clients have connections; counted %d", e, table.Full)
	}
	table.Leave(entries[7])
	table.Leave(entries[3])
	if e := table.Join(addr(101), 32, 64, second(8)); e != entries[3] || table.Evictions != 0 {
		t.Errorf("entry %d, want that of the client that was quiet for longest, %d; %d evictions", e, entries[3], table.Evictions)
	}
	if e := table.Join(addr(102), 32, 64, second(7)); e != entries[7] || table.Evictions != 1 {
		t.Errorf("entry %d, want %d; %d evictions, want 1: its last request still counted", e, entries[7], table.Evictions)
	}
	if wait := table.Take(entries[7], second(7), time.Second, time.Second); wait != 0 {
		t.Errorf("a new client has to wait %v", wait)
	}
}

// TestWorkers: views count together, and a worker that starts again has nothing.
func TestWorkers(t *testing.T) {
	v := views(t, 1024, 3)
	e := v[0].Join(addr(1), 32, 64, start)
	for _, w := range v[1:] {
		if again := w.Join(addr(1), 32, 64, start); again != e {
			t.Fatalf("entry %d, want %d", again, e)
		}
	}
	if n := v[2].Connections(e); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	v[1].Leave(e)
	if n := v[0].Connections(e); n != 2 || v[1].Count(addr(1), 32, 64) != n || v[1].Count(addr(2), 32, 64) != 0 {
		t.Errorf("%d connections, want 2; %d and %d by address", n, v[1].Count(addr(1), 32, 64), v[1].Count(addr(2), 32, 64))
	}
	if wait := v[0].Take(e, start, time.Second, time.Second); wait != 0 {
		t.Error("the first request has to wait")
	}
	if wait := v[2].Take(e, start, time.Second, time.Second); wait != time.Second {
		t.Errorf("the next one, at another worker, has to wait %v", wait)
	}
}

func TestRestart(t *testing.T) {
	memory := make([]atomic.Uint64, Words(64, 2))
	first, err := Open(memory, 64, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	e := first.Join(addr(1), 32, 64, start)
	first.Take(e, start, time.Second, time.Second)
	again, err := Open(memory, 64, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	if e2 := again.Join(addr(1), 32, 64, start); e2 != e || again.Connections(e) != 1 {
		t.Errorf("entry %d with %d connections, want %d with 1", e2, again.Connections(e), e)
	}
	if wait := again.Take(e, start, time.Second, time.Second); wait != time.Second {
		t.Errorf("the rate of a client was forgotten: wait %v", wait)
	}
	if _, err := Open(memory, 1024, 0, 2); err == nil {
		t.Error("memory of another size was taken")
	}
}

// TestTogether has workers use one table at the same time: rates are exact, and nothing
// is left in the end.
func TestTogether(t *testing.T) {
	const workers, clients, requests = 4, 200, 2000
	v := views(t, 1024, workers)
	var passed [clients]atomic.Int64
	var all sync.WaitGroup
	for _, w := range v {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, 2))
			for range requests * 5 {
				n := random.IntN(clients)
				e := w.Join(addr(n), 32, 64, start)
				if e == 0 {
					continue
				}
				if w.Take(e, start, time.Millisecond, 10*time.Millisecond) == 0 {
					passed[n].Add(1)
				}
				w.Leave(e)
			}
		})
	}
	all.Wait()
	for n := range clients {
		// Two workers may begin a client at the same time, in two entries.
		if got := passed[n].Load(); got < 10 || got > 20 {
			t.Errorf("client %d: %d requests passed at once, want 10", n, got)
		}
	}
	for i := range v[0].names {
		if c := v[0].connections(i); c != 0 {
			t.Fatalf("entry %d has %d connections", i, c)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	table := New(1024)
	n := 0
	if got := testing.AllocsPerRun(1000, func() {
		n++
		if e := table.Join(addr(n), 32, 64, start); e != 0 {
			table.Take(e, start, time.Second, time.Second)
			table.Connections(e)
			table.Leave(e)
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkTake(b *testing.B) {
	table := New(65536)
	e := table.Join(addr(1), 32, 64, start)
	now := start
	for b.Loop() {
		now += time.Microsecond
		table.Take(e, now, time.Microsecond, time.Millisecond)
	}
}

func BenchmarkJoin(b *testing.B) {
	table := New(65536)
	n := 0
	for b.Loop() {
		n++
		if e := table.Join(addr(n%100000), 32, 64, start); e != 0 {
			table.Leave(e)
		}
	}
}
