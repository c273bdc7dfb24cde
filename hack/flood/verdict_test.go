package main

import (
	"slices"
	"testing"

	"ringroad/hack/lab/flood"
)

// A tenth of a flood is judged by what is left without it, and by what the control leaves.
func TestVerdictsOnATenth(t *testing.T) {
	kept := func(percent ...float64) (all []measured) {
		for _, p := range percent {
			all = append(all, measured{before: 1000, under: 10 * p})
		}
		return all
	}
	nginx10 := func(rounds []measured) *row { return &row{proxy: nginx, share: 10, rounds: rounds} }
	for _, c := range []struct {
		name            string
		kind            flood.Kind
		control         *row
		flood           []float64
		plain, compared mark
	}{
		{name: "both keep all", kind: flood.RST, control: nginx10(kept(99, 98, 97)),
			flood: []float64{98, 97, 96}, plain: pass, compared: pass},
		{name: "the flood alone takes more", kind: flood.RST, control: nginx10(kept(99, 98, 97)),
			flood: []float64{80, 81, 82}, plain: fail, compared: fail},
		{name: "the control takes as much", kind: flood.RST, control: nginx10(kept(60, 80, 100)),
			flood: []float64{60, 79, 99}, plain: fail, compared: pass},
		{name: "the control takes much, the flood more", kind: flood.RST, control: nginx10(kept(80, 80, 80)),
			flood: []float64{70, 70, 70}, plain: fail, compared: fail},
		{name: "requests", kind: httpFlood, control: nginx10(kept(88, 88, 88)),
			flood: []float64{86, 86, 86}, plain: fail, compared: pass},
		{name: "without a control", kind: httpFlood, flood: []float64{86, 86, 86}, plain: fail},
	} {
		rows := []*row{{proxy: ringroad, flood: c.kind, share: 10, rounds: kept(c.flood...)}}
		want := []mark{c.plain}
		if c.control != nil {
			rows = append(rows, c.control)
			want = append(want, c.compared)
		}
		var got []mark
		for _, v := range judge(c.kind, rows) {
			got = append(got, v.mark)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
}
