package proxy

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack"
	"ringroad/stack/stacktest"
)

func TestPulseSaysWhatTheLoopDoes(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	p := r.worker.pulse
	r.until("the loop sleeps", func() bool { return p.Activity() == Sleeping })
	before := p.Turns.Load()
	c := r.dial()
	c.send(get("/"))
	c.expect("GET", 200, "")
	if p.Turns.Load() == before {
		t.Error("no turn for a request")
	}
	thaw := r.freeze()
	if got := p.Activity(); got != Serving {
		t.Errorf("a loop that is held up is %v", got)
	}
	thaw()
	r.stop()
	if got := p.Activity(); got != Ended {
		t.Errorf("a loop that has ended is %v", got)
	}
	for a := Starting; a <= Ended; a++ {
		if a.String() == "unknown" {
			t.Errorf("activity %d has no name", a)
		}
	}
}

func TestTicker(t *testing.T) {
	const ms = time.Millisecond
	calls := 0
	o := Options{Tick: func() { calls++ }}
	var lag stack.Histogram
	k := newTicker(&o, &lag, func() {})
	for _, step := range []struct {
		now    time.Duration
		active bool
		calls  int
		due    time.Duration
	}{
		{10 * ms, false, 0, time.Second},
		{20 * ms, true, 0, 100 * ms},
		{99 * ms, false, 0, 100 * ms}, // the activity is still unreported
		{101 * ms, false, 1, 1101 * ms},
		{900 * ms, true, 2, 1900 * ms}, // at once after a rest
		{901 * ms, true, 2, 1000 * ms},
		{1000 * ms, true, 3, 2000 * ms},
		{1001 * ms, true, 3, 1100 * ms},
		{1100 * ms, false, 4, 2100 * ms},
		{2099 * ms, false, 4, 2100 * ms},
		{2100 * ms, false, 5, 3100 * ms},
	} {
		k.turn(step.now, step.active)
		if at, ok := k.due(); calls != step.calls || at != step.due || !ok {
			t.Errorf("at %v: %d calls, next at %v, want %d and %v", step.now, calls, at, step.calls, step.due)
		}
	}
	k.last()
	if calls != 6 {
		t.Error("no call at the end")
	}
	// The calls at 900 ms were late by nothing that can be known.
	if lag.Total() != 4 || lag.Sum != uint64(ms) {
		t.Errorf("lag: %d calls, %v", lag.Total(), time.Duration(lag.Sum))
	}
	none := newTicker(&Options{}, nil, nil)
	none.turn(time.Hour, true)
	none.last()
	if _, ok := none.due(); ok {
		t.Error("no function is due")
	}
}

// TestTickComesWhileTheLoopSleeps and once more at the end.
func TestTickComesWhileTheLoopSleeps(t *testing.T) {
	n := stacktest.New(t, nil)
	var ticks atomic.Int64
	w, err := New(Options{
		Config: newConfig(func(c *config.Config) { c.Listeners = c.Listeners[:1] }), Stack: n.Stack,
		Tick: func() { ticks.Add(1) }, IdleTick: 5 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); w.Run() }()
	for end := time.Now().Add(patience); ticks.Load() < 3 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // between two looks
	}
	w.Stop()
	<-done
	if ticks.Load() < 4 {
		t.Errorf("%d ticks", ticks.Load())
	}
}
