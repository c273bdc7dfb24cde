package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"ringroad/hack/lab"
)

// load is what wrk does.
type load struct {
	threads     int
	connections int
	duration    time.Duration
	path        string
	close       bool
}

// sample is one measurement of one candidate.
type sample struct {
	Requests          uint64  `json:"requests"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	Errors            uint64  `json:"errors"`                 // of sockets, and responses that are not 2xx or 3xx
	BusyMicros        float64 `json:"busy_us_per_request"`    // all processors of the machine, whatever they worked on
	ProcessMicros     float64 `json:"process_us_per_request"` // the proxy's own processes, their system calls included
	P50Micros         float64 `json:"p50_us"`
	P99Micros         float64 `json:"p99_us"`
	MemoryBytes       int64   `json:"memory_bytes"` // of the proxy's processes, at the end: lab.PSS
}

// result is all that was measured of a candidate.
type result struct {
	Candidate string   `json:"candidate"`
	Queues    int      `json:"queues"`
	Samples   []sample `json:"samples"`

	contender contender
}

// measure warms a candidate up for a second and then measures it.
func (c *candidate) measure(l *lab.Lab, o load) (sample, error) {
	if _, err := o.run(l, c.address, time.Second); err != nil {
		return sample{}, fmt.Errorf("warm up: %w", err)
	}
	busy, err := lab.MachineBusy()
	if err != nil {
		return sample{}, err
	}
	used, err := c.cpu()
	if err != nil {
		return sample{}, err
	}
	s, err := o.run(l, c.address, o.duration)
	if err != nil {
		return sample{}, err
	}
	busyAfter, err := lab.MachineBusy()
	if err != nil {
		return sample{}, err
	}
	usedAfter, err := c.cpu()
	if err != nil {
		return sample{}, err
	}
	s.BusyMicros = perRequest(busyAfter-busy, s.Requests)
	s.ProcessMicros = perRequest(usedAfter-used, s.Requests)
	s.MemoryBytes, err = c.memory()
	return s, err
}

func perRequest(d time.Duration, requests uint64) float64 {
	return float64(d.Nanoseconds()) / 1e3 / float64(max(requests, 1))
}

// run runs wrk against an address for a time.
func (o load) run(l *lab.Lab, address string, duration time.Duration) (sample, error) {
	args := []string{fmt.Sprintf("-t%d", o.threads), fmt.Sprintf("-c%d", o.connections), fmt.Sprintf("-d%.0f", duration.Seconds()), "--latency"}
	if o.close {
		args = append(args, "-H", "Connection: close")
	}
	out, err := l.Client.Run(duration+10*time.Second, "wrk", append(args, "http://"+address+o.path)...)
	if err != nil {
		return sample{}, err
	}
	return parseWrk(out)
}

var (
	wrkRequests  = regexp.MustCompile(`(\d+) requests in`)
	wrkRate      = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkLatency   = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([\d.]+)(us|ms|s)$`)
	wrkSocket    = regexp.MustCompile(`Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)`)
	wrkResponses = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
)

// parseWrk reads what wrk prints.
func parseWrk(out string) (s sample, err error) {
	requests, rate := wrkRequests.FindStringSubmatch(out), wrkRate.FindStringSubmatch(out)
	latencies := wrkLatency.FindAllStringSubmatch(out, -1)
	if requests == nil || rate == nil || len(latencies) != 2 {
		return s, fmt.Errorf("wrk printed what cannot be read:\n%s", out)
	}
	number := func(text string) float64 {
		f, e := strconv.ParseFloat(text, 64)
		if e != nil {
			err = fmt.Errorf("wrk printed %q: %w", strings.TrimSpace(text), e)
		}
		return f
	}
	s.Requests, s.RequestsPerSecond = uint64(number(requests[1])), number(rate[1])
	unit := map[string]float64{"us": 1, "ms": 1e3, "s": 1e6}
	s.P50Micros = number(latencies[0][2]) * unit[latencies[0][3]]
	s.P99Micros = number(latencies[1][2]) * unit[latencies[1][3]]
	for _, m := range [][]string{wrkSocket.FindStringSubmatch(out), wrkResponses.FindStringSubmatch(out)} {
		for i := 1; i < len(m); i++ {
			s.Errors += uint64(number(m[i]))
		}
	}
	return s, err
}
