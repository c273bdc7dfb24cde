package master

import (
	"fmt"
	"os"
	"slices"
	"time"

	"ringroad/cmd/internal/notify"
	"ringroad/cmd/internal/sandbox"
	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
	"ringroad/proxy/config"
)

// handoverRingBytes is the size of the ring from one worker to another. Two workers
// that hand over bulk traffic, one of them not scheduled for some milliseconds, fill
// 256 KiB; of many workers each gets a smaller part, and the rings of up to 32 stay
// within 256 MiB together. The largest frame takes half of the smallest ring.
func handoverRingBytes(workers int) int {
	const least, most, budget = 256 << 10, 2 << 20, 256 << 20
	size := most
	for size > least && size*workers*(workers-1) > budget {
		size /= 2
	}
	return size
}

// startWorkers starts a process for every worker and waits until all serve. What is
// to be steered is told to the program only then: a client's SYN is never answered
// by nobody.
func (m *master) startWorkers() error {
	n, err := m.countWorkers()
	if err != nil {
		return err
	}
	allowed, err := sandbox.AllowedCPUs()
	if err != nil {
		return err
	}
	cpus, err := cpus(m.config, n, allowed)
	if err != nil {
		return err
	}
	if m.clients, err = worker.NewClientMemory(m.config.Limits.Client.Entries, n); err != nil {
		return err
	}
	if err := m.flows.Divide(n); err != nil {
		return err
	}
	if err := m.openHandover(n); err != nil {
		return err
	}
	m.readRSS(n)
	for w := range n {
		c := &child{index: w, cpu: cpus[w]}
		if err := m.prepareChild(c, n); err != nil {
			return err
		}
		m.children = append(m.children, c)
	}
	for _, c := range m.children {
		if err := m.spawn(c); err != nil {
			return err
		}
	}
	return nil
}

// countWorkers decides `workers`: at most as many as the interface with the fewest
// receive queues has, so that each worker has a socket on every interface.
func (m *master) countWorkers() (int, error) {
	least := m.links[0].state
	for _, l := range m.links[1:] {
		if l.state.RXQueues < least.RXQueues {
			least = l.state
		}
	}
	n := m.config.Workers
	if n == 0 {
		return min(least.RXQueues, config.MaxWorkers), nil
	}
	return n, checkQueues(n, least)
}

// checkQueues refuses more workers than an interface has queues.
func checkQueues(workers int, s dataplane.LinkState) error {
	if workers <= s.RXQueues {
		return nil
	}
	return fmt.Errorf("workers: %d, but %s has %d receive queues, and each worker needs one of every interface: "+
		"set workers to auto, or give the interface more queues (ethtool -L %s combined %d)",
		workers, s.Name, s.RXQueues, s.Name, workers)
}

// cpus decides `cpu_affinity`: a CPU for each of n workers, -1 for any of the allowed
// ones. Left to itself a worker is pinned only where that cannot put it on a busy CPU
// while another idles: when every CPU has as many workers, and when it polls, and so
// fills a CPU. With one worker on two CPUs, its client and its backend beside it,
// pinning took 15 to 20 % of the throughput.
func cpus(c *config.Config, n int, allowed []int) ([]int, error) {
	a := c.CPUAffinity
	for _, cpu := range a.CPUs {
		if !slices.Contains(allowed, cpu) {
			return nil, fmt.Errorf("cpu_affinity: CPU %d is not one that this process may use: %v", cpu, allowed)
		}
	}
	list := a.CPUs
	polls := c.Wait == config.WaitSpin || c.BusyPoll > 0
	if !a.Off && len(list) == 0 && (n%len(allowed) == 0 || polls && n < len(allowed)) {
		list = allowed
	}
	cpus := make([]int, n)
	for w := range cpus {
		cpus[w] = -1
		if len(list) > 0 {
			cpus[w] = list[w%len(list)]
		}
	}
	return cpus, nil
}

// openHandover makes the memory by which workers hand frames over.
func (m *master) openHandover(n int) (err error) {
	if n == 1 {
		return nil
	}
	if m.memory, err = dataplane.NewHandoverMemory(n, handoverRingBytes(n)); err != nil {
		return err
	}
	for range n {
		b, err := dataplane.NewHandoverBell()
		if err != nil {
			return err
		}
		m.bells = append(m.bells, b)
	}
	return nil
}

