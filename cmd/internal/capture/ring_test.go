package capture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"ringroad/cmd/internal/pcapfilter"
	"ringroad/stack"
)

const testRingBytes = 64 << 10

// rings are the worker's and the master's view of one ring.
func rings(t *testing.T) (worker, master *ring) {
	t.Helper()
	master, f, err := newRing(testRingBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if worker, err = openRing(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, r := range []*ring{worker, master} {
			if err := r.close(); err != nil {
				t.Error(err)
			}
		}
	})
	return worker, master
}

func TestRingCarriesRecordsInOrder(t *testing.T) {
	worker, master := rings(t)
	r := rand.New(rand.NewPCG(1, 2))
	frame := func(n uint64) []byte {
		size := rand.New(rand.NewPCG(n, 3)).IntN(9000)
		return bytes.Repeat([]byte{byte(n)}, size)
	}
	var in, out, full uint64
	for in < 20_000 {
		for range r.IntN(20) {
			f := frame(in)
			if !worker.put(&record{time: in, length: uint32(len(f)) + 1, kept: uint32(len(f)), queue: uint16(in), link: 3, kind: sent, from: -1, fate: -2}, f) {
				full++
				break
			}
			in++
		}
		for range r.IntN(20) {
			var rec record
			f, ok := master.peek(&rec)
			if !ok {
				break
			}
			want := frame(out)
			if rec.time != out || rec.queue != uint16(out) || rec.link != 3 || rec.kind != sent || rec.from != -1 || rec.fate != -2 || !bytes.Equal(f, want) {
				t.Fatalf("record %d: %+v with %d bytes, want %d", out, rec, len(f), len(want))
			}
			master.take(&rec)
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
			var rec record
			frame, ok := master.peek(&rec)
			if !ok {
				break
			}
			if len(frame) != int(rec.kept) || len(frame) > testRingBytes {
				t.Fatalf("%d bytes for %+v", len(frame), rec)
			}
			master.take(&rec)
		}
	}
}

// tapOn makes a tap for one worker of a session.
func tapOn(t *testing.T, s *Session, worker int) *Tap {
	t.Helper()
	// As over the channel: the tap closes what it is given.
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(s.File(worker).Fd())), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	tap, err := NewTap(s.Order(), f, [][]int{{worker, worker + 2}, {worker}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	})
	return tap
}

func newSession(t *testing.T, o Options, workers int) *Session {
	t.Helper()
	s, err := New(o, []Link{{Name: "e0", MAC: [6]byte{2, 0, 0, 0, 0, 1}}, {Name: "e1"}}, workers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestTapTakesWhatIsAskedFor(t *testing.T) {
	tcp, other := make([]byte, 60), make([]byte, 60)
	tcp[12], tcp[23] = 8, 6
	for _, c := range []struct {
		name    string
		options Options
		want    []kind
	}{
		{"all", Options{}, []kind{received, received, sent, sent}},
		{"filtered", Options{Filter: "tcp"}, []kind{received, sent}},
		{"in", Options{Direction: Inbound}, []kind{received, received}},
		{"out", Options{Direction: Outbound}, []kind{sent, sent}},
		{"handed over", Options{Handed: true}, []kind{received, handed, received, handed, sent, sent}},
	} {
		s := newSession(t, c.options, 1)
		tap := tapOn(t, s, 0)
		for _, f := range [][]byte{tcp, other} {
			tap.Received(0, 1, f, stack.FateHere)
			tap.Handed(0, 2, f, stack.FateHere)
		}
		for _, f := range [][]byte{tcp, other} {
			tap.Sent(1, f)
		}
		for i, want := range c.want {
			var r record
			if _, ok := s.rings[0].peek(&r); !ok || r.kind != want || time.Duration(r.time) > time.Minute {
				t.Errorf("%s: record %d: %+v, %v; want kind %d", c.name, i, r, ok, want)
				break
			}
			s.rings[0].take(&r)
		}
		if _, ok := s.rings[0].peek(new(record)); ok {
			t.Errorf("%s: more than %d records", c.name, len(c.want))
		}
	}
}

func TestTappingDoesNotAllocate(t *testing.T) {
	s := newSession(t, Options{Filter: "tcp[13] & 2 != 0 or not port 80", BufferBytes: minBufferBytes}, 1)
	tap := tapOn(t, s, 0)
	frame := make([]byte, 1500)
	frame[12] = 8
	// First there is room, then none.
	n := testing.AllocsPerRun(1000, func() {
		tap.Received(0, 0, frame, stack.FateHere)
		tap.Sent(1, frame)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s.rings[0].dropped(1).Load() == 0 || s.rings[0].accepted(1).Load() != 1001 {
		t.Errorf("%d dropped of %d", s.rings[0].dropped(1).Load(), s.rings[0].accepted(1).Load())
	}
}

func BenchmarkTap(b *testing.B) {
	for name, filter := range map[string]string{"no filter": "", "tcp port 80": "tcp port 80"} {
		b.Run(name, func(b *testing.B) {
			code, err := pcapfilter.Compile(filter)
			if err != nil {
				b.Fatal(err)
			}
			_, f, err := newRing(1 << 20)
			if err != nil {
				b.Fatal(err)
			}
			order := &Order{SnapLen: MaxSnapLen, Start: time.Now()}
			if code != nil {
				if order.Program, err = bpf.Assemble(code); err != nil {
					b.Fatal(err)
				}
			}
			tap, err := NewTap(order, f, [][]int{{0}})
			if err != nil {
				b.Fatal(err)
			}
			frame := make([]byte, 200)
			frame[12], frame[14], frame[23], frame[37] = 8, 0x45, 6, 80
			var r record
			for b.Loop() {
				tap.Sent(0, frame)
				if _, ok := tap.ring.peek(&r); ok {
					tap.ring.take(&r)
				}
			}
		})
	}
}
