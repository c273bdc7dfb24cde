package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"ringroad/hack/lab"
)

const mib = 1 << 20

// Gauges that are zero at rest, and those that are what they were.
var (
	zero = []string{
		"proxy.clients_active", "proxy.exchanges_active", "proxy.tunnels_active", "proxy.buffers_in_use", "proxy.backends_active", "proxy.backends_idle",
		"proxy.retiring", "stack.syn_queue", "stack.accept_queue", "link.acks_holding", "link.time_wait", "link.backlog", "stack.established",
		"handover.ring_out_bytes", "handover.ring_in_bytes",
	}
	same = []string{"proxy.wheel_timers", "stack.timers", "stack.endpoints", "link.flows"}
)

// rested is what ringroad has at rest.
type rested struct {
	gauges     lab.Stats // same
	goroutines []int     // of the master, then of each worker
	files      []int
	memory     int64     // PSS of all processes, bytes
	heaps      []float64 // of each worker what its last collection found alive, bytes
	cycles     []float64 // collections of each worker
}

func (r *rested) String() string {
	return fmt.Sprintf("goroutines %v, files %v, PSS %.1f MiB, live heap of workers %.1f MiB", r.goroutines, r.files, float64(r.memory)/mib, mibs(r.heaps))
}

// heapGrowth is by how much more a worker may keep on its heap at rest than after the warm-up: tables that are as large as the most that
// there ever was at a time.
const heapGrowth = 8 * mib

// rest waits until ringroad has nothing that a client or a backend brought about, and no more of anything than before.
func (l *leg) rest(before *rested) (*rested, error) {
	var idle *rested // when the gauges said so first; then the workers collected
	for limit := time.Now().Add(restLimit); ; time.Sleep(250 * time.Millisecond) {
		r, left, err := l.restNow(before)
		if err == nil && left == "" {
			if idle == nil {
				idle, err = r, l.collect()
			}
			left = r.uncollected(idle)
		}
		switch {
		case err != nil:
			return nil, err
		case left == "":
			return r, nil
		case time.Now().After(limit):
			goroutines, err := l.ask("/debug/pprof/goroutine?debug=2")
			if err == nil {
				err = os.WriteFile(l.goroutines(), goroutines, 0o644)
			}
			return nil, errors.Join(fmt.Errorf("not at rest within %v: %s", restLimit, left), err)
		}
	}
}

// uncollected names a worker whose statistics are from before it collected; "": none is.
func (r *rested) uncollected(idle *rested) string {
	for i, n := range r.cycles {
		if n < idle.cycles[i]+2 {
			return fmt.Sprintf("worker %d has not collected", i)
		}
	}
	return ""
}

