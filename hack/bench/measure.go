package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
)

// sample is one measurement of one candidate. Times are microseconds for a request.
type sample struct {
	Requests uint64  `json:"requests"`
	Rate     float64 `json:"requests_per_second"`
	Errors   uint64  `json:"errors,omitempty"` // any makes the cell invalid
	Said     string  `json:"said,omitempty"`   // what the errors are

	Others float64 `json:"others"` // part of all processor time that programs outside the lab used in user space: they spoil the figures

	User      float64 `json:"user_us"`      // all processors of the machine, whatever they worked on: clients and backend too
	System    float64 `json:"system_us"`    //
	Interrupt float64 `json:"interrupt_us"` // the kernel's receiving, for the most part

	ProxyUser   float64 `json:"proxy_user_us"`   // the proxy's processes, in their own code
	ProxySystem float64 `json:"proxy_system_us"` // in the kernel for them

	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`

	PSS int64 `json:"pss_bytes"` // of the proxy's processes, at the end: lab.PSS
	RSS int64 `json:"rss_bytes"`

	Retransmits      uint64 `json:"retransmits"`       // of TCP segments by client and backend
	ProxyRetransmits uint64 `json:"proxy_retransmits"` // and by the proxy
	Drops            drops  `json:"drops,omitempty"`   // frames that AF_XDP rings or the links of the edge had no room for

	Steps map[string]float64 `json:"steps,omitempty"` // what ringroad did for a request: see stepCounters

	IdleBytes float64 `json:"idle_bytes,omitempty"` // PSS for an idle connection, case idle only
}

// Busy is all of the machine's processor time.
func (s *sample) Busy() float64 { return s.User + s.System + s.Interrupt }

// warmUp is how long a candidate works before it is measured.
const warmUp = time.Second

// measure warms a candidate up and measures it under the load of a case.
func (c *candidate) measure(l *lab.Lab, k *kase, d time.Duration) (sample, error) {
	if k.idle > 0 {
		return c.measureIdle(l, k)
	}
	run := func(d time.Duration) (load, error) { return wrk(l, k, c.address, d) }
	if k.closing == closedByClient {
		run = func(d time.Duration) (load, error) {
			r, err := generate(l, generatorArgs(k, c.address, "-d", d.String(), "-close"), d+20*time.Second)
			return r.load(), err
		}
	}
	if _, err := run(warmUp); err != nil {
		return sample{}, fmt.Errorf("warm up: %w", err)
	}
	before, err := c.read(l)
	if err != nil {
		return sample{}, err
	}
	seen, err := run(d)
	if err != nil {
		return sample{}, err
	}
	after, err := c.read(l)
	if err != nil {
		return sample{}, err
	}
	s := after.since(before, seen)
	s.PSS, s.RSS, err = c.memory()
	return s, err
}

// reading is every counter at one time.
type reading struct {
	machine          lab.MachineTime
	at               time.Time
	user, system     time.Duration // of the proxy
	lab              time.Duration // in user space, of the proxy, the backend and clients that have ended, and of this process
	retransmits      uint64
	proxyRetransmits uint64
	drops            drops
	steps            map[string]uint64
}

// stepCounters are counters of ringroad's statistics, by the end of their paths; those of all queues are added up.
var stepCounters = []string{
	"stack.turns", "stack.sleeps", "ours.rx_frames", "ours.tx_frames", "ours.kick_calls", "proxy.reads", "proxy.writes",
	"link.acks_held", "link.acks_expired", "link.rx_merged", "link.tx_segmented", "handover.sent", "process.mallocs", "process.gc_cycles",
}

func stepsOf(s lab.Stats) (map[string]uint64, error) {
	steps := map[string]uint64{}
	for _, counter := range stepCounters {
		found := false
		for path, v := range s {
			if (path == counter || strings.HasSuffix(path, "."+counter)) && !strings.HasPrefix(path, "workers.") {
				steps[counter] += uint64(v)
				found = true
			}
		}
		if !found {
			return nil, fmt.Errorf("ringroad has no counter %s any more", counter)
		}
	}
	return steps, nil
}

// drops are dropped frames by the counter that counted them.
type drops map[string]uint64

// total counts a frame once: veth counts with its link what a ring had no room for, and the kernel calls every such frame of a socket
// dropped, whatever fill_ring_empty says of the reason. What finds the edge's backlog full counts at both ends of the link.
func (d drops) total() uint64 {
	return max(d[linkReceived], d[linkFull]+d["rx_dropped"]+d["rx_ring_full"]) + d[linkSent]
}

// Counters of the links: the edge's own, and of client and backend what they sent and a full ring of veth or backlog did not take.
const linkReceived, linkSent, linkFull = "link_rx", "link_tx", "link_full"

func (d drops) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(d)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, d[name]))
	}
	return strings.Join(parts, ", ")
}

// since is what was added to an earlier reading.
func (d drops) since(before drops) drops {
	var moved drops
	for name, v := range d {
		if v > before[name] {
			if moved == nil {
				moved = drops{}
			}
			moved[name] = v - before[name]
		}
	}
	return moved
}

func (c *candidate) read(l *lab.Lab) (r reading, err error) {
	// The statistics first and the processor times last: reading takes some.
	for _, n := range []*lab.Namespace{l.Client, l.Backend, l.Edge} {
		k, err := n.KernelTCP()
		if err != nil {
			return r, err
		}
		if n == l.Edge {
			r.proxyRetransmits += k["Tcp.RetransSegs"]
		} else {
			r.retransmits += k["Tcp.RetransSegs"]
		}
	}
	r.drops = drops{}
	if err := r.drops.addLinks(l); err != nil {
		return r, err
	}
	if c.ringroad != nil {
		s, err := c.ringroad.Snapshot()
		if err != nil {
			return r, err
		}
		r.proxyRetransmits += uint64(s["stack.retransmits"])
		r.drops.addRings(s)
		if r.steps, err = stepsOf(s); err != nil {
			return r, err
		}
	}
	if c.process != nil {
		pids, err := c.process.Processes()
		if err != nil {
			return r, err
		}
		if r.user, r.system, err = lab.CPU(pids...); err != nil {
			return r, errors.Join(err, c.said())
		}
	}
	if r.lab, err = userTime(l); err != nil {
		return r, err
	}
	r.lab += r.user
	r.at = time.Now()
	r.machine, err = lab.ReadMachineTime()
	return r, err
}

// userTime is what the backend, clients that have ended and this process have worked in user space.
func userTime(l *lab.Lab) (time.Duration, error) {
	pids, err := l.Backend.Processes()
	if err != nil {
		return 0, err
	}
	sum, _, err := lab.CPU(pids...)
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		err = errors.Join(err, syscall.Getrusage(who, &u))
		sum += time.Duration(u.Utime.Nano())
	}
	return sum, err
}

// addRings adds the frames for which a ring of an AF_XDP socket had no room.
func (d drops) addRings(s lab.Stats) {
	for path, v := range s {
		if !strings.HasPrefix(path, "interfaces.") {
			continue
		}
		for _, counter := range []string{"rx_dropped", "rx_ring_full", "fill_ring_empty"} {
			if strings.HasSuffix(path, "."+counter) {
				d[counter] += uint64(v)
			}
		}
	}
}

// addLinks adds the frames that links to and of the edge dropped, by the kernel's count.
func (d drops) addLinks(l *lab.Lab) error {
	for _, end := range []struct {
		*lab.Namespace
		link           string
		received, sent string
	}{
		{l.Edge, lab.EdgeClientLink, linkReceived, linkSent},
		{l.Edge, lab.EdgeBackendLink, linkReceived, linkSent},
		{l.Client, lab.ClientLink, "", linkFull},
		{l.Backend, lab.BackendLink, "", linkFull},
	} {
		err := end.Do(func() error {
			link, err := netlink.LinkByName(end.link)
			if err != nil {
				return err
			}
			if s := link.Attrs().Statistics; s != nil {
				if end.received != "" {
					d[end.received] += s.RxDropped
				}
				d[end.sent] += s.TxDropped
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// since is what happened between two readings, for each of the requests that a client has seen answered.
func (r reading) since(before reading, seen load) sample {
	each := func(d time.Duration) float64 {
		return float64(d.Nanoseconds()) / 1e3 / float64(max(seen.requests, 1))
	}
	m := r.machine.Sub(before.machine)
	s := sample{
		Requests: seen.requests, Rate: seen.rate, Errors: seen.errors, Said: seen.said, P50: seen.p50, P99: seen.p99, P999: seen.p999,
		User: each(m.User), System: each(m.System), Interrupt: each(m.Interrupt),
		ProxyUser: each(r.user - before.user), ProxySystem: each(r.system - before.system),
		Retransmits: r.retransmits - before.retransmits, ProxyRetransmits: r.proxyRetransmits - before.proxyRetransmits,
		Drops: r.drops.since(before.drops),
	}
	for _, counter := range stepCounters {
		if moved := r.steps[counter] - before.steps[counter]; moved > 0 {
			if s.Steps == nil {
				s.Steps = map[string]float64{}
			}
			s.Steps[counter] = float64(moved) / float64(max(seen.requests, 1))
		}
	}
	all := r.at.Sub(before.at) * time.Duration(runtime.NumCPU())
	s.Others = max(0, float64(m.User-(r.lab-before.lab))/float64(max(all, 1)))
	if s.Requests == 0 && s.Errors == 0 {
		s.Errors, s.Said = 1, "no request was answered"
	}
	return s
}

func (c *candidate) memory() (pss, rss int64, err error) {
	if c.process == nil {
		return 0, 0, nil
	}
	pids, err := c.process.Processes()
	if err != nil {
		return 0, 0, err
	}
	if pss, err = lab.PSS(pids...); err == nil {
		rss, err = lab.RSS(pids...)
	}
	return pss, rss, err
}

// measureIdle measures the memory of connections that have had one answer and then say nothing.
func (c *candidate) measureIdle(l *lab.Lab, k *kase) (sample, error) {
	const settle = 2 * time.Second // for what was freed to go back to the kernel
	one := *k
	one.connections = 16 // as many as are opened at a time below: what a proxy keeps for the first ones is not of the connections
	if _, err := wrk(l, &one, c.address, warmUp); err != nil {
		return sample{}, fmt.Errorf("warm up: %w", err)
	}
	time.Sleep(settle)
	before, _, err := c.memory()
	if err != nil {
		return sample{}, err
	}
	var s sample
	r, err := hold(l, generatorArgs(k, c.address, "-once", "-c", fmt.Sprint(k.idle)), func() error {
		time.Sleep(settle)
		s.PSS, s.RSS, err = c.memory()
		return err
	})
	if err != nil {
		return sample{}, err
	}
	s.Requests, s.Errors, s.Said = r.Requests, r.Errors, r.First
	s.IdleBytes = float64(s.PSS-before) / float64(k.idle)
	return s, nil
}

// profile has ringroad make a CPU profile under the load of a case.
func (o *options) profile(l *lab.Lab, k *kase, path string) (err error) {
	c, err := o.start(l, ringroad, k, path)
	if err != nil {
		return err
	}
	defer c.stop()
	if _, err := c.measure(l, k, o.duration); err != nil {
		return errors.Join(err, c.said())
	}
	c.stop()
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		return errors.Join(fmt.Errorf("ringroad wrote no profile"), err, c.said())
	}
	return nil
}
