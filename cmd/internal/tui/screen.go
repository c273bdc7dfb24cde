package tui

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ringroad/cmd/internal/control"
)

const (
	labelWidth  = 14 // of the names at the left
	columnWidth = 16 // least, of a worker
	barWidth    = 6  // least, brackets included
	maxBar      = 42
	widest      = 60
	detailWidth = 26 // of the one worker that is shown at length
)

// styles mark what should catch the eye. The zero value leaves the text alone.
type styles struct {
	title, alarm, high, quiet func(...string) string
}

func styled(f func(...string) string, text string) string {
	if f == nil || text == "" {
		return text
	}
	return f(text)
}

// view is what of the readings is to be seen.
type view struct {
	width, height int // height 0: as much as there is
	first         int // the leftmost worker
	detail        int // the one worker that is shown at length; -1: all
	interval      time.Duration
	paused        bool
	err           error // of the last attempt to read
	keys          bool  // say which keys there are
	styles        styles
}

// screen lays out at most height lines of at most width characters.
func (v *view) screen(now, before *Reading) string {
	if now == nil {
		text := "waiting for ringroad ..."
		if v.err != nil {
			text = v.err.Error()
		}
		return cut(text, v.width)
	}
	all := columns(now, before)
	shown := v.choose(all)
	lines := append([]string{v.title(now)}, v.heads(shown)...)
	// Two blank lines, and one for the foot.
	roomy := v.height == 0 || len(lines)+len(buffers)+len(flows)+3 <= v.height
	lines = append(lines, v.rows(shown, len(all) > 1, roomy)...)
	foot := v.foot(len(all), len(shown))
	if v.height > 0 {
		lines = lines[:min(len(lines), v.height-1)]
		for foot != "" && len(lines) < v.height-1 {
			lines = append(lines, "")
		}
	}
	if foot != "" {
		lines = append(lines, foot)
	}
	return strings.Join(lines, "\n")
}

// choose returns the columns that there is room for.
func (v *view) choose(all []column) []column {
	if v.detail >= 0 && v.detail < len(all) {
		return all[v.detail : v.detail+1]
	}
	fit := max((v.width-labelWidth)/columnWidth, 1)
	first := min(v.first, max(len(all)-fit, 0))
	return all[first:min(first+fit, len(all))]
}

func (v *view) title(now *Reading) string {
	s := &now.Status
	text := strings.TrimSpace("ringroad "+s.Version) +
		fmt.Sprintf("  process %d %s  up %v  every %v", s.PID, s.State, time.Duration(s.Uptime).Truncate(time.Second), v.interval)
	for _, i := range s.Interfaces {
		text += fmt.Sprintf("  %s %s", i.Name, i.Mode)
	}
	if s.Filter != nil {
		text += "  filter refused " + count(s.Filter.Refused())
	}
	cookies := uint64(0)
	for _, i := range s.Interfaces {
		cookies += i.SYNCookies
	}
	if cookies > 0 {
		text += "  SYNs answered by XDP " + count(cookies)
	}
	if v.paused {
		text = "PAUSED  " + text
	}
	text = cut(text, v.width)
	if v.keys {
		text = pad(text, v.width) // a bar over the whole width
	}
	return styled(v.styles.title, text)
}

// heads name the workers.
func (v *view) heads(shown []column) []string {
	if len(shown) == 0 {
		return []string{"no worker"}
	}
	line := pad("", labelWidth)
	for i := range shown {
		c := &shown[i]
		text := fmt.Sprintf("worker %d", c.number)
		if c.status.State != "serving" {
			text += " " + strings.ToUpper(string(c.status.State))
		}
		more := fmt.Sprintf(" CPU %d pid %d", c.status.CPU, c.status.PID)
		if c.status.CPU < 0 {
			more = fmt.Sprintf(" pid %d", c.status.PID)
		}
		if c.status.Restarts > 0 {
			more = fmt.Sprintf(" !%d restarts", c.status.Restarts) + more
		}
		if v.detail >= 0 {
			return []string{cut(line+" "+text+more, v.width)}
		}
		line += right(cut(text+more, v.cell(shown)-1), v.cell(shown))
	}
	return []string{strings.TrimRight(line, " ")}
}

// cell is the width of a column, the space before it included.
func (v *view) cell(shown []column) int {
	w := min((v.width-labelWidth)/len(shown), widest)
	if v.detail >= 0 {
		w = min(w, detailWidth)
	}
	return w
}

