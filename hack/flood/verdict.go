package main

import (
	"fmt"

	"ringroad/hack/lab/flood"
)

// What ringroad must do.
const (
	leastOfNginx = 1.0 // answers under the same flood
	leastKept    = 95  // percent, under a tenth of it
	mostGrowth   = 64  // MB
)

// verdict is one of the things that ringroad must do.
type verdict struct {
	kind flood.Kind
	pass bool
	text string
}

func (v verdict) String() string {
	mark := "FAIL"
	if v.pass {
		mark = "pass"
	}
	return fmt.Sprintf("%s  %-8s  %s", mark, v.kind, v.text)
}

// judge says of the rows that there are what ringroad does of what it must.
func judge(kind flood.Kind, rows []*row) (all []verdict) {
	alone := ""
	for _, r := range rows {
		switch kept := r.median(measured.kept); {
		case r.proxy == nginx && r.share == 10:
			alone = fmt.Sprintf("; nginx keeps %.0f %%", kept)
		case r.flood == flood.Unknown && kind != flood.Unknown:
			alone = fmt.Sprintf("; with as many frames of no protocol it keeps %.0f %%", kept)
		}
	}
	say := func(pass bool, format string, args ...any) {
		all = append(all, verdict{kind, pass, fmt.Sprintf(format, args...)})
	}
	for _, r := range rows {
		switch {
		case r.proxy != ringroad || r.flood != kind:
		case r.share == 1:
			// Of one round each: what else runs on the machine changes from round to round.
			ratios := make([]float64, len(r.rounds))
			for i := range ratios {
				ratios[i] = r.rounds[i].under / rows[0].rounds[i].under
			}
			of := median(ratios)
			say(of >= leastOfNginx, "the same flood: %.2f of the answers that nginx gives, at least %.2f", of, leastOfNginx)
		case r.share == 10:
			kept := r.median(measured.kept)
			say(kept >= leastKept, "a tenth of it: %.0f %% of its own answers, at least %d %%%s", kept, leastKept, alone)
		default:
			n, of := r.opened()
			say(n == of, "the fastest: %d of %d new connections are served", n, of)
			growth := r.median(func(m measured) float64 { return m.memoryAfter - m.memoryBefore })
			say(growth <= mostGrowth, "the fastest: %.0f MB more memory, at most %d MB", growth, mostGrowth)
		}
	}
	return all
}
