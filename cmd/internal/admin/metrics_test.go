package admin

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ringroad/bpf"
	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/config"
	"ringroad/stack"
)

// full is a snapshot of two workers in which every field has a value of its own.
func full() worker.Snapshot {
	n := uint64(0)
	fill := func(h worker.Histograms, statistics ...any) map[string]uint64 {
		m := map[string]uint64{}
		for _, s := range statistics {
			for _, f := range dataplane.StatFields(s) {
				if n++; f.Kind == "histogram" {
					h[f.Name] = &dataplane.Histogram{}
					h[f.Name].ObserveTime(time.Millisecond)
					h[f.Name].ObserveTime(time.Hour)
					continue
				}
				m[f.Name] = n
			}
		}
		return m
	}
	s := worker.Snapshot{Time: time.Unix(1, 0)}
	i := worker.InterfaceStats{Name: "eth0", Driver: "veth", Mode: "native", Verdicts: map[string]uint64{}}
	for v := range bpf.NumVerdicts {
		i.Verdicts[bpf.Verdict(v).String()] = uint64(v)
	}
	for w := range 2 {
		h := worker.Histograms{}
		s.Workers = append(s.Workers, worker.Stats{
			Worker: w, State: "serving", Restarts: 1, Histograms: h,
			Stack:    fill(h, stack.LoopStats{}, stack.TCPStats{}, stack.QueueStats{}),
			Proxy:    fill(h, proxy.Stats{}),
			Handover: fill(h, dataplane.HandoverStats{}, stack.HandoverStats{}, worker.HandoverLevelStats{}),
			Process:  fill(h, worker.ProcessStats{}),
			Servers:  []worker.ServerStats{{Upstream: "app", Server: "10.2.0.2:80", Values: fill(h, proxy.ServerStats{})}},
		})
		i.Queues = append(i.Queues, worker.QueueStats{
			Queue: w, Worker: w, Ours: fill(h, dataplane.Stats{}), Kernel: fill(h, dataplane.KernelStats{}),
			Levels: fill(h, worker.LevelStats{}), Link: fill(h, stack.LinkStats{}),
		})
	}
	s.Interfaces = []worker.InterfaceStats{i}
	return s
}

// scrape gets /metrics as Prometheus does.
func scrape(t *testing.T, source Source) (text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	s, err := Serve(Options{Addr: config.AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:0")}, Source: source, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := httptest.NewRecorder()
	s.http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	text = w.Body.String()
	p := expfmt.NewTextParser(model.LegacyValidation)
	if families, err = p.TextToMetricFamilies(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return text, families
}

func TestMetricsAreAsPrometheusWantsThem(t *testing.T) {
	text, families := scrape(t, func() (worker.Snapshot, bool) { return full(), true })
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name, f := range families {
		if !strings.HasPrefix(name, namespace+"_") || len(f.GetHelp()) < 10 {
			t.Errorf("%s: help %q", name, f.GetHelp())
		}
	}
}

// TestEveryFieldIsAMetric: no field is lost on the way, and none twice.
func TestEveryFieldIsAMetric(t *testing.T) {
	s := full()
	_, families := scrape(t, func() (worker.Snapshot, bool) { return s, true })
	var values []float64
	histograms := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case m.GetCounter() != nil:
				values = append(values, m.GetCounter().GetValue())
			case m.GetGauge() != nil:
				values = append(values, m.GetGauge().GetValue())
			case m.GetHistogram() != nil:
				histograms++
				if h := m.GetHistogram(); h.GetSampleCount() != 2 {
					t.Errorf("%s: %v", f.GetName(), h)
				}
			}
		}
	}
	want := 0
	check := func(group string, fields map[string]uint64) {
		for name, v := range fields {
			if name != "id" && !slices.Contains(values, float64(v)) {
				t.Errorf("%s.%s is no metric", group, name)
			}
		}
	}
	for _, w := range s.Workers {
		check("stack", w.Stack)
		check("proxy", w.Proxy)
		check("handover", w.Handover)
		check("process", w.Process)
		check("servers", w.Servers[0].Values)
		want += len(w.Histograms)
	}
	for _, q := range s.Interfaces[0].Queues {
		check("ours", q.Ours)
		check("kernel", q.Kernel)
		check("levels", q.Levels)
		check("link", q.Link)
	}
	if histograms != want {
		t.Errorf("%d histograms, want %d", histograms, want)
	}
}

func TestHistogramsOfTimesAreInSeconds(t *testing.T) {
	_, families := scrape(t, func() (worker.Snapshot, bool) { return full(), true })
	f := families["ringroad_request_time_seconds"]
	if f == nil || f.GetType() != dto.MetricType_HISTOGRAM {
		t.Fatalf("%v", f)
	}
	h := f.GetMetric()[0].GetHistogram()
	if h.GetSampleSum() != 3600.001 {
		t.Errorf("sum %v", h.GetSampleSum())
	}
	for _, b := range h.GetBucket() {
		want := uint64(1)
		if b.GetUpperBound() < 0.001 {
			want = 0
		} else if b.GetUpperBound() > 3600 {
			want = 2
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("up to %v s: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
		}
	}
}

// TestScrapeOfAnEndingRingroadFails, and one of a ringroad whose worker is dead does
// not.
func TestScrapeOfAnEndingRingroadFails(t *testing.T) {
	s := full()
	s.Workers[1].State = "waiting"
	_, families := scrape(t, func() (worker.Snapshot, bool) { return s, false })
	up := families["ringroad_worker_up"].GetMetric()
	if len(up) != 2 || up[0].GetGauge().GetValue()+up[1].GetGauge().GetValue() != 1 {
		t.Errorf("workers up: %v", up)
	}
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newMetrics(func() (worker.Snapshot, bool) { return worker.Snapshot{}, false }))
	if _, err := r.Gather(); err == nil {
		t.Error("a scrape without a snapshot succeeds")
	}
}

// TestMetricsAreConsistent has a pedantic registry look at what the endpoint's takes on
// trust.
func TestMetricsAreConsistent(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newMetrics(func() (worker.Snapshot, bool) { return full(), true }))
	if _, err := r.Gather(); err != nil {
		t.Error(err)
	}
}

// BenchmarkScrape answers a scrape of two workers, in the master, but for reading their
// pages.
func BenchmarkScrape(b *testing.B) {
	full := full()
	s, err := Serve(Options{
		Addr:   config.AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:0")},
		Source: func() (worker.Snapshot, bool) { return full, true }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		b.ReportMetric(float64(w.Body.Len()), "B/body")
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
