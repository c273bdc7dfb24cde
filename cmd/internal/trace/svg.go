package trace

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// Sizes of a drawing, in pixels.
const (
	leftWidth   = 190
	rightWidth  = 30
	rowHeight   = 13 // of a request in a lane
	lanePadding = 7
	titleHeight = 34 // of a request in the legend
	axisHeight  = 40
	leastMark   = 3
	mostWidth   = 6000 // of the axis
	tickSpace   = 70
)

// colours of requests, which people with colour-blindness can tell apart (Okabe and
// Ito), on white.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"}

// Draw draws requests on one time axis, as a picture that needs no other file: a lane
// for each buffer and phase, in the order in which requests pass them, and in it a row
// for each request. Where something happens is drawn wide and where nothing does
// narrow: the width of a gap between two events grows with the logarithm of its length,
// so that microseconds and seconds are both to be seen.
func Draw(w io.Writer, lines []*Line) error {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b *Line) int { return a.Start.Compare(b.Start) })
	d := drawing{lines: lines, origin: lines[0].Start}
	d.measure()
	d.legend()
	d.axis()
	d.lanes()
	d.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, d.b.String())
	return err
}

type drawing struct {
	lines  []*Line
	origin time.Time
	times  []time.Duration // of all events, in order
	x      []float64       // their places
	width  float64         // of the axis
	b      strings.Builder
}

// offset is the time of a line's first event.
func (d *drawing) offset(l *Line) time.Duration { return l.Start.Sub(d.origin) }

// measure gives every time its place.
func (d *drawing) measure() {
	for _, l := range d.lines {
		for i := range l.Events {
			e := &l.Events[i]
			d.times = append(d.times, d.offset(l)+e.At, d.offset(l)+e.At+e.Took)
		}
	}
	slices.Sort(d.times)
	d.times = slices.Compact(d.times)
	d.x = make([]float64, len(d.times))
	for i := 1; i < len(d.times); i++ {
		d.x[i] = d.x[i-1] + 7*math.Log1p(micro(d.times[i]-d.times[i-1]))
	}
	d.width = d.x[len(d.x)-1]
	if d.width > mostWidth {
		for i := range d.x {
			d.x[i] *= mostWidth / d.width
		}
		d.width = mostWidth
	}
	d.width = max(d.width, 600)
}

// place is where a time of an event is.
func (d *drawing) place(at time.Duration) float64 {
	i, _ := slices.BinarySearch(d.times, at)
	return leftWidth + d.x[min(i, len(d.x)-1)]
}

func (d *drawing) top() int        { return 24 + titleHeight*len(d.lines) + axisHeight }
func (d *drawing) laneHeight() int { return lanePadding + rowHeight*len(d.lines) }

// escape makes text that stands between tags.
func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(printable(s))); err != nil {
		return ""
	}
	return b.String()
}

// legend opens the picture and names the requests.
func (d *drawing) legend() {
	width, height := leftWidth+d.width+rightWidth, d.top()+int(laneCount)*d.laneHeight()+16
	fmt.Fprintf(&d.b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" font-family="sans-serif" font-size="11">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&d.b, "<title>%d requests through ringroad</title>\n", len(d.lines))
	d.b.WriteString(`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	for i, l := range d.lines {
		y := 14 + i*titleHeight
		fmt.Fprintf(&d.b, `<rect x="10" y="%d" width="12" height="12" fill="%s"/>`+"\n", y, colours[i%len(colours)])
		for k, text := range strings.Split(l.Title(), "\n") {
			weight := "bold"
			if k > 0 {
				weight = "normal"
			}
			fmt.Fprintf(&d.b, `<text x="28" y="%d" font-weight="%s">%s</text>`+"\n", y+10+k*14, weight, escape(text))
		}
	}
}

// axis draws the times.
func (d *drawing) axis() {
	y := d.top() - 8
	bottom := d.top() + int(laneCount)*d.laneHeight()
	fmt.Fprintf(&d.b, `<text x="10" y="%d" fill="#555555">µs; gaps are shortened</text>`+"\n", y)
	next := 0.0
	for i, at := range d.times {
		x := leftWidth + d.x[i]
		if x < next {
			continue
		}
		next = x + tickSpace
		fmt.Fprintf(&d.b, `<text x="%.1f" y="%d" fill="#555555">%.1f</text>`+"\n", x, y, micro(at))
		fmt.Fprintf(&d.b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#dddddd"/>`+"\n", x, x, y+4, bottom)
	}
}

// lanes draws where the requests were.
func (d *drawing) lanes() {
	for at := range laneCount {
		y := d.top() + int(at)*d.laneHeight()
		if at%2 == 0 {
			fmt.Fprintf(&d.b, `<rect x="0" y="%d" width="100%%" height="%d" fill="#000000" fill-opacity="0.04"/>`+"\n", y, d.laneHeight())
		}
		fmt.Fprintf(&d.b, `<text x="10" y="%d">%s</text>`+"\n", y+d.laneHeight()/2+4, laneNames[at])
	}
	for i, l := range d.lines {
		for _, s := range l.spans() {
			d.span(i, l, &s)
		}
	}
}

func (d *drawing) span(row int, l *Line, s *span) {
	from, to := d.offset(l)+s.from, d.offset(l)+s.to
	x := d.place(from)
	width := max(d.place(to)-x, leastMark)
	y := d.top() + int(s.lane)*d.laneHeight() + lanePadding/2 + row*rowHeight
	opacity := 1.0
	if s.faint {
		opacity = 0.55
	}
	fmt.Fprintf(&d.b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="1.5" fill="%s" fill-opacity="%.2f"><title>%s</title></rect>`+"\n",
		x, y+1, width, rowHeight-2, colours[row%len(colours)], opacity,
		escape(fmt.Sprintf("%s, %.1f µs to %.1f µs (%.1f µs): %s", laneNames[s.lane], micro(from), micro(to), micro(to-from), s.text)))
}
