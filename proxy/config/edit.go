package config

import (
	"fmt"
	"regexp"
	"strings"
)

// Edits says which fields of a message are changed on its way through. Those of a
// route stand on top of those of its listener: what the route says about a name
// counts, and nothing that the listener says about it.
type Edits struct {
	Set    []Field  // the message has exactly this field with the name
	Add    []Field  // this field comes behind those that the message has
	Remove []string // no field with the name is left
}

// Field is a field line. Value may hold variables, see ParseText.
type Field struct{ Name, Value string }

// Variable is a part of a text that the request fills in.
type Variable uint8

// The variables. All of them have been checked by the time they are used, so that
// none can end a field line.
const (
	NoVariable Variable = iota
	VarHost             // $host: host that the request is for, in lower case, without the port
	VarRemoteAddr
	VarRequestURI
	VarScheme
	numVariables
)

var variableNames = [numVariables]string{
	VarHost:       "host",
	VarRemoteAddr: "remote_addr",
	VarRequestURI: "request_uri",
	VarScheme:     "scheme",
}

// Piece is a part of a text: a variable, or what stands between variables.
type Piece struct {
	Text     string // valid iff Variable is NoVariable
	Variable Variable
}

// ParseText splits a text at its variables, $name or ${name}; $$ is a dollar. The
// error names what is wrong.
func ParseText(text string) (pieces []Piece, err error) {
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			pieces = append(pieces, Piece{Text: plain.String()})
			plain.Reset()
		}
	}
	for rest := text; rest != ""; {
		before, after, found := strings.Cut(rest, "$")
		plain.WriteString(before)
		if !found {
			break
		}
		if after, found = strings.CutPrefix(after, "$"); found {
			plain.WriteByte('$')
			rest = after
			continue
		}
		m := variableForm.FindStringSubmatch(after)
		if m == nil {
			return nil, misfitf("", "a dollar begins a variable, %s; two of them are a dollar", variableList())
		}
		v := variable(m[1] + m[2])
		if v == NoVariable {
			return nil, misfitf("", "no variable is called $%s: there are %s", m[1]+m[2], variableList())
		}
		flush()
		pieces = append(pieces, Piece{Variable: v})
		rest = after[len(m[0]):]
	}
	flush()
	return pieces, nil
}

var variableForm = regexp.MustCompile(`^(?:([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\})`)

func variable(name string) Variable {
	for v := VarHost; v < numVariables; v++ {
		if variableNames[v] == name {
			return v
		}
	}
	return NoVariable
}

func variableList() string { return "$" + strings.Join(variableNames[VarHost:], ", $") }

// direction is what a field belongs to.
type direction string

const (
	request  direction = "request"
	response direction = "response"
)

// untouchable are the fields that no edit may name, with the reason, by their
// name in lower case.
var untouchable = map[direction]map[string]string{
	request: {
		"connection":          hop,
		"keep-alive":          hop,
		"proxy-connection":    hop,
		"te":                  hop,
		"trailer":             hop,
		"upgrade":             hop,
		"proxy-authorization": hop,
		"proxy-authenticate":  hop,
		"transfer-encoding":   framing,
		"content-length":      framing,
		"expect":              "the proxy waits for the answer to it",
		"via":                 "the key via adds it",
	},
	response: {
		"connection":          hop,
		"keep-alive":          hop,
		"proxy-connection":    hop,
		"te":                  hop,
		"trailer":             hop,
		"upgrade":             hop,
		"proxy-authorization": hop,
		"proxy-authenticate":  hop,
		"transfer-encoding":   framing,
		"content-length":      framing,
		"date":                "the proxy adds it where it is missing (RFC 9110 6.6.1)",
		"via":                 "the key via adds it",
	},
}

const (
	hop     = "it is for one connection, not for the message (RFC 9110 7.6.1)"
	framing = "it says where the body ends, which the proxy decides (RFC 9112 6)"
)

// fieldNameForm is a token (RFC 9110 5.6.2).
var fieldNameForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// edits checks the changes of fields.
func (v *checker) edits() {
	for i := range v.c.Listeners {
		l := &v.c.Listeners[i]
		path := fmt.Sprintf("listeners[%d]", i)
		v.edit(path, request, &l.Request)
		v.edit(path, response, &l.Response)
		for j := range l.Routes {
			path := fmt.Sprintf("%s.routes[%d]", path, j)
			v.edit(path, request, &l.Routes[j].Request)
			v.edit(path, response, &l.Routes[j].Response)
		}
	}
}

func (v *checker) edit(path string, d direction, e *Edits) {
	path += "." + string(d)
	said := make(map[string]string) // where, by name in lower case
	note := func(at, name string) {
		low := strings.ToLower(name)
		if before := said[low]; before != "" {
			v.failf(at, "", "%s is named in %s already", name, before)
		}
		said[low] = strings.TrimPrefix(at, path+".")
	}
	for i, name := range e.Remove {
		at := fmt.Sprintf("%s.remove[%d]", path, i)
		if v.fieldName(at, d, name) && !v.hostField(at, d, name, "removed") {
			note(at, name)
		}
	}
	for _, f := range e.Set {
		at := join(path+".set", f.Name)
		if v.fieldName(at, d, f.Name) {
			note(at, f.Name)
			v.fieldValue(at, f.Value)
			if d == request && strings.EqualFold(f.Name, "host") && !hostValue.MatchString(f.Value) {
				v.failf(at, "", "%q is not a host, with or without a port", f.Value)
			}
		}
	}
	for _, f := range e.Add {
		at := join(path+".add", f.Name)
		if v.fieldName(at, d, f.Name) && !v.hostField(at, d, f.Name, "added") {
			v.fieldValue(at, f.Value)
			if before := said[strings.ToLower(f.Name)]; before != "" {
				v.failf(at, "", "%s is named in %s already", f.Name, before)
			}
		}
	}
}

// hostValue is what `set` may make of Host.
var hostValue = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)

// hostField refuses to do to Host what cannot be done to it, and tells whether the
// name is that.
func (v *checker) hostField(at string, d direction, name, what string) bool {
	is := d == request && strings.EqualFold(name, "host")
	if is {
		v.failf(at, "", "Host cannot be %s: a request has exactly one (RFC 9112 3.2)", what)
	}
	return is
}

// fieldName checks a name and tells whether it may be edited.
func (v *checker) fieldName(at string, d direction, name string) bool {
	if !fieldNameForm.MatchString(name) {
		v.failf(at, "", "%q is not a field name", name)
		return false
	}
	if why := untouchable[d][strings.ToLower(name)]; why != "" {
		v.failf(at, "", "%s cannot be changed: %s", name, why)
		return false
	}
	return true
}

// fieldValue checks a value (RFC 9110 5.5). Bytes beyond ASCII are refused: their
// encoding would be a matter of luck.
func (v *checker) fieldValue(at, value string) {
	switch {
	case value == "":
		v.failf(at, "", "is empty: to leave a field out, name it in remove")
		return
	case strings.Trim(value, " \t") != value:
		v.failf(at, "", "%q has spaces around it", value)
		return
	}
	for _, c := range []byte(value) {
		if c < ' ' && c != '\t' || c >= 0x7f {
			v.failf(at, "", "%q has characters that a field value never has", value)
			return
		}
	}
	if _, err := ParseText(value); err != nil {
		v.failf(at, "", "%v", err)
	}
}
