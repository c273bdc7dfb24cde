package trace

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// full is a line with an event of every kind.
func full() *line {
	l := &line{
		id: 7, clientAddr: netip.MustParseAddrPort("10.1.0.2:1234"), listener: netip.MustParseAddrPort("[fd00::1]:80"),
		method: "GET", target: "/<a>&\"\x1b[31m", group: "app", status: 502, tunnel: true, leftOut: 3,
		servers: []netip.AddrPort{netip.MustParseAddrPort("10.2.0.2:8080"), netip.MustParseAddrPort("10.2.0.3:8080")},
		errors:  []string{"connection reset\x00]]>"}, overAt: 5 * time.Millisecond,
		copies: [placeCount]uint64{1, 2, 3, 4, 1 << 40},
	}
	for k := range kindCount {
		e := Event{At: time.Millisecond + time.Duration(k)*time.Microsecond, Kind: k, Side: Side(k % 3), Took: time.Duration(k % 2)}
		for i, v := range kinds[k].values {
			e.Values[i] = uint32(i + 1)
			switch v.as {
			case boolean, server:
				e.Values[i] = 1
			case ifaceName:
				e.Values[i] = uint32(k % 2)
			case failure:
				e.Values[i] = 0
			}
		}
		l.events = append(l.events, e)
	}
	return l
}

func TestLinesSurviveTheWay(t *testing.T) {
	start := time.Now().Round(0)
	interfaces := []string{"e0", "e1"}
	got, err := decode(full().encode(nil), start, 3, interfaces)
	if err != nil {
		t.Fatal(err)
	}
	if got.Worker != 3 || got.ID != 7 || !got.Start.Equal(start.Add(time.Millisecond)) || got.Took != 4*time.Millisecond || len(got.Events) != int(kindCount) ||
		got.Status != 502 || !got.Tunnel || got.Unfinished || got.LeftOut != 3 || got.Copies[SendToFrame] != 1<<40 || got.Events[0].At != 0 {
		t.Errorf("decoded: %+v", got)
	}
	b, err := got.appendMessage(nil)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := json.Marshal(message{Summary: &Summary{Lines: 1, Lost: 2}})
	if err != nil {
		t.Fatal(err)
	}
	back := new(Line)
	sum, err := Copy(bytes.NewReader(append(b, summary...)), func(Began) {}, func(text json.RawMessage) error { return json.Unmarshal(text, back) })
	if err != nil || sum.Lost != 2 {
		t.Fatalf("%+v, %v", sum, err)
	}
	// Names of interfaces come in the order of the events.
	if !reflect.DeepEqual(back.Events, got.Events) || !reflect.DeepEqual(back.Servers, got.Servers) || !back.Start.Equal(got.Start) || back.Copies != got.Copies {
		t.Errorf("read back:\n%+v\nwant:\n%+v", back, got)
	}
	if _, err := Copy(bytes.NewReader(b), func(Began) {}, func(json.RawMessage) error { return nil }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without its end: %v", err)
	}
}

// TestBrokenLinesAreRefused changes and cuts what a worker writes.
func TestBrokenLinesAreRefused(t *testing.T) {
	whole := full().encode(nil)
	for n := range whole {
		if _, err := decode(whole[:n], time.Time{}, 0, []string{"e0", "e1"}); err == nil {
			t.Fatalf("%d of %d bytes are taken", n, len(whole))
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(8) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		l, err := decode(b, time.Time{}, 0, []string{"e0", "e1"})
		if err != nil {
			continue
		}
		// What is taken can be shown.
		if err := errors.Join(Print(io.Discard, l, true), Draw(io.Discard, []*Line{l})); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNothingOfARequestReachesTheTerminal(t *testing.T) {
	l, err := decode(full().encode(nil), time.Now(), 0, []string{"e0", "e1"})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := Print(&text, l, true); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text.String(), "\x1b\x00") || !strings.Contains(text.String(), `GET /<a>&".[31m  502`) {
		t.Errorf("printed:\n%s", text.String())
	}
	if lines := strings.Count(text.String(), "\n"); lines < int(kindCount) {
		t.Errorf("%d lines", lines)
	}
}

func TestDrawingIsWellFormed(t *testing.T) {
	l, err := decode(full().encode(nil), time.Now(), 0, []string{"e0", "e1"})
	if err != nil {
		t.Fatal(err)
	}
	later := *l
	later.Start = l.Start.Add(20 * time.Microsecond)
	var b bytes.Buffer
	if err := Draw(&b, []*Line{&later, l}); err != nil {
		t.Fatal(err)
	}
	bars := map[string]int{} // of each request
	for d := xml.NewDecoder(&b); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			for _, a := range e.Attr {
				if a.Name.Local == "fill" {
					bars[a.Value]++
				}
			}
		}
	}
	if bars[colours[0]] < int(laneCount) || bars[colours[0]] != bars[colours[1]] {
		t.Errorf("bars %v", bars)
	}
}

