package tui

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/worker"
)

var update = flag.Bool("update", false, "write the screens to testdata instead of comparing them")

// start is the time of the first reading.
var start = time.Date(2026, 9, 7, 10, 20, 30, 0, time.UTC)

// reading is one of n workers after some seconds, in which each counter has grown by
// its speed.
func reading(n int, seconds uint64) *Reading {
	at := start.Add(time.Duration(seconds) * time.Second)
	s := worker.NewSnapshot(at, []worker.InterfaceStats{{Name: "eth0", Mode: "native"}, {Name: "eth1", Mode: "native"}})
	r := &Reading{Status: control.Status{
		Version: "v1.2.3", PID: 4711, State: control.StateRunning, Uptime: control.Seconds(time.Hour + time.Duration(seconds)*time.Second),
		Interfaces: []control.Interface{{Name: "eth0", Mode: "native"}, {Name: "eth1", Mode: "native"}},
	}}
	for w := range n {
		u := uint64(w)
		r.Status.Workers = append(r.Status.Workers, control.Worker{Index: w, PID: 4712 + w, CPU: w, State: "serving", Restarts: w % 2})
		s.Workers = append(s.Workers, worker.Stats{
			Worker: w, PID: 4712 + w, Time: at,
			Stack:    map[string]uint64{"retransmits": 3 * seconds, "turns": 9000 * seconds, "syn_dropped": 12 + 3*seconds*u, "ack_dropped": 0, "syn_cookies_sent": 0, "syn_queue": 17, "syn_queue_high_water": 900, "accept_queue": 8192, "accept_queue_high_water": 8192, "listen_queue_capacity": 8192},
			Proxy:    map[string]uint64{"clients_active": 1000, "connections_limit": 65536, "client_send_buffer_bytes": 5000000, "client_send_buffer_capacity_bytes": 260000000, "client_send_buffer_full": 1700, "exchanges_high_water": 99, "connections_max": 2345, "exchanges_active": 64, "buffers_in_use": 65, "backends_active": 100, "backends_idle": 36, "requests": 12345 * seconds * (u + 1), "clients_accepted": 2 * seconds, "errors_backend": seconds / 2, "limited_requests": 40 * seconds, "limited_connections": 6 * seconds, "limited_resets": 4 * seconds},
			Handover: map[string]uint64{"sent": 700 * seconds, "ring_out_bytes": 640, "ring_capacity_bytes": 2097152, "ring_high_water": 5120, "handed_full": 0},
		})
		for i := range s.Interfaces {
			s.Interfaces[i].Queues = append(s.Interfaces[i].Queues, worker.QueueStats{
				Queue: w, Worker: w,
				Ours:   map[string]uint64{"rx_frames": 20000 * seconds, "rx_bytes": 30e6 * seconds, "tx_frames": 21000 * seconds, "tx_bytes": 31e6 * seconds, "rx_ring_high_water": 1050, "backlog_high_water_bytes": 900000, "backlog_full": 2, "tx_frames_high_water": 1024, "tx_ring_high_water": 700, "tx_no_frame": 40},
				Kernel: map[string]uint64{"fill_ring_empty": 5 * seconds},
				Levels: map[string]uint64{"fill_ring": 3500, "rx_ring": 819, "tx_ring": 100, "completion_ring": 1, "tx": 1900 + 40*u, "free": 148 - 40*u, "ring_entries": 4096, "backlog_bytes": 70000, "backlog_capacity_bytes": 4194304},
				Link:   map[string]uint64{"time_wait": 12345, "backlog": 7, "tx_backpressure": 30 + seconds},
			})
		}
	}
	r.Stats = *s
	return r
}

