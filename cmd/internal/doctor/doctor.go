// Package doctor examines a host and a configuration, before ringroad runs or
// while it does. Examining changes nothing: what attaching a program or binding a
// socket would do is asked for, not tried, because it resets the link of some NICs.
// (What a driver says of zero-copy is what the kernel goes by when a socket is
// bound.) All that leaves the host is a neighbour request and one TCP connection for
// each backend. [Report.Fix] mends what can be mended without harm (fix.go).
//
// Each check is a function that is given what was read from the host, and judges:
// features and capabilities, memory, processors (host.go); interfaces
// (interface.go); ports, listeners and backends (network.go); the instance that
// runs (instance.go). The master uses some of them too, where what they find must
// not pass: [LocalBackends], [Ports].
package doctor

import (
	"context"
	"fmt"
	"io"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/restore"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy/config"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	OK      Severity = "ok"
	Warning Severity = "warning" // it works, but not as well as it could
	Problem Severity = "problem" // ringroad does not start, or does not do what it is configured for
	Fixed   Severity = "fixed"   // it was one of those, and was mended
)

// Finding is the outcome of one check.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"`             // its name, the same in every version
	Subject  string   `json:"subject,omitempty"` // an interface, a listener, a backend
	Text     string   `json:"text"`              // what is so, and what it means
	Remedy   string   `json:"remedy,omitempty"`  // the command or the key that mends it, or has

	changes []restore.Change // that mend it without harm; none: it is not for Fix
	left    *restore.Change  // by an instance that died; nil: it is about something else
}

// Report is the findings in the order of the checks.
type Report []Finding

func (r *Report) add(s Severity, check, subject, text, remedy string) {
	*r = append(*r, Finding{Severity: s, Check: check, Subject: subject, Text: text, Remedy: remedy})
}

func (r *Report) ok(check, subject, text string, args ...any) {
	r.add(OK, check, subject, fmt.Sprintf(text, args...), "")
}

// Count returns how many findings are of a severity.
func (r Report) Count(s Severity) (n int) {
	for _, f := range r {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// WriteText writes a line for each finding.
func (r Report) WriteText(w io.Writer) error {
	for _, f := range r {
		what := f.Check
		if f.Subject != "" {
			what += " " + f.Subject
		}
		line := fmt.Sprintf("%-8s %s: %s", f.Severity, what, f.Text)
		switch {
		case f.Severity == Fixed:
			line += "; mended: " + f.Remedy
		case f.Remedy != "":
			line += "; mend: " + f.Remedy
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// instance is a ringroad that runs; nil: none does.
type instance struct {
	status control.Status
	stats  worker.Snapshot
}

// serves reports whether the instance has its program on an interface.
func (i *instance) serves(name string) bool {
	if i == nil {
		return false
	}
	for _, s := range i.status.Interfaces {
		if s.Name == name {
			return true
		}
	}
	return false
}

// Examine makes all checks. socket is the control socket of the instance that may
// run.
func Examine(ctx context.Context, c *config.Config, socket string) Report {
	var r Report
	running := r.findInstance(ctx, socket)
	r.findSettings(socket, running != nil || control.Answers(socket))
	r.kernel(probe())
	nics := inspectAll(c)
	r.memory(c, nics, readMemory())
	r.processors(c, nics, readProcessors())
	r.files(c)
	r.interfaces(c, nics, running)
	r.network(ctx, c, nics, running)
	if running != nil {
		r.instance(running)
	}
	return r
}
