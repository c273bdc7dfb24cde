package dataplane

import (
	"math/bits"
	"time"
)

const (
	// HistogramBuckets is the number of buckets of a histogram, the one without a bound included.
	HistogramBuckets = 26
	// timeShift makes the first bucket of a histogram of times about a microsecond wide, and the last bound 17 s.
	timeShift = 10
)

// Histogram counts values by their size. It consists of uint64 words only, as the other fields of statistics, and its
// owner writes it without atomics. A field of this type has the kind "histogram"; its unit tells which of
// [Histogram.Observe] and [Histogram.ObserveTime] fills it.
type Histogram struct {
	Counts [HistogramBuckets]uint64 `json:"counts"` // values up to a bucket's bound and above that of the one before
	Sum    uint64                   `json:"sum"`    // of all values
}

// Observe counts a value in a histogram whose bounds are the powers of two from 1 on.
func (h *Histogram) Observe(n uint64) { h.count(n, 0) }

// ObserveTime counts a time in a histogram of nanoseconds, whose bounds are the powers of two from 1024 ns on. One
// below zero counts as zero.
func (h *Histogram) ObserveTime(d time.Duration) { h.count(uint64(max(d, 0)), timeShift) }

func (h *Histogram) count(n uint64, shift uint) {
	i := 0
	if n > 0 {
		i = bits.Len64((n - 1) >> shift)
	}
	h.Counts[min(i, HistogramBuckets-1)]++
	h.Sum += n
}

// Bound is the largest value that bucket i of a histogram with this unit counts, in the unit. The last bucket has none.
//
// Preconditions: i is less than HistogramBuckets-1.
func Bound(unit string, i int) uint64 {
	if unit == UnitTime {
		i += timeShift
	}
	return 1 << i
}

// UnitTime is the unit of histograms filled by [Histogram.ObserveTime].
const UnitTime = "nanoseconds"

// Merge adds what another histogram of the same unit has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
	h.Sum += other.Sum
}

// Total is the number of values.
func (h *Histogram) Total() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}
