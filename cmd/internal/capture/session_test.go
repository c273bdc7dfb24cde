package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"ringroad/stack"
)

// pipe is an Output into memory.
type pipe struct {
	bytes.Buffer
	flushed chan struct{}
}

func (p *pipe) Flush() error {
	select {
	case p.flushed <- struct{}{}:
	default:
	}
	return nil
}

func (p *pipe) SetWriteDeadline(time.Time) error { return nil }

// captured runs a session until feed, which runs once the capture is on, stops it or
// it ends by itself.
func captured(t *testing.T, s *Session, feed func()) []byte {
	t.Helper()
	out := &pipe{flushed: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	calls := 0
	go func() { ended <- s.Run(t.Context(), out, func() { calls++ }) }()
	select {
	case <-out.flushed:
	case err := <-ended:
		t.Fatalf("ended at once: %v", err)
	}
	feed()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
	if calls != 1 {
		t.Errorf("the workers were called off %d times", calls)
	}
	return out.Bytes()
}

// packet is a frame as a library reads it.
type packet struct {
	link, queue int
	inbound     bool
	length      int
	data        string
	comment     string
	verdict     string
	time        time.Time
}

// read reads a file by a library that knows nothing of this package.
func read(t *testing.T, file []byte) (packets []packet, links []pcapgo.NgInterface) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, o, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p := packet{link: info.InterfaceIndex, length: info.Length, data: string(data), time: info.Timestamp, comment: strings.Join(o.Comments, "; ")}
		if o.Queue == nil || o.Flags == nil {
			t.Fatalf("a packet without queue or flags: %+v", o)
		}
		p.queue, p.inbound = int(*o.Queue), o.Flags.Direction == pcapgo.NgEpbFlagDirectionInbound
		for _, v := range o.Verdicts {
			p.verdict += fmt.Sprint(v.Type) + fmt.Sprintf(" % x", v.Data)
		}
		packets = append(packets, p)
	}
	for i := range r.NInterfaces() {
		l, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	return packets, links
}

func TestCaptureIsReadBack(t *testing.T) {
	s := newSession(t, Options{SnapLen: 20, Handed: true, Filter: "len > 1", Version: "v1"}, 2)
	taps := []*Tap{tapOn(t, s, 0), tapOn(t, s, 1)}
	long := strings.Repeat("long", 20)
	file := captured(t, s, func() {
		taps[0].Received(0, 1, []byte("first"), stack.FateHere)
		taps[1].Received(0, 0, []byte("second"), stack.Fate(0))
		taps[0].Handed(0, 1, []byte("second"), stack.FateHere)
		taps[0].Received(1, 0, []byte("x"), stack.FateHere) // not accepted
		taps[0].Received(1, 0, []byte("bad"), stack.FateDropped)
		taps[1].Sent(1, []byte(long))
		s.Stop()
	})
	packets, links := read(t, file)
	want := []packet{
		{link: 0, queue: 2, inbound: true, length: 5, data: "first", comment: "worker 0"},
		{link: 0, queue: 1, inbound: true, length: 6, data: "second", comment: "worker 1, handed over to worker 0"},
		{link: 0, queue: 0, inbound: true, length: 6, data: "second", comment: "worker 0, handed over by worker 1"},
		{link: 1, queue: 0, inbound: true, length: 3, data: "bad", comment: "worker 0, dropped"},
		{link: 1, queue: 1, inbound: false, length: 80, data: long[:20], comment: "worker 1"},
	}
	if len(packets) != len(want) {
		t.Fatalf("%d packets: %+v", len(packets), packets)
	}
	for i, p := range packets {
		if i > 0 && p.time.Before(packets[i-1].time) || time.Since(p.time).Abs() > time.Minute {
			t.Errorf("packet %d is of %v", i, p.time)
		}
		if received := p.inbound && i != 2; (p.verdict != "") != received {
			t.Errorf("packet %d has the verdict %q", i, p.verdict)
		}
		p.time, p.verdict = time.Time{}, ""
		if p != want[i] {
			t.Errorf("packet %d: %+v, want %+v", i, p, want[i])
		}
	}
	if len(links) != 2 || links[0].Name != "e0" || links[1].Name != "e1" || links[0].SnapLength != 20 || links[0].Filter != "\x00len > 1" && links[0].Filter != "len > 1" {
		t.Errorf("interfaces: %+v", links)
	}
	for i, accepted := range []uint64{3, 2} {
		if st := links[i].Statistics; st.PacketsReceived != accepted || st.PacketsDropped != 0 || st.EndTime.Before(st.StartTime) {
			t.Errorf("statistics of %s: %+v", links[i].Name, st)
		}
	}
}

func TestLimitsEndACapture(t *testing.T) {
	t.Run("count", func(t *testing.T) {
		s := newSession(t, Options{Count: 3}, 1)
		tap := tapOn(t, s, 0)
		packets, links := read(t, captured(t, s, func() {
			for range 5 {
				tap.Sent(0, []byte("frame"))
			}
		}))
		if len(packets) != 3 || links[0].Statistics.PacketsReceived != 5 {
			t.Errorf("%d packets, statistics %+v", len(packets), links[0].Statistics)
		}
	})
	t.Run("duration", func(t *testing.T) {
		s := newSession(t, Options{Duration: 300 * time.Millisecond}, 1)
		tap := tapOn(t, s, 0)
		tap.Sent(0, []byte("frame"))
		if packets, _ := read(t, captured(t, s, func() {})); len(packets) != 1 {
			t.Errorf("%d packets", len(packets))
		}
	})
}

