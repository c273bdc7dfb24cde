package worker

import (
	"reflect"
	"runtime"
	"time"

	"ringroad/bpf"
	"ringroad/dataplane"
)

// snapshotTimeout bounds how long Snapshot waits for the loop.
const snapshotTimeout = time.Second

// Snapshot is one reading of every counter and gauge, by name.
type Snapshot struct {
	Time       time.Time         `json:"time"`
	Interfaces []InterfaceStats  `json:"interfaces"`
	Stack      map[string]uint64 `json:"stack"` // the loop's and netstack's TCP counters
	Proxy      map[string]uint64 `json:"proxy"`
	Process    map[string]uint64 `json:"process"`
}

// InterfaceStats are the counters of one interface.
type InterfaceStats struct {
	Name     string            `json:"name"`
	Driver   string            `json:"driver"`
	Mode     string            `json:"mode"`     // native or generic
	Verdicts map[string]uint64 `json:"verdicts"` // of the XDP program
	Queues   []QueueStats      `json:"queues"`
}

// QueueStats are the counters of one AF_XDP socket.
type QueueStats struct {
	Queue    int               `json:"queue"`
	ZeroCopy bool              `json:"zero_copy"`
	Ours     map[string]uint64 `json:"ours"`
	Kernel   map[string]uint64 `json:"kernel"` // XDP_STATISTICS
	Levels   map[string]int    `json:"levels"` // where the frames are
	Link     map[string]uint64 `json:"link"`   // of the stack's link endpoint
}

// Snapshot reads everything between two turns of the loop. ok is false when
// the loop did not answer in time, or has ended. Any goroutine may call it.
func (w *Worker) Snapshot() (s Snapshot, ok bool) {
	read := make(chan Snapshot, 1)
	w.proxy.Post(func() { read <- w.Read() })
	select {
	case s = <-read:
		return s, true
	case <-time.After(snapshotTimeout):
		return Snapshot{}, false
	}
}

// Read is Snapshot for the loop's own goroutine.
func (w *Worker) Read() Snapshot {
	s := Snapshot{Time: w.stack.WallTime(), Stack: map[string]uint64{}, Proxy: map[string]uint64{}}
	for k, i := range w.interfaces {
		s.Interfaces = append(s.Interfaces, w.readInterface(i, w.queues[k]))
	}
	put(s.Stack, w.stack.LoopStats())
	put(s.Stack, w.stack.TCPStats())
	put(s.Proxy, *w.proxy.Stats())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.Process = map[string]uint64{
		"goroutines":   uint64(runtime.NumGoroutine()),
		"heap_bytes":   m.HeapAlloc, // garbage included
		"heap_live":    liveHeap(),
		"heap_objects": m.HeapObjects,
		"sys_bytes":    m.Sys,
		"gc_cycles":    uint64(m.NumGC),
		"mallocs":      m.Mallocs,
	}
	return s
}

func (w *Worker) readInterface(i *dataplane.Interface, q *dataplane.Queue) InterfaceStats {
	s := InterfaceStats{Name: i.Name(), Driver: i.Driver(), Mode: i.Mode().String(), Verdicts: map[string]uint64{}}
	if c, err := i.Counters(); err == nil {
		for v, n := range c {
			s.Verdicts[bpf.Verdict(v).String()] = n
		}
	}
	l := q.Levels()
	qs := QueueStats{
		ZeroCopy: q.ZeroCopy(),
		Ours:     map[string]uint64{}, Kernel: map[string]uint64{}, Link: map[string]uint64{},
		Levels: map[string]int{
			"frames": l.Frames, "free": l.Free, "fill": l.Fill, "rx": l.RX, "tx": l.TX,
			"fill_ring": l.FillRing, "rx_ring": l.RXRing, "tx_ring": l.TXRing, "completion_ring": l.CompletionRing,
			"ring_entries": l.RingEntries,
		},
	}
	put(qs.Ours, *q.Stats())
	if k, err := q.KernelStats(); err == nil {
		put(qs.Kernel, k)
	}
	put(qs.Link, w.stack.LinkStats(i.Index()))
	s.Queues = []QueueStats{qs}
	return s
}

// put adds the fields of a statistics struct under their names.
func put(m map[string]uint64, statistics any) {
	v := reflect.ValueOf(statistics)
	for i, f := range dataplane.StatFields(statistics) {
		m[f.Name] = v.Field(i).Uint()
	}
}
