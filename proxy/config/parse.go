package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxFileBytes bounds what Parse looks at, far above any sensible configuration.
const maxFileBytes = 1 << 20

// maxDepth bounds the nesting of brackets. The deepest key is four levels down;
// the YAML parser calls itself for each level.
const maxDepth = 64

// Default returns a configuration with the default of every key that has one.
// It is not valid: interfaces, listeners and upstreams have none.
func Default() *Config {
	c := &Config{origin: origin{at: make(map[string]Position)}}
	setDefaults("", &scope{config: c})
	return c
}

// ParseFile reads and checks a configuration file. The error is an Errors for
// what is wrong in the file, or that of reading it.
func ParseFile(name string) (*Config, error) { return Flags{File: name}.Load() }

// read returns the content of a configuration file, as much as Parse looks at.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return src, nil
}

// Parse reads and checks a YAML document; name is what messages call it. The
// error is an Errors.
func Parse(name string, src []byte) (*Config, error) {
	c, bad := parse(name, src)
	return c.finish(bad)
}

// parse reads a document as far as it can be understood; nil when it is
// no YAML or no mapping.
func parse(name string, src []byte) (*Config, Errors) {
	d := decoder{c: Default()}
	d.c.origin.file = name
	body := d.document(src)
	if _, ok := d.asMapping("", body); !ok || len(d.bad) > 0 {
		return nil, d.bad
	}
	d.mapping(schema, "", body, &scope{config: d.c})
	return d.c, d.bad
}

// finish adds to the mistakes of reading those of checking. c is nil when
// nothing could be read.
func (c *Config) finish(bad Errors) (*Config, error) {
	if c != nil {
		bad = append(bad, c.check(bad)...)
	}
	if len(bad) > 0 {
		return nil, bad.sorted()
	}
	return c, nil
}

// decoder puts a document into a Config and notes everything that does not fit.
type decoder struct {
	c   *Config
	bad Errors
}

func (d *decoder) failf(at *token.Token, path, nearest, format string, a ...any) {
	d.bad = append(d.bad, &Error{Position: d.position(at), Key: path, Message: fmt.Sprintf(format, a...), Nearest: nearest})
}

func (d *decoder) position(at *token.Token) Position {
	p := Position{File: d.c.origin.file}
	if at != nil && at.Position != nil {
		p.Line, p.Column = at.Position.Line, at.Position.Column
	}
	return p
}

// document returns the one mapping that a configuration file is, nil for an
// empty file.
func (d *decoder) document(src []byte) (body ast.Node) {
	text := strings.TrimPrefix(string(src), "\ufeff")
	if at, why := unreadable(text); why != "" {
		d.bad = append(d.bad, &Error{Position: Position{File: d.c.origin.file, Line: at, Column: 1}, Message: why})
		return nil
	}
	defer func() {
		// The YAML library is not ours: whatever a file does to it is an error of
		// the file to the operator, whose running process must survive a reload.
		if r := recover(); r != nil {
			d.failf(nil, "", "", "cannot be read as YAML: %v", r)
			body = nil
		}
	}()
	f, err := parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(text, err)
		return nil
	}
	for _, doc := range f.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		if body != nil {
			d.failf(doc.Body.GetToken(), "", "", "a second document: a configuration is one document, without --- in between")
			return nil
		}
		body = doc.Body
	}
	return body
}

// unreadable tells why a text should not be given to the YAML parser at all.
func unreadable(text string) (line int, why string) {
	if len(text) > maxFileBytes {
		return 1, fmt.Sprintf("is longer than %s", formatSize(maxFileBytes))
	}
	line = 1
	depth := 0
	for _, c := range []byte(text) {
		switch c {
		case '\n':
			line++
		case 0:
			return line, "holds a NUL byte: this is not a text file"
		case '[', '{':
			if depth++; depth > maxDepth {
				return line, "brackets are nested too deeply"
			}
		case ']', '}':
			depth = max(0, depth-1)
		}
	}
	return 0, ""
}

// bareBrackets finds an IPv6 address with a port that has no quotes.
var bareBrackets = regexp.MustCompile(`[\s,\[]\[[0-9A-Fa-f:.]*\]:[0-9]+`)

