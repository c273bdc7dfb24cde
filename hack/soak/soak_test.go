package main

import (
	"errors"
	"math"
	"testing"
	"time"
)

// TestLedgerExcusesWhatADisturbanceExplains puts failures beside disturbances.
func TestLedgerExcusesWhatADisturbanceExplains(t *testing.T) {
	start := time.Now().Add(-time.Minute)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	kill := disturbance{name: workerKilled, from: at(10), to: at(11), worker: 1}
	down := disturbance{name: backendsDown, from: at(10), to: at(12), worker: -1, door: doorFlaky}
	for _, c := range []struct {
		name string
		d    disturbance
		conn conn
		want bool
	}{
		{"a connection of the worker from before", kill, conn{doorGo, at(3), 1, ""}, true},
		{"a connection of another worker", kill, conn{doorGo, at(3), 0, ""}, false},
		{"nobody knows whose", kill, conn{doorGo, at(3), -1, ""}, true},
		{"a connection made while none served", kill, conn{doorGo, at(10), 1, ""}, true},
		{"a connection made when it served again", kill, conn{doorGo, at(12), 1, ""}, false},
		{"another door than that of the backend", down, conn{doorGo, at(11), 1, ""}, false},
		{"the door of the backend", down, conn{doorFlaky, at(11), 1, ""}, true},
		{"the door of the backend, long after", down, conn{doorFlaky, at(15), 1, ""}, false},
		{"what cuts nothing", disturbance{name: linkDown, from: at(10), worker: -1}, conn{doorGo, at(3), 1, ""}, false},
		{"a kill that is not over", disturbance{name: workerKilled, from: at(10), worker: 1}, conn{doorGo, at(50), 1, ""}, true},
	} {
		l := newLedger()
		l.disturbances = []*disturbance{&c.d}
		l.record("kind", c.conn, 1, time.Second, errors.New("failed"))
		if got := l.judge() == nil; got != c.want {
			t.Errorf("%s: excused %v, want %v", c.name, got, c.want)
		}
	}
}

func TestGoroutinesThatAnswerUsAreNotCounted(t *testing.T) {
	const stacks = "goroutine 1 [select]:\nmain.main()\n\tmain.go:1\n\ngoroutine 7 [IO wait]:\nnet.(*conn).Read()\ncreated by net/http.(*Server).Serve in goroutine 1\n\n" +
		"goroutine 8 [IO wait]:\nos.read()\ncreated by main.main in goroutine 1\n"
	if n := countGoroutines(stacks); n != 2 {
		t.Errorf("%d, want 2", n)
	}
}

func TestFit(t *testing.T) {
	begin, end := fit([]float64{10, 14, 12, 16, 14})
	if math.Abs(begin-11.2) > 1e-9 || math.Abs(end-15.2) > 1e-9 {
		t.Errorf("from %v to %v, want 11.2 to 15.2", begin, end)
	}
}

func TestParseLegs(t *testing.T) {
	plans, err := parseLegs("1,2rss,4rssloss")
	if err != nil || len(plans) != 3 || plans[0] != (plan{"1", 1, false, false}) || plans[2] != (plan{"4rssloss", 4, true, true}) {
		t.Errorf("%+v, %v", plans, err)
	}
	for _, bad := range []string{"", "rss", "0", "17", "2fast", "1,,2"} {
		if plans, err := parseLegs(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, plans)
		}
	}
}