// readRSS finds out how the NICs place flows on their queues. Where nobody knows,
// replies of backends that come in on another worker's queue are handed over.
func (m *master) readRSS(n int) {
	m.rss = make([]*dataplane.RSS, len(m.interfaces))
	if n == 1 {
		return
	}
	for k, i := range m.interfaces {
		r, err := m.rssOf(k)
		switch {
		case err != nil:
			m.log.Info("how the interface places flows is not known: replies on another worker's queue are handed over",
				"interface", i.Name(), "reason", err)
		case r != nil:
			m.log.Debug("local ports are chosen so that replies come in on the worker's own queue", "interface", i.Name())
		}
		m.rss[k] = r
	}
}

// rssOf decides `rss.key` for interface k. Nil without an error: ports are not to
// be chosen.
func (m *master) rssOf(k int) (*dataplane.RSS, error) {
	switch key := m.config.RSS.Key; {
	case key.Off:
		return nil, nil
	case len(key.Bytes) > 0:
		return dataplane.DefaultRSS(key.Bytes, m.links[k].state.RXQueues), nil
	default:
		return dataplane.ReadRSS(m.interfaces[k].Index())
	}
}

// followRSS tells the workers when an operator changed how a NIC places flows.
// Connections that exist go on by handover.
func (m *master) followRSS() {
	if len(m.children) == 1 || m.config.RSS.Key.Off || len(m.config.RSS.Key.Bytes) > 0 {
		return
	}
	for k, i := range m.interfaces {
		r, err := dataplane.ReadRSS(i.Index())
		if err != nil || r.Equal(m.rss[k]) {
			continue // a NIC that does not tell now may tell again
		}
		m.log.Info("the interface places flows in another way now", "interface", i.Name())
		m.rss[k] = r
		for _, c := range m.children {
			c.links[k].RSS = r
			if c.alive() {
				m.tell(c, worker.Message{Kind: worker.MessageRSS, RSS: &worker.RSS{Link: k, RSS: r}})
			}
		}
	}
}

// prepareChild gives worker c of n its queues and its page.
func (m *master) prepareChild(c *child, n int) (err error) {
	if err := m.equip(c, n); err != nil {
		return err
	}
	if name := m.CPUProfile; name != "" {
		if c.index > 0 {
			name = fmt.Sprintf("%s.%d", name, c.index)
		}
		if c.profile, err = os.Create(name); err != nil {
			return fmt.Errorf("write the CPU profile: %w", err)
		}
	}
	return nil
}

// served is called when a worker has become ready. When all are, frames are steered
// to them, if that is not so already.
func (m *master) served() {
	if m.announced && !m.steered.nothing || m.ending != endNot {
		return
	}
	for _, c := range m.children {
		if c.state != stateServing {
			return
		}
	}
	open := m.openToTraffic
	if m.announced {
		m.steered.nothing = false
		open = m.steer
	}
	if err := open(); err != nil {
		m.fail(err)
	}
}

// watch looks at the beat of every worker, and at the time that starting and
// ending take.
func (m *master) watch() {
	now := time.Now()
	for _, c := range m.children {
		if !c.alive() || c.killed {
			continue
		}
		if m.ending != endNot || c.state == stateDraining {
			if !m.deadline.IsZero() && now.After(m.deadline) {
				m.log.Error("a worker does not end: it is killed", "worker", c.index, "pid", c.process.Pid)
				m.kill(c)
			}
			continue
		}
		if c.state == stateStarting {
			if now.Sub(c.started) > startTimeout {
				c.failure = fmt.Sprintf("worker %d is not ready after %v", c.index, startTimeout)
				m.kill(c)
			}
			continue
		}
		turns, activity := c.page.Beat()
		if turns != c.turns {
			c.turns, c.beat, c.mute = turns, now, false
			continue
		}
		if silent := now.Sub(c.beat); silent > m.config.Watchdog {
			m.log.Error("watchdog: a worker's loop is silent, it is replaced", "worker", c.index, "pid", c.process.Pid,
				"silent", silent.Round(time.Millisecond), "turns", turns, "last", activity.String(), "state", processState(c.process.Pid))
			m.kill(c)
		}
	}
}

// check looks after what else can go wrong, and writes statistics.
func (m *master) check() {
	m.followLinks()
	if m.ending == endNot {
		m.followRSS()
		m.forgetRetired()
		m.yield()
	}
	m.writeStats()
	m.tellManager(notify.Alive())
	m.resident.Tick()
}
