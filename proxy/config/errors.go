package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is where something was written: a place in a file, or a flag.
type Position struct {
	File   string // name of the file as it was given; "": not from a file
	Line   int    // from 1
	Column int    // from 1, in characters
	Flag   string // "--listen" where a flag said it
}

// String returns "FILE:LINE:COLUMN", the flag, or "" when neither is known.
func (p Position) String() string {
	switch {
	case p.Flag != "":
		return p.Flag
	case p.Line > 0:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
	return p.File
}

// Error is one mistake in a configuration.
type Error struct {
	Position Position
	Key      string // path of the key, "listeners[0].routes[1].path"; "": the document itself
	Message  string // what is wrong and what would be right
	Nearest  string // nearest valid key or value; "": none is near

	err error // sentinel; nil for a mistake in a value
}

// Unwrap returns the sentinel that the mistake belongs to, nil for none.
func (e *Error) Unwrap() error { return e.err }

// Error returns position, key and message in one line.
func (e *Error) Error() string {
	var b strings.Builder
	if p := e.Position.String(); p != "" {
		b.WriteString(p)
		b.WriteString(": ")
	}
	if e.Key != "" && e.Position.Flag == "" { // the flag says it
		b.WriteString(e.Key)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Nearest != "" {
		fmt.Fprintf(&b, " (did you mean %s?)", e.Nearest)
	}
	return b.String()
}

// Errors is every mistake of one configuration, in the order of the document.
// It is never empty where it is returned as an error.
type Errors []*Error

// Error returns one line for each mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As and errors.Is each mistake.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// sorted orders the mistakes by their place; those without one keep their order
// and come last.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *Error) int {
		if known := cmp.Compare(rank(b), rank(a)); known != 0 {
			return known
		}
		return cmp.Or(cmp.Compare(a.Position.Line, b.Position.Line), cmp.Compare(a.Position.Column, b.Position.Column))
	})
	return e
}

func rank(e *Error) int {
	if e.Position.Line > 0 {
		return 1
	}
	return 0
}

// origin remembers where the values of a Config were written.
type origin struct {
	file  string              // name of the file; "": none
	flags bool                // nothing but flags said what is in it
	at    map[string]Position // by key path
}

// position returns where the value at path, or else the nearest section around
// it, was written. Of what flags left out it is the flag.
func (o *origin) position(path string) Position {
	for p := path; p != ""; p = parent(p) {
		if at, ok := o.at[p]; ok {
			return at
		}
	}
	if o.flags {
		for i := range table {
			if k := &table[i]; k.flag != "" && strings.HasPrefix(k.path, path) {
				return Position{Flag: "--" + k.flag}
			}
		}
	}
	return Position{File: o.file}
}

// parent returns the path around the last key or index of path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}
