package worker

import (
	"reflect"
	"runtime"
	"runtime/metrics"
	"time"

	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/stack"
)

// values are all statistics of a worker.
type values struct {
	at       time.Time
	loop     stack.LoopStats
	tcp      stack.TCPStats
	queues   stack.QueueStats
	proxy    proxy.Stats
	handover dataplane.HandoverStats
	handed   stack.HandoverStats // why frames were handed over
	rings    HandoverLevelStats
	process  ProcessStats
	servers  [maxServers]proxy.ServerStats
	links    []linkValues
}

// maxServers is how many servers of upstreams a page has room for. Those behind it in
// the configuration are not shown.
const maxServers = 128

type linkValues struct {
	link   stack.LinkStats
	queues []queueValues
}

type queueValues struct {
	ours   dataplane.Stats
	kernel dataplane.KernelStats
	levels LevelStats
}

// ProcessStats are the runtime's.
type ProcessStats struct {
	Goroutines  uint64 `name:"goroutines" unit:"goroutines" kind:"gauge" help:"Goroutines that exist."`
	HeapBytes   uint64 `name:"heap_bytes" unit:"bytes" kind:"gauge" help:"Heap in use, garbage included."`
	HeapLive    uint64 `name:"heap_live" unit:"bytes" kind:"gauge" help:"Heap that the last collection found alive."`
	HeapObjects uint64 `name:"heap_objects" unit:"objects" kind:"gauge" help:"Objects on the heap, garbage included."`
	SysBytes    uint64 `name:"sys_bytes" unit:"bytes" kind:"gauge" help:"Memory that the runtime has mapped."`
	GCCycles    uint64 `name:"gc_cycles" unit:"collections" kind:"counter" help:"Garbage collections."`
	Mallocs     uint64 `name:"mallocs" unit:"objects" kind:"counter" help:"Objects allocated."`
}

// LevelStats tell where the frames of a queue are: dataplane.Levels.
type LevelStats struct {
	Frames         uint64 `name:"frames" unit:"frames" kind:"gauge" help:"Frames of the UMEM."`
	Free           uint64 `name:"free" unit:"frames" kind:"gauge" help:"Frames on the TX free list."`
	Fill           uint64 `name:"fill" unit:"frames" kind:"gauge" help:"Frames with the kernel, to receive into."`
	RX             uint64 `name:"rx" unit:"frames" kind:"gauge" help:"Frames that the loop reads."`
	TX             uint64 `name:"tx" unit:"frames" kind:"gauge" help:"Frames that the loop writes or the kernel sends."`
	FillRing       uint64 `name:"fill_ring" unit:"descriptors" kind:"gauge" help:"Descriptors on the fill ring."`
	RXRing         uint64 `name:"rx_ring" unit:"descriptors" kind:"gauge" help:"Descriptors on the RX ring."`
	TXRing         uint64 `name:"tx_ring" unit:"descriptors" kind:"gauge" help:"Descriptors on the TX ring."`
	CompletionRing uint64 `name:"completion_ring" unit:"descriptors" kind:"gauge" help:"Descriptors on the completion ring."`
	RingEntries    uint64 `name:"ring_entries" unit:"descriptors" kind:"gauge" help:"Slots of each ring."`
	Backlog        uint64 `name:"backlog_bytes" unit:"bytes" kind:"gauge" help:"Bytes of the backlog in use: packets that were taken off a crowded RX ring and wait."`
	BacklogBytes   uint64 `name:"backlog_capacity_bytes" unit:"bytes" kind:"gauge" help:"Capacity of the backlog."`

	FillRingLowWater uint64 `name:"fill_ring_low_water" unit:"descriptors" kind:"gauge" help:"Fewest descriptors seen on the fill ring."`
}

// HandoverLevelStats are dataplane.HandoverLevels.
type HandoverLevelStats struct {
	Out       uint64 `name:"ring_out_bytes" unit:"bytes" kind:"gauge" help:"Bytes on the fullest ring to another worker."`
	In        uint64 `name:"ring_in_bytes" unit:"bytes" kind:"gauge" help:"Bytes on the fullest ring from another worker."`
	RingBytes uint64 `name:"ring_capacity_bytes" unit:"bytes" kind:"gauge" help:"Capacity of each ring between two workers; 0: there is one worker."`
}

