package trace

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// header is a line in JSON but for its events.
type header struct {
	Worker     int               `json:"worker"`
	ID         uint64            `json:"id"`
	Start      time.Time         `json:"start"`
	TookNS     time.Duration     `json:"took_ns"`
	Client     string            `json:"client"`
	Listener   string            `json:"listener"`
	Method     string            `json:"method"`
	Target     string            `json:"target"`
	Status     int               `json:"status"`
	Upstream   string            `json:"upstream"`
	Servers    []string          `json:"servers"`
	Errors     []string          `json:"errors"`
	Tunnel     bool              `json:"tunnel"`
	Unfinished bool              `json:"unfinished"`
	LeftOut    int               `json:"events_left_out"`
	Copied     map[string]uint64 `json:"bytes_copied"`
	Events     []json.RawMessage `json:"events,omitempty"` // only to read
}

// MarshalJSON implements json.Marshaler. An event has the members "at_ns" and, unless it
// is a moment, "took_ns", "event", "side" where it is about one, and the values of its
// kind.
func (l *Line) MarshalJSON() ([]byte, error) { return l.appendJSON(nil) }

func (l *Line) appendJSON(b []byte) ([]byte, error) {
	h := header{
		Worker: l.Worker, ID: l.ID, Start: l.Start, TookNS: l.Took, Client: l.Client, Listener: l.Listener,
		Method: l.Method, Target: l.Target, Status: l.Status, Upstream: l.Upstream,
		Servers: append([]string{}, l.Servers...), Errors: append([]string{}, l.Errors...),
		Tunnel: l.Tunnel, Unfinished: l.Unfinished, LeftOut: l.LeftOut, Copied: map[string]uint64{},
	}
	for i, n := range l.Copies {
		h.Copied[placeNames[i]] = n
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	b = append(b, head...)
	// Events are most of it, and appended by hand: a busy worker's lines would keep the
	// master busy.
	b = append(b[:len(b)-1], `,"events":[`...)
	for i := range l.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = l.appendEvent(b, &l.Events[i])
	}
	return append(b, "]}"...), nil
}

func (l *Line) appendEvent(b []byte, e *Event) []byte {
	k := &kinds[e.Kind]
	b = append(b, `{"at_ns":`...)
	b = strconv.AppendInt(b, e.At.Nanoseconds(), 10)
	b = append(b, `,"event":"`...)
	b = append(append(b, k.name...), '"')
	if e.Took != 0 {
		b = append(b, `,"took_ns":`...)
		b = strconv.AppendInt(b, e.Took.Nanoseconds(), 10)
	}
	if e.Side != NoSide {
		b = append(b, `,"side":"`...)
		b = append(append(b, sideNames[e.Side]...), '"')
	}
	for i, v := range k.values {
		n := e.Values[i]
		if v.as == optional && n == 0 {
			continue
		}
		b = append(b, `,"`...)
		b = append(append(b, v.name...), `":`...)
		switch v.as {
		case number:
			b = strconv.AppendUint(b, uint64(n), 10)
		case optional:
			b = strconv.AppendUint(b, uint64(n-1), 10)
		case boolean:
			b = strconv.AppendBool(b, n != 0)
		case flagSet:
			b = append(append(append(b, '"'), flagText(n)...), '"')
		case ifaceName:
			b = appendString(b, l.Interfaces[n])
		case server:
			b = appendString(b, l.Servers[n])
		case failure:
			b = appendString(b, l.Errors[n])
		}
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...)
	}
	return append(b, text...)
}

// UnmarshalJSON implements json.Unmarshaler. Events of kinds that it does not know are
// left out.
func (l *Line) UnmarshalJSON(b []byte) error {
	var h header
	if err := json.Unmarshal(b, &h); err != nil {
		return err
	}
	*l = Line{
		Worker: h.Worker, ID: h.ID, Start: h.Start, Took: h.TookNS, Client: h.Client, Listener: h.Listener,
		Method: h.Method, Target: h.Target, Status: h.Status, Upstream: h.Upstream, Servers: h.Servers, Errors: h.Errors,
		Tunnel: h.Tunnel, Unfinished: h.Unfinished, LeftOut: h.LeftOut,
	}
	for i, name := range placeNames {
		l.Copies[i] = h.Copied[name]
	}
	for _, raw := range h.Events {
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			return err
		}
		if e, ok := l.eventOf(m); ok {
			l.Events = append(l.Events, e)
		}
	}
	return nil
}

// eventOf is the opposite of appendEvent.
func (l *Line) eventOf(m map[string]any) (e Event, ok bool) {
	name, _ := m["event"].(string)
	at := slices.IndexFunc(kinds[:], func(k kind) bool { return k.name == name })
	if at < 0 {
		return e, false
	}
	e.Kind = Kind(at)
	e.At, e.Took = time.Duration(asNumber(m["at_ns"])), time.Duration(asNumber(m["took_ns"]))
	side, _ := m["side"].(string)
	e.Side = Side(max(slices.Index(sideNames[:], side), 0))
	for i, v := range kinds[at].values {
		given, has := m[v.name]
		if !has {
			continue
		}
		text, _ := given.(string)
		n := uint32(asNumber(given))
		switch v.as {
		case optional:
			n++
		case boolean:
			if is, _ := given.(bool); is {
				n = 1
			}
		case flagSet:
			for _, f := range strings.Fields(text) {
				n |= 1 << max(slices.Index(flagNames[:], f), 0)
			}
		case ifaceName:
			n = index(&l.Interfaces, text)
		case server:
			n = index(&l.Servers, text)
		case failure:
			n = index(&l.Errors, text)
		}
		e.Values[i] = n
	}
	return e, true
}

func asNumber(v any) float64 {
	n, _ := v.(float64)
	return n
}

// index is the place of s in a list, to which it is added.
func index(list *[]string, s string) uint32 {
	i := slices.Index(*list, s)
	if i < 0 {
		i = len(*list)
		*list = append(*list, s)
	}
	return uint32(i)
}
