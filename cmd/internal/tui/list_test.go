package tui

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"ringroad/cmd/internal/control"
	"ringroad/proxy"
	"ringroad/stack"
)

// connections are n of two workers; every third one has a request.
func connections(n int) *control.Connections {
	found := &control.Connections{Time: start, Workers: []control.Surveyed{{Worker: 0, Open: n}, {Worker: 1, Open: n, Matching: n}}}
	for i := range n {
		d := time.Duration(i+1) * 7 * time.Millisecond
		c := &proxy.Connection{
			Worker: 1, Number: uint64(i + 1), Client: netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:%d", 100+i%100, 40000+i)),
			State: proxy.StateIdle, InState: d * 30, Age: d * 1000, Requests: i,
			TCP: stack.Info{
				Local: netip.MustParseAddrPort("198.51.100.1:80"), State: "ESTABLISHED", RTT: d, RTTVar: d / 4, RTO: 200 * time.Millisecond,
				CongestionWindow: 20, PeerWindow: 65535, Buffered: stack.Buffered{ReceiveRoom: 131072, SendRoom: 262144}, BytesRead: 1000, BytesWritten: 2e6,
			},
		}
		if i%3 == 0 {
			c.State, c.Held = proxy.StateRelay, 65536
			c.TCP.Sent, c.TCP.Retransmits, c.TCP.SlowStartThreshold, c.TCP.Recovery = 260000, 12, 14, "sack"
			c.Request = &proxy.RequestUnderWay{Method: "GET", Host: "www.example.org", Path: "/a/rather/long/path/of/a/large/file.iso", Age: d * 30, Status: 200, ResponseBytes: 123456789, RequestBytes: 107}
			c.Backend = &proxy.BackendConnection{Upstream: "app", Server: netip.MustParseAddrPort("10.2.0.2:8080"), Pooled: i%2 == 0, Requests: 5, TCP: c.TCP}
			c.Backend.TCP.Local = netip.MustParseAddrPort("10.2.0.1:12345")
		}
		found.Connections = append(found.Connections, c)
	}
	return found
}

// opened is a model that shows 50 connections, and what it asks for.
func opened(t *testing.T) (m model, asked *proxy.Query) {
	t.Helper()
	asked = &proxy.Query{}
	m = newModel(t.Context(), func(context.Context) (Reading, error) { return *reading(2, 10), nil }, time.Second)
	m.connections = func(_ context.Context, q proxy.Query) (control.Connections, error) {
		*asked = q
		return *connections(50), nil
	}
	return take(m, letter('c')), asked
}

// take presses keys, and has the readings taken that they ask for.
func take(m model, keys ...tea.KeyPressMsg) model {
	if m.now == nil {
		next, _ := m.Update(m.read())
		m = next.(model)
	}
	for _, k := range keys {
		next, command := m.Update(k)
		if m = next.(model); command != nil {
			next, _ = m.Update(command())
			m = next.(model)
		}
	}
	return m
}

func TestConnectionScreens(t *testing.T) {
	m, _ := opened(t)
	for name, keys := range map[string][]tea.KeyPressMsg{
		"connections-80x24":        nil,
		"connections-80x24-third":  {{Code: tea.KeyPgDown}, {Code: tea.KeyDown}, {Code: tea.KeyDown}},
		"connections-80x24-filter": {letter('/'), letter('1'), letter('0'), {Code: tea.KeyEnter}},
	} {
		next, _ := m.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
		got := take(next.(model), keys...).View().Content + "\n"
		fits(t, plain(got), 80, 24)
		golden(t, filepath.Join("testdata", name+".txt"), plain(got))
		m, _ = opened(t)
	}
	for width := 31; width <= 200; width += 21 {
		for height := 2; height <= 60; height += 5 {
			next, _ := m.Update(tea.WindowSizeMsg{Width: width, Height: height})
			m = take(next.(model), tea.KeyPressMsg{Code: tea.KeyPgDown})
			fits(t, plain(m.View().Content), width, height)
		}
	}
}

