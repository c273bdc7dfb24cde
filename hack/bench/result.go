package main

import (
	"fmt"
	"slices"
	"time"
)

// report is all that a run of the benchmark has found. It is what is kept.
type report struct {
	Started  time.Time         `json:"started"`
	Seconds  float64           `json:"seconds"`
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Rounds   int               `json:"rounds"`
	Duration float64           `json:"seconds_each"`
	Settings string            `json:"settings,omitempty"` // of ringroad, beside those of the benchmark
	Cases    []*caseResult     `json:"cases"`

	before     *report // newest kept one
	beforeName string
}

// caseResult is what was found of a case.
type caseResult struct {
	Name     string     `json:"name"`
	About    string     `json:"about"`
	Cells    []*cell    `json:"cells"`
	Open     []openCell `json:"open_loop,omitempty"`
	Verdicts []verdict  `json:"targets,omitempty"`
	Profile  *profile   `json:"profile,omitempty"` // of ringroad
}

// cell is a candidate in a case.
type cell struct {
	Candidate string   `json:"candidate"`
	Failed    string   `json:"failed,omitempty"` // why there is no measurement, or not all of them
	Samples   []sample `json:"samples"`
}

// openCell is a candidate at a fixed rate.
type openCell struct {
	Candidate string  `json:"candidate"`
	Share     float64 `json:"share"` // of what the slowest candidate can do
	Rate      float64 `json:"requests_per_second"`
	P50       float64 `json:"p50_us"`
	P99       float64 `json:"p99_us"`
	P999      float64 `json:"p999_us"`
	Late      float64 `json:"late_us"` // 99th percentile of how late the generator was
	Errors    uint64  `json:"errors,omitempty"`
	Failed    string  `json:"failed,omitempty"`
}

func (o *openCell) invalid() string {
	if o.Failed == "" && o.Errors > 0 {
		return fmt.Sprintf("%d errors", o.Errors)
	}
	return o.Failed
}

// cell returns that of a candidate, or nil.
func (c *caseResult) cell(candidate string) *cell {
	for _, x := range c.Cells {
		if x.Candidate == candidate {
			return x
		}
	}
	return nil
}

func (r *report) caseNamed(name string) *caseResult {
	for _, c := range r.Cases {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// invalid says why a cell must not be compared, or "".
func (c *cell) invalid() string {
	if c.Failed != "" {
		return c.Failed
	}
	if len(c.Samples) == 0 {
		return "not measured"
	}
	var errors uint64
	said := ""
	for _, s := range c.Samples {
		errors += s.Errors
		if said == "" {
			said = s.Said
		}
	}
	if errors > 0 {
		return fmt.Sprintf("%d errors: %s", errors, said)
	}
	return ""
}

// median of what a function takes from each sample.
func (c *cell) median(f func(*sample) float64) float64 {
	v := c.values(f)
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// values in ascending order.
func (c *cell) values(f func(*sample) float64) []float64 {
	v := make([]float64, len(c.Samples))
	for i := range c.Samples {
		v[i] = f(&c.Samples[i])
	}
	slices.Sort(v)
	return v
}

// most is the largest of the values.
func (c *cell) most(f func(*sample) float64) float64 {
	v := c.values(f)
	if len(v) == 0 {
		return 0
	}
	return v[len(v)-1]
}

// drops of all rounds.
func (c *cell) drops() drops {
	all := drops{}
	for i := range c.Samples {
		for name, n := range c.Samples[i].Drops {
			all[name] += n
		}
	}
	return all
}

// total of a counter.
func (c *cell) total(f func(*sample) uint64) (sum uint64) {
	for i := range c.Samples {
		sum += f(&c.Samples[i])
	}
	return sum
}
