package openloop

import (
	"math"
	"slices"
	"time"
)

// samples are durations of which percentiles are wanted.
type samples struct {
	v      []time.Duration
	sorted bool
}

func (s *samples) add(d time.Duration) {
	s.v = append(s.v, d)
	s.sorted = false
}

// percentile returns the least sample that p percent are not above, in microseconds; 0 without samples.
func (s *samples) percentile(p float64) float64 {
	if len(s.v) == 0 {
		return 0
	}
	if !s.sorted {
		slices.Sort(s.v)
		s.sorted = true
	}
	i := int(math.Ceil(p*float64(len(s.v))/100-1e-9)) - 1 // 99.9 has no exact float
	return float64(s.v[max(i, 0)].Nanoseconds()) / 1e3
}
