package main

import (
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		rates []float64
		want  float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 4}, 4}, {[]float64{4, 1, 9, 2}, 3}} {
		x := &cell{}
		for _, v := range c.rates {
			x.Samples = append(x.Samples, sample{Rate: v})
		}
		if got := x.median(func(s *sample) float64 { return s.Rate }); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.rates, got, c.want)
		}
	}
}

func cellOf(name string, s ...sample) *cell { return &cell{Candidate: name, Samples: s} }

func TestVerdicts(t *testing.T) {
	r := &caseResult{Cells: []*cell{
		cellOf(direct, sample{System: 10}),
		cellOf(nginx, sample{Rate: 100, P50: 10, User: 5, System: 20, Interrupt: 5}),
		cellOf(haproxy, sample{Rate: 120, P50: 12, User: 5, System: 25, Interrupt: 5}),
		cellOf(ringroad, sample{Rate: 150, P50: 9.5, User: 11, System: 10, Interrupt: 1, ProxyUser: 6}),
	}}
	r.judge([]target{
		{metric: rate, limit: 1.25}, {metric: rate, limit: 1.3}, {metric: p50, limit: 0.9}, {metric: cost, limit: 0.6},
		{metric: userCPU, limit: 5, absolute: true}, {metric: p50, limit: 1, candidate: ringroadSpin},
	})
	for i, want := range []struct {
		against, got, outcome string
	}{
		{haproxy, "1.25x", "reached"}, {haproxy, "1.25x", "missed"}, {nginx, "0.95x", "missed"},
		{nginx, "0.60x", "reached"}, // 12 to 20 us: each minus the 10 of direct
		{"", "6.0 us", "missed"}, {"", "-", "open: ringroad-spin was not measured"},
	} {
		if v := r.Verdicts[i]; v.Against != want.against || v.got() != want.got || v.outcome() != want.outcome {
			t.Errorf("%s: against %q %s, %s; want %+v", v.Metric, v.Against, v.got(), v.outcome(), want)
		}
	}

	// One error in one round: the cell counts for nothing.
	r.cell(haproxy).Samples = append(r.cell(haproxy).Samples, sample{Rate: 1000, Errors: 1, Said: "status 1"})
	r.judge([]target{{metric: rate, limit: 1.25}})
	if v := r.Verdicts[0]; v.Against != nginx || v.got() != "1.50x" {
		t.Errorf("with an invalid peer: %+v", v)
	}
	r.cell(direct).Failed = "x"
	r.cell(nginx).Failed = "x"
	r.judge([]target{{metric: rate, limit: 1.25}, {metric: cost, limit: 1}})
	for _, v := range r.Verdicts {
		if v.Open == "" || v.Reached {
			t.Errorf("judged without anything valid: %+v", v)
		}
	}
	r.cell(ringroad).Samples[0].Errors = 3
	r.judge([]target{{metric: userCPU, limit: 50, absolute: true}})
	if v := r.Verdicts[0]; v.Reached || v.Open != "ringroad: 3 errors: " {
		t.Errorf("an invalid cell reached a target: %+v", v)
	}
}

func TestKeptResults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	now := &report{Started: at}
	if r, _, err := keptBefore(dir, now); r != nil || err != nil {
		t.Fatalf("%v, %v of a folder that does not exist", r, err)
	}
	for name, hours := range map[string]int{"oldest": -3, "old": -2, "newer": 1} {
		r := &report{Started: at.Add(time.Duration(hours) * time.Hour), Cases: []*caseResult{{Name: "c64", Profile: &profile{Shares: []share{{stepGC, 0.5}}}}}}
		if err := r.keep(dir, name); err != nil {
			t.Fatal(err)
		}
	}
	r, name, err := keptBefore(dir, now)
	if err != nil || name != "old" || !r.Started.Equal(at.Add(-2*time.Hour)) || r.caseNamed("c64").Profile.of(stepGC) != 0.5 {
		t.Errorf("%s, %+v, %v", name, r, err)
	}
}

