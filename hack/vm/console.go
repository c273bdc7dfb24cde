package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// record is what a test said.
type record struct {
	test    string
	verdict string // PASS, FAIL, SKIP; "": it did not end
	seconds string
	facts   []string // "name value", in the order told
}

// report is what a machine said.
type report struct {
	kernel  string
	records []*record // in the order the tests began, those that are made of others left out
	result  string    // exit status of the tests; "": they did not end
}

var (
	verdictLine = regexp.MustCompile(`--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
	beginLine   = regexp.MustCompile(`^=== RUN +(\S+)`)
	factLine    = regexp.MustCompile(`^=== ATTR +(\S+) (.+)`)
)

// readReport reads a console: the lines of `go test -v` and those of package init. The kernel writes between them.
func readReport(console []byte) (r report) {
	known := map[string]*record{}
	of := func(test string) *record {
		if known[test] == nil {
			known[test] = &record{test: test}
			r.records = append(r.records, known[test])
		}
		return known[test]
	}
	for line := range strings.Lines(string(console)) {
		line = strings.TrimRight(line, "\r\n")
		if m := beginLine.FindStringSubmatch(line); m != nil {
			of(m[1])
		} else if m := factLine.FindStringSubmatch(line); m != nil {
			t := of(m[1])
			t.facts = append(t.facts, m[2])
		} else if m := verdictLine.FindStringSubmatch(line); m != nil {
			t := of(m[2])
			t.verdict, t.seconds = m[1], m[3]
		} else if k, ok := strings.CutPrefix(line, "GUEST "); ok && r.kernel == "" {
			r.kernel = k
		} else if s, ok := strings.CutPrefix(line, "RESULT "); ok {
			r.result = s
		}
	}
	all := slices.Clone(r.records)
	r.records = slices.DeleteFunc(r.records, func(parent *record) bool {
		return slices.ContainsFunc(all, func(t *record) bool { return strings.HasPrefix(t.test, parent.test+"/") })
	})
	return r
}

// passed reports whether every test ended well, and at least one did.
func (r *report) passed() bool {
	return r.result == "0" && len(r.records) > 0 && !slices.ContainsFunc(r.records, func(t *record) bool { return t.verdict != "PASS" && t.verdict != "SKIP" })
}

// print adds the machine's lines to the table.
func (r *report) print(l leg) {
	for _, t := range r.records {
		verdict := t.verdict
		if verdict == "" {
			verdict = "HUNG"
		}
		fmt.Printf(tableFormat, l.name, strings.TrimPrefix(t.test, "Test"), strings.ToLower(verdict), t.seconds, strings.Join(t.facts, "; "))
	}
}

const tableFormat = "%-16s  %-34s  %-6s  %7s  %s\n"
