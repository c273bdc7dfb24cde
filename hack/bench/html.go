package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"
)

//go:embed report.html
var reportPage string

// html is the report as one page that needs nothing beside it.
func (r *report) html() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"first": firstOf, "micros": micros, "thousands": thousands, "colour": func(name string) template.CSS { return template.CSS(colours[name]) },
		"svg": func(s string) template.HTML { return template.HTML(s) }, // made by svg.go, which escapes
		"mb":  func(v float64) string { return fmt.Sprintf("%.1f", v/mib) },
	}).Parse(reportPage)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, r)
	return b.Bytes(), err
}

// The rest of this file is what the page asks for.

// Title says what it is a report of.
func (r *report) Title() string {
	return "ringroad " + r.Versions["ringroad"] + ", " + r.Started.Format("2006-01-02 15:04 MST")
}

// Program is the version of one.
func (r *report) Program(name string) string { return strings.TrimPrefix(r.Versions[name], name+" ") }

// BeforeName names the result that this one is compared with, or is empty.
func (r *report) BeforeName() string { return r.beforeName }

// Ratios draws every ratio to the better peer, of the cases without targets too; better is to the right, whatever the metric.
func (r *report) Ratios() string {
	var bars []bar
	add := func(name string, v *verdict) {
		b := bar{label: name + ": " + v.Metric, good: v.Reached}
		if v.Candidate != ringroad {
			b.label = name + ", " + strings.TrimPrefix(v.Candidate, ringroad+"-") + ": " + v.Metric
		}
		switch {
		case v.Open != "":
			b.absent = firstOf(v.Open)
		case v.Ratio <= 0: // as cheap as no proxy at all
			b.absent = "below what can be measured"
		case v.AtLeast:
			b.value, b.goal = v.Ratio, v.Limit
		default:
			b.value, b.goal = 1/v.Ratio, 1/v.Limit
		}
		bars = append(bars, b)
	}
	for _, c := range r.Cases {
		some := false
		for i := range c.Verdicts {
			if v := &c.Verdicts[i]; v.Unit == "" {
				add(c.Name, v)
				some = true
			}
		}
		if !some && c.cell(ringroad) != nil && len(c.Verdicts) == 0 {
			v := c.verdict(target{metric: rate, limit: 1})
			v.Limit = 0
			add(c.Name, &v)
		}
	}
	return ratioChart(bars)
}

// Processor draws what the machine spends on a request of a case.
func (c *caseResult) Processor() string {
	var rows []stackedRow
	for _, x := range c.Cells {
		if x.invalid() != "" {
			continue
		}
		rows = append(rows, stackedRow{x.Candidate, []part{
			{"user", x.median(func(s *sample) float64 { return s.User }), "#edc948"},
			{"system", x.median(func(s *sample) float64 { return s.System }), "#4e79a7"},
			{"interrupts", x.median(func(s *sample) float64 { return s.Interrupt }), "#76b7b2"},
		}})
	}
	return stackedChart(rows, 0, "us")
}

// Steps is what ringroad did for a request.
func (c *caseResult) Steps() string {
	if x := c.cell(ringroad); x != nil {
		return x.steps()
	}
	return ""
}

// Latencies draws the open loop: a chart for each percentile.
func (c *caseResult) Latencies() []string {
	var charts []string
	for _, p := range []struct {
		name string
		of   func(*openCell) float64
	}{
		{"50 %", func(o *openCell) float64 { return o.P50 }},
		{"99 %", func(o *openCell) float64 { return o.P99 }},
		{"99.9 %", func(o *openCell) float64 { return o.P999 }},
	} {
		var curves []curve
		for _, x := range c.Cells {
			k := curve{name: x.Candidate, colour: colours[x.Candidate]}
			for i := range c.Open {
				if o := &c.Open[i]; o.Candidate == x.Candidate && o.invalid() == "" {
					k.points = append(k.points, [2]float64{o.Rate, p.of(o)})
				}
			}
			if len(k.points) > 0 {
				curves = append(curves, k)
			}
		}
		if len(curves) > 0 {
			charts = append(charts, lineChart(curves, "requests/s", p.name+" are answered within"))
		}
	}
	return charts
}

