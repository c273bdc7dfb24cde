package main

import "fmt"

// metric is a figure that candidates are compared by.
type metric struct {
	name   string
	unit   string // of an absolute target
	higher bool   // is better
	of     func(r *caseResult, c *cell) (v float64, ok bool)
}

func fromSamples(f func(*sample) float64) func(*caseResult, *cell) (float64, bool) {
	return func(_ *caseResult, c *cell) (float64, bool) { return c.median(f), true }
}

const mib, kib = 1 << 20, 1 << 10

var (
	rate       = &metric{name: "requests/s", higher: true, of: fromSamples(func(s *sample) float64 { return s.Rate })}
	p50        = &metric{name: "p50", of: fromSamples(func(s *sample) float64 { return s.P50 })}
	p99        = &metric{name: "p99", of: fromSamples(func(s *sample) float64 { return s.P99 })}
	cost       = &metric{name: "machine CPU minus direct", of: minusDirect}
	userCPU    = &metric{name: "user-space CPU of the proxy", unit: "us", of: fromSamples(func(s *sample) float64 { return s.ProxyUser })}
	memory     = &metric{name: "resident memory", unit: "MB", of: fromSamples(func(s *sample) float64 { return float64(s.PSS) / mib })}
	idleMemory = &metric{name: "memory of an idle connection", unit: "KB", of: fromSamples(func(s *sample) float64 { return s.IdleBytes / kib })}
)

// minusDirect is the machine's processor time for a request that is not there without a proxy.
func minusDirect(r *caseResult, c *cell) (float64, bool) {
	d := r.cell(direct)
	if d == nil || d.invalid() != "" {
		return 0, false
	}
	return c.median((*sample).Busy) - d.median((*sample).Busy), true
}

// target is what ringroad should reach in a case: a ratio to the better of the peers, or a figure.
type target struct {
	metric    *metric
	limit     float64 // at least, where higher is better, else at most
	absolute  bool
	candidate string // "" means ringroad
}

// verdict is what became of a target.
type verdict struct {
	Metric    string  `json:"metric"`
	Candidate string  `json:"candidate"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit,omitempty"`
	Against   string  `json:"against,omitempty"` // the better peer
	Other     float64 `json:"other,omitempty"`   // its value
	Ratio     float64 `json:"ratio,omitempty"`
	Limit     float64 `json:"limit"`
	AtLeast   bool    `json:"at_least,omitempty"`
	Reached   bool    `json:"reached"`
	Open      string  `json:"open,omitempty"` // why it could not be judged
}

// judge compares the candidates of a case with the targets of it. Cases without targets are compared by requests/s, for the record.
func (c *caseResult) judge(targets []target) {
	c.Verdicts = nil
	for _, t := range targets {
		c.Verdicts = append(c.Verdicts, c.verdict(t))
	}
}

func (c *caseResult) verdict(t target) verdict {
	v := verdict{Metric: t.metric.name, Candidate: t.candidate, Limit: t.limit, AtLeast: t.metric.higher, Unit: t.metric.unit}
	if v.Candidate == "" {
		v.Candidate = ringroad
	}
	x := c.cell(v.Candidate)
	if x == nil {
		v.Open = v.Candidate + " was not measured"
		return v
	}
	if why := x.invalid(); why != "" {
		v.Open = v.Candidate + ": " + why
		return v
	}
	var ok bool
	if v.Value, ok = t.metric.of(c, x); !ok {
		v.Open = "there is no valid measurement without a proxy"
		return v
	}
	compared := v.Value
	if !t.absolute {
		if v.Against, v.Other = c.bestPeer(t.metric); v.Against == "" {
			v.Open = "no peer has a valid measurement"
			return v
		}
		if v.Other <= 0 {
			v.Open = fmt.Sprintf("%s of %s is %.2f: too little was measured", v.Metric, v.Against, v.Other)
			return v
		}
		v.Ratio = v.Value / v.Other
		compared = v.Ratio
	}
	v.Reached = compared <= t.limit
	if t.metric.higher {
		v.Reached = compared >= t.limit
	}
	return v
}

// bestPeer returns the better of the peers whose cells are valid.
func (c *caseResult) bestPeer(m *metric) (name string, best float64) {
	for _, p := range peers {
		x := c.cell(p)
		if x == nil || x.invalid() != "" {
			continue
		}
		v, ok := m.of(c, x)
		if ok && (name == "" || (v > best) == m.higher) {
			name, best = p, v
		}
	}
	return name, best
}

// goal says what the target is.
func (v *verdict) goal() string {
	word := "at most"
	if v.AtLeast {
		word = "at least"
	}
	if v.Unit != "" {
		return fmt.Sprintf("%s %g %s", word, v.Limit, v.Unit)
	}
	return fmt.Sprintf("%s %gx", word, v.Limit)
}

// got says what was measured.
func (v *verdict) got() string {
	switch {
	case v.Open != "":
		return "-"
	case v.Unit != "":
		return fmt.Sprintf("%.1f %s", v.Value, v.Unit)
	default:
		return fmt.Sprintf("%.2fx", v.Ratio)
	}
}

func (v *verdict) outcome() string {
	switch {
	case v.Open != "":
		return "open: " + v.Open
	case v.Reached:
		return "reached"
	default:
		return "missed"
	}
}