func TestScreens(t *testing.T) {
	for name, c := range map[string]struct {
		workers int
		view    view
	}{
		"2-workers-80x24":         {2, view{width: 80, height: 24, detail: -1, keys: true}},
		"2-workers-120x40":        {2, view{width: 120, height: 40, detail: -1, keys: true}},
		"1-worker-80x24":          {1, view{width: 80, height: 24, detail: -1, keys: true}},
		"16-workers-80x24":        {16, view{width: 80, height: 24, detail: -1, first: 3, keys: true}},
		"4-workers-120x40-paused": {4, view{width: 120, height: 40, detail: -1, paused: true, keys: true}},
		"worker-1-of-2-80x24":     {2, view{width: 80, height: 24, detail: 1, keys: true}},
		"worker-1-of-2-120x40":    {2, view{width: 120, height: 40, detail: 1, keys: true}},
		"2-workers-once":          {2, view{width: 100, detail: -1}},
		"2-workers-no-answer":     {2, view{width: 80, height: 24, detail: -1, keys: true, err: errors.New("stats: ask ringroad on /run/ringroad/control.sock: connection refused")}},
	} {
		t.Run(name, func(t *testing.T) {
			c.view.interval = time.Second
			got := c.view.screen(reading(c.workers, 11), reading(c.workers, 10)) + "\n"
			fits(t, got, c.view.width, c.view.height)
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// fits checks that no line is too long, and that the lines are as many as the
// terminal has. height 0: any number.
func fits(t *testing.T, text string, width, height int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if height > 0 && len(lines) != height {
		t.Errorf("%d lines, want %d", len(lines), height)
	}
	for i, l := range lines {
		if len([]rune(l)) > width {
			t.Errorf("line %d has %d characters, want at most %d: %q", i+1, len([]rune(l)), width, l)
		}
	}
}

// TestAnySizeFits makes screens for terminals of all sizes, before and after the
// first two readings.
func TestAnySizeFits(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 7, 64} {
		for width := 31; width <= 200; width += 21 {
			for height := 2; height <= 60; height += 5 {
				v := view{width: width, height: height, detail: -1, interval: time.Second, keys: true}
				fits(t, v.screen(nil, nil), width, 1)
				fits(t, v.screen(reading(workers, 10), nil), width, height)
				v.detail = min(workers, 1) - 1
				fits(t, v.screen(reading(workers, 11), reading(workers, 10)), width, height)
			}
		}
	}
}

// TestRowsReadWhatWorkersShow fails when a row asks for a name that no worker has.
func TestRowsReadWhatWorkersShow(t *testing.T) {
	page, file, err := worker.NewPage([]worker.Link{{Queues: []int{0}}})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer page.Close()
	s := worker.NewSnapshot(start, []worker.InterfaceStats{{}})
	s.Add(worker.Stats{PID: 1}, page, new(worker.Ended), []worker.Queue{{}}, nil)
	c := countersOf(s, &s.Workers[0])
	for _, m := range []map[string]uint64{c.stack, c.proxy, c.handover, c.ours, c.kernel, c.levels, c.link} {
		for name := range m {
			m[name] = 1
		}
	}
	c.proxy["backends_active"] = 2
	for _, b := range buffers {
		for what, v := range map[string]value{"level": b.level, "capacity": b.capacity, "high": b.high, "full": b.full} {
			if v != nil && v(&c) == 0 {
				t.Errorf("%s: no worker shows its %s", b.name, what)
			}
		}
		if len(b.means) == 0 || len(b.means) > 38 {
			t.Errorf("%s: %d characters say what it means, want 1 to 38", b.name, len(b.means))
		}
	}
	for _, f := range flows {
		if f.count(&c) == 0 {
			t.Errorf("%s: no worker counts it", f.name)
		}
	}
}

// TestAnotherProcessHasNoRates replaces a worker between two readings: its counters
// begin anew.
func TestAnotherProcessHasNoRates(t *testing.T) {
	now, before := reading(2, 1), reading(2, 100)
	now.Stats.Workers[1].PID++
	before.Stats.Time, before.Stats.Workers[0].Time = start, start
	all := columns(now, before)
	if r := all[1].rate(inProxy("requests")); r != 0 || all[1].seconds != 0 {
		t.Errorf("%v requests/s in %v s", r, all[1].seconds)
	}
	if m := all[0].moved(inProxy("requests")); m != 0 {
		t.Errorf("a counter that fell moved by %d", m)
	}
}

func TestShort(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", 1: "1", 0.5: "0.5", 9.9: "9.9", 10.4: "10", 9999: "9999", 9999.5: "10.0k", 12345: "12.3k", 99949: "99.9k", 99950: "100k", 999499: "999k", 999500: "1.0M",
		31e6: "31.0M", 1.5e12: "1.5T", 1 << 63: "9223P",
	} {
		if got := short(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}