// collect has every worker collect, twice: the first time what is in a sync.Pool stays. It keeps the profiles of what is alive then.
func (l *leg) collect() error {
	for i := range l.queues {
		var profile []byte
		var err error
		for range 2 {
			if profile, err = l.ask(fmt.Sprintf("/debug/pprof/worker/%d/heap?gc=1", i)); err != nil {
				return fmt.Errorf("have worker %d collect: %w", i, err)
			}
		}
		if err := os.WriteFile(l.heap(i), profile, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// keepsNoMore compares the heaps of workers with those after the warm-up.
func (r *rested) keepsNoMore(warm *rested) error {
	for i, heap := range r.heaps {
		if heap > warm.heaps[i]+heapGrowth {
			return fmt.Errorf("worker %d keeps %.1f MiB on its heap at rest, after the warm-up %.1f", i, heap/mib, warm.heaps[i]/mib)
		}
	}
	return nil
}

// restNow says what is left; "": nothing.
func (l *leg) restNow(before *rested) (r *rested, left string, err error) {
	s, err := l.ringroad.Snapshot()
	if err != nil {
		return nil, "", err
	}
	var rest []string
	for _, name := range zero {
		if v, err := sum(s, name); err != nil {
			return nil, "", err
		} else if v != 0 {
			rest = append(rest, fmt.Sprintf("%s is %.0f", name, v))
		}
	}
	queues := 0
	for path, all := range s {
		queue, ok := strings.CutSuffix(path, ".levels.frames")
		if !ok {
			continue
		}
		queues++
		if free, fill := s[queue+".levels.free"], s[queue+".levels.fill"]; free+fill != all || all == 0 {
			rest = append(rest, fmt.Sprintf("%s: %.0f frames free and %.0f to receive into, of %.0f", queue, free, fill, all))
		}
	}
	if queues != 2*l.queues {
		rest = append(rest, fmt.Sprintf("%d queues have frames", queues))
	}
	r = &rested{gauges: lab.Stats{}}
	for _, name := range same {
		if r.gauges[name], err = sum(s, name); err != nil {
			return nil, "", err
		}
		if before != nil && r.gauges[name] > before.gauges[name] {
			rest = append(rest, fmt.Sprintf("%s is %.0f, before %.0f", name, r.gauges[name], before.gauges[name]))
		}
	}
	if err := l.count(r, s); err != nil {
		rest = append(rest, err.Error()) // a process may just be about to end
	} else if before != nil {
		for i := range r.files {
			if r.files[i] > before.files[i] {
				rest = append(rest, fmt.Sprintf("%s has %d files, before %d", processName(i), r.files[i], before.files[i]))
			}
			if r.goroutines[i] > before.goroutines[i] {
				rest = append(rest, fmt.Sprintf("%s has %d goroutines, before %d", processName(i), r.goroutines[i], before.goroutines[i]))
			}
		}
	}
	return r, strings.Join(rest, "; "), nil
}

// sum returns a gauge of all workers. Those of links stand at each interface.
func sum(s lab.Stats, name string) (all float64, err error) {
	if v, ok := s[name]; ok {
		return v, nil
	}
	found := false
	for path, v := range s {
		if strings.HasPrefix(path, "interfaces.") && strings.HasSuffix(path, "."+name) {
			all, found = all+v, true
		}
	}
	if !found {
		err = fmt.Errorf("there is no gauge %s", name)
	}
	return all, err
}

func processName(i int) string {
	if i == 0 {
		return "the master"
	}
	return fmt.Sprintf("worker %d", i-1)
}

// count counts files and goroutines of every process, and their memory.
func (l *leg) count(r *rested, s lab.Stats) error {
	stacks, err := l.ask("/debug/pprof/goroutine?debug=2")
	if err != nil {
		return err
	}
	pids := []int{l.ringroad.PID()}
	r.goroutines = []int{countGoroutines(string(stacks))}
	for i := range l.queues {
		worker := fmt.Sprintf("workers.%d.", i)
		pids = append(pids, int(s[worker+"pid"]))
		r.goroutines = append(r.goroutines, int(s[worker+"process.goroutines"]))
		r.heaps = append(r.heaps, s[worker+"process.heap_live"])
		r.cycles = append(r.cycles, s[worker+"process.gc_cycles"])
	}
	for _, pid := range pids {
		files, err := countFiles(pid)
		if err != nil {
			return err
		}
		r.files = append(r.files, files)
	}
	r.memory, err = lab.PSS(pids...)
	return err
}

// countGoroutines counts the stacks, but for those of HTTP servers: what we ask over has some, which end a moment later.
func countGoroutines(stacks string) (n int) {
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if strings.HasPrefix(stack, "goroutine ") && !strings.Contains(stack, "net/http.") {
			n++
		}
	}
	return n
}

// countFiles returns the fewest files that a process has within a moment: it may not have closed yet what we asked it over.
func countFiles(pid int) (fewest int, err error) {
	for look := range 5 {
		if look > 0 {
			time.Sleep(20 * time.Millisecond)
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return 0, err
		}
		if look == 0 || len(files) < fewest {
			fewest = len(files)
		}
	}
	return fewest, nil
}

// memory follows the memory of a leg.
type memory struct {
	*leg
	samples []map[string]float64 // bytes, by the process and what of it; one each sampleEvery
}

// follow takes samples and tells how it goes.
func (m *memory) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sampleEvery):
		}
		sample, err := m.sample()
		if err != nil {
			continue // a worker was just killed
		}
		m.samples = append(m.samples, sample)
		requests, ok, excused, failed := m.ledger.sums()
		m.ledger.mu.Lock()
		last := "none"
		if n := len(m.ledger.disturbances); n > 0 {
			last = m.ledger.disturbances[n-1].name
		}
		m.ledger.mu.Unlock()
		m.say("%d requests; visits %d well, %d failed for a disturbance, %d failed; PSS %.0f MiB, live heap %.1f MiB; last disturbance: %s",
			requests, ok, excused, failed, sample["PSS"]/mib, sample["heap"]/mib, last)
	}
}

