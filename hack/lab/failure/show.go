package failure

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// show tells how a scenario goes on.
type show struct {
	to      io.Writer
	start   time.Time
	metrics []string // of the tables
}

// newShow prints what is going to happen.
func newShow(to io.Writer, s *Scenario) *show {
	p := &show{to: to, start: time.Now()}
	for _, l := range s.Levels {
		p.metrics = append(p.metrics, l.Metric)
	}
	p.metrics = append(append(p.metrics, s.Shows...), s.Moves...)
	fmt.Fprintf(to, "%s: %s\n\n", s.Name, s.About)
	return p
}

// say prints a line with the time.
func (p *show) say(format string, args ...any) {
	fmt.Fprintf(p.to, "%5.1fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// table prints the metrics with how much they have moved, and every other alarm that has.
func (p *show) table(when string, now, before reading) {
	p.say("%s:", when)
	names := slices.Clone(p.metrics)
	for _, name := range now.moved(before) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		moved := ""
		if d := now[name] - before[name]; d != 0 {
			moved = fmt.Sprintf("%+.0f", d)
		}
		line := fmt.Sprintf("        %-58s %12.0f %10s", namespace+name, now[name], moved)
		fmt.Fprintln(p.to, strings.TrimRight(line, " "))
	}
}

// see finds a sign and prints it as a user has it.
func (s *Stage) see(sign Sign) error {
	line := regexp.MustCompile(sign.Pattern)
	if sign.Where == "log" {
		return await("the log tells of it", func() (bool, string, error) {
			out := s.Ringroad.Output()
			return s.show.line("ringroad's log", line, out), fmt.Sprintf("nothing matches %q", line), nil
		})
	}
	command := sign.Where
	if command == "top" {
		command = "top --once --interval 200ms"
	}
	words := strings.Fields(command)
	return await("`ringroad "+command+"` tells of it", func() (bool, string, error) {
		out, err := s.Ringroad.Command(patience, words[0], words[1:]...)
		return s.show.line("ringroad "+command, line, out), fmt.Sprintf("nothing matches %q in:\n%s", line, out), err
	})
}

// line prints the first line that matches.
func (p *show) line(where string, pattern *regexp.Regexp, text string) bool {
	for l := range strings.Lines(text) {
		if l = strings.TrimSuffix(l, "\n"); pattern.MatchString(l) {
			p.say("%s:", where)
			fmt.Fprintf(p.to, "        %s\n", l)
			return true
		}
	}
	return false
}
