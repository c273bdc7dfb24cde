package stack

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"ringroad/dataplane"
)

// TestTimeWaitTable compares the table with a map over random operations.
func TestTimeWaitTable(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	table := newTimeWaitTable(new(timeWaitMemory))
	model := map[uint32]uint32{} // ports -> expiry
	key := func(n uint32) *flowKey {
		return &flowKey{local: [16]byte{byte(n % 3)}, remote: [16]byte{byte(n % 5)}, ports: n / 15}
	}
	now := uint32(1<<32 - 50_000) // wraps on the way
	for range 300_000 {
		now += r.Uint32N(3)
		n := r.Uint32N(5000)
		switch r.IntN(4) {
		case 0, 1:
			table.add(key(n)).expires = now + 10_000
			model[n] = now + 10_000
		case 2:
			if w := table.find(key(n)); w != nil {
				if k := table.key(w); k != *key(n) {
					t.Fatalf("entry %d has key %v", n, k)
				}
				table.kill(w)
			}
			delete(model, n)
		case 3:
			table.expire(now)
			w, expires := table.find(key(n)), model[n]
			_, known := model[n]
			if known && int32(expires-now) <= 0 {
				delete(model, n)
				known = false
			}
			if known != (w != nil) || known && w.expires != expires {
				t.Fatalf("entry %d at %d: model %d, table %+v", n, now, expires, w)
			}
		}
	}
	table.expire(now + 20_000)
	if table.live != 0 || table.head != table.tail {
		t.Errorf("%d entries are left", table.live)
	}
}

func TestTimeWaitTableIsBounded(t *testing.T) {
	table := newTimeWaitTable(new(timeWaitMemory))
	for n := range uint32(maxTimeWait + 1000) {
		table.add(&flowKey{ports: n}).expires = 1
	}
	if table.live != maxTimeWait || table.find(&flowKey{ports: 999}) != nil || table.find(&flowKey{ports: 1000}) == nil {
		t.Errorf("%d entries, of at most %d: the oldest must go", table.live, maxTimeWait)
	}
}

// TestTimeWaitTableIsNoBurden: what the README says of its memory, and none of it is the collector's.
func TestTimeWaitTableIsNoBurden(t *testing.T) {
	memory, free, err := dataplane.NewOutsideHeap[timeWaitMemory]()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := free(); err != nil {
			t.Error(err)
		}
	}()
	const entries = 100_000
	table := newTimeWaitTable(memory)
	heap := testing.AllocsPerRun(1, func() {
		for n := range uint32(entries) {
			table.add(&flowKey{ports: n}).expires = 1
		}
	})
	if heap > 1 { // the list of own addresses
		t.Errorf("%d entries made %v objects on the heap", entries, heap)
	}
	if n := reflect.TypeFor[waiting]().Size() + 2*reflect.TypeFor[uint32]().Size(); n > 64 {
		t.Errorf("an entry takes %d bytes", n)
	}
}
