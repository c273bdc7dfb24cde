package config

import (
	"fmt"
	"strings"
)

// node is a place of the document: the table as a tree.
type node struct {
	key      *key             // row of the table; nil valid iff the node only groups keys
	list     bool             // the value is a list, whose elements the children or the key describe
	named    bool             // the keys below are names that the operator chose; element describes what each holds
	element  *node            // valid iff named
	names    []string         // of the children, in the order of the table
	children map[string]*node // nil for a single value
}

// schema is the tree of the table.
var schema = buildSchema()

func buildSchema() *node {
	root := &node{}
	for i := range table {
		n := root
		for name := range strings.SplitSeq(table[i].path, ".") {
			name, list := strings.CutSuffix(name, "[]")
			n = n.child(name)
			n.list = list
		}
		n.key = &table[i]
	}
	return root
}

func (n *node) child(name string) *node {
	if name == "NAME" || name == "FIELD" || name == "STATUS" {
		n.named = true
		if n.element == nil {
			n.element = &node{}
		}
		return n.element
	}
	c := n.children[name]
	if c == nil {
		if n.children == nil {
			n.children = make(map[string]*node)
		}
		c = &node{}
		n.children[name] = c
		n.names = append(n.names, name)
	}
	return c
}

// elsewhere returns the path of the first key in the table whose last name is
// name, "" when there is none: a key that was put in the wrong place.
func elsewhere(name string) string {
	for i := range table {
		path := strings.TrimSuffix(table[i].path, "[]")
		if path[strings.LastIndexByte(path, '.')+1:] == name {
			return path
		}
	}
	return ""
}

// visit calls f for every value of the configuration except sections, with its
// path and a pointer to it. What sections hold under names that the operator chose
// is one value.
func (c *Config) visit(f func(path string, k *key, p any)) {
	for i := range table {
		k := &table[i]
		if k.at == nil {
			continue
		}
		s := &scope{config: c}
		path := strings.TrimSuffix(k.path, "[]")
		path = strings.TrimSuffix(strings.TrimSuffix(path, ".FIELD"), ".STATUS")
		f := func(path string, k *key, p any) {
			if p != nil {
				f(path, k, p)
			}
		}
		switch {
		case k.kind == reference && path == "listeners[].upstream":
			// Held by the listener's only route.
		case strings.HasPrefix(path, "listeners[].routes[]."):
			for i := range c.Listeners {
				s.listener = &c.Listeners[i]
				for j := range s.listener.Routes {
					s.route = &s.listener.Routes[j]
					if k.kind == reference && s.route.Upstream == "" && s.route.Answers() {
						continue // it needs none
					}
					f(routePath(c, i, j)+strings.TrimPrefix(path, "listeners[].routes[]"), k, k.at(s))
				}
			}
		case strings.HasPrefix(path, "listeners[]."):
			for i := range c.Listeners {
				s.listener = &c.Listeners[i]
				f(fmt.Sprintf("listeners[%d]", i)+strings.TrimPrefix(path, "listeners[]"), k, k.at(s))
			}
		case strings.HasPrefix(path, "upstreams.NAME."):
			for i := range c.Upstreams {
				s.upstream = &c.Upstreams[i]
				f("upstreams."+s.upstream.Name+strings.TrimPrefix(path, "upstreams.NAME"), k, k.at(s))
			}
		default:
			f(path, k, k.at(s))
		}
	}
}

// routePath returns the path of a route's keys: the listener's own for a route
// that `upstream` of the listener stands for.
func routePath(c *Config, listener, route int) string {
	if c.Listeners[listener].Routes[route].direct {
		return fmt.Sprintf("listeners[%d]", listener)
	}
	return fmt.Sprintf("listeners[%d].routes[%d]", listener, route)
}

// setDefaults gives every key whose path begins with prefix, and that has a
// place in s, its default.
func setDefaults(prefix string, s *scope) {
	for i := range table {
		k := &table[i]
		if k.def == "" || !strings.HasPrefix(k.path, prefix) {
			continue
		}
		if prefix == "" && strings.ContainsAny(k.path, "[N") {
			continue // belongs to an element that does not exist yet
		}
		p := k.at(s)
		if p == nil {
			continue // belongs to a section that does not exist
		}
		if bad := k.set(p, k.def); bad != nil {
			panic(fmt.Sprintf("default of %s: %v", k.path, bad)) // the table is wrong: TestTable
		}
	}
}
