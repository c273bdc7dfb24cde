package capture

import (
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/pcapfilter"
	"ringroad/stack"
)

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
			if _, ok := peek(s.Rings[0], &r); !ok || r.kind != want || time.Duration(r.time) > time.Minute {
				t.Errorf("%s: record %d: %+v, %v; want kind %d", c.name, i, r, ok, want)
				break
			}
			s.Rings[0].Take()
		}
		if _, ok := peek(s.Rings[0], new(record)); ok {
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
	lost, all := s.Rings[0].Counter(dropped(1)).Load(), s.Rings[0].Counter(accepted(1)).Load()
	if lost == 0 || all != 1001 {
		t.Errorf("%d dropped of %d", lost, all)
	}
}

func BenchmarkTap(b *testing.B) {
	for name, filter := range map[string]string{"no filter": "", "tcp port 80": "tcp port 80"} {
		b.Run(name, func(b *testing.B) {
			code, err := pcapfilter.Compile(filter)
			if err != nil {
				b.Fatal(err)
			}
			_, f, err := feed.NewRing("test", 1<<20)
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
				if _, ok := peek(tap.ring, &r); ok {
					tap.ring.Take()
				}
			}
		})
	}
}
