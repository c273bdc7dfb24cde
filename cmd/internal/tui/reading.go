package tui

import (
	"context"
	"maps"
	"slices"
	"time"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy"
)

// Reading is what a running ringroad tells at one moment.
type Reading struct {
	Status control.Status
	Stats  worker.Snapshot
}

// Source takes a reading. It is called by one goroutine at a time.
type Source func(context.Context) (Reading, error)

// Connections asks for connections. It is called as a Source is.
type Connections func(context.Context, proxy.Query) (control.Connections, error)

// column is what one worker showed, in two readings.
type column struct {
	number      int
	now, before counters
	seconds     float64        // between the readings; 0: there is one alone
	status      control.Worker // zero when the status lacks it
}

// counters are those of one worker; its queues' are summed.
type counters struct {
	stack, proxy, handover     map[string]uint64
	ours, kernel, levels, link map[string]uint64
}

// columns makes one for each worker. before may be nil.
func columns(now, before *Reading) []column {
	list := make([]column, len(now.Stats.Workers))
	for i := range now.Stats.Workers {
		s := &now.Stats.Workers[i]
		c := column{number: s.Worker, now: countersOf(&now.Stats, s)}
		for _, w := range now.Status.Workers {
			if w.Index == s.Worker {
				c.status = w
			}
		}
		if before != nil {
			for k := range before.Stats.Workers {
				// The counters of another process say nothing about this one's.
				if b := &before.Stats.Workers[k]; b.Worker == s.Worker && b.PID == s.PID {
					c.before, c.seconds = countersOf(&before.Stats, b), seconds(s.Time.Sub(b.Time), now.Stats.Time.Sub(before.Stats.Time))
				}
			}
		}
		list[i] = c
	}
	return list
}

// seconds is the time between what a worker showed, or between the readings when it
// showed nothing new.
func seconds(shown, read time.Duration) float64 {
	if shown <= 0 {
		shown = read
	}
	return max(shown, 0).Seconds()
}

func countersOf(s *worker.Snapshot, w *worker.Stats) counters {
	c := counters{stack: w.Stack, proxy: w.Proxy, handover: w.Handover,
		ours: map[string]uint64{}, kernel: map[string]uint64{}, levels: map[string]uint64{}, link: map[string]uint64{}}
	for i := range s.Interfaces {
		for k := range s.Interfaces[i].Queues {
			q := &s.Interfaces[i].Queues[k]
			if q.Worker != w.Worker {
				continue
			}
			sum(c.ours, q.Ours)
			sum(c.kernel, q.Kernel)
			sum(c.levels, q.Levels)
			sum(c.link, q.Link)
		}
	}
	return c
}

func sum(to, from map[string]uint64) {
	for name, n := range from {
		to[name] += n
	}
}

// moved is by how much a counter grew between the readings.
func (c *column) moved(f func(*counters) uint64) uint64 {
	if c.seconds == 0 {
		return 0
	}
	now, before := f(&c.now), f(&c.before)
	if now < before {
		return 0
	}
	return now - before
}

// named is a counter by its name.
type named struct {
	text  string
	value value
}

// names lists all counters and gauges of a worker.
func (c *column) names() (all []named) {
	for _, group := range []struct {
		name string
		part func(*counters) map[string]uint64
	}{
		{"queue", func(c *counters) map[string]uint64 { return c.ours }},
		{"kernel", func(c *counters) map[string]uint64 { return c.kernel }},
		{"link", func(c *counters) map[string]uint64 { return c.link }},
		{"handover", func(c *counters) map[string]uint64 { return c.handover }},
		{"stack", func(c *counters) map[string]uint64 { return c.stack }},
		{"proxy", func(c *counters) map[string]uint64 { return c.proxy }},
	} {
		for _, name := range slices.Sorted(maps.Keys(group.part(&c.now))) {
			all = append(all, named{group.name + "." + name, func(c *counters) uint64 { return group.part(c)[name] }})
		}
	}
	return all
}

// rate is how fast a counter grows, by the second.
func (c *column) rate(f func(*counters) uint64) float64 {
	if c.seconds == 0 {
		return 0
	}
	return float64(c.moved(f)) / c.seconds
}
