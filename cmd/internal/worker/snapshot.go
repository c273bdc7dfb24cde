package worker

import (
	"reflect"
	"time"

	"ringroad/dataplane"
)

// Snapshot is one reading of every counter and gauge, by name.
type Snapshot struct {
	Time       time.Time         `json:"time"`
	Interfaces []InterfaceStats  `json:"interfaces"`
	Stack      map[string]uint64 `json:"stack"` // the loops' and netstack's TCP counters; this and the next three of all workers together
	Proxy      map[string]uint64 `json:"proxy"`
	Handover   map[string]uint64 `json:"handover"` // frames passed between workers
	Process    map[string]uint64 `json:"process"`
	Workers    []Stats           `json:"workers"`
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
	Worker   int               `json:"worker"`
	ZeroCopy bool              `json:"zero_copy"`
	Ours     map[string]uint64 `json:"ours"`
	Kernel   map[string]uint64 `json:"kernel"`         // XDP_STATISTICS
	Levels   map[string]uint64 `json:"levels"`         // where the frames are
	Link     map[string]uint64 `json:"link,omitempty"` // of the link endpoint; at the worker's first queue of the interface
}

// Stats are the counters of one worker.
type Stats struct {
	Worker   int               `json:"worker"`
	PID      int               `json:"pid"`
	State    string            `json:"state"`
	Restarts uint64            `json:"restarts"`
	Time     time.Time         `json:"time"` // of the reading; the zero time: it has shown nothing yet
	Stack    map[string]uint64 `json:"stack"`
	Proxy    map[string]uint64 `json:"proxy"`
	Handover map[string]uint64 `json:"handover"`
	Process  map[string]uint64 `json:"process"`
}

// NewSnapshot makes a snapshot without workers.
func NewSnapshot(at time.Time, interfaces []InterfaceStats) *Snapshot {
	return &Snapshot{
		Time: at, Interfaces: interfaces,
		Stack: map[string]uint64{}, Proxy: map[string]uint64{}, Handover: map[string]uint64{}, Process: map[string]uint64{},
	}
}

// Add adds a worker with what its page shows. s has what the page does not; without
// a process it shows what the last one left, which counts in Ended. queues are those
// it got, nil when it has none yet.
func (to *Snapshot) Add(s Stats, p *Page, queues []Queue) {
	v, at := p.read()
	s.Time = at
	s.Stack, s.Proxy, s.Handover, s.Process = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	put(s.Stack, &v.loop)
	put(s.Stack, &v.tcp)
	put(s.Proxy, &v.proxy)
	put(s.Handover, &v.handover)
	put(s.Handover, &v.handed)
	put(s.Process, &v.process)
	if s.PID != 0 {
		to.total(&s)
	}
	to.Workers = append(to.Workers, s)
	next := make([]int, len(v.links))
	for _, q := range queues {
		l := &v.links[q.Link]
		qv := &l.queues[next[q.Link]]
		stats := QueueStats{
			Queue: q.Queue, Worker: s.Worker, ZeroCopy: q.ZeroCopy,
			Ours: map[string]uint64{}, Kernel: map[string]uint64{}, Levels: map[string]uint64{},
		}
		put(stats.Ours, &qv.ours)
		put(stats.Kernel, &qv.kernel)
		put(stats.Levels, &qv.levels)
		if next[q.Link] == 0 {
			stats.Link = map[string]uint64{}
			put(stats.Link, &l.link)
		}
		next[q.Link]++
		i := &to.Interfaces[q.Link]
		i.Queues = append(i.Queues, stats)
	}
}

func (to *Snapshot) total(s *Stats) {
	for _, m := range []struct{ to, from map[string]uint64 }{
		{to.Stack, s.Stack}, {to.Proxy, s.Proxy}, {to.Handover, s.Handover}, {to.Process, s.Process},
	} {
		for name, n := range m.from {
			m.to[name] += n
		}
	}
}

// Ended are the counters of workers that have ended, so that sums over all
// workers never fall.
type Ended struct{ sum Stats }

// Note takes the last state of a worker that ended.
func (e *Ended) Note(p *Page) {
	v, _ := p.read()
	for _, m := range []struct {
		to    *map[string]uint64
		stats any
	}{
		{&e.sum.Stack, &v.loop}, {&e.sum.Stack, &v.tcp}, {&e.sum.Proxy, &v.proxy}, {&e.sum.Handover, &v.handover}, {&e.sum.Handover, &v.handed}, {&e.sum.Process, &v.process},
	} {
		if *m.to == nil {
			*m.to = map[string]uint64{}
		}
		values := reflect.ValueOf(m.stats).Elem()
		for i, f := range dataplane.StatFields(values.Interface()) {
			if f.Kind == "counter" {
				(*m.to)[f.Name] += values.Field(i).Uint()
			}
		}
	}
}

// AddTo adds the counters to the sums of a snapshot.
func (e *Ended) AddTo(s *Snapshot) { s.total(&e.sum) }

// put adds the fields of a statistics struct under their names.
func put(m map[string]uint64, statistics any) {
	v := reflect.ValueOf(statistics).Elem()
	for i, f := range dataplane.StatFields(v.Interface()) {
		m[f.Name] = v.Field(i).Uint()
	}
}
