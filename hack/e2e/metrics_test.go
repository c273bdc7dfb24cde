package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ringroad/hack/grafana"
	"ringroad/hack/lab"
)

// askAdmin reads what the admin endpoint has under a path.
func askAdmin(t *testing.T, l *lab.Lab, admin, path string) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.Edge.Dial(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	resp, body := get(t, &http.Client{Transport: transport, Timeout: 20 * time.Second}, "http://"+admin+path)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", path, resp.Status, body)
	}
	return body
}

// scrape reads /metrics in the edge.
func scrape(t *testing.T, l *lab.Lab, admin string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(strings.NewReader(askAdmin(t, l, admin, "/metrics")))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// counters are the values of all counters, and of histograms the number of values, by
// name and labels.
func counters(families map[string]*dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			key := fmt.Sprint(name, m.GetLabel())
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				all[key] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				all[key] = float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return all
}

// sum adds up the series of a family that have a label.
func total(f *dto.MetricFamily, label, value string) (n float64) {
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label && l.GetValue() == value {
				n += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return n
}

// TestMetrics scrapes two workers under load, and after one of them has died.
func TestMetrics(t *testing.T) {
	const admin, requests = "127.0.0.1:9901", 20
	w, r := startPair(t, "admin: "+admin, "pprof: on")
	ask := func(worker int) {
		c, err := w.dialWorker(worker, nginx4, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range requests {
			if err := exchange(c, 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	answered := func(families map[string]*dto.MetricFamily, worker string) float64 {
		return total(families["ringroad_request_time_seconds"], "worker", worker)
	}
	var families map[string]*dto.MetricFamily
	await := func(first, second float64) {
		t.Helper()
		wait(t, 10*time.Second, "the requests are counted", func() (bool, string) {
			families = scrape(t, w.Lab, admin)
			a, b := answered(families, "0"), answered(families, "1")
			return a == first && b == second, fmt.Sprintf("%v and %v", a, b)
		})
	}
	ask(0)
	ask(1)
	await(requests, requests)
	if n := total(families["ringroad_responses_total"], "class", "2xx"); n != 2*requests {
		t.Errorf("%v responses of class 2xx, want %d", n, 2*requests)
	}
	if n := total(families["ringroad_upstream_server_requests_total"], "server", "10.2.0.2:8080"); n != 2*requests {
		t.Errorf("%v requests sent to nginx, want %d", n, 2*requests)
	}
	if n := total(families["ringroad_upstream_server_up"], "upstream", "go6"); n != 2 {
		t.Errorf("a server is up for %v workers, want 2", n)
	}
	t.Run("dashboard", func(t *testing.T) { dashboardIsServed(t, families) })

	mustFit(t, "stats.json", askAdmin(t, w.Lab, admin, "/status"))

	// A worker is confined by now: it can open nothing.
	for _, name := range []string{"profile?seconds=1", "heap"} {
		const gzip = "\x1f\x8b"
		if p := askAdmin(t, w.Lab, admin, "/debug/pprof/worker/1/"+name); !strings.HasPrefix(p, gzip) {
			t.Errorf("%s of a worker: %q", name, p)
		}
	}

	before := counters(families)
	pid := workerPID(t, r, 1)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	notLess := func() {
		t.Helper()
		now := counters(families)
		for key, n := range before {
			// The series of a worker's queues come back with it.
			if v, ok := now[key]; ok && v < n {
				t.Errorf("%s fell from %v to %v", key, n, v)
			}
		}
	}
	wait(t, 20*time.Second, "the worker is started again", func() (bool, string) {
		families = scrape(t, w.Lab, admin)
		notLess()
		return total(families["ringroad_worker_restarts_total"], "worker", "1") == 1 && total(families["ringroad_worker_up"], "worker", "1") == 1, "not yet"
	})
	ask(1)
	await(requests, 2*requests)
	notLess()
	if now := counters(families); len(now) < len(before) {
		t.Errorf("%d series, %d before", len(now), len(before))
	}
}

// dashboardIsServed checks that every metric that the dashboard asks for exists.
func dashboardIsServed(t *testing.T, families map[string]*dto.MetricFamily) {
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(grafana.Dashboard, &d); err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`ringroad_[a-z0-9_]+`)
	asked := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			names := metric.FindAllString(target.Expr, -1)
			if asked += len(names); len(names) == 0 {
				t.Errorf("panel %q asks for nothing: %s", p.Title, target.Expr)
			}
			for _, n := range names {
				if families[n] == nil && families[strings.TrimSuffix(n, "_bucket")] == nil {
					t.Errorf("panel %q: there is no %s", p.Title, n)
				}
			}
		}
	}
	if asked < 50 {
		t.Errorf("the dashboard asks for %d metrics", asked)
	}
}
