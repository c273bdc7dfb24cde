package worker

import (
	"net/netip"
	"testing"
	"time"

	"ringroad/proxy/clients"
)

// TestWorkersShareClients: what one worker counts the other sees, and the key of the
// hash is not that of another table.
func TestWorkersShareClients(t *testing.T) {
	const entries, workers = 1000, 2
	client := netip.MustParseAddr("192.0.2.1")
	now, err := bootTime()
	if err != nil {
		t.Fatal(err)
	}
	var first [2]clients.Entry
	for i := range first {
		f, err := NewClientMemory(entries, workers)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var tables [workers]*clients.Table
		for self := range tables {
			if tables[self], err = openClients(f, entries, self, workers); err != nil {
				t.Fatal(err)
			}
		}
		first[i] = tables[0].Join(client, 32, 64, now)
		again := tables[1].Join(client, 32, 64, now)
		if again != first[i] || tables[0].Connections(again) != 2 {
			t.Errorf("entries %d and %d, %d connections", first[i], again, tables[0].Connections(again))
		}
		tables[0].Take(again, now, time.Second, time.Second)
		if tables[1].Take(again, now, time.Second, time.Second) == 0 {
			t.Error("the rate is that of one worker")
		}
		if _, err := openClients(f, 2*entries, 0, workers); err == nil {
			t.Error("memory of another size is mapped")
		}
	}
	if first[0] == first[1] {
		t.Log("the same entry in both tables: one in 1000") // by chance
	}
}