// TestPage: with every kind of case, good and bad; nothing of a program's output may become a part of the page.
func TestPage(t *testing.T) {
	s := sample{Rate: 100, P50: 10, P99: 20, P999: 30, User: 5, System: 20, Interrupt: 5, ProxyUser: 6, PSS: 40 << 20}
	slow := s
	slow.Rate = 50
	all := &caseResult{
		Name: "c64", About: "all", Cells: []*cell{
			cellOf(direct, sample{System: 10, Rate: 200}), cellOf(nginx, slow), {Candidate: haproxy, Failed: "<script>\nmore"}, cellOf(ringroad, s),
		},
		Open:    []openCell{{Candidate: nginx, Rate: 40, P50: 1, P99: 2, P999: 3}, {Candidate: ringroad, Rate: 40, P50: 1, P99: 2, P999: 3}, {Candidate: direct, Rate: 40, Failed: "x"}},
		Profile: &profile{Shares: []share{{stepSystem, 0.6}, {stepGC, 0.4}}, Top: []topSample{{"f", 0.1}}},
	}
	idle := &caseResult{Name: "idle", Cells: []*cell{cellOf(ringroad, sample{IdleBytes: 2048})}}
	bad := &caseResult{Name: "bad", Cells: []*cell{{Candidate: ringroad, Failed: "no"}}}
	r := &report{Cases: []*caseResult{all, idle, bad, {Name: "only a profile", Profile: all.Profile}}, before: &report{Cases: []*caseResult{all}}, beforeName: "old"}
	for _, c := range r.Cases {
		c.judge(many)
	}
	page, err := r.html()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, want := range []string{"&lt;script&gt;", "2.00 KB for a connection", ">2.00x<", "invalid: no", "before (old)", "reached", "99.9 % are answered within"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, never := range []string{"<script", "NaN", "Inf", "http://", "https://", "%!"} {
		if strings.Contains(strings.ReplaceAll(text, `xmlns="http://www.w3.org/2000/svg"`, ""), never) {
			t.Errorf("the page has %q", never)
		}
	}
	if opened, closed := strings.Count(text, "<svg"), strings.Count(text, "</svg>"); opened != closed || opened < 5 {
		t.Errorf("%d pictures begin, %d end", opened, closed)
	}
	var table strings.Builder
	r.print(&table)
	for _, want := range []string{"haproxy       INVALID: <script>", "(was 2.00x)", "2.00 KB a connection", "system call 60 % (60)", "open: ringroad: no"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
}

// TestReadingsBecomeFiguresPerRequest: differences, in microseconds for each request.
func TestReadingsBecomeFiguresPerRequest(t *testing.T) {
	before := reading{user: time.Second, system: time.Second, retransmits: 5, drops: drops{"rx": 1, "tx": 2}}
	before.machine.User = time.Minute
	after := before
	after.machine.User += 20 * time.Millisecond
	after.machine.System += 30 * time.Millisecond
	after.machine.Interrupt += 10 * time.Millisecond
	after.at = before.at.Add(time.Second)
	after.lab += 15 * time.Millisecond
	after.user += 10 * time.Millisecond
	after.system += 20 * time.Millisecond
	before.steps, after.steps = map[string]uint64{"stack.turns": 1}, map[string]uint64{"stack.turns": 2001}
	after.retransmits, after.drops, after.proxyRetransmits = 7, drops{"rx": 4, "tx": 2}, 1
	got := after.since(before, load{requests: 1000, rate: 500, p50: 1, p99: 2, p999: 3})
	want := sample{
		Requests: 1000, Rate: 500, P50: 1, P99: 2, P999: 3, User: 20, System: 30, Interrupt: 10, ProxyUser: 10, ProxySystem: 20,
		Retransmits: 2, ProxyRetransmits: 1, Drops: drops{"rx": 3}, Steps: map[string]float64{"stack.turns": 2}, Others: 0.005 / float64(runtime.NumCPU()),
	}
	if !reflect.DeepEqual(got, want) || got.Busy() != 60 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	d := drops{"link_rx": 16, "rx_dropped": 13, "fill_ring_empty": 13, "rx_ring_full": 1, "link_tx": 2}
	if n := d.total(); n != 18 {
		t.Errorf("%v are %d frames, want 18", d, n)
	}
	d = drops{"link_rx": 200, "link_full": 200, "link_tx": 3} // without AF_XDP: the kernel's backlog
	if n := d.total(); n != 203 {
		t.Errorf("%v are %d frames, want 203", d, n)
	}
	d = drops{"link_rx": 14, "rx_dropped": 13, "rx_ring_full": 1, "link_full": 100}
	if n := d.total(); n != 114 {
		t.Errorf("%v are %d frames, want 114", d, n)
	}
	if got := after.since(before, load{}); got.Errors == 0 {
		t.Error("no request at all, and the sample is valid")
	}
}
