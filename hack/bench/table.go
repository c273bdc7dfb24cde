package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// print prints a table for each case, then what became of the targets.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s; %d processors (%s), %.0f GB, Linux %s; load %.1f at the start\n", r.Started.Format("2006-01-02 15:04 MST"), r.Machine.Processors,
		r.Machine.Processor, float64(r.Machine.MemoryBytes)/(1<<30), r.Machine.Kernel, r.Machine.Load)
	var programs []string
	for _, name := range []string{"ringroad", "nginx", "haproxy", "wrk", "go"} {
		programs = append(programs, name+" "+strings.TrimPrefix(r.Versions[name], name+" "))
	}
	fmt.Fprintln(w, strings.Join(programs, "; "))
	fmt.Fprintf(w, "medians of %d rounds of %.0f s; clients, proxy and backend share the processors; times are us for a request\n", r.Rounds, r.Duration)
	for _, c := range r.Cases {
		c.print(w)
		c.printSteps(w)
		c.printProfile(w, r)
	}
	r.printTargets(w)
	fmt.Fprintf(w, "\nmachine: CPU of the whole machine, client and backend too; intr: interrupts, where the kernel receives; proxy: CPU of its processes,\n"+
		"and of that in its own code; retr: TCP segments sent again by client and backend + by the proxy; drops: frames without room in AF_XDP\n"+
		"rings or links; others: most of the processors' time that programs outside the lab took in a round: above some 5 %% do not trust a figure.\n"+
		"%.0f s in all.\n", r.Seconds)
}

func (c *caseResult) print(w io.Writer) {
	if len(c.Cells) == 0 || slices.IndexFunc(c.Cells, func(c *cell) bool { return c.Failed != "" || len(c.Samples) > 0 }) < 0 {
		return // only a profile
	}
	fmt.Fprintf(w, "\n%s: %s\n", c.Name, c.About)
	if c.Cells[len(c.Cells)-1].median(func(s *sample) float64 { return s.IdleBytes }) > 0 {
		c.printIdle(w)
		return
	}
	fmt.Fprintf(w, "  %-13s %10s %17s %8s %6s %6s %6s %8s %7s %7s %7s %7s %8s %6s %6s %9s %6s %7s\n", "", "requests/s", "min..max",
		"machine", "user", "system", "intr", "- direct", "proxy", "user", "p50", "p99", "p99.9", "PSS MB", "RSS MB", "retr", "drops", "others")
	for _, x := range c.Cells {
		if len(x.Samples) > 0 {
			c.printCell(w, x)
		}
		if d := x.drops(); len(d) > 0 {
			fmt.Fprintf(w, "  %-13s dropped: %v\n", "", d)
		}
		if why := x.invalid(); why != "" {
			fmt.Fprintf(w, "  %-13s INVALID: %s\n", x.Candidate, firstOf(why))
		}
	}
	for _, o := range c.Open {
		if o.Candidate == c.Cells[0].Candidate {
			fmt.Fprintf(w, "  at %.0f requests/s (%.0f %%)\n", o.Rate, o.Share*100)
		}
		if why := o.invalid(); why != "" {
			fmt.Fprintf(w, "    %-13s INVALID: %s\n", o.Candidate, firstOf(why))
			continue
		}
		fmt.Fprintf(w, "    %-13s p50 %6.0f us   p99 %6.0f us   p99.9 %6.0f us   (generator late by %.0f us)\n", o.Candidate, o.P50, o.P99, o.P999, o.Late)
	}
}

func (c *caseResult) printCell(w io.Writer, x *cell) {
	m := func(f func(*sample) float64) float64 { return x.median(f) }
	rates := x.values(func(s *sample) float64 { return s.Rate })
	fmt.Fprintf(w, "  %-13s %10.0f %17s %8.2f %6.1f %6.1f %6.1f", x.Candidate, m(func(s *sample) float64 { return s.Rate }),
		fmt.Sprintf("%.0f..%.0f", rates[0], rates[len(rates)-1]), m((*sample).Busy), m(func(s *sample) float64 { return s.User }),
		m(func(s *sample) float64 { return s.System }), m(func(s *sample) float64 { return s.Interrupt }))
	if over, ok := minusDirect(c, x); ok && x.Candidate != direct {
		fmt.Fprintf(w, " %8.2f", over)
	} else {
		fmt.Fprintf(w, " %8s", "-")
	}
	if x.Candidate == direct {
		fmt.Fprintf(w, " %7s %7s", "-", "-")
	} else {
		fmt.Fprintf(w, " %7.2f %7.2f", m(func(s *sample) float64 { return s.ProxyUser + s.ProxySystem }), m(func(s *sample) float64 { return s.ProxyUser }))
	}
	if m(func(s *sample) float64 { return s.P50 }) > 0 {
		fmt.Fprintf(w, " %7.0f %7.0f %8.0f", m(func(s *sample) float64 { return s.P50 }), m(func(s *sample) float64 { return s.P99 }), m(func(s *sample) float64 { return s.P999 }))
	} else {
		fmt.Fprintf(w, " %7s %7s %8s", "-", "-", "-") // what sends more than one request at a time has none
	}
	fmt.Fprintf(w, " %6.1f %6.1f %9s %6d %6.0f%%\n", m(func(s *sample) float64 { return float64(s.PSS) / mib }), m(func(s *sample) float64 { return float64(s.RSS) / mib }),
		fmt.Sprintf("%d+%d", x.total(func(s *sample) uint64 { return s.Retransmits }), x.total(func(s *sample) uint64 { return s.ProxyRetransmits })),
		x.total(func(s *sample) uint64 { return s.Drops.total() }), x.most(func(s *sample) float64 { return s.Others })*100)
}