func (d *decoder) syntax(text string, err error) {
	var y yaml.Error
	if !errors.As(err, &y) {
		d.failf(nil, "", "", "cannot be read as YAML: %v", err)
		return
	}
	d.failf(y.GetToken(), "", "", "cannot be read as YAML: %s", strings.ReplaceAll(y.GetMessage(), "\t", `\t`))
	if at := y.GetToken(); at != nil {
		lines := strings.Split(text, "\n")
		if i := at.Position.Line - 1; i >= 0 && i < len(lines) {
			if address := bareBrackets.FindString(lines[i]); address != "" {
				d.bad[len(d.bad)-1].Nearest = fmt.Sprintf("%q", address[1:])
			}
		}
	}
}

// mapping reads the keys of a section into s.
func (d *decoder) mapping(n *node, path string, y ast.Node, s *scope) {
	m, ok := d.asMapping(path, y)
	if !ok {
		return
	}
	seen := make(map[string]*token.Token, len(m))
	for _, entry := range m {
		at := entry.Key.GetToken()
		name, ok := keyName(entry.Key)
		if !ok {
			d.failf(at, path, "", "%s is not a key", entry.Key.GetToken().Value)
			continue
		}
		below := join(path, name)
		if first, twice := seen[name]; twice {
			d.failf(at, below, "", "is given twice: first in line %d", first.Position.Line)
			continue
		}
		seen[name] = at
		d.c.origin.at[below] = d.position(at)
		switch child := n.children[name]; {
		case n.named && n.element.children == nil:
			k := n.element.key
			d.scalar(k, below, entry.Value, &pair{name: name, list: k.at(s)})
		case n.named:
			d.named(n, name, below, entry, s)
		case child == nil:
			d.unknown(n, name, below, at)
		case child.list:
			d.list(child, below, entry.Value, s)
		case child.key == nil || child.key.kind == section:
			if child.key != nil && child.key.open != nil {
				child.key.open(s)
				setDefaults(child.key.path+".", s)
			}
			d.mapping(child, below, entry.Value, s)
		default:
			d.scalar(child.key, below, entry.Value, child.key.at(s))
		}
	}
}

// asMapping returns the entries of a section. A section that is empty, or whose
// every line is a comment, has none.
func (d *decoder) asMapping(path string, y ast.Node) ([]*ast.MappingValueNode, bool) {
	switch y := y.(type) {
	case nil:
		return nil, true
	case *ast.NullNode:
		return nil, true
	case *ast.MappingNode:
		return y.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{y}, true
	}
	if !d.foreign(path, y) {
		d.failf(y.GetToken(), path, "", "is %s: here belong keys, each with a colon and a value", describe(y))
	}
	return nil, false
}

func keyName(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return k.GetToken().Value, true // an upstream may be called 1 or null
	}
	return "", false
}

