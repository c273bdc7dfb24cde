package tui

import (
	"context"
	"fmt"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"ringroad/cmd/internal/control"
	"ringroad/proxy"
)

// MinInterval is the shortest time between two readings.
const MinInterval = 200 * time.Millisecond

const (
	maxInterval = time.Minute
	// readTimeout bounds one reading.
	readTimeout = 5 * time.Second
)

// intervals are what + and - step through.
var intervals = []time.Duration{MinInterval, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, maxInterval}

// Run shows readings until a key or the context ends it.
func Run(ctx context.Context, source Source, connections Connections, interval time.Duration, in io.Reader, out io.Writer) error {
	m := newModel(ctx, source, interval)
	m.connections = connections
	m.view.styles = styles{
		title: lipgloss.NewStyle().Reverse(true).Render,
		alarm: lipgloss.NewStyle().Bold(true).Reverse(true).Foreground(lipgloss.Red).Render,
		high:  lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Yellow).Render,
		quiet: lipgloss.NewStyle().Faint(true).Render,
	}
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)).Run()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("show on the terminal: %w", err)
	}
	return nil
}

// Once takes two readings, an interval apart, and writes what they say as text of
// that width.
func Once(ctx context.Context, source Source, interval time.Duration, width int, out io.Writer) error {
	before, err := source(ctx)
	if err != nil {
		return err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now, err := source(ctx)
	if err != nil {
		return err
	}
	v := view{width: width, detail: -1, interval: interval}
	_, err = fmt.Fprintln(out, v.screen(&now, &before))
	return err
}

// model is what the terminal shows, and how keys change it.
type model struct {
	ctx         context.Context
	source      Source
	connections Connections
	view        view
	list        *list // of connections; nil: the buffers are shown
	now, before *Reading

	reading bool // one is being taken
	again   bool // take another one at once
	due     due  // counts the waits that were cut short
}

func newModel(ctx context.Context, source Source, interval time.Duration) model {
	return model{ctx: ctx, source: source, view: view{width: 80, height: 24, detail: -1, interval: interval, keys: true}, reading: true}
}

// due: it is time for a reading.
type due int // model.due at the time of asking

// taken is a reading, or why there is none.
type taken struct {
	reading Reading
	found   *control.Connections // nil: they were not asked for
	query   proxy.Query          // that found answers
	err     error
}

// read takes a reading on a goroutine of the library's. One is under way at a time:
// the next is due an interval after the last was taken.
func (m model) read() tea.Msg {
	ctx, cancel := context.WithTimeout(m.ctx, readTimeout)
	defer cancel()
	r, err := m.source(ctx)
	t := taken{reading: r, err: err}
	if m.list != nil && err == nil {
		t.query = m.list.query
		var found control.Connections
		if found, t.err = m.connections(ctx, t.query); t.err == nil {
			t.found = &found
		}
	}
	return t
}

func (m model) wait() tea.Cmd {
	n := m.due
	return tea.Tick(m.view.interval, func(time.Time) tea.Msg { return n })
}

// Init implements tea.Model.
func (m model) Init() tea.Cmd { return m.read }

// Update implements tea.Model.
func (m model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case tea.WindowSizeMsg:
		m.view.width, m.view.height = message.Width, message.Height
	case due:
		if message != m.due {
			return m, nil
		}
		if m.view.paused {
			return m, m.wait()
		}
		m.reading = true
		return m, m.read
	case taken:
		if m.view.err = message.err; message.err == nil && !m.view.paused {
			m.now, m.before = &message.reading, m.now
			if message.found != nil && m.list != nil && m.list.query == message.query {
				m.list.found = message.found
			}
		}
		if m.again { // something else is wanted than what came
			m.again = false
			return m, m.read
		}
		m.reading = false
		return m, m.wait()
	case tea.KeyPressMsg:
		if m.list != nil {
			return m.listKey(message)
		}
		return m.key(message.String())
	}
	return m, nil
}

// listKey acts on a key while connections are shown.
func (m model) listKey(message tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	name := message.String()
	switch {
	case name == "ctrl+c" || name == "q" && !m.list.editing:
		return m, tea.Quit
	case (name == "p" || name == "+" || name == "=" || name == "-") && !m.list.editing:
		return m.key(name)
	}
	again, leave := m.list.key(message, m.view.page())
	switch {
	case leave:
		m.list = nil
	case again:
		m.list.found = nil
		return m.soon()
	}
	return m, nil
}

// soon takes a reading at once, or when the one that is under way has come.
func (m model) soon() (tea.Model, tea.Cmd) {
	if m.reading {
		m.again = true
		return m, nil
	}
	m.due++ // the tick that was awaited counts no more
	m.reading = true
	return m, m.read
}

func (m model) key(name string) (tea.Model, tea.Cmd) {
	v := &m.view
	workers := 0
	if m.now != nil {
		workers = len(m.now.Stats.Workers)
	}
	switch name {
	case "q", "ctrl+c", "esc":
		return m, tea.Quit
	case "p", "space", " ":
		v.paused = !v.paused
	case "+", "=":
		v.interval = step(v.interval, 1)
	case "-":
		v.interval = step(v.interval, -1)
	case "c":
		if m.connections != nil {
			m.list = newList()
			return m.soon()
		}
	case "w":
		if v.detail++; v.detail >= workers {
			v.detail = -1
		}
	case "right", "l":
		v.first = min(v.first+1, max(workers-1, 0))
	case "left", "h":
		v.first = max(v.first-1, 0)
	}
	return m, nil
}

// step is the next longer interval, or the next shorter one.
func step(d time.Duration, direction int) time.Duration {
	if direction > 0 {
		for _, i := range intervals {
			if i > d {
				return i
			}
		}
		return maxInterval
	}
	for k := len(intervals) - 1; k >= 0; k-- {
		if intervals[k] < d {
			return intervals[k]
		}
	}
	return MinInterval
}

// View implements tea.Model.
func (m model) View() tea.View {
	text := ""
	if m.list != nil && m.now != nil {
		text = m.view.connections(m.now, m.list)
	} else {
		text = m.view.screen(m.now, m.before)
	}
	v := tea.NewView(text)
	v.AltScreen = true
	return v
}
