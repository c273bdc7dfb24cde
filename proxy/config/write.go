package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// YAML returns the whole configuration, defaults included, as a file that Parse
// reads as the same Config.
func (c *Config) YAML() string {
	w := writer{values: make(map[string][]string)}
	c.visit(func(path string, k *key, p any) {
		if k.need || k.def != "" || !isZero(p) {
			w.values[path] = k.text(p)
		}
	})
	w.section(schema, "", "", c)
	return w.String()
}

// writer makes a document in the order of the table.
type writer struct {
	strings.Builder
	values map[string][]string // by path
}

// section writes the keys of n, whose values have paths beneath path.
func (w *writer) section(n *node, path, indent string, c *Config) {
	for _, name := range n.names {
		child, below := n.children[name], join(path, name)
		values, given := w.values[below]
		switch {
		case below == "listeners":
			fmt.Fprintf(w, "%s%s:\n", indent, name)
			for i := range c.Listeners {
				w.element(child, fmt.Sprintf("%s[%d]", below, i), indent+"  ", c)
			}
		case name == "routes" && child.list:
			w.routes(child, path, indent, c)
		case child.named && child.element.children == nil:
			if given {
				fmt.Fprintf(w, "%s%s:\n", indent, name)
				for i := 0; i < len(values); i += 2 {
					fmt.Fprintf(w, "%s  %s: %s\n", indent, quote(values[i]), quote(values[i+1]))
				}
			}
		case child.named:
			fmt.Fprintf(w, "%s%s:\n", indent, name)
			for i := range c.Upstreams {
				fmt.Fprintf(w, "%s  %s:\n", indent, quote(c.Upstreams[i].Name))
				w.section(child.element, join(below, c.Upstreams[i].Name), indent+"    ", c)
			}
		case child.key == nil || child.key.kind == section && !child.list:
			inner := writer{values: w.values}
			if inner.section(child, below, indent+"  ", c); inner.Len() > 0 {
				fmt.Fprintf(w, "%s%s:\n%s", indent, name, inner.String())
			}
		case !given:
		case child.list && child.key.zeroWord() && len(values) == 1 && slices.Contains(child.key.values, values[0]):
			fmt.Fprintf(w, "%s%s: %s\n", indent, name, values[0])
		case child.list:
			fmt.Fprintf(w, "%s%s: [%s]\n", indent, name, strings.Join(quoteAll(values), ", "))
		default:
			fmt.Fprintf(w, "%s%s: %s\n", indent, name, quote(values[0]))
		}
	}
}

// routes writes the routes of the listener at path; one that `upstream` of the
// listener stands for was written as that.
func (w *writer) routes(n *node, path, indent string, c *Config) {
	var listener int
	if _, err := fmt.Sscanf(path, "listeners[%d]", &listener); err != nil {
		panic("routes outside a listener: " + path) // a table that the writer does not know: TestRoundTrip
	}
	routes := c.Listeners[listener].Routes
	if len(routes) == 0 || routes[0].direct {
		return
	}
	fmt.Fprintf(w, "%sroutes:\n", indent)
	for i := range routes {
		w.element(n, fmt.Sprintf("%s.routes[%d]", path, i), indent+"  ", c)
	}
}

// element writes a section that is an element of a list: its keys, the first of
// them behind a dash.
func (w *writer) element(n *node, path, indent string, c *Config) {
	inner := writer{values: w.values}
	inner.section(n, path, indent+"  ", c)
	w.WriteString(indent + "- " + strings.TrimPrefix(inner.String(), indent+"  "))
}

// quote returns text as a YAML value: plain where that is safe.
func quote(text string) string {
	plain := text != "" && text[0] != '-' && !strings.EqualFold(text, "null") // which is no value
	for _, r := range text {
		if r == '-' || r == '_' || r == '.' || r == '/' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			continue
		}
		if r == ':' && !strings.ContainsAny(text, "[]*") { // 192.0.2.1:80
			continue
		}
		plain = false
	}
	if plain && !strings.HasSuffix(text, ":") {
		return text
	}
	return strconv.Quote(text)
}

func quoteAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = quote(s)
	}
	return out
}