// Candidates names those of a case, for the legend.
func (c *caseResult) Candidates() []string {
	var names []string
	for _, x := range c.Cells {
		names = append(names, x.Candidate)
	}
	return names
}

// Profiles draws the steps of all cases, and below each what they were before.
func (r *report) Profiles() string {
	var rows []stackedRow
	row := func(label string, p *profile) {
		s := stackedRow{label: label}
		for i, step := range steps {
			s.parts = append(s.parts, part{step, p.of(step) * 100, stepColours[i]})
		}
		rows = append(rows, s)
	}
	for _, c := range r.Cases {
		if c.Profile == nil {
			continue
		}
		row(c.Name, c.Profile)
		if b := r.beforeCase(c.Name); b != nil && b.Profile != nil {
			row("before", b.Profile)
		}
	}
	return stackedChart(rows, 100, "%")
}

// StepLegend are the steps with their colours.
func (r *report) StepLegend() []part {
	var parts []part
	for i, step := range steps {
		parts = append(parts, part{name: step, colour: stepColours[i]})
	}
	return parts
}

// Name and Colour are for the page, which cannot see fields.
func (p part) Name() string         { return p.name }
func (p part) Colour() template.CSS { return template.CSS(p.colour) }

// Figures of a cell, for the page.

func (c *cell) Invalid() string  { return firstOf(c.invalid()) }
func (c *cell) Measured() bool   { return len(c.Samples) > 0 }
func (c *cell) Rate() float64    { return c.median(func(s *sample) float64 { return s.Rate }) }
func (c *cell) Machine() float64 { return c.median((*sample).Busy) }
func (c *cell) Proxy() float64 {
	return c.median(func(s *sample) float64 { return s.ProxyUser + s.ProxySystem })
}
func (c *cell) ProxyUser() float64 { return c.median(func(s *sample) float64 { return s.ProxyUser }) }
func (c *cell) P50() float64       { return c.median(func(s *sample) float64 { return s.P50 }) }
func (c *cell) P99() float64       { return c.median(func(s *sample) float64 { return s.P99 }) }
func (c *cell) P999() float64      { return c.median(func(s *sample) float64 { return s.P999 }) }
func (c *cell) PSS() float64       { return c.median(func(s *sample) float64 { return float64(s.PSS) }) }
func (c *cell) RSS() float64       { return c.median(func(s *sample) float64 { return float64(s.RSS) }) }
func (c *cell) Idle() float64      { return c.median(func(s *sample) float64 { return s.IdleBytes / kib }) }

func (c *cell) Spread() string {
	v := c.values(func(s *sample) float64 { return s.Rate })
	return fmt.Sprintf("%.0f..%.0f", v[0], v[len(v)-1])
}

func (c *cell) Retransmits() string {
	return fmt.Sprintf("%d+%d", c.total(func(s *sample) uint64 { return s.Retransmits }), c.total(func(s *sample) uint64 { return s.ProxyRetransmits }))
}

// Others is what programs outside the lab took, in per cent.
func (c *cell) Others() float64 { return c.most(func(s *sample) float64 { return s.Others }) * 100 }

func (c *cell) Drops() string {
	if d := c.drops(); len(d) > 0 {
		return d.String()
	}
	return "0"
}

// Over is a cell's machine time minus direct, or nothing.
func (c *caseResult) Over(x *cell) string {
	if v, ok := minusDirect(c, x); ok && x.Candidate != direct && x.Measured() {
		return fmt.Sprintf("%.1f", v)
	}
	return "-"
}

// Was is a verdict's figure in the result that was kept last.
func (r *report) Was(name string, v verdict) string {
	if b := r.verdictBefore(name, &v); b != nil {
		return b.got()
	}
	return ""
}

func (v verdict) Goal() string    { return v.goal() }
func (v verdict) Got() string     { return v.got() }
func (v verdict) Outcome() string { return firstOf(v.outcome()) }

// MemoryGB is the machine's.
func (r *report) MemoryGB() float64 { return float64(r.Machine.MemoryBytes) / (1 << 30) }

// Minutes is how long the run took.
func (r *report) Minutes() float64 { return r.Seconds / 60 }

// Percent is the share as one writes it.
func (t topSample) Percent() float64 { return t.Share * 100 }
