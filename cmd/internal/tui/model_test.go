package tui

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
)

// press gives a model keys, one after the other.
func press(m model, keys ...tea.KeyPressMsg) model {
	for _, k := range keys {
		next, _ := m.Update(k)
		m = next.(model)
	}
	return m
}

func letter(r rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: r, Text: string(r)} }

func TestKeys(t *testing.T) {
	m := newModel(t.Context(), nil, time.Second)
	next, _ := m.Update(taken{reading: *reading(2, 1)})
	m = next.(model)
	for name, c := range map[string]struct {
		keys  []tea.KeyPressMsg
		right func(view) bool
	}{
		"pause":               {[]tea.KeyPressMsg{letter('p')}, func(v view) bool { return v.paused }},
		"go on":               {[]tea.KeyPressMsg{letter('p'), letter('p')}, func(v view) bool { return !v.paused }},
		"slower":              {[]tea.KeyPressMsg{letter('+')}, func(v view) bool { return v.interval == 2*time.Second }},
		"faster":              {[]tea.KeyPressMsg{letter('-')}, func(v view) bool { return v.interval == 500*time.Millisecond }},
		"as fast as can be":   {[]tea.KeyPressMsg{letter('-'), letter('-'), letter('-')}, func(v view) bool { return v.interval == MinInterval }},
		"one worker":          {[]tea.KeyPressMsg{letter('w')}, func(v view) bool { return v.detail == 0 }},
		"all workers again":   {[]tea.KeyPressMsg{letter('w'), letter('w'), letter('w')}, func(v view) bool { return v.detail == -1 }},
		"to the right, ends":  {[]tea.KeyPressMsg{{Code: tea.KeyRight}, {Code: tea.KeyRight}, {Code: tea.KeyRight}}, func(v view) bool { return v.first == 1 }},
		"to the left, begins": {[]tea.KeyPressMsg{{Code: tea.KeyRight}, {Code: tea.KeyLeft}, {Code: tea.KeyLeft}}, func(v view) bool { return v.first == 0 }},
		"nothing":             {[]tea.KeyPressMsg{letter('x')}, func(v view) bool { return v.detail == -1 && !v.paused && v.first == 0 }},
	} {
		if got := press(m, c.keys...).view; !c.right(got) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, k := range []tea.KeyPressMsg{letter('q'), {Code: 'c', Mod: tea.ModCtrl}} {
		_, command := m.Update(k)
		if command == nil {
			t.Fatalf("%v does not quit", k)
		}
		if _, ok := command().(tea.QuitMsg); !ok {
			t.Errorf("%v does not quit", k)
		}
	}
}

// TestReadingsFollow takes readings as the program does: the last two are shown, an
// error leaves them, and a pause stops them.
func TestReadingsFollow(t *testing.T) {
	var fail error
	seconds := uint64(0)
	m := newModel(t.Context(), func(context.Context) (Reading, error) {
		seconds++
		return *reading(2, seconds), fail
	}, time.Second)
	read := func() {
		next, command := m.Update(m.read())
		if m = next.(model); command == nil {
			t.Fatal("no other reading is due")
		}
	}
	if text := m.View().Content; !strings.Contains(text, "waiting") {
		t.Errorf("before the first reading:\n%s", text)
	}
	read()
	read()
	if text := m.View().Content; !strings.Contains(text, "12.3k") || !strings.Contains(text, "!+3") {
		t.Errorf("no rates, or no alarm, in:\n%s", text)
	}
	fail = errors.New("ringroad is about to end")
	read()
	if text := m.View().Content; !strings.Contains(text, "no reading: ringroad is about to end") || !strings.Contains(text, "12.3k") {
		t.Errorf("after an error:\n%s", text)
	}
	fail = nil
	m = press(m, letter('p'))
	before := m.now
	read() // one that was under way
	if text := m.View().Content; m.now != before || !strings.Contains(text, "PAUSED") || strings.Contains(text, "no reading") {
		t.Errorf("paused:\n%s", text)
	}
}

func TestOnce(t *testing.T) {
	seconds := uint64(0)
	source := func(context.Context) (Reading, error) {
		seconds++
		return *reading(1, seconds), nil
	}
	var b bytes.Buffer
	if err := Once(t.Context(), source, time.Millisecond, 80, &b); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, "12.3k") || strings.Contains(text, "\x1b") || strings.Contains(text, "quit") {
		t.Errorf("got\n%s", text)
	}
	want := errors.New("no ringroad")
	if err := Once(t.Context(), func(context.Context) (Reading, error) { return Reading{}, want }, time.Millisecond, 80, &b); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

// TestStylesChangeNoLetter renders with styles and without.
func TestStylesChangeNoLetter(t *testing.T) {
	mark := func(text ...string) string { return "\x01" + strings.Join(text, "") + "\x02" }
	plain := view{width: 80, height: 24, detail: -1, interval: time.Second, keys: true}
	marked := plain
	marked.styles = styles{title: mark, alarm: mark, high: mark, quiet: mark}
	got := marked.screen(reading(2, 11), reading(2, 10))
	if !strings.Contains(got, "\x01 !+3\x02") {
		t.Errorf("what moved is not marked:\n%q", got)
	}
	if got = strings.NewReplacer("\x01", "", "\x02", "").Replace(got); got != plain.screen(reading(2, 11), reading(2, 10)) {
		t.Errorf("got\n%s", got)
	}
}