func TestFullRingIsToldOf(t *testing.T) {
	const frames = 200
	s := newSession(t, Options{BufferBytes: minBufferBytes}, 1)
	tap := tapOn(t, s, 0)
	frame := make([]byte, 1000)
	for range frames { // while nobody reads
		tap.Received(0, 0, frame, stack.FateHere)
	}
	file := captured(t, s, s.Stop)
	packets, links := read(t, file)
	st := links[0].Statistics
	if want := uint64(minBufferBytes / 1032); uint64(len(packets)) != want || st.PacketsReceived != frames || st.PacketsDropped != frames-want {
		t.Errorf("%d packets, statistics %+v; want %d of %d", len(packets), st, want, frames)
	}
	sum, err := Copy(NewPrinter(io.Discard), bytes.NewReader(file), nil)
	if err != nil || sum.Captured != uint64(len(packets)) || sum.Accepted != frames || sum.Dropped != st.PacketsDropped {
		t.Errorf("summary %+v, %v", sum, err)
	}
}

func TestClientThatIsGoneEndsTheCapture(t *testing.T) {
	s := newSession(t, Options{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx, &pipe{}, func() {}); err != nil {
		t.Error(err)
	}
	called := false
	if err := s.Run(t.Context(), broken{}, func() { called = true }); !errors.Is(err, io.ErrClosedPipe) || !called {
		t.Errorf("%v, called off: %v", err, called)
	}
}

// broken is an Output that takes nothing.
type broken struct{ pipe }

func (broken) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (broken) Flush() error                     { return nil }
func (broken) SetWriteDeadline(time.Time) error { return nil }

// sample is a file of n packets.
func sample(t *testing.T, n int) []byte {
	s := newSession(t, Options{}, 1)
	tap := tapOn(t, s, 0)
	return captured(t, s, func() {
		for range n {
			tap.Sent(0, make([]byte, 1000))
		}
		s.Stop()
	})
}

func TestFilesAreCutAtTheirLimits(t *testing.T) {
	file := sample(t, 10)
	for _, c := range []struct {
		name    string
		files   Files
		packets []int // of each file
	}{
		{"one", Files{}, []int{10}},
		{"by size", Files{Bytes: 4000}, []int{3, 3, 3, 1}},
		{"by size, two kept", Files{Bytes: 4000, Keep: 2}, []int{3, 1}},
		{"smaller than a packet", Files{Bytes: 10, Keep: 2}, []int{1, 1}},
		{"by time", Files{Every: 5 * time.Second}, []int{4, 5, 1}}, // a second passes with each look at the clock
	} {
		f := c.files
		f.Path = filepath.Join(t.TempDir(), "x.pcapng")
		second := 0
		f.now = func() time.Time { second++; return time.Unix(int64(second), 0) }
		if _, err := Copy(&f, bytes.NewReader(file), nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		var got []int
		for i := range len(c.packets) + 1 {
			name := f.Path
			if i > 0 {
				name += fmt.Sprint(i)
			}
			b, err := os.ReadFile(name)
			if err != nil {
				break
			}
			packets, links := read(t, b)
			if got = append(got, len(packets)); len(links) != 2 {
				t.Errorf("%s: file %d has %d interfaces", c.name, i, len(links))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.packets) {
			t.Errorf("%s: files of %v packets, want %v", c.name, got, c.packets)
		}
	}
}

func TestStandardOutputGetsTheSameBytes(t *testing.T) {
	file := sample(t, 3)
	var b bytes.Buffer
	f := Files{Path: "-", Stdout: &b}
	var links []string
	if _, err := Copy(&f, bytes.NewReader(file), func(names []string) { links = names }); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil || !bytes.Equal(b.Bytes(), file) || fmt.Sprint(links) != "[e0 e1]" {
		t.Errorf("%d bytes of %d, %v; interfaces %v", b.Len(), len(file), err, links)
	}
}

func TestTruncatedStreamsAreTold(t *testing.T) {
	file := sample(t, 1)
	for _, n := range []int{4, 30, len(file) - 1} {
		if _, err := Copy(NewPrinter(io.Discard), bytes.NewReader(file[:n]), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	binary.LittleEndian.PutUint32(file[4:], 7)
	if _, err := Copy(NewPrinter(io.Discard), bytes.NewReader(file), nil); err == nil {
		t.Error("a block of 7 bytes is read")
	}
}

func TestOptionsSurviveTheSocket(t *testing.T) {
	o := Options{Filter: "port 80 && host ::1", Direction: Inbound, SnapLen: 9, BufferBytes: 1 << 20, Handed: true, Count: 1 << 63, Duration: time.Minute}
	got, err := ParseQuery(o.Query())
	if err != nil || got != o {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseQuery(Options{}.Query()); err != nil || got != (Options{}) {
		t.Errorf("nothing: %+v, %v", got, err)
	}
	for _, o := range []Options{{Filter: "port"}, {Direction: "up"}, {SnapLen: -1}, {SnapLen: MaxSnapLen + 1}, {BufferBytes: 1}, {BufferBytes: 2 << 30}, {Duration: -1}} {
		if _, err := ParseQuery(o.Query()); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if _, err := ParseQuery(map[string][]string{"filtre": {"ip"}}); err == nil {
		t.Error("an unknown parameter is taken")
	}
}