// golden compares text with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

// plain is the text without blanks at the ends of lines.
func plain(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestConnectionKeys(t *testing.T) {
	m, asked := opened(t)
	if asked.Order != proxy.ByRequest || asked.Limit != listLimit || asked.Client.IsValid() || len(m.list.found.Connections) != 50 {
		t.Fatalf("asked for %+v", asked)
	}
	m = take(m, letter('s'), letter('s'))
	if asked.Order != proxy.ByRTT || m.list.found == nil {
		t.Errorf("asked for %+v", asked)
	}
	for _, text := range []string{"192.0.2.0/24", "192.0.2.7"} {
		m = take(m, letter('/'))
		for range 20 {
			m = take(m, tea.KeyPressMsg{Code: tea.KeyBackspace})
		}
		for _, r := range text {
			m = take(m, letter(r))
		}
		m = take(m, tea.KeyPressMsg{Code: tea.KeyEnter})
		if p, _, _ := strings.Cut(asked.Client.String(), "/"); m.list.editing || !strings.HasPrefix(text, p) {
			t.Errorf("%s: asked for %+v", text, asked)
		}
	}
	before := *asked
	m = take(m, letter('/'), letter('q'), tea.KeyPressMsg{Code: tea.KeyEnter})
	if !m.list.editing || *asked != before || !strings.Contains(m.View().Content, "is no address") {
		t.Errorf("a filter that is no address: asked for %+v, shows\n%s", asked, m.View().Content)
	}
	m = take(m, tea.KeyPressMsg{Code: tea.KeyEscape})
	if m.list.editing || *asked != before || m.list.filter != "192.0.2.7/32" {
		t.Errorf("given up: %+v", m.list)
	}
	for _, c := range []struct {
		key  tea.KeyPressMsg
		want int
	}{
		{tea.KeyPressMsg{Code: tea.KeyUp}, 0}, {tea.KeyPressMsg{Code: tea.KeyDown}, 1}, {tea.KeyPressMsg{Code: tea.KeyPgDown}, 1 + 11}, {letter('G'), 49},
		{tea.KeyPressMsg{Code: tea.KeyDown}, 49}, {tea.KeyPressMsg{Code: tea.KeyPgUp}, 49 - 11}, {letter('g'), 0},
	} {
		if m = take(m, c.key); m.list.selected != c.want || !strings.Contains(m.View().Content, "\n>") {
			t.Errorf("%s: %d is marked, want %d", c.key.String(), m.list.selected, c.want)
		}
	}
	if m = take(m, tea.KeyPressMsg{Code: tea.KeyEscape}); m.list != nil || !strings.Contains(m.View().Content, "fill ring") {
		t.Error("escape does not lead back")
	}
}

// TestAnswersToOtherQuestionsAreNotShown: keys come while a reading is under way.
func TestAnswersToOtherQuestionsAreNotShown(t *testing.T) {
	m, asked := opened(t)
	next, _ := m.Update(m.due) // a reading begins,
	m = next.(model)
	late := m.read()
	next, command := m.Update(letter('s')) // another order is wanted
	if m = next.(model); command != nil || m.list.found != nil {
		t.Error("two readings at a time")
	}
	next, command = m.Update(late)
	if m = next.(model); m.list.found != nil || command == nil {
		t.Fatal("the answer to another question is shown, or none is asked")
	}
	next, _ = m.Update(command())
	if m = next.(model); m.list.found == nil || asked.Order != proxy.ByAge {
		t.Errorf("asked for %+v", asked)
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0us", 0: "0us", 999 * time.Microsecond: "999us", 1500 * time.Microsecond: "1.5ms", 999 * time.Millisecond: "999ms", 9900 * time.Millisecond: "9.9s",
		119 * time.Second: "119s", 2 * time.Minute: "2.0m", 119 * time.Minute: "119m", 2 * time.Hour: "2.0h", 999 * time.Hour: "999h", 48 * 1000 * time.Hour: "2000d",
	} {
		if got := took(d); got != want || len(got) > 5 {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
