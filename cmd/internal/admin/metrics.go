package admin

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"ringroad/bpf"
	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/stack"
)

// namespace begins the name of every metric.
const namespace = "ringroad"

// metrics is a prometheus.Collector: each scrape is one snapshot. What a metric is
// called and its help come from the tags of the statistics (names.go).
type metrics struct {
	source Source

	verdicts, info, workerUp, restarts *prometheus.Desc

	// Each group stands for the fields of one map of a snapshot.
	queues, kernel, levels, links, stack, proxy, handover, process, servers group
}

var _ prometheus.Collector = (*metrics)(nil)

// group is the metrics made of the fields of some statistics structs.
type group struct {
	labels []string // that the fields have in common
	series []series
}

// series is one field.
type series struct {
	field dataplane.StatField
	desc  *prometheus.Desc
	label []string // value of the label that tells the field from others of the family; nil: it is the only one
}

func newMetrics(source Source) *metrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	queue := []string{"interface", "queue", "worker"}
	each := []string{"worker"}
	return &metrics{
		source:   source,
		verdicts: describe("xdp_frames_total", "Frames that the XDP program decided on: to the socket, dropped, or passed to the kernel.", "interface", "verdict"),
		info:     describe("interface_info", "Always 1; how frames of the interface are received is in the labels.", "interface", "driver", "mode"),
		workerUp: describe("worker_up", "Whether the worker serves.", "worker"),
		restarts: describe("worker_restarts_total", "Times the worker died and was started again.", "worker"),
		queues:   newGroup("queue", queue, dataplane.Stats{}),
		kernel:   newGroup("kernel", queue, dataplane.KernelStats{}),
		levels:   newGroup("levels", queue, worker.LevelStats{}),
		links:    newGroup("link", []string{"interface", "worker"}, stack.LinkStats{}),
		stack:    newGroup("", each, named{"loop", stack.LoopStats{}}, named{"tcp", stack.TCPStats{}}, named{"tcp", stack.QueueStats{}}),
		proxy:    newGroup("proxy", each, proxy.Stats{}),
		handover: newGroup("handover", each, dataplane.HandoverStats{}, stack.HandoverStats{}, worker.HandoverLevelStats{}),
		process:  newGroup("process", each, worker.ProcessStats{}),
		servers:  newGroup("upstream_server", []string{"upstream", "server", "worker"}, proxy.ServerStats{}),
	}
}

// named is a statistics struct with the part of the names that says what it is about.
type named struct {
	prefix     string
	statistics any
}

func newGroup(prefix string, labels []string, statistics ...any) group {
	g := group{labels: labels}
	for _, s := range statistics {
		n, ok := s.(named)
		if !ok {
			n = named{prefix, s}
		}
		for _, f := range dataplane.StatFields(n.statistics) {
			m, ok := nameOf(n.prefix, f)
			if !ok {
				continue
			}
			s := series{field: f}
			all := labels
			if m.label != "" {
				all = append(append([]string(nil), labels...), m.label)
				s.label = []string{m.value}
			}
			s.desc = prometheus.NewDesc(prometheus.BuildFQName(namespace, "", m.name), m.help, all, nil)
			g.series = append(g.series, s)
		}
	}
	return g
}

func (m *metrics) groups() []*group {
	return []*group{&m.queues, &m.kernel, &m.levels, &m.links, &m.stack, &m.proxy, &m.handover, &m.process, &m.servers}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.verdicts, m.info, m.workerUp, m.restarts} {
		to <- d
	}
	for _, g := range m.groups() {
		for i := range g.series {
			to <- g.series[i].desc
		}
	}
}

// errNoSnapshot makes a scrape fail that comes while ringroad ends.
var errNoSnapshot = errors.New("ringroad is about to end")

// Collect implements prometheus.Collector. Workers that do not serve are shown with
// what they left.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	s, ok := m.source()
	if !ok && s.Time.IsZero() {
		to <- prometheus.NewInvalidMetric(m.workerUp, errNoSnapshot)
		return
	}
	for k := range s.Interfaces {
		m.collectInterface(to, &s.Interfaces[k])
	}
	for k := range s.Workers {
		w := &s.Workers[k]
		id := strconv.Itoa(w.Worker)
		up := 0.0
		if w.State == "serving" {
			up = 1
		}
		to <- prometheus.MustNewConstMetric(m.workerUp, prometheus.GaugeValue, up, id)
		to <- prometheus.MustNewConstMetric(m.restarts, prometheus.CounterValue, float64(w.Restarts), id)
		m.stack.collect(to, w.Stack, w.Histograms, id)
		m.proxy.collect(to, w.Proxy, w.Histograms, id)
		m.handover.collect(to, w.Handover, w.Histograms, id)
		m.process.collect(to, w.Process, w.Histograms, id)
		for _, v := range w.Servers {
			m.servers.collect(to, v.Values, nil, v.Upstream, v.Server, id)
		}
	}
}

func (m *metrics) collectInterface(to chan<- prometheus.Metric, i *worker.InterfaceStats) {
	to <- prometheus.MustNewConstMetric(m.info, prometheus.GaugeValue, 1, i.Name, i.Driver, i.Mode)
	for v := range bpf.NumVerdicts {
		name := bpf.Verdict(v).String()
		to <- prometheus.MustNewConstMetric(m.verdicts, prometheus.CounterValue, float64(i.Verdicts[name]), i.Name, name)
	}
	for k := range i.Queues {
		q := &i.Queues[k]
		id, owner := strconv.Itoa(q.Queue), strconv.Itoa(q.Worker)
		m.queues.collect(to, q.Ours, nil, i.Name, id, owner)
		m.kernel.collect(to, q.Kernel, nil, i.Name, id, owner)
		m.levels.collect(to, q.Levels, nil, i.Name, id, owner)
		if q.Link != nil {
			m.links.collect(to, q.Link, nil, i.Name, owner)
		}
	}
}

// collect sends what stands in a map of a snapshot. What it does not have is left out.
func (g *group) collect(to chan<- prometheus.Metric, values map[string]uint64, h worker.Histograms, labels ...string) {
	for i := range g.series {
		s := &g.series[i]
		all := append(labels[:len(labels):len(labels)], s.label...)
		if s.field.Kind == "histogram" {
			if v := h[s.field.Name]; v != nil {
				to <- constHistogram(s, v, all)
			}
			continue
		}
		n, ok := values[s.field.Name]
		if !ok {
			continue
		}
		kind := prometheus.CounterValue
		if s.field.Kind == "gauge" {
			kind = prometheus.GaugeValue
		}
		to <- prometheus.MustNewConstMetric(s.desc, kind, float64(n), all...)
	}
}

// numberBuckets is how many buckets of a histogram of numbers are shown: up to 8192.
// What is larger counts in the one without bound.
const numberBuckets = 14

func constHistogram(s *series, h *dataplane.Histogram, labels []string) prometheus.Metric {
	n, scale := numberBuckets, 1.0
	if s.field.Unit == dataplane.UnitTime {
		n, scale = dataplane.HistogramBuckets-1, 1e-9
	}
	buckets := make(map[float64]uint64, n)
	count := uint64(0)
	for i := range n {
		count += h.Counts[i]
		buckets[float64(dataplane.Bound(s.field.Unit, i))*scale] = count
	}
	return prometheus.MustNewConstHistogram(s.desc, h.Total(), float64(h.Sum)*scale, buckets, labels...)
}