// join returns the path of the key name in the section at path. A name that no
// key could have is quoted, so that a message shows what is really in it.
func join(path, name string) string {
	if !plainName.MatchString(name) {
		name = strconv.Quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func (d *decoder) unknown(n *node, name, path string, at *token.Token) {
	near := nearest(name, n.names)
	if near == "" {
		near = elsewhere(name)
	}
	d.failf(at, path, near, "unknown key")
}

// named reads one entry of a section whose names the operator chooses.
func (d *decoder) named(n *node, name, path string, entry *ast.MappingValueNode, s *scope) {
	if !upstreamName.MatchString(name) {
		d.failf(entry.Key.GetToken(), path, "", "%q is not a name: use letters, digits, - and _", name)
		return
	}
	d.c.Upstreams = append(d.c.Upstreams, Upstream{Name: name})
	inner := *s
	inner.upstream = &d.c.Upstreams[len(d.c.Upstreams)-1]
	setDefaults("upstreams.NAME.", &inner)
	d.mapping(n.element, path, entry.Value, &inner)
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

var upstreamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// list reads a list of values or of sections.
func (d *decoder) list(n *node, path string, y ast.Node, s *scope) {
	seq, ok := y.(*ast.SequenceNode)
	switch {
	case !ok && d.foreign(path, y):
		return
	case !ok:
		text, single := scalarText(y)
		if single && n.key.zeroWord() && slices.Contains(n.key.values, text) {
			d.scalar(n.key, path, y, n.key.at(s))
			return
		}
		if single && n.key.kind != section && y.Type() != ast.NullType {
			d.failf(y.GetToken(), path, "["+text+"]", "is one value: a list stands in brackets")
			return
		}
		d.failf(y.GetToken(), path, "", "is %s: here belongs a list", describe(y))
		return
	case len(seq.Values) == 0 && !n.key.empty:
		d.failf(seq.GetToken(), path, "", "is an empty list")
		return
	}
	if n.key.kind != section {
		emptyList(n.key.at(s)) // of its default
	}
	for i, v := range seq.Values {
		element := fmt.Sprintf("%s[%d]", path, i)
		d.c.origin.at[element] = d.position(start(v))
		if n.key.kind != section {
			if text, single := scalarText(v); single && n.key.zeroWord() && slices.Contains(n.key.values, text) {
				d.failf(start(v), element, "", "%q stands alone, without brackets", text)
				continue
			}
			if p := n.key.at(s); !d.scalar(n.key, element, v, p) {
				appendZero(p)
			}
			continue
		}
		inner := *s
		if s.listener == nil {
			d.listener(n, element, v, &inner)
		} else {
			s.listener.Routes = append(s.listener.Routes, Route{})
			inner.route = &s.listener.Routes[len(s.listener.Routes)-1]
			d.mapping(n, element, v, &inner)
		}
	}
}

func (d *decoder) listener(n *node, path string, y ast.Node, s *scope) {
	d.c.Listeners = append(d.c.Listeners, Listener{})
	s.listener = &d.c.Listeners[len(d.c.Listeners)-1]
	setDefaults("listeners[].", s)
	d.mapping(n, path, y, s)
	if s.direct == "" {
		return
	}
	if at, both := d.c.origin.at[path+".routes"]; both {
		d.bad = append(d.bad, &Error{Position: at, Key: path + ".routes", Message: "cannot stand beside upstream: as the last route, without host and path, an upstream takes what no other route matches"})
		return
	}
	s.listener.Routes = []Route{{Upstream: s.direct, direct: true}}
}

// scalar reads one value into what p points to, and tells whether it could.
func (d *decoder) scalar(k *key, path string, y ast.Node, p any) bool {
	text, ok := scalarText(y)
	if block, is := y.(*ast.LiteralNode); is && k.kind == longText {
		text, ok = block.Value.Value, true
	}
	switch {
	case d.foreign(path, y):
		return false
	case !ok:
		d.failf(start(y), path, "", "is %s: here belongs one value", describe(y))
		return false
	case y.Type() == ast.NullType:
		d.failf(y.GetToken(), path, "", "has no value")
		return false
	}
	d.c.origin.at[path] = d.position(start(y))
	bad := k.set(p, text)
	if bad != nil {
		d.failf(start(y), path, bad.nearest, "%s", bad.message)
	}
	return bad == nil
}

// scalarText returns the text of a single value.
func scalarText(y ast.Node) (string, bool) {
	switch y := y.(type) {
	case *ast.StringNode:
		return y.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return y.GetToken().Value, true
	case *ast.MappingNode:
		if !y.IsFlowStyle && len(y.Values) == 1 {
			return scalarText(y.Values[0])
		}
	case *ast.MappingValueNode:
		// YAML 1.2 7.3.3: a colon without a space behind it belongs to the text.
		// The library takes it for a key where a bracket stands before: [app:80].
		key, value := y.Key.GetToken(), y.Value.GetToken()
		text, ok := scalarText(y.Value)
		if ok && value.Position.Line == key.Position.Line && value.Position.Offset == y.Start.Position.Offset+1 {
			return key.Value + ":" + text, true
		}
	}
	return "", false
}

// foreign notes parts of YAML that a configuration does not use, so that a file
// means what it says where it says it.
func (d *decoder) foreign(path string, y ast.Node) bool {
	switch y := y.(type) {
	case *ast.AliasNode:
		text := strings.TrimSpace(y.String())
		d.failf(y.GetToken(), path, fmt.Sprintf("%q", text), "a value that begins with a star stands in quotes (YAML aliases are not used)")
	case *ast.AnchorNode:
		d.failf(y.GetToken(), path, "", "YAML anchors are not used")
	case *ast.TagNode:
		d.failf(y.GetToken(), path, "", "YAML tags are not used")
	default:
		return false
	}
	return true
}

func describe(y ast.Node) string {
	switch y.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a section with keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.LiteralNode:
		return "a block of text"
	case *ast.NullNode:
		return "empty"
	}
	text := y.GetToken().Value
	if len(text) > 40 {
		text = strings.ToValidUTF8(text[:40], "") + "..."
	}
	return fmt.Sprintf("the value %q", text)
}

// start returns the first token of a node: of a section its first key, whose
// own token is the colon behind it.
func start(y ast.Node) *token.Token {
	switch y := y.(type) {
	case *ast.MappingNode:
		if !y.IsFlowStyle && len(y.Values) > 0 {
			return y.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return y.Key.GetToken()
	}
	return y.GetToken()
}
