package dataplane

import (
	"math"
	"testing"
	"time"
)

func TestHistogramCountsUpToItsBounds(t *testing.T) {
	for _, c := range []struct {
		name    string
		unit    string
		observe func(*Histogram, uint64)
		values  []uint64
		bucket  int
	}{
		{"numbers", "frames", (*Histogram).Observe, []uint64{0, 1}, 0},
		{"two", "frames", (*Histogram).Observe, []uint64{2}, 1},
		{"between powers", "frames", (*Histogram).Observe, []uint64{5, 7, 8}, 3},
		{"without bound", "frames", (*Histogram).Observe, []uint64{1<<24 + 1, math.MaxUint64 >> 1}, HistogramBuckets - 1},
		{"times", UnitTime, observeTime, []uint64{0, 1, 1024}, 0},
		{"one more", UnitTime, observeTime, []uint64{1025, 2048}, 1},
		{"hour", UnitTime, observeTime, []uint64{uint64(time.Hour)}, HistogramBuckets - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h Histogram
			var sum uint64
			for _, v := range c.values {
				c.observe(&h, v)
				sum += v
				if c.bucket < HistogramBuckets-1 && v > Bound(c.unit, c.bucket) {
					t.Errorf("%d is above the bound %d", v, Bound(c.unit, c.bucket))
				}
				if c.bucket > 0 && v <= Bound(c.unit, c.bucket-1) {
					t.Errorf("%d belongs into a bucket before", v)
				}
			}
			if n := uint64(len(c.values)); h.Counts[c.bucket] != n || h.Total() != n || h.Sum != sum {
				t.Errorf("%+v", h)
			}
		})
	}
	var h Histogram
	h.ObserveTime(-time.Second)
	if h.Counts[0] != 1 || h.Sum != 0 {
		t.Errorf("a time below zero: %+v", h)
	}
}

func observeTime(h *Histogram, n uint64) { h.ObserveTime(time.Duration(n)) }

func BenchmarkHistogram(b *testing.B) {
	var h Histogram
	for i := range b.N {
		h.ObserveTime(time.Duration(i))
	}
}
