package master

import (
	"context"
	"errors"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
)

// errEnding is the answer to commands that come too late.
var errEnding = errors.New("ringroad is about to end")

// commands is the master as the control socket sees it, from other goroutines.
type commands struct{ m *master }

var _ control.Master = commands{}

// call runs f on the master's goroutine and waits for it.
func (c commands) call(f func()) error {
	ran := make(chan struct{})
	c.m.post(func() {
		defer close(ran)
		f()
	})
	select {
	case <-ran:
		return nil
	case <-c.m.done:
		return errEnding
	}
}

// Reload implements control.Master.
func (c commands) Reload(context.Context) (warnings []string, err error) {
	if callErr := c.call(func() { warnings, err = c.m.reload() }); callErr != nil {
		return nil, callErr
	}
	return warnings, err
}

// Quit implements control.Master.
func (c commands) Quit() { c.m.post(c.m.quit) }

// Stop implements control.Master.
func (c commands) Stop() { c.m.post(c.m.stop) }

// Status implements control.Master.
func (c commands) Status() (s control.Status, err error) {
	err = c.call(func() { s = c.m.status() })
	return s, err
}

// Stats implements control.Master.
func (c commands) Stats() (s worker.Snapshot, err error) {
	err = c.call(func() { s = *c.m.read() })
	return s, err
}

// status describes what runs.
func (m *master) status() control.Status {
	c := m.config
	s := control.Status{
		Version: m.Version, Started: m.startedAt, Uptime: control.Seconds(time.Since(m.startedAt)), State: control.StateRunning,
		DrainTimeout:  control.Seconds(c.Timeouts.Drain + c.Timeouts.WorkerShutdown),
		Configuration: control.Configuration{File: m.File, Generation: m.generation, Loaded: m.loadedAt},
		PID:           m.pid,
	}
	switch {
	case m.ending == endNow:
		s.State = control.StateStopping
	case m.ending == endDrain || m.drained:
		s.State = control.StateDraining
	}
	if m.reloadErr != nil {
		s.Configuration.Failed, s.Configuration.Error = m.failedAt, m.reloadErr.Error()
	}
	for k, i := range m.interfaces {
		zeroCopy, reason := m.got(k, func(q *worker.Queue) (bool, string) { return q.ZeroCopy, q.Reason })
		txChecksum, txReason := m.got(k, func(q *worker.Queue) (bool, string) { return q.TXChecksum, q.TXChecksumReason })
		counters, _ := i.Counters() // zero when the interface has gone
		l := &m.links[k]
		s.Interfaces = append(s.Interfaces, control.Interface{
			Name: l.state.Name, State: linkState(l.state), Since: l.since, MTU: l.state.MTU, Addresses: l.addresses,
			Driver: i.Driver(), Mode: i.Mode().String(), ZeroCopy: zeroCopy, Reason: reason, Queues: l.state.RXQueues,
			TXChecksum: txChecksum, TXChecksumReason: txReason, Features: control.NewFeatures(i.Link().Features),
			SYNCookiesByXDP: m.cookiesOn(k).Answer, SYNCookies: counters[bpf.AnswerSYNCookie],
		})
	}
	s.Filter = m.filterStatus()
	for i := range c.Listeners {
		s.Listeners = append(s.Listeners, c.Listeners[i].Address.String())
	}
	for i := range c.Upstreams {
		u := control.Upstream{Name: c.Upstreams[i].Name}
		for _, a := range c.Upstreams[i].Servers {
			u.Servers = append(u.Servers, a.String())
		}
		s.Upstreams = append(s.Upstreams, u)
	}
	for _, c := range m.children {
		s.Workers = append(s.Workers, m.workerStatus(c))
	}
	return s
}

// filterStatus is nil without a filter.
func (m *master) filterStatus() *control.Filter {
	if m.filter == nil {
		return nil
	}
	f := &control.Filter{Prefixes: m.filter.Prefixes()}
	for _, i := range m.interfaces {
		if c, err := i.Counters(); err == nil {
			f.Denied += c[bpf.DropDenied]
			f.ConnectionRate += c[bpf.DropConnectionRate]
			f.PacketRate += c[bpf.DropPacketRate]
		}
	}
	return f
}

func (m *master) workerStatus(c *child) control.Worker {
	r := c.page.Read()
	w := control.Worker{
		Index: c.index, CPU: c.cpu, State: control.State(c.state), Started: c.started, Restarts: int(c.restarts),
		Queues: c.links[0].Queues, Beat: control.Seconds(time.Since(c.beat)),
		Clients: r.Proxy.ClientsActive, Backends: r.Proxy.BackendsActive, Requests: r.Proxy.Requests, HandedOver: r.Handover.Sent,
	}
	if c.process != nil {
		w.PID = c.process.Pid
	}
	return w
}

func linkState(s dataplane.LinkState) control.LinkState {
	switch {
	case !s.Up:
		return control.LinkDown
	case !s.Carrier:
		return control.LinkNoCarrier
	default:
		return control.LinkUp
	}
}

// got reports whether every socket on interface k has got something, and why; ""
// while there is none.
func (m *master) got(k int, it func(*worker.Queue) (bool, string)) (all bool, reason string) {
	for _, c := range m.children {
		for i := range c.queues {
			if c.queues[i].Link != k {
				continue
			}
			if all, reason = it(&c.queues[i]); !all {
				return false, reason
			}
		}
	}
	return all, reason
}