func (m *memory) sample() (map[string]float64, error) {
	s, err := m.ringroad.Snapshot()
	if err != nil {
		return nil, err
	}
	master, err := lab.AnonymousPSS(m.ringroad.PID())
	if err != nil {
		return nil, err
	}
	sample := map[string]float64{masterPSS: float64(master), "PSS": float64(master)}
	for i := range m.queues {
		worker := fmt.Sprintf("workers.%d.", i)
		pid := int(s[worker+"pid"])
		bytes, err := lab.AnonymousPSS(pid)
		if err != nil {
			return nil, err
		}
		// A process that takes the place of another has its own name, so that it is compared with itself alone.
		sample[fmt.Sprintf("PSS of worker %d (pid %d)", i, pid)] = float64(bytes)
		sample[fmt.Sprintf("live heap of worker %d (pid %d)", i, pid)] = s[worker+"process.heap_live"]
		sample["PSS"] += float64(bytes)
		sample["heap"] += s[worker+"process.heap_live"]
	}
	return sample, nil
}

// growthLimit is by how much what a process takes may grow over the second half: a line fitted to the samples says so. In workers bodies
// of the moment move it up and down: each of some slow clients has up to 4 MiB in each of four socket buffers, and as much garbage may
// be beside them. What they keep shows at rest (keepsNoMore).
func growthLimit(name string, begin float64) float64 {
	if name == masterPSS {
		return max(12*mib, begin/4)
	}
	return max(48*mib, begin/2)
}

const masterPSS = "PSS of the master"

// judge fits a line to the second half of the samples of every process that lived through it.
func (m *memory) judge() error {
	half := m.samples[len(m.samples)/2:]
	const fewest = 5
	if len(half) < fewest {
		m.say("memory: only %d samples in the second half, nothing is said of its growth", len(half))
		return nil
	}
	var all error
	for name := range half[0] {
		var values []float64
		for _, sample := range half {
			if v, ok := sample[name]; ok {
				values = append(values, v)
			}
		}
		if len(values) < len(half) || name == "PSS" || name == "heap" {
			continue // of a process that has ended, or sums
		}
		begin, end := fit(values)
		m.say("memory: %s from %.1f to %.1f MiB over the second half, by a fitted line", name, begin/mib, end/mib)
		if end-begin > growthLimit(name, begin) {
			all = errors.Join(all, fmt.Errorf("%s grew from %.1f to %.1f MiB over the second half: %.1f", name, begin/mib, end/mib, mibs(values)))
		}
	}
	return all
}

func mibs(values []float64) []float64 {
	list := make([]float64, len(values))
	for i, v := range values {
		list[i] = v / mib
	}
	return list
}

// fit returns where the line of least squares through the values begins and ends.
func fit(values []float64) (begin, end float64) {
	n := float64(len(values))
	var sx, sy, sxx, sxy float64
	for i, y := range values {
		x := float64(i)
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	slope := (n*sxy - sx*sy) / (n*sxx - sx*sx)
	begin = (sy - slope*sx) / n
	return begin, begin + slope*(n-1)
}

// checkAccess checks what was written to the access log last.
func (l *leg) checkAccess() error { return checkLines(l.access) }

// checkLines checks that a file has whole lines of JSON.
func checkLines(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, mib)
	for n := 1; lines.Scan(); n++ {
		if !json.Valid(bytes.TrimSpace(lines.Bytes())) {
			return fmt.Errorf("access log, line %d: no JSON: %q", n, lines.Text())
		}
	}
	return lines.Err()
}