func TestLongLinesAreFolded(t *testing.T) {
	l, err := decode(full().encode(nil), time.Now(), 0, []string{"e0", "e1"})
	if err != nil {
		t.Fatal(err)
	}
	for len(l.Events) < 500 {
		l.Events = append(l.Events, l.Events...)
	}
	for _, all := range []bool{false, true} {
		var b strings.Builder
		if err := Print(&b, l, all); err != nil {
			t.Fatal(err)
		}
		if folded := strings.Contains(b.String(), "events more: --all shows them"); folded == all || all != (strings.Count(b.String(), "\n") > 500) {
			t.Errorf("all %v: folded %v, %d lines", all, folded, strings.Count(b.String(), "\n"))
		}
	}
}

func TestOptionsSurviveTheSocket(t *testing.T) {
	o := Options{Next: 3, Sample: 1000, Client: netip.MustParsePrefix("10.0.0.0/8"), Path: "/a&b", Slower: time.Second, Duration: time.Minute}
	got, err := ParseQuery(o.Query())
	if err != nil || got != o {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseQuery(Options{}.Query()); err != nil || got != (Options{}) {
		t.Errorf("nothing: %+v, %v", got, err)
	}
	if p, err := ParseClient("10.1.2.3/8"); err != nil || p != o.Client {
		t.Errorf("%v, %v", p, err)
	}
	for name, value := range map[string]string{
		"next": "-1", "sample": "x", "client": "10.1", "path": "api", "slower": "5", "duration": "-1s", "sampel": "1",
	} {
		if _, err := ParseQuery(map[string][]string{name: {value}}); err == nil {
			t.Errorf("%s=%s is taken", name, value)
		}
	}
}

// TestNamesAreTold keeps the table complete.
func TestNamesAreTold(t *testing.T) {
	seen := map[string]bool{}
	for i, k := range kinds {
		if k.name == "" || k.help == "" || seen[k.name] {
			t.Errorf("event %d: %q, %q", i, k.name, k.help)
		}
		seen[k.name] = true
		if len(k.values) > maxValues {
			t.Errorf("%s has %d values", k.name, len(k.values))
		}
	}
}

// A frame that came by way of the backlog has no slot of the RX ring; one of slot 0 has.
func TestSlotsAreTold(t *testing.T) {
	r := &Recorder{worker: Worker{RingEntries: 8}}
	l := &Line{Interfaces: []string{"e0"}}
	for _, c := range []struct {
		seen       sighting
		text, slot string
	}{
		{sighting{slot: 6, index: 2, n: 4, from: -1}, "queue 0, RX ring slot 0, 3 of a batch of 4", `"slot":0,`},
		{sighting{slot: -1, index: 2, n: 4, left: 9, from: -1}, "queue 0, backlog, 3 of a batch of 4, 9 behind it", `"queue":0,"position":3`},
	} {
		to := &line{recorder: r}
		to.frameReceived(Client, &c.seen)
		e := to.events[0]
		l.Events = []Event{e}
		b, err := l.appendMessage(nil)
		if text := l.Describe(&e); err != nil || !strings.Contains(text, c.text) || !strings.Contains(string(b), c.slot) {
			t.Errorf("%q, %s, %v; want %q and %s", text, b, err, c.text, c.slot)
		}
	}
}

// The sender's calls are not the recorder's to see.
func TestKicksLeftToTheSenderAreTold(t *testing.T) {
	r := &Recorder{kicks: make([]kick, 1), lines: []*line{{tx: make([]txState, 1)}}, worker: Worker{Now: func() time.Duration { return 0 }}}
	r.watching.Store(1)
	l := &Line{Interfaces: []string{"e0"}}
	for _, c := range []struct {
		calls, left int
		sender      bool
		text, json  string
	}{
		{3, 0, false, "kick of e0 for 2 frames of 70: 3 calls, 0.0 µs", `"calls":3,"left":0,"sender":false`},
		{1, 6, false, "kick of e0 for 2 frames of 70: 1 call, 0.0 µs, 6 not taken", `"left":6,"sender":false`},
		{0, 70, true, "kick of e0 for 2 frames of 70: left to the sender", `"calls":0,"left":70,"sender":true`},
	} {
		to := r.lines[0]
		to.tx[0].submitted = 2
		r.kicking(0, 70)
		r.kicked(0, c.calls, c.left, c.sender)
		e := to.events[len(to.events)-1]
		l.Events = []Event{e}
		b, err := l.appendMessage(nil)
		if text := l.Describe(&e); err != nil || text != c.text || !strings.Contains(string(b), c.json) {
			t.Errorf("%q, %s, %v; want %q and %s", text, b, err, c.text, c.json)
		}
	}
}
