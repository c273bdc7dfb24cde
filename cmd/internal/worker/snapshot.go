package worker

import (
	"net/netip"
	"reflect"
	"time"

	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/upstream"
)

// Snapshot is one reading of every counter and gauge, by name.
type Snapshot struct {
	Time       time.Time         `json:"time"`
	Interfaces []InterfaceStats  `json:"interfaces"`
	Stack      map[string]uint64 `json:"stack"` // the loops' and netstack's TCP counters; this and the next four of all workers together
	Proxy      map[string]uint64 `json:"proxy"`
	Handover   map[string]uint64 `json:"handover"` // frames passed between workers
	Process    map[string]uint64 `json:"process"`
	Histograms Histograms        `json:"histograms"`
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

// Stats are the counters of one worker, those of processes that died before the
// present one included.
type Stats struct {
	Worker     int               `json:"worker"`
	PID        int               `json:"pid"`
	State      string            `json:"state"`
	Restarts   uint64            `json:"restarts"`
	Time       time.Time         `json:"time"` // of the reading; the zero time: it has shown nothing yet
	Stack      map[string]uint64 `json:"stack"`
	Proxy      map[string]uint64 `json:"proxy"`
	Handover   map[string]uint64 `json:"handover"`
	Process    map[string]uint64 `json:"process"`
	Histograms Histograms        `json:"histograms"`
	Servers    []ServerStats     `json:"servers"`
}

// ServerStats are what one worker knows of a server of an upstream.
type ServerStats struct {
	Upstream string            `json:"upstream"`
	Server   string            `json:"server"` // address
	Values   map[string]uint64 `json:"values"`
}

// Server names a server of an upstream.
type Server struct {
	Upstream string
	Addr     netip.AddrPort
}

// Histograms are histograms by their names.
type Histograms map[string]*dataplane.Histogram

// NewSnapshot makes a snapshot without workers.
func NewSnapshot(at time.Time, interfaces []InterfaceStats) *Snapshot {
	return &Snapshot{
		Time: at, Interfaces: interfaces, Histograms: Histograms{},
		Stack: map[string]uint64{}, Proxy: map[string]uint64{}, Handover: map[string]uint64{}, Process: map[string]uint64{},
	}
}

// Add adds a worker with what its page shows and what its processes before had
// counted, so that no counter falls when it is started again. s has what the page
// does not; without a process its gauges are what the last one left, which the sums
// leave out. queues are those it got, nil when it has none yet; servers those of the
// configuration.
func (to *Snapshot) Add(s Stats, p *Page, before *Ended, queues []Queue, servers []Server) {
	v, at := p.read()
	if s.PID != 0 {
		before.addTo(v)
		to.total(v)
	} else {
		last := v
		v = v.empty()
		before.addTo(v)
		to.total(v)
		v.take(last, false, true)
		for i := range last.servers {
			v.servers[i] = before.servers[last.servers[i].ID]
		}
	}
	s.Time = at
	s.Stack, s.Proxy, s.Handover, s.Process = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	s.Histograms = Histograms{}
	v.putInto(s.Stack, s.Proxy, s.Handover, s.Process, s.Histograms)
	s.Servers = serversOf(&v.servers, servers)
	to.Workers = append(to.Workers, s)
	next := make([]int, len(v.links))
	for _, q := range queues {
		l := &v.links[q.Link]
		qv := &l.queues[next[q.Link]]
		stats := QueueStats{
			Queue: q.Queue, Worker: s.Worker, ZeroCopy: q.ZeroCopy,
			Ours: map[string]uint64{}, Kernel: map[string]uint64{}, Levels: map[string]uint64{},
		}
		put(stats.Ours, nil, &qv.ours)
		put(stats.Kernel, nil, &qv.kernel)
		put(stats.Levels, nil, &qv.levels)
		if next[q.Link] == 0 {
			stats.Link = map[string]uint64{}
			put(stats.Link, nil, &l.link)
		}
		next[q.Link]++
		i := &to.Interfaces[q.Link]
		i.Queues = append(i.Queues, stats)
	}
}

// total adds to the sums over all workers.
func (to *Snapshot) total(v *values) {
	v.putInto(to.Stack, to.Proxy, to.Handover, to.Process, to.Histograms)
}

// putInto adds the statistics that a worker has once.
func (v *values) putInto(stack, proxy, handover, process map[string]uint64, h Histograms) {
	put(stack, h, &v.loop)
	put(stack, h, &v.tcp)
	put(stack, h, &v.queues)
	put(proxy, h, &v.proxy)
	put(handover, h, &v.handover)
	put(handover, h, &v.handed)
	put(handover, h, &v.rings)
	put(process, h, &v.process)
}

// put adds the fields of a statistics struct to what stands under their names.
func put(m map[string]uint64, h Histograms, statistics any) {
	v := reflect.ValueOf(statistics).Elem()
	for i, f := range dataplane.StatFields(statistics) {
		if f.Kind != "histogram" {
			m[f.Name] += v.Field(i).Uint()
			continue
		}
		if h[f.Name] == nil {
			h[f.Name] = &dataplane.Histogram{}
		}
		h[f.Name].Merge(v.Field(i).Addr().Interface().(*dataplane.Histogram))
	}
}

// serversOf finds the servers of the configuration on a page.
func serversOf(shown *[maxServers]proxy.ServerStats, servers []Server) (list []ServerStats) {
	at := make(map[uint64]*proxy.ServerStats, len(shown))
	for i := range shown {
		at[shown[i].ID] = &shown[i]
	}
	for _, server := range servers {
		v := at[upstream.ID(server.Upstream, server.Addr)]
		if v == nil {
			continue // it comes with a reload under way, or has no room
		}
		s := ServerStats{Upstream: server.Upstream, Server: server.Addr.String(), Values: map[string]uint64{}}
		put(s.Values, nil, v)
		delete(s.Values, "id")
		list = append(list, s)
	}
	return list
}

// Ended are the counters of a worker's processes that have ended. The zero value is
// those of a worker whose first one lives.
type Ended struct {
	sum     *values // nil: none has ended
	servers map[uint64]proxy.ServerStats
}

// Note takes what a process showed last. Processes of a worker can have had more or
// fewer queues: those that the last one had are kept.
func (e *Ended) Note(p *Page) {
	v, _ := p.read()
	sum := v.empty()
	sum.take(v, true, false)
	if e.sum == nil {
		e.servers = map[uint64]proxy.ServerStats{}
	} else {
		sum.take(e.sum, true, false)
	}
	e.sum = sum
	e.addServers(&v.servers)
	for i := range v.servers {
		if id := v.servers[i].ID; id != 0 {
			e.servers[id] = v.servers[i]
		}
	}
}

// addTo adds the counters to those of the present process.
func (e *Ended) addTo(v *values) {
	if e.sum != nil {
		v.take(e.sum, true, false)
		e.addServers(&v.servers)
	}
}

// addServers adds the counters to those that a page shows.
func (e *Ended) addServers(to *[maxServers]proxy.ServerStats) {
	for i := range to {
		before, ok := e.servers[to[i].ID]
		if !ok {
			continue
		}
		s, from := reflect.ValueOf(&to[i]).Elem(), reflect.ValueOf(before)
		for k, f := range dataplane.StatFields(&to[i]) {
			if f.Kind == "counter" {
				s.Field(k).SetUint(s.Field(k).Uint() + from.Field(k).Uint())
			}
		}
	}
}
