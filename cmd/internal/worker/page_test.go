package worker

import (
	"sync/atomic"
	"testing"
	"time"
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
	s.Add(Stats{Worker: 0, PID: 1}, master, []Queue{{Link: 0, Queue: 0}, {Link: 0, Queue: 2}, {Link: 1, Queue: 0}})
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

func TestSumsOutliveAWorker(t *testing.T) {
	worker, master := views(t)
	v := newValues(pageLinks)
	v.proxy.Requests, v.proxy.ClientsActive = 5, 3
	worker.publish(v, time.Now())
	var ended Ended
	ended.Note(master)
	s := NewSnapshot(time.Now(), make([]InterfaceStats, 2))
	s.Add(Stats{}, master, nil) // no process: what it left is shown, and counts once
	ended.AddTo(s)
	if s.Proxy["requests"] != 5 || s.Proxy["clients_active"] != 0 || s.Workers[0].Proxy["clients_active"] != 3 {
		t.Errorf("sums %d and %d, worker %v", s.Proxy["requests"], s.Proxy["clients_active"], s.Workers[0].Proxy["clients_active"])
	}
}
