package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// disturbance is something that was done to ringroad or around it. Its fields are the ledger's once it is begun.
type disturbance struct {
	name   string
	from   time.Time
	to     time.Time // zero: it lasts
	worker int       // whose connections it cuts; -1: none
	door   int       // whose exchanges it may fail; 0: none
}

// settleTime is how long after the end of a disturbance of a door what it did may still show.
const settleTime = 2 * time.Second

// conn is what the ledger wants to know of a connection.
type conn struct {
	door   int
	opened time.Time
	worker int // -1: not known
	local  string
}

// explains says whether a failure of a connection comes from it, when it happens once it has begun.
func (d *disturbance) explains(c conn) bool {
	ended := !d.to.IsZero()
	if d.door != 0 {
		return d.door == c.door && (!ended || c.opened.Before(d.to.Add(settleTime)))
	}
	if d.worker < 0 || c.worker >= 0 && c.worker != d.worker {
		return false
	}
	return !ended || c.opened.Before(d.to)
}

// ledger has what became of every visit. All its methods may be called by any goroutine.
type ledger struct {
	mu           sync.Mutex
	began        time.Time
	disturbances []*disturbance
	kinds        map[string]*tally
	failures     []string // that nothing explains
	requests     int
}

// tally is what became of the visits of one kind.
type tally struct {
	ok, failed int
	excused    map[string]int // by the name of the disturbance
	longest    time.Duration
}

func newLedger() *ledger { return &ledger{began: time.Now(), kinds: map[string]*tally{}} }

// begin records a disturbance before it is made.
func (l *ledger) begin(d *disturbance) *disturbance {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.from = time.Now()
	l.disturbances = append(l.disturbances, d)
	return d
}

func (l *ledger) end(d *disturbance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.to = time.Now()
}

// count returns how many disturbances of a name there were.
func (l *ledger) count(name string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.disturbances {
		if d.name == name {
			n++
		}
	}
	return n
}

// lasted says whether there was a disturbance of a name since then, or still is.
func (l *ledger) lasted(name string, since time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.disturbances, func(d *disturbance) bool { return d.name == name && (d.to.IsZero() || d.to.After(since)) })
}

// record takes the outcome of a visit, which made so many requests.
func (l *ledger) record(kind string, c conn, requests int, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.kinds[kind]
	if t == nil {
		t = &tally{excused: map[string]int{}}
		l.kinds[kind] = t
	}
	l.requests += requests
	t.longest = max(t.longest, took)
	if err == nil {
		t.ok++
		return
	}
	now := time.Now()
	for _, d := range slices.Backward(l.disturbances) {
		if d.explains(c) {
			t.excused[d.name]++
			return
		}
	}
	t.failed++
	l.failures = append(l.failures, fmt.Sprintf("%s at %.1fs, connection %s to door %d of worker %d opened at %.1fs: %v", kind, now.Sub(l.began).Seconds(),
		c.local, c.door, c.worker, c.opened.Sub(l.began).Seconds(), err))
}

// sums returns how many requests were made, and how many visits ended how.
func (l *ledger) sums() (requests, ok, excused, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.kinds {
		ok, failed = ok+t.ok, failed+t.failed
		for _, n := range t.excused {
			excused += n
		}
	}
	return l.requests, ok, excused, failed
}

// judge returns an error when a visit failed that should not have.
func (l *ledger) judge() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) == 0 {
		return nil
	}
	text := ""
	for _, f := range l.failures[:min(len(l.failures), 20)] {
		text += "\n  " + f
	}
	return fmt.Errorf("%d visits failed, and nothing explains it:%s", len(l.failures), text)
}

// print writes the table.
func (l *ledger) print(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for name := range l.kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	fmt.Fprintf(w, "  %-14s %8s %8s %9s   %s\n", "visits", "well", "failed", "longest", "failed for a disturbance")
	for _, name := range names {
		t := l.kinds[name]
		excused := ""
		var causes []string
		for cause := range t.excused {
			causes = append(causes, cause)
		}
		slices.Sort(causes)
		for _, cause := range causes {
			excused += fmt.Sprintf("%s %d  ", cause, t.excused[cause])
		}
		fmt.Fprintf(w, "  %-14s %8d %8d %8.1fs   %s\n", name, t.ok, t.failed, t.longest.Seconds(), excused)
	}
	counts := map[string]int{}
	for _, d := range l.disturbances {
		counts[d.name]++
	}
	fmt.Fprintf(w, "  disturbances: %v\n", counts)
}

// history writes every disturbance and failure.
func (l *ledger) history(w io.Writer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range l.disturbances {
		fmt.Fprintf(w, "%s %s to %s: %s, worker %d, door %d\n", d.from.Format("15:04:05.000"), since(l.began, d.from), since(l.began, d.to), d.name, d.worker, d.door)
	}
	for _, f := range l.failures {
		fmt.Fprintln(w, f)
	}
}

func since(began, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%.1fs", t.Sub(began).Seconds())
}
