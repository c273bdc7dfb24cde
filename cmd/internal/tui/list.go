package tui

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/trace"
	"ringroad/proxy"
)

// listLimit is how many connections are asked for.
const listLimit = 200

// list is the view of connections, which c opens.
type list struct {
	query    proxy.Query
	found    *control.Connections // nil: not yet
	selected int                  // of found
	top      int                  // the first one that is seen

	editing bool
	filter  string // as it is being edited
	wrong   string // what is wrong with it
}

func newList() *list { return &list{query: proxy.Query{Order: proxy.ByRequest, Limit: listLimit}} }

// key acts on a key. again tells that other connections are wanted, leave that the
// list is.
func (l *list) key(message tea.KeyPressMsg, page int) (again, leave bool) {
	name := message.String()
	if l.editing {
		return l.edit(message), false
	}
	last := 0
	if l.found != nil {
		last = max(len(l.found.Connections)-1, 0)
	}
	switch name {
	case "c", "esc":
		return false, true
	case "s":
		l.query.Order = proxy.Orders[(slices.Index(proxy.Orders, l.query.Order)+1)%len(proxy.Orders)]
		l.selected = 0
		return true, false
	case "/":
		l.editing, l.wrong = true, ""
	case "down", "j":
		l.selected++
	case "up", "k":
		l.selected--
	case "pgdown":
		l.selected += page
	case "pgup":
		l.selected -= page
	case "home", "g":
		l.selected = 0
	case "end", "G":
		l.selected = last
	}
	l.selected = min(max(l.selected, 0), last)
	return false, false
}

// edit changes the filter.
func (l *list) edit(message tea.KeyPressMsg) (again bool) {
	switch name := message.String(); name {
	case "esc":
		l.editing, l.wrong, l.filter = false, "", ""
		if l.query.Client.IsValid() {
			l.filter = l.query.Client.String()
		}
	case "enter":
		p, err := trace.ParseClient(l.filter)
		if err != nil {
			l.wrong = err.Error()
			return false
		}
		l.editing, l.query.Client, l.selected = false, p, 0
		return true
	case "backspace":
		l.filter = l.filter[:max(len(l.filter)-1, 0)]
	default:
		// Addresses are ASCII.
		if t := message.Text; len(t) == 1 && t[0] > ' ' && t[0] < 0x7f && len(l.filter) < 50 {
			l.filter += t
		}
	}
	return false
}

// page is how many connections are seen at a time.
func (v *view) page() int {
	// The title, a summary, the heads, a blank line before the details, and the foot.
	return max(v.height-5-detailLines, 1)
}

// connections lays out the list.
func (v *view) connections(now *Reading, l *list) string {
	lines := []string{v.title(now)}
	if l.found == nil {
		lines = append(lines, "asking the workers ...")
	} else {
		lines = append(lines, v.table(l)...)
	}
	lines = lines[:min(len(lines), v.height-1)]
	for len(lines) < v.height-1 {
		lines = append(lines, "")
	}
	return strings.Join(append(lines, v.listFoot(l)), "\n")
}

func (v *view) table(l *list) (lines []string) {
	all := l.found.Connections
	n := v.page()
	l.selected = min(l.selected, max(len(all)-1, 0))
	l.top = min(max(l.top, l.selected-n+1), l.selected, max(len(all)-n, 0))
	text := summary(l.found, l.query.Order)
	if l.query.Client.IsValid() {
		text += ", client " + l.query.Client.String()
	}
	if missing := unanswered(l.found); len(missing) > 0 {
		text += "; " + strings.Join(missing, "; ")
	}
	lines = append(lines, cut(text, v.width))
	lines = append(lines, styled(v.styles.quiet, v.row(" ", func(c *cell) string { return c.name })))
	for i := l.top; i < min(l.top+n, len(all)); i++ {
		mark, style := " ", (func(...string) string)(nil)
		if i == l.selected {
			mark, style = ">", v.styles.title
		}
		lines = append(lines, styled(style, v.row(mark, func(c *cell) string { return c.of(all[i]) })))
	}
	for len(lines) < 2+n {
		lines = append(lines, "")
	}
	if len(all) == 0 {
		return lines
	}
	lines = append(lines, "")
	for _, text := range details(all[l.selected]) {
		lines = append(lines, cut(text, v.width))
	}
	return lines
}

// row lays out the columns that there is room for.
func (v *view) row(mark string, text func(*cell) string) string {
	line := mark
	for i := range cells {
		c := &cells[i]
		switch {
		case c.width < 0:
			return pad(cut(line+text(c), v.width), v.width)
		case c.width == 0:
		case c.right:
			line += right(cut(text(c), c.width), c.width) + " "
		default:
			line += pad(cut(text(c), c.width), c.width) + " "
		}
	}
	return line
}

func (v *view) listFoot(l *list) string {
	switch {
	case l.editing:
		text := "client address or CIDR, empty for all: " + l.filter + "_"
		if l.wrong != "" {
			text = l.filter + "_  " + l.wrong
		}
		return styled(v.styles.high, cut(text, v.width))
	case v.err != nil:
		return v.trouble()
	}
	return styled(v.styles.quiet, cut(fmt.Sprintf("c back  s sort (%s)  / client  up/down pgup/pgdn  p pause  q quit", l.query.Order), v.width))
}
