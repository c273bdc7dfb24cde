package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/hack/lab"
)

// traced is the time line of a request, as `ringroad trace --json` prints it.
type traced struct {
	Worker        int               `json:"worker"`
	Start         time.Time         `json:"start"`
	TookNS        int64             `json:"took_ns"`
	Client        string            `json:"client"`
	Listener      string            `json:"listener"`
	Method        string            `json:"method"`
	Target        string            `json:"target"`
	Status        int               `json:"status"`
	Upstream      string            `json:"upstream"`
	Servers       []string          `json:"servers"`
	Errors        []string          `json:"errors"`
	Tunnel        bool              `json:"tunnel"`
	Unfinished    bool              `json:"unfinished"`
	EventsLeftOut int               `json:"events_left_out"`
	Copied        map[string]uint64 `json:"bytes_copied"`
	Events        []map[string]any  `json:"events"`
	ID            uint64            `json:"id"`
}

// startTrace starts a trace and waits until it is on.
func startTrace(t *testing.T, r *lab.Ringroad, args ...string) *lab.Process {
	t.Helper()
	p, err := r.StartCommand("trace", args...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitLine("following requests on e0, e1", startLimit); err != nil {
		t.Fatal(err)
	}
	return p
}

// linesOf waits for the end of a trace with --json, and reads what it printed.
func linesOf(t *testing.T, p *lab.Process) (list []*traced) {
	t.Helper()
	if err := p.Wait(startLimit); err != nil {
		t.Fatalf("%v\n%s", err, p.Output())
	}
	for line := range strings.Lines(p.Output()) {
		if !strings.HasPrefix(line, "{") {
			continue
		}
		l := new(traced)
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		l.mustBeSound(t)
		list = append(list, l)
	}
	mustContain(t, p.Output(), fmt.Sprintf("%d requests followed", len(list)))
	return list
}

// interrupted ends a trace as Ctrl-C does, and reads what it printed.
func interrupted(t *testing.T, p *lab.Process) []*traced {
	t.Helper()
	if err := p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	return linesOf(t, p)
}

// of finds the time line of a target.
func of(t *testing.T, list []*traced, target string) *traced {
	t.Helper()
	i := slices.IndexFunc(list, func(l *traced) bool { return l.Target == target })
	if i < 0 {
		t.Fatalf("no time line of %s among %d", target, len(list))
	}
	return list[i]
}

// mustBeSound checks what holds of every time line.
func (l *traced) mustBeSound(t *testing.T) {
	t.Helper()
	before := 0.0
	for i, e := range l.Events {
		at, _ := e["at_ns"].(float64)
		if _, ok := e["at_ns"].(float64); !ok || at < before || i == 0 && at != 0 {
			t.Errorf("%s: event %d, %v, is at %v after %v", l.Target, i, e["event"], e["at_ns"], before)
		}
		before = at
		name, _ := e["event"].(string)
		fields, known := shape[name]
		want := map[string]string{"event": "s", "at_ns": "n", "took_ns": "n", "side": "s", "handed_by": "n"}
		for _, f := range strings.Fields(fields) {
			field, kind, _ := strings.Cut(f, ":")
			want[field] = kind
			if _, has := e[field]; !has {
				t.Errorf("%s: event %d, %s, has no %s", l.Target, i, name, field)
			}
		}
		for field, v := range e {
			kind := map[string]string{"float64": "n", "string": "s", "bool": "b"}[fmt.Sprintf("%T", v)]
			if !known || want[field] != kind {
				t.Errorf("%s: event %d, %s, has %s: %v", l.Target, i, name, field, v)
			}
		}
		if side := e["side"]; side != nil && side != "client" && side != "backend" {
			t.Errorf("%s: event %d, %s, is of %v", l.Target, i, name, side)
		}
		if level, capacity := l.number(i, "level"), l.number(i, "capacity"); name == "read" && (capacity == 0 || level > capacity) {
			t.Errorf("%s: event %d: a receive buffer of %v bytes holds %v", l.Target, i, capacity, level)
		}
	}
	if n := l.count("parsed"); n != 1 {
		t.Errorf("%s: parsed %d times", l.Target, n)
	}
	if l.TookNS < 0 || !l.Unfinished && float64(l.TookNS) > before {
		t.Errorf("%s: took %d ns, the last event is at %v", l.Target, l.TookNS, before)
	}
}

func (l *traced) number(i int, name string) float64 {
	n, _ := l.Events[i][name].(float64)
	return n
}

// matches tells whether an event is what a pattern says: side, event, flags; each may be left out.
func (l *traced) matches(i int, pattern string) bool {
	e := l.Events[i]
	words := strings.Fields(pattern)
	if words[0] == "client" || words[0] == "backend" {
		if e["side"] != words[0] {
			return false
		}
		words = words[1:]
	}
	if e["event"] != words[0] {
		return false
	}
	switch rest := strings.Join(words[1:], " "); rest {
	case "":
		return true
	case "data":
		return l.number(i, "bytes") > 0
	default:
		return e["flags"] == rest
	}
}

func (l *traced) count(pattern string) (n int) {
	for i := range l.Events {
		if l.matches(i, pattern) {
			n++
		}
	}
	return n
}

// sum adds up a number of all events that a pattern matches.
func (l *traced) sum(pattern, field string) (n float64) {
	for i := range l.Events {
		if l.matches(i, pattern) {
			n += l.number(i, field)
		}
	}
	return n
}

// mustPass checks that events come in this order, with any others between them.
func (l *traced) mustPass(t *testing.T, patterns ...string) {
	t.Helper()
	next := 0
	for i := range l.Events {
		if next < len(patterns) && l.matches(i, patterns[next]) {
			next++
		}
	}
	if next < len(patterns) {
		var names []string
		for _, e := range l.Events {
			names = append(names, fmt.Sprint(e["side"], " ", e["event"], " ", e["flags"], " ", e["at_ns"]))
		}
		t.Errorf("%s: no %q in its place behind %q:\n%s", l.Target, patterns[next], patterns[:next], strings.Join(names, "\n"))
	}
}

// at is when the first event that a pattern matches was.
func (l *traced) at(t *testing.T, pattern string) time.Time {
	t.Helper()
	for i := range l.Events {
		if l.matches(i, pattern) {
			return l.Start.Add(time.Duration(l.number(i, "at_ns")))
		}
	}
	t.Fatalf("%s: no %s", l.Target, pattern)
	return time.Time{}
}

// speak writes requests on a connection of the client and reads the responses, which end by their length.
func speak(t *testing.T, c net.Conn, requests string, responses int) {
	t.Helper()
	if _, err := io.WriteString(c, requests); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for range responses {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
	}
}

func ask1(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n" }

// mustDraw checks that a drawing is well-formed XML by itself, and shows these requests.
func mustDraw(t *testing.T, file string, targets ...string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var texts strings.Builder
	root := ""
	for d := xml.NewDecoder(bytes.NewReader(b)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the drawing is not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if root == "" {
				root = token.Name.Space + " " + token.Name.Local
			}
			for _, a := range token.Attr {
				if a.Name.Local == "href" || token.Name.Local == "script" {
					t.Errorf("the drawing needs %s", a.Value)
				}
			}
		case xml.CharData:
			texts.Write(token)
			texts.WriteByte('\n')
		}
	}
	if root != "http://www.w3.org/2000/svg svg" {
		t.Errorf("the drawing is a %s", root)
	}
	mustContain(t, texts.String(), targets...)
}
