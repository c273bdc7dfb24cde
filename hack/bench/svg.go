package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// colours tell candidates apart, in every plot alike.
var colours = map[string]string{
	direct: "#8c8c8c", nginx: "#2e8b57", haproxy: "#2f6fb3", ringroad: "#d1495b", ringroadSpin: "#e89b2c", traced: "#c98bb9", scraped: "#b8860b", base: "#7d5ba6",
}

// stepColours are those of the steps of a profile, in their order.
var stepColours = []string{"#d9d9d9", "#9c755f", "#4e79a7", "#76b7b2", "#b07aa1", "#edc948", "#e15759", "#f28e2b", "#ffbe7d", "#59a14f", "#bab0ac"}

// drawing is an SVG picture of a fixed width that grows downwards.
type drawing struct {
	b      strings.Builder
	width  float64
	height float64
}

func (d *drawing) String() string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img">%s</svg>`,
		d.width, d.height, d.width, d.height, d.b.String())
}

func (d *drawing) rect(x, y, w, h float64, fill, title string) {
	fmt.Fprintf(&d.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>`, x, y, max(w, 0), h, fill, html.EscapeString(title))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&d.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`, x1, y1, x2, y2, class)
}

// text is placed by its anchor: start, middle or end.
func (d *drawing) text(x, y float64, anchor, s string) {
	fmt.Fprintf(&d.b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(s))
}

const (
	rowHeight   = 22.0
	labelsWidth = 250.0
	plotWidth   = 560.0
)

// bar is a row of barChart.
type bar struct {
	label  string
	value  float64
	goal   float64 // marked when not 0
	good   bool
	absent string // why there is no value
}

// ratioChart draws ratios around 1 on a logarithmic scale, to the right when ringroad is better.
func ratioChart(bars []bar) string {
	const least, most = 0.25, 4.0
	d := &drawing{width: labelsWidth + plotWidth + 70, height: float64(len(bars))*rowHeight + 30}
	at := func(v float64) float64 {
		v = math.Min(math.Max(v, least), most)
		return labelsWidth + plotWidth*math.Log(v/least)/math.Log(most/least)
	}
	bottom := d.height - 24
	for _, tick := range []float64{0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4} {
		class := "grid"
		if tick == 1 {
			class = "axis"
		}
		d.line(at(tick), 0, at(tick), bottom, class)
		d.text(at(tick), bottom+15, "middle", fmt.Sprintf("%gx", tick))
	}
	for i, b := range bars {
		y := float64(i)*rowHeight + 4
		d.text(labelsWidth-8, y+12, "end", b.label)
		if b.absent != "" {
			d.text(at(1)+6, y+12, "start", b.absent)
			continue
		}
		colour := "#d1495b"
		if b.good {
			colour = "#2e8b57"
		}
		from, to := at(1), at(b.value)
		d.rect(min(from, to), y, math.Abs(to-from), rowHeight-8, colour, fmt.Sprintf("%s: %.2fx", b.label, b.value))
		if b.goal != 0 {
			d.line(at(b.goal), y-2, at(b.goal), y+rowHeight-6, "goal")
		}
		d.text(labelsWidth+plotWidth+8, y+12, "start", fmt.Sprintf("%.2fx", b.value))
	}
	return d.String()
}

// part is a piece of a stacked row.
type part struct {
	name   string
	value  float64
	colour string
}

type stackedRow struct {
	label string
	parts []part
}

// stackedChart draws rows of parts on one linear scale; most is its end, or 0 for the longest row.
func stackedChart(rows []stackedRow, most float64, unit string) string {
	for _, r := range rows {
		sum := 0.0
		for _, p := range r.parts {
			sum += p.value
		}
		most = max(most, sum)
	}
	if most == 0 {
		return ""
	}
	d := &drawing{width: labelsWidth + plotWidth + 70, height: float64(len(rows))*rowHeight + 6}
	for i, r := range rows {
		y, x, sum := float64(i)*rowHeight+4, labelsWidth, 0.0
		d.text(labelsWidth-8, y+12, "end", r.label)
		for _, p := range r.parts {
			w := plotWidth * p.value / most
			d.rect(x, y, w, rowHeight-8, p.colour, fmt.Sprintf("%s: %.1f %s", p.name, p.value, unit))
			if w > 40 {
				fmt.Fprintf(&d.b, `<text x="%.1f" y="%.1f" text-anchor="middle" class="inside">%.0f</text>`, x+w/2, y+11, p.value)
			}
			x += w
			sum += p.value
		}
		d.text(x+6, y+12, "start", fmt.Sprintf("%.0f %s", sum, unit))
	}
	return d.String()
}

// curve is a line of lineChart.
type curve struct {
	name   string
	colour string
	points [][2]float64 // x ascending
}

// lineChart draws curves over a linear x from 0 and a logarithmic y.
func lineChart(curves []curve, xLabel, yLabel string) string {
	const left, top, w, h = 70.0, 24.0, 300.0, 200.0
	xMost, yLeast, yMost := 0.0, math.Inf(1), 0.0
	for _, c := range curves {
		for _, p := range c.points {
			xMost, yLeast, yMost = max(xMost, p[0]), min(yLeast, p[1]), max(yMost, p[1])
		}
	}
	if yMost <= 0 || yLeast <= 0 {
		return ""
	}
	low, high := math.Floor(math.Log10(yLeast)), math.Ceil(math.Log10(yMost)+1e-9)
	d := &drawing{width: left + w + 16, height: top + h + 40}
	x := func(v float64) float64 { return left + w*v/(xMost*1.05) }
	y := func(v float64) float64 { return top + h*(high-math.Log10(v))/(high-low) }
	for e := low; e <= high; e++ {
		for _, m := range []float64{1, 2, 5} {
			if v := m * math.Pow(10, e); math.Log10(v) <= high+1e-9 {
				d.line(left, y(v), left+w, y(v), "grid")
				d.text(left-6, y(v)+4, "end", micros(v))
			}
		}
	}
	d.line(left, top+h, left+w, top+h, "axis")
	for _, p := range curves[0].points {
		d.text(x(p[0]), top+h+15, "middle", thousands(p[0]))
	}
	d.text(left+w/2, top+h+32, "middle", xLabel)
	d.text(left, top-10, "start", yLabel)
	for _, c := range curves {
		var at []string
		for _, p := range c.points {
			at = append(at, fmt.Sprintf("%.1f,%.1f", x(p[0]), y(p[1])))
			fmt.Fprintf(&d.b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s</title></circle>`, x(p[0]), y(p[1]), c.colour,
				html.EscapeString(fmt.Sprintf("%s: %s at %s requests/s", c.name, micros(p[1]), thousands(p[0]))))
		}
		fmt.Fprintf(&d.b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(at, " "), c.colour)
	}
	return d.String()
}

func micros(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 1e6:
		return fmt.Sprintf("%.3g s", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3g ms", v/1e3)
	default:
		return fmt.Sprintf("%.3g us", v)
	}
}

func thousands(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.1fk", v/1000)
	}
	return fmt.Sprintf("%.0f", v)
}