func (c *caseResult) printIdle(w io.Writer) {
	for _, x := range c.Cells {
		if why := x.invalid(); why != "" {
			fmt.Fprintf(w, "  %-13s INVALID: %s\n", x.Candidate, firstOf(why))
			continue
		}
		fmt.Fprintf(w, "  %-13s %6.2f KB a connection; PSS %.1f MB, RSS %.1f MB\n", x.Candidate, x.median(func(s *sample) float64 { return s.IdleBytes / kib }),
			x.median(func(s *sample) float64 { return float64(s.PSS) / mib }), x.median(func(s *sample) float64 { return float64(s.RSS) / mib }))
	}
}

// printSteps prints what ringroad did for a request.
func (c *caseResult) printSteps(w io.Writer) {
	x := c.cell(ringroad)
	if x == nil {
		return
	}
	if steps := x.steps(); steps != "" {
		fmt.Fprintf(w, "  ringroad for a request: %s\n", steps)
	}
}

// steps are the medians of stepCounters.
func (c *cell) steps() string {
	var parts []string
	for _, counter := range stepCounters {
		if v := c.median(func(s *sample) float64 { return s.Steps[counter] }); v > 0 {
			_, name, _ := strings.Cut(counter, ".")
			parts = append(parts, fmt.Sprintf("%s %.3g", name, v))
		}
	}
	return strings.Join(parts, ", ")
}

// printProfile prints the steps with what they were before in brackets.
func (c *caseResult) printProfile(w io.Writer, r *report) {
	if c.Profile == nil {
		return
	}
	var before *profile
	if b := r.beforeCase(c.Name); b != nil {
		before = b.Profile
	}
	var parts []string
	for _, s := range c.Profile.Shares {
		part := fmt.Sprintf("%s %.0f %%", s.Step, s.Share*100)
		if before != nil {
			part += fmt.Sprintf(" (%.0f)", before.of(s.Step)*100)
		}
		parts = append(parts, part)
	}
	title := "profile"
	if before != nil {
		title += " (before: " + r.beforeName + ")"
	}
	fmt.Fprintf(w, "  %s of %s: %s\n", title, c.Name, strings.Join(parts, ", "))
}

func (r *report) beforeCase(name string) *caseResult {
	if r.before == nil {
		return nil
	}
	return r.before.caseNamed(name)
}

func (r *report) printTargets(w io.Writer) {
	title := fmt.Sprintf("\n%-14s %-13s %-29s %10s %-26s %-17s\n", "targets", "", "", "", "against", "target")
	for _, c := range r.Cases {
		for i := range c.Verdicts {
			v := &c.Verdicts[i]
			fmt.Fprint(w, title)
			title = ""
			against := v.Against
			if before := r.verdictBefore(c.Name, v); before != nil && before.Open == "" {
				against += fmt.Sprintf(" (was %s)", before.got())
			}
			fmt.Fprintf(w, "%-14s %-13s %-29s %10s %-26s %-17s %s\n", c.Name, v.Candidate, v.Metric, v.got(), against, v.goal(), firstOf(v.outcome()))
		}
	}
}

// verdictBefore is the same of the result that was kept last, or nil.
func (r *report) verdictBefore(name string, v *verdict) *verdict {
	b := r.beforeCase(name)
	if b == nil {
		return nil
	}
	for i := range b.Verdicts {
		if o := &b.Verdicts[i]; o.Metric == v.Metric && o.Candidate == v.Candidate {
			return o
		}
	}
	return nil
}

// firstOf is the first line of a text, which may carry all that a program printed.
func firstOf(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
