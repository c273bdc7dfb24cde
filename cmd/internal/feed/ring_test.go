package feed

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

const testRingBytes = 64 << 10

// rings are the worker's and the master's view of one ring.
func rings(t *testing.T) (worker, master *Ring) {
	t.Helper()
	master, f, err := NewRing("test", testRingBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if worker, err = OpenRing(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, r := range []*Ring{worker, master} {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return worker, master
}

func TestRingCarriesRecordsInOrder(t *testing.T) {
	worker, master := rings(t)
	r := rand.New(rand.NewPCG(1, 2))
	body := func(n uint64) []byte {
		size := rand.New(rand.NewPCG(n, 3)).IntN(9000)
		return bytes.Repeat([]byte{byte(n)}, size)
	}
	var in, out, full uint64
	for in < 20_000 {
		for range r.IntN(20) {
			head := binary.NativeEndian.AppendUint64(nil, in)
			if !worker.Put(head[:in%9], body(in)) {
				full++
				break
			}
			in++
		}
		for range r.IntN(20) {
			got, ok := master.Peek()
			if !ok {
				break
			}
			want := append(binary.NativeEndian.AppendUint64(nil, out)[:out%9], body(out)...)
			if !bytes.Equal(got, want) {
				t.Fatalf("record %d: %d bytes, want %d", out, len(got), len(want))
			}
			master.Take()
			out++
		}
	}
	if full == 0 {
		t.Error("the ring was never full")
	}
}

// TestReaderSurvivesABrokenWorker writes nonsense into the memory.
func TestReaderSurvivesABrokenWorker(t *testing.T) {
	worker, master := rings(t)
	r := rand.New(rand.NewPCG(5, 6))
	for range 20_000 {
		for i := 0; i < len(worker.data); i += 8 * (1 + r.IntN(4000)) {
			binary.NativeEndian.PutUint64(worker.data[i:], r.Uint64()>>r.IntN(64))
		}
		switch r.IntN(3) {
		case 0:
			worker.tail.Store(r.Uint64() >> r.IntN(64))
		case 1:
			worker.tail.Add(uint64(r.IntN(1 << 17)))
		}
		if r.IntN(8) == 0 {
			worker.head.Store(r.Uint64())
		}
		for range 100 {
			record, ok := master.Peek()
			if !ok {
				break
			}
			if len(record) > testRingBytes {
				t.Fatalf("%d bytes", len(record))
			}
			master.Take()
		}
	}
}