// update takes a reading.
func (s *LevelStats) update(l dataplane.Levels) {
	low := uint64(l.FillRing)
	if s.RingEntries != 0 { // not the first
		low = min(low, s.FillRingLowWater)
	}
	*s = LevelStats{
		FillRingLowWater: low,
		Frames:           uint64(l.Frames), Free: uint64(l.Free), Fill: uint64(l.Fill), RX: uint64(l.RX), TX: uint64(l.TX),
		FillRing: uint64(l.FillRing), RXRing: uint64(l.RXRing), TXRing: uint64(l.TXRing), CompletionRing: uint64(l.CompletionRing),
		RingEntries: uint64(l.RingEntries), Backlog: uint64(l.Backlog), BacklogBytes: uint64(l.BacklogBytes),
	}
}

// newValues are those of a worker with these links, all zero.
func newValues(links []Link) *values {
	v := &values{links: make([]linkValues, len(links))}
	for i := range links {
		v.links[i].queues = make([]queueValues, len(links[i].Queues))
	}
	return v
}

// empty returns values of the same shape, all zero.
func (v *values) empty() *values {
	e := &values{links: make([]linkValues, len(v.links))}
	for i := range v.links {
		e.links[i].queues = make([]queueValues, len(v.links[i].queues))
	}
	return e
}

// all are pointers to the statistics structs, in the order of the page.
func (v *values) all() []any {
	list := []any{&v.loop, &v.tcp, &v.queues, &v.proxy, &v.handover, &v.handed, &v.rings, &v.process}
	for i := range v.links {
		l := &v.links[i]
		list = append(list, &l.link)
		for k := range l.queues {
			q := &l.queues[k]
			list = append(list, &q.ours, &q.kernel, &q.levels)
		}
	}
	return list
}

// each calls f with the words of every statistics struct, in the order of the page.
func (v *values) each(f func(words []uint64)) {
	for _, statistics := range v.all() {
		f(wordsIn(statistics))
	}
	for i := range v.servers {
		f(wordsIn(&v.servers[i]))
	}
}

// words is the size of the page.
func (v *values) words() (n int) {
	n = headerWords
	v.each(func(words []uint64) { n += len(words) })
	return n
}

// reshaped returns the values as those of a worker with the queues that like has: a
// queue that v has not is zero, one that like has not is left out.
func (v *values) reshaped(like *values) *values {
	r := *v
	r.links = like.empty().links
	for i := range r.links {
		r.links[i].link = v.links[i].link
		copy(r.links[i].queues, v.links[i].queues)
	}
	return &r
}

// take adds the counters of other, or takes over its gauges, or both. Servers are left
// out, and queues that only one of the two has.
func (v *values) take(other *values, counters, gauges bool) {
	others := other.reshaped(v).all()
	for i, statistics := range v.all() {
		to, from := reflect.ValueOf(statistics).Elem(), reflect.ValueOf(others[i]).Elem()
		for k, f := range dataplane.StatFields(statistics) {
			switch {
			case f.Kind == "gauge":
				if gauges {
					to.Field(k).Set(from.Field(k))
				}
			case !counters:
			case f.Kind == "histogram":
				to.Field(k).Addr().Interface().(*dataplane.Histogram).Merge(from.Field(k).Addr().Interface().(*dataplane.Histogram))
			default:
				to.Field(k).SetUint(to.Field(k).Uint() + from.Field(k).Uint())
			}
		}
	}
}

// runtimeSamples are the fields of ProcessStats behind the first, in their order.
var runtimeSamples = []string{
	"/memory/classes/heap/objects:bytes",
	"/gc/heap/live:bytes",
	"/gc/heap/objects:objects",
	"/memory/classes/total:bytes",
	"/gc/cycles/total:gc-cycles",
	"/gc/heap/allocs:objects",
}

// processReader reads ProcessStats without stopping anything.
type processReader struct{ samples []metrics.Sample }

func (r *processReader) read(to *ProcessStats) {
	if r.samples == nil {
		r.samples = make([]metrics.Sample, len(runtimeSamples))
		for i, name := range runtimeSamples {
			r.samples[i].Name = name
		}
	}
	metrics.Read(r.samples)
	to.Goroutines = uint64(runtime.NumGoroutine()) // the metric counts the runtime's own too
	fields := reflect.ValueOf(to).Elem()
	for i := range r.samples {
		fields.Field(i + 1).SetUint(r.samples[i].Value.Uint64())
	}
}
