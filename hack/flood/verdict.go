package main

import (
	"fmt"

	"ringroad/hack/lab/flood"
)

// What ringroad must do.
const (
	leastOfNginx = 1.0 // answers under the same flood
	leastKept    = 95  // percent, under a tenth of it; and of what the control leaves
	mostGrowth   = 64  // MB
)

// mark is what a verdict comes to.
type mark string

const (
	pass mark = "pass"
	fail mark = "FAIL"
)

// passIf is pass or fail.
func passIf(ok bool) mark {
	if ok {
		return pass
	}
	return fail
}

// verdict is one of the things that ringroad must do.
type verdict struct {
	kind flood.Kind
	mark mark
	text string
}

func (v verdict) String() string { return fmt.Sprintf("%s  %-8s  %s", v.mark, v.kind, v.text) }

// control is the row that a tenth of a flood is compared with: nginx under the same; nil: there is none.
func control(rows []*row) *row {
	for _, r := range rows {
		if r.proxy == nginx && r.share == 10 {
			return r
		}
	}
	return nil
}

// judge says of the rows that there are what ringroad does of what it must.
func judge(kind flood.Kind, rows []*row) (all []verdict) {
	say := func(m mark, format string, args ...any) {
		all = append(all, verdict{kind, m, fmt.Sprintf(format, args...)})
	}
	for _, r := range rows {
		switch {
		case r.proxy != ringroad || r.flood != kind:
		case r.share == 1:
			of := ratio(r, rows[0], func(m measured) float64 { return m.under })
			say(passIf(of >= leastOfNginx), "the same flood: %.2f of the answers that nginx gives, at least %.2f", of, leastOfNginx)
		case r.share == 10:
			kept := r.median(measured.kept)
			say(passIf(kept >= leastKept), "a tenth of it: %.0f %% of its own answers, at least %d %%", kept, leastKept)
			if c := control(rows); c != nil {
				of := 100 * ratio(r, c, measured.kept)
				say(passIf(of >= leastKept), "a tenth of it: %.0f %% of what nginx keeps under the same, at least %d %%; it keeps %.0f %%", of, leastKept, c.median(measured.kept))
			}
		default:
			n, of := r.opened()
			say(passIf(n == of), "the fastest: %d of %d new connections are served", n, of)
			growth := r.median(func(m measured) float64 { return m.memoryAfter - m.memoryBefore })
			say(passIf(growth <= mostGrowth), "the fastest: %.0f MB more memory, at most %d MB", growth, mostGrowth)
		}
	}
	return all
}

// ratio is the median of what f says of r by what it says of other. Of one round each: what else runs on the machine changes from round to
// round.
func ratio(r, other *row, f func(m measured) float64) float64 {
	ratios := make([]float64, len(r.rounds))
	for i := range ratios {
		ratios[i] = f(r.rounds[i]) / f(other.rounds[i])
	}
	return median(ratios)
}
