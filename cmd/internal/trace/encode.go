package trace

import (
	"encoding/binary"
	"errors"
	"time"
)

// A finished line goes from the worker to the master in a form that costs the loop a
// copy: fixed words, texts with their lengths, then the events. Both are one program.

const eventBytes = 8 + 8 + 4 + 4*maxValues

var errMalformed = errors.New("a malformed time line")

// encode appends l.
func (l *line) encode(b []byte) []byte {
	ne := binary.NativeEndian
	b = ne.AppendUint64(b, l.id)
	b = ne.AppendUint64(b, uint64(l.overAt-l.events[0].At))
	b = ne.AppendUint32(b, uint32(l.status))
	b = ne.AppendUint32(b, bit(l.tunnel)|bit(l.unfinished)<<1)
	b = ne.AppendUint32(b, uint32(l.leftOut))
	for _, n := range l.copies {
		b = ne.AppendUint64(b, n)
	}
	b = appendText(b, l.clientAddr.String())
	b = appendText(b, l.listener.String())
	b = appendText(b, l.method)
	b = appendText(b, l.target)
	b = appendText(b, l.group)
	b = ne.AppendUint32(b, uint32(len(l.servers)))
	for _, s := range l.servers {
		b = appendText(b, s.String())
	}
	b = ne.AppendUint32(b, uint32(len(l.errors)))
	for _, s := range l.errors {
		b = appendText(b, s)
	}
	b = ne.AppendUint32(b, uint32(len(l.events)))
	for i := range l.events {
		e := &l.events[i]
		b = ne.AppendUint64(b, uint64(e.At))
		b = ne.AppendUint64(b, uint64(e.Took))
		b = append(b, uint8(e.Kind), uint8(e.Side), 0, 0)
		for _, v := range e.Values {
			b = ne.AppendUint32(b, v)
		}
	}
	return b
}

// maxText is the longest text of a line that is kept: a target can be as long as a
// head.
const maxText = 4 << 10

func appendText(b []byte, s string) []byte {
	s = s[:min(len(s), maxText)]
	b = binary.NativeEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// decode reads a line whose worker's clock began at start. What a broken worker wrote
// is an error, and nothing worse.
func decode(b []byte, start time.Time, worker int, interfaces []string) (*Line, error) {
	d := decoder{b: b}
	l := &Line{Worker: worker, Interfaces: interfaces}
	l.ID, l.Took = d.uint64(), time.Duration(d.uint64())
	l.Status = int(d.uint32())
	flags := d.uint32()
	l.Tunnel, l.Unfinished = flags&1 != 0, flags&2 != 0
	l.LeftOut = int(d.uint32())
	for i := range l.Copies {
		l.Copies[i] = d.uint64()
	}
	l.Client, l.Listener, l.Method, l.Target, l.Upstream = d.text(), d.text(), d.text(), d.text(), d.text()
	l.Servers, l.Errors = d.texts(), d.texts()
	n := int(d.uint32())
	if d.failed || n == 0 || n*eventBytes != len(d.b) {
		return nil, errMalformed
	}
	var first time.Duration
	l.Events = make([]Event, 0, n)
	for i := range n {
		e := Event{At: time.Duration(d.uint64()), Took: time.Duration(d.uint64())}
		k := d.take(4)
		e.Kind, e.Side = Kind(k[0]), Side(k[1])
		for v := range e.Values {
			e.Values[v] = d.uint32()
		}
		if i == 0 {
			first = e.At
			l.Start = start.Add(first)
		}
		e.At -= first
		if !l.valid(&e) {
			return nil, errMalformed
		}
		l.Events = append(l.Events, e)
	}
	return l, nil
}

// valid reports whether the indexes of e lead somewhere.
func (l *Line) valid(e *Event) bool {
	if e.Kind >= kindCount || e.Side > Backend {
		return false
	}
	for i, v := range kinds[e.Kind].values {
		n, most := int(e.Values[i]), -1
		switch v.as {
		case ifaceName:
			most = len(l.Interfaces)
		case server:
			most = len(l.Servers)
		case failure:
			most = len(l.Errors)
		}
		if most >= 0 && n >= most {
			return false
		}
	}
	return true
}

type decoder struct {
	b      []byte
	failed bool
}

// take takes n bytes off, zeros when there are fewer.
func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.failed, d.b = true, nil
		return make([]byte, min(n, 8))
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) uint64() uint64 { return binary.NativeEndian.Uint64(d.take(8)) }
func (d *decoder) uint32() uint32 { return binary.NativeEndian.Uint32(d.take(4)) }

func (d *decoder) text() string {
	n := int(d.uint32())
	if n > len(d.b) {
		d.failed, d.b = true, nil
		return ""
	}
	return string(d.take(n))
}

func (d *decoder) texts() (list []string) {
	n := int(d.uint32())
	for range n {
		if d.failed {
			return nil
		}
		list = append(list, d.text())
	}
	return list
}
