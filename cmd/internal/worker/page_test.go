package worker

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/proxy/upstream"
)

var pageLinks = []Link{{Queues: []int{0, 2}}, {Queues: []int{0}}}

// views are the worker's and the master's view of one page.
func views(t *testing.T) (worker, master *Page) {
	t.Helper()
	master, f, err := NewPage(pageLinks)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if worker, err = OpenPage(f, pageLinks); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPage(f, pageLinks[:1]); err == nil {
		t.Error("a page of other links is opened")
	}
	t.Cleanup(func() {
		for _, p := range []*Page{worker, master} {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return worker, master
}

func TestPageShowsEveryValueUnderItsName(t *testing.T) {
	worker, master := views(t)
	v := newValues(pageLinks)
	v.loop.Turns, v.tcp.Endpoints = 1, 2
	v.proxy.Requests, v.handover.Sent, v.process.Mallocs = 3, 4, 5
	v.links[0].link.RXFrames = 6
	v.links[0].queues[1].levels.RingEntries = 7
	v.links[1].queues[0].ours.RXFrames = 8
	at := time.Unix(1_700_000_000, 5)
	worker.publish(v, at)
	worker.pulse().Turns.Add(9)

	s := NewSnapshot(at, []InterfaceStats{{Name: "a"}, {Name: "b"}})
	s.Add(Stats{Worker: 0, PID: 1}, master, &Ended{}, []Queue{{Link: 0, Queue: 0}, {Link: 0, Queue: 2}, {Link: 1, Queue: 0}}, nil)
	if w := s.Workers[0]; w.Stack["turns"] != 1 || w.Stack["endpoints"] != 2 || w.Proxy["requests"] != 3 || w.Process["mallocs"] != 5 || !w.Time.Equal(at) {
		t.Errorf("worker: %+v", w)
	}
	if s.Proxy["requests"] != 3 || s.Handover["sent"] != 4 {
		t.Errorf("sums: %v, %v", s.Proxy["requests"], s.Handover)
	}
	a, b := s.Interfaces[0].Queues, s.Interfaces[1].Queues
	if len(a) != 2 || len(b) != 1 || a[0].Link["rx_frames"] != 6 || a[1].Link != nil || a[1].Queue != 2 || a[1].Levels["ring_entries"] != 7 || b[0].Ours["rx_frames"] != 8 {
		t.Errorf("queues: %+v and %+v", a, b)
	}
	if turns, _ := master.Beat(); turns != 9 {
		t.Errorf("%d turns", turns)
	}
	master.Clear()
	if _, at := master.read(); !at.IsZero() {
		t.Errorf("a cleared page was written at %v", at)
	}
}

func TestReadersSeeOneReading(t *testing.T) {
	worker, master := views(t)
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		v := newValues(pageLinks)
		for !stop.Load() {
			v.loop.Turns++
			v.links[1].queues[0].levels.RingEntries = v.loop.Turns
			worker.publish(v, time.Now())
			time.Sleep(time.Millisecond) // a loop publishes ten times a second
		}
	}()
	for range 500 {
		v, _ := master.read()
		if first, last := v.loop.Turns, v.links[1].queues[0].levels.RingEntries; first != last {
			t.Errorf("the first value is of reading %d, the last of reading %d", first, last)
			break
		}
	}
	stop.Store(true)
	<-done
}

// TestCountersOutliveAWorker: what a process counted stays in the sums, in those of its
// worker, of its queues and of servers, while it is dead and when there is another.
func TestCountersOutliveAWorker(t *testing.T) {
	worker, master := views(t)
	servers := []Server{{"app", netip.MustParseAddrPort("10.2.0.2:80")}, {"app", netip.MustParseAddrPort("10.2.0.3:80")}}
	fill := func(swapped bool) {
		v := newValues(pageLinks)
		v.proxy.Requests, v.proxy.ClientsActive = 5, 3
		v.proxy.RequestTime.ObserveTime(time.Second)
		v.links[0].queues[1].kernel.RXRingFull = 7
		for i, s := range servers {
			if swapped {
				i = 1 - i
			}
			v.servers[i].ID, v.servers[i].Up = upstream.ID(s.Upstream, s.Addr), 1
			v.servers[i].Requests = uint64(s.Addr.Addr().As4()[3])
		}
		worker.publish(v, time.Now())
	}
	var ended Ended
	check := func(pid int, want, active uint64) {
		t.Helper()
		s := NewSnapshot(time.Now(), make([]InterfaceStats, 2))
		s.Add(Stats{PID: pid}, master, &ended, []Queue{{}, {Queue: 2}, {Link: 1}}, servers)
		w := s.Workers[0]
		if s.Proxy["requests"] != 5*want || w.Proxy["requests"] != 5*want || s.Histograms["request_time"].Total() != want || w.Histograms["request_time"].Total() != want ||
			s.Interfaces[0].Queues[1].Kernel["rx_ring_full"] != 7*want {
			t.Errorf("want the counts of %d processes: %+v", want, s)
		}
		if s.Proxy["clients_active"] != active || w.Proxy["clients_active"] != 3 {
			t.Errorf("gauges: %d of all, want %d; %d of the worker", s.Proxy["clients_active"], active, w.Proxy["clients_active"])
		}
		if len(w.Servers) != 2 || w.Servers[0].Values["requests"] != 2*want || w.Servers[1].Values["requests"] != 3*want || w.Servers[1].Values["up"] != 1 {
			t.Errorf("servers: %+v", w.Servers)
		}
	}
	fill(false)
	check(1, 1, 3)
	ended.Note(master)
	check(0, 1, 0)
	fill(true) // the servers of a reloaded configuration come in another order
	check(2, 2, 3)
	ended.Note(master)
	check(0, 2, 0)

	for _, queues := range []int{1, 3} { // the next process has fewer, or more
		links := []Link{{Queues: []int{0, 2, 4}[:queues]}, pageLinks[1]}
		page, file, err := NewPage(links)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		defer page.Close()
		got := []Queue{{Link: 1}}
		for _, q := range links[0].Queues {
			got = append(got, Queue{Queue: q})
		}
		before := ended
		for range 2 {
			s := NewSnapshot(time.Now(), make([]InterfaceStats, 2))
			s.Add(Stats{PID: 3}, page, &before, got, servers)
			shown := s.Interfaces[0].Queues
			if s.Proxy["requests"] != 10 || len(shown) != queues || queues > 1 && (shown[1].Kernel["rx_ring_full"] != 14 || shown[2].Kernel["rx_ring_full"] != 0) {
				t.Errorf("with %d queues: %+v", queues, s)
			}
			before.Note(page)
		}
	}
}

// BenchmarkPublish shows all statistics once, which a busy loop does ten times a second.
func BenchmarkPublish(b *testing.B) {
	page, f, err := NewPage(pageLinks)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	defer page.Close()
	v := newValues(pageLinks)
	b.ReportAllocs()
	for b.Loop() {
		page.publish(v, time.Unix(1, 0))
	}
}
