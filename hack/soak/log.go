package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"slices"
)

// alarming are the lines of the log that somebody should look at.
var alarming = regexp.MustCompile(`level=(WARN|ERROR)|^panic|^fatal error|runtime error`)

// allowed are those that a disturbance brings about, and a client that does what it should not.
var allowed = []expected{
	{regexp.MustCompile(`a worker died: the connections of its queues are lost`), []string{workerKilled, workerAborted, workerSilent}},
	{regexp.MustCompile(`a worker does not take part in the .*the worker died`), []string{workerKilled, workerAborted, workerSilent}},
	{regexp.MustCompile(`a worker did not take over the configuration: it is replaced.*the worker died`), []string{workerKilled, workerAborted, workerSilent}},
	{regexp.MustCompile(`watchdog: a worker's loop is silent`), []string{workerSilent}},
	{regexp.MustCompile(`an interface lost its carrier`), []string{linkDown}},
	{regexp.MustCompile(`cut off what was left of removed listeners and backends`), nil},
	{regexp.MustCompile(`(exchange failed|attempt failed, trying another connection)".* upstream=(flaky|breaks) .* source=backend`), nil},
	// Its SYN-ACK may come in on the queue of a worker that is dead, for as long as that is not started again.
	{regexp.MustCompile(`attempt failed, trying another connection".* phase=connecting .*timeouts\.connect`), []string{workerKilled, workerAborted, workerSilent}},
	{regexp.MustCompile(`connection refused: listener has proxy_protocol on`), nil},
}

type expected struct {
	pattern *regexp.Regexp
	causes  []string // each brings about one at most; none: as many as there are
}

// checkLog looks for lines that nothing explains.
func (l *leg) checkLog() error {
	f, err := os.Open(l.ringroad.LogFile)
	if err != nil {
		return err
	}
	defer f.Close()
	counts := make([]int, len(allowed))
	var strange []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, mib)
	for lines.Scan() {
		if !alarming.Match(lines.Bytes()) {
			continue
		}
		i := slices.IndexFunc(allowed, func(a expected) bool { return a.pattern.Match(lines.Bytes()) })
		if i < 0 {
			strange = append(strange, lines.Text())
			continue
		}
		counts[i]++
	}
	for i, a := range allowed {
		most := 0
		for _, cause := range a.causes {
			most += l.ledger.count(cause)
		}
		if len(a.causes) > 0 && counts[i] > most {
			strange = append(strange, fmt.Sprintf("(%d lines %v, of which %d are explained)", counts[i], a.pattern, most))
		}
	}
	if len(strange) > 0 {
		text := ""
		for _, line := range strange[:min(len(strange), 20)] {
			text += "\n  " + line
		}
		return fmt.Errorf("%d lines of the log that nothing explains:%s", len(strange), text)
	}
	return lines.Err()
}
