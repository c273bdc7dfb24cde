package proxy

import (
	"strings"

	"ringroad/proxy/config"
	"ringroad/proxy/http1"
)

// template is field lines of which the request fills in a part.
type template []piece

// piece is a part of a template: a variable, or bytes.
type piece struct {
	text     []byte // valid iff variable is config.NoVariable
	variable config.Variable
}

// forwarded is a variable that no configuration names: an element of Forwarded.
const forwarded config.Variable = 1<<8 - 1

// edits is what a listener and one of its routes change in messages of one
// direction.
type edits struct {
	remove []http1.FieldName // those of set among them
	lines  template          // those of set, then those of add
	host   []byte            // what Host is set to; nil: not
}

// newEdits puts the changes of a listener and of a route together: what the route
// says about a name goes before what its listener says about it, and both go
// before f.
func newEdits(l, r *config.Edits, f config.Forwarded) (e edits, err error) {
	var fields []config.Field
	edit := func(c *config.Edits, hidden *config.Edits) {
		for _, name := range c.Remove {
			if !touches(hidden, name) {
				e.removeName(name)
			}
		}
		for _, f := range c.Set {
			switch {
			case touches(hidden, f.Name):
			case strings.EqualFold(f.Name, "host"):
				e.host = []byte(f.Value)
			default:
				e.removeName(f.Name)
				fields = append(fields, f)
			}
		}
	}
	edit(l, r)
	edit(r, nil)
	for _, f := range l.Add {
		if !touches(r, f.Name) {
			fields = append(fields, f)
		}
	}
	fields = append(fields, r.Add...)
	if f != "" && f != config.ForwardedOff && !e.removes("Forwarded") {
		if f == config.ForwardedReplace {
			e.removeName("Forwarded")
		}
		e.lines = append(e.lines, piece{text: []byte("Forwarded: ")}, piece{variable: forwarded}, piece{text: []byte("\r\n")})
	}
	for _, f := range fields {
		if err := e.line(f.Name, f.Value); err != nil {
			return e, err
		}
	}
	return e, nil
}

// touches tells whether c sets or removes the field.
func touches(c *config.Edits, name string) bool {
	if c == nil {
		return false
	}
	for _, n := range c.Remove {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	for _, f := range c.Set {
		if strings.EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

func (e *edits) removeName(name string) {
	if n, ok := http1.NewFieldName(name); ok { // what is no name is in no message
		e.remove = append(e.remove, n)
	}
}

// widen makes requests lose look-alikes too: a backend that takes X_User for X-User
// would otherwise get from a client what it was to get from the proxy alone.
func (e *edits) widen() {
	for i, n := range e.remove {
		e.remove[i] = n.LookAlikes()
	}
}

// removes tells whether the message loses the field.
func (e *edits) removes(name string) bool {
	for _, n := range e.remove {
		if n.Is([]byte(name)) {
			return true
		}
	}
	return false
}

// line appends a field line.
func (e *edits) line(name, value string) error {
	pieces, err := config.ParseText(value)
	if err != nil {
		return err
	}
	e.text(name + ": ")
	for _, p := range pieces {
		if p.Variable == config.NoVariable {
			e.text(p.Text)
		} else {
			e.lines = append(e.lines, piece{variable: p.Variable})
		}
	}
	e.text("\r\n")
	return nil
}

// text appends bytes, to the last piece if that consists of bytes too.
func (e *edits) text(s string) {
	if n := len(e.lines); n > 0 && e.lines[n-1].variable == config.NoVariable {
		e.lines[n-1].text = append(e.lines[n-1].text, s...)
		return
	}
	e.lines = append(e.lines, piece{text: []byte(s)})
}

// lines returns via and the field lines of t. They are valid until the next call.
func (x *exchange) lines(via []byte, t template) []byte {
	if len(t) == 0 {
		return via
	}
	w := x.session.worker
	w.lines = x.expand(append(w.lines[:0], via...), t)
	return w.lines
}

// expand appends t, filled in for the request. Nothing that a request may hold in
// these places can end a field line: the parser refuses it.
func (x *exchange) expand(b []byte, t template) []byte {
	s := x.session
	for i := range t {
		switch t[i].variable {
		case config.NoVariable:
			b = append(b, t[i].text...)
		case config.VarHost:
			b = x.appendHost(b)
		case config.VarRemoteAddr:
			b = append(b, s.clientAddr()...)
		case config.VarRequestURI:
			b = x.appendURI(b)
		case config.VarScheme:
			b = append(b, "http"...)
		case forwarded:
			b = x.appendForwarded(b)
		}
	}
	return b
}

// appendHost appends the host that the request is for, in lower case. A request of
// HTTP/1.0 that names none is for the address that it came to.
func (x *exchange) appendHost(b []byte) []byte {
	host := x.req.HostName.Of(x.head())
	if len(host) == 0 {
		a := x.session.ourEnd().Addr().Unmap().WithZone("")
		if a.Is4() {
			return a.AppendTo(b)
		}
		return append(a.AppendTo(append(b, '[')), ']')
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// appendURI appends the path and query of the target, "/" where it has none.
func (x *exchange) appendURI(b []byte) []byte {
	path := x.req.Path.Of(x.head())
	if len(path) == 0 || path[0] != '/' {
		b = append(b, '/')
	}
	return append(b, path...)
}

// appendForwarded appends an element of Forwarded (RFC 7239 4). An address of IPv6
// and a host with a port are no tokens and stand in quotes (RFC 7239 6); neither
// can hold a quote.
func (x *exchange) appendForwarded(b []byte) []byte {
	addr := x.session.clientAddr()
	b = append(b, "for="...)
	if isToken(addr) {
		b = append(b, addr...)
	} else {
		b = append(b, `"[`...)
		b = append(b, addr...)
		b = append(b, `]"`...)
	}
	if host := x.req.Host.Of(x.head()); isToken(host) {
		b = append(b, ";host="...)
		b = append(b, host...)
	} else if len(host) > 0 {
		b = append(b, `;host="`...)
		b = append(b, host...)
		b = append(b, '"')
	}
	return append(b, ";proto=http"...)
}

// isToken tells whether b is a token of letters, digits, dots, hyphens and
// underscores, as nearly every host is.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(b) > 0
}

// withoutFields takes the lines of a trailer section that have one of the names out
// of it, in place: what a field may not be in the head it may not be behind the
// body either (RFC 9110 6.5.1).
func withoutFields(trailers []byte, names []http1.FieldName) []byte {
	kept := trailers[:0]
	for len(trailers) > 0 {
		end := 0
		for trailers[end] != '\n' { // lines are canonical
			end++
		}
		line := trailers[:end+1]
		trailers = trailers[end+1:]
		if !removed(line, names) {
			kept = append(kept, line...)
		}
	}
	return kept
}

func removed(line []byte, names []http1.FieldName) bool {
	for i, c := range line {
		if c != ':' {
			continue
		}
		for _, n := range names {
			if n.Is(line[:i]) {
				return true
			}
		}
		break
	}
	return false
}
