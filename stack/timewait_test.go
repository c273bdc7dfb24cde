package stack

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestTimeWaitTable compares the table with a map over random operations.
func TestTimeWaitTable(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	var table timeWaitTable
	model := map[uint32]uint32{} // ports -> expiry
	key := func(n uint32) *flowKey { return &flowKey{ports: n} }
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
	var table timeWaitTable
	for n := range uint32(maxTimeWait + 1000) {
		table.add(&flowKey{ports: n}).expires = 1
	}
	if table.live != maxTimeWait || table.find(&flowKey{ports: 999}) != nil || table.find(&flowKey{ports: 1000}) == nil {
		t.Errorf("%d entries, of at most %d: the oldest must go", table.live, maxTimeWait)
	}
	if n := reflect.TypeFor[waiting]().Size() + 2*4; n > 80 {
		t.Errorf("an entry takes %d bytes", n)
	}
}