func (v *view) rows(shown []column, several, spare bool) (lines []string) {
	if len(shown) == 0 {
		return nil
	}
	width := v.cell(shown)
	if spare {
		lines = append(lines, "")
	}
	for i := range buffers {
		b := &buffers[i]
		if b.several && !several || b.spare && !spare {
			continue
		}
		line := pad(b.name, labelWidth)
		for k := range shown {
			line += v.gauge(b, &shown[k], width)
		}
		if v.detail >= 0 {
			line = strings.TrimRight(line+"  "+cut(b.means, v.width-labelWidth-width-2), " ")
		}
		lines = append(lines, line)
	}
	if spare {
		lines = append(lines, "")
	}
	for i := range flows {
		f := &flows[i]
		if f.several && !several || f.spare && !spare {
			continue
		}
		line := pad(f.name, labelWidth)
		for k := range shown {
			c := &shown[k]
			text := "-"
			if c.seconds > 0 {
				text = short(c.rate(f.count))
			}
			line += right(text, width)
		}
		lines = append(lines, line)
	}
	if v.detail >= 0 && spare {
		lines = append(lines, v.counters(&shown[0])...)
	}
	return lines
}

// counters lists those of a worker that moved, as far as there is room.
func (v *view) counters(c *column) (lines []string) {
	const width = 40 // of the longest name and a number
	across := max(v.width/width, 1)
	for _, name := range c.names() {
		n := c.moved(name.value)
		if n == 0 {
			continue
		}
		cell := pad(cut(fmt.Sprintf("%s +%s", name.text, short(float64(n))), width-1), width)
		if k := len(lines) - 1; k >= 1 && len(lines[k]) < across*width {
			lines[k] += cell
		} else {
			if k < 0 {
				lines = append(lines, "")
			}
			lines = append(lines, cell)
		}
	}
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return lines
}

// gauge is a cell: a bar as far as there is room, and the numbers.
func (v *view) gauge(b *buffer, c *column, width int) string {
	room := width - 1
	numbers, style := "-", v.styles.quiet
	var share float64
	if b.level != nil {
		level := b.level(&c.now)
		numbers, style = short(float64(level)), nil
		if b.capacity != nil {
			if capacity := b.capacity(&c.now); capacity > 0 {
				share = float64(level) / float64(capacity)
				numbers += "/" + short(float64(capacity))
			}
		}
	}
	alarm, alarmStyle := "", v.styles.quiet
	if b.full != nil {
		if moved := c.moved(b.full); moved > 0 {
			alarm, alarmStyle = " !+"+short(float64(moved)), v.styles.alarm
		} else if n := b.full(&c.now); n > 0 {
			alarm = " !" + short(float64(n))
		}
	}
	high := ""
	if b.high != nil {
		high = " ^" + short(float64(b.high(&c.now)))
	}
	if len(numbers)+len(high)+len(alarm) > room {
		high = ""
	}
	if len(numbers)+len(alarm) > room {
		numbers, _, _ = strings.Cut(numbers, "/")
	}
	bar := ""
	if free := room - len(numbers) - len(high) - len(alarm) - 1; b.capacity != nil && free >= barWidth {
		bar = barOf(share, min(free, min(max(room-22, barWidth), maxBar))) + " "
	}
	if share > 0.9 && b.name != "fill ring" {
		style = v.styles.high
	}
	space := strings.Repeat(" ", max(room-len(bar)-len(numbers)-len(high)-len(alarm), 0))
	return " " + styled(style, bar) + space + styled(style, numbers) + styled(v.styles.quiet, high) + styled(alarmStyle, alarm)
}

func barOf(share float64, width int) string {
	inside := width - 2
	n := min(int(share*float64(inside)+0.5), inside)
	if share > 0 && n == 0 {
		n = 1
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", inside-n) + "]"
}

// trouble says why what is shown is not of now.
func (v *view) trouble() string {
	text := "no reading: " + v.err.Error()
	if errors.Is(v.err, control.ErrEnded) {
		text = "RINGROAD HAS ENDED: q quits, the next run is shown when there is one"
	}
	return styled(v.styles.alarm, cut(text, v.width))
}

func (v *view) foot(workers, shown int) string {
	switch {
	case v.err != nil:
		return v.trouble()
	case !v.keys:
		return ""
	}
	text := "q quit  p pause  +/- interval  c connections  w by worker"
	if shown < workers && v.detail < 0 {
		text += fmt.Sprintf("  left/right %d of %d", shown, workers)
	}
	return styled(v.styles.quiet, cut(text, v.width))
}

// short is a number in at most five characters: 9999, 12.3k, 4.1M.
func short(f float64) string {
	if f < 10 && f != float64(int(f)) {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	if f < 9999.5 {
		return strconv.FormatFloat(f, 'f', 0, 64)
	}
	var unit string
	for _, unit = range []string{"k", "M", "G", "T", "P"} {
		if f /= 1000; f < 999.5 {
			break
		}
	}
	precision := 0
	if f < 99.95 {
		precision = 1
	}
	return strconv.FormatFloat(f, 'f', precision, 64) + unit
}

// The texts are ASCII, but for what a version or an error may say.

func cut(text string, width int) string {
	if r := []rune(text); len(r) > max(width, 0) {
		return string(r[:max(width, 0)])
	}
	return text
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-len([]rune(text)), 0))
}

func right(text string, width int) string {
	return strings.Repeat(" ", max(width-len([]rune(text)), 0)) + text
}
