package faultlink

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestOptionsAreReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Options{
		"":                           {},
		"loss=1%,delay=20ms,seed=7":  {Loss: 0.01, Delay: 20 * time.Millisecond, Seed: 7},
		"loss=0.05,burst=4":          {Loss: 0.05, Burst: 4},
		"duplicate=1%,reorder=3%":    {Duplicate: 0.01, Reorder: 0.03},
		"gap=8,corrupt=0.1%":         {Gap: 8, Corrupt: 0.001},
		"delay=20ms,jitter=5ms":      {Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond},
		"rate=1.5mbit,mtu=1400":      {Rate: 1500000, MTU: 1400},
		"down=300ms+3s,only=to-edge": {DownAt: 300 * time.Millisecond, DownFor: 3 * time.Second, Only: ToEdge},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != want {
			t.Errorf("%q, written %q: %+v, %v", text, got, again, err)
		}
	}
	for text, complaint := range map[string]string{
		"loss": "syntax", "loss=101%": "share", "lose=1%": "not known", "jitter=1ms": "delay", "down=3s": "how long", "only=up": "from-edge",
		"loss=90%,burst=2": "in a row", "delay=-1s": "negative", "corrupt=NaN": "share",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%q: error %v, want one about %q", text, err, complaint)
		}
	}
}

// TestFatesFollowFromTheSeed compares what becomes of frames with one seed twice, with another, and with one more fault.
func TestFatesFollowFromTheSeed(t *testing.T) {
	const frames = 1000
	fatesOf := func(o Options, direction int) (list [frames]fate) {
		f := newFates(&o, direction, streamTCP)
		for i := range list {
			list[i] = f.next()
		}
		return list
	}
	o := Options{Seed: 1, Loss: 0.05, Duplicate: 0.01}
	one := fatesOf(o, 0)
	if one != fatesOf(o, 0) {
		t.Error("one seed, two outcomes")
	}
	if one == fatesOf(Options{Seed: 2, Loss: 0.05, Duplicate: 0.01}, 0) || one == fatesOf(o, 1) {
		t.Error("another seed or direction, the same outcome")
	}
	o.Reorder, o.Corrupt = 0.03, 0.01
	for i, f := range fatesOf(o, 0) {
		if f.lost != one[i].lost || f.duplicated != one[i].duplicated {
			t.Fatalf("frame %d: a fault more changed what else becomes of it", i)
		}
	}
}

func TestBurstsHaveTheirLengthAndShare(t *testing.T) {
	const frames, loss, burst = 200_000, 0.05, 4.0
	f := newFates(&Options{Seed: 3, Loss: loss, Burst: burst}, 0, streamTCP)
	lost, bursts, before := 0.0, 0.0, false
	for range frames {
		now := f.next().lost
		if now {
			lost++
		}
		if now && !before {
			bursts++
		}
		before = now
	}
	if math.Abs(lost/frames-loss) > loss/10 || math.Abs(lost/bursts-burst) > burst/10 {
		t.Errorf("%.4f lost, %.2f in a row; want %v, %v", lost/frames, lost/bursts, loss, burst)
	}
}
