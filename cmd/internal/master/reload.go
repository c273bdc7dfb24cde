package master

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/admin"
	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/doctor"
	"ringroad/cmd/internal/filter"
	"ringroad/cmd/internal/notify"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy"
	"ringroad/proxy/config"
)

// steered is what the program steers: what the configuration names, and for a while
// what it named before, because a connection that loses its steering is answered
// with RST by the kernel.
type steered struct {
	listeners, backends endpoints
	nothing             bool // the kernel has it all (SIGWINCH)
}

// endpoints are in use, until a time if that is not zero.
type endpoints map[netip.AddrPort]time.Time

// use keeps what is in use now, and what was until the given time.
func (e endpoints) use(now []netip.AddrPort, until time.Time) {
	for a, t := range e {
		if t.IsZero() {
			e[a] = until
		}
	}
	for _, a := range now {
		e[a] = time.Time{}
	}
}

// expire forgets what was kept until now. It reports whether there was any.
func (e endpoints) expire(now time.Time) (any bool) {
	for a, t := range e {
		if !t.IsZero() && now.After(t) {
			delete(e, a)
			any = true
		}
	}
	return any
}

func (e endpoints) list() (all []netip.AddrPort) {
	for a := range e {
		all = append(all, a)
	}
	return all
}

func listenersOf(c *config.Config) (all []netip.AddrPort) {
	for i := range c.Listeners {
		all = append(all, c.Listeners[i].Address)
	}
	return all
}

func backendsOf(c *config.Config) (all []netip.AddrPort) {
	for i := range c.Upstreams {
		all = append(all, c.Upstreams[i].Servers...)
	}
	return all
}

// steer tells the programs which flows are ours.
func (m *master) steer() error {
	s := bpf.Config{BackendPorts: bpf.PortRange{First: m.config.BackendPorts.First, Last: m.config.BackendPorts.Last}, Filter: m.filter}
	if !m.steered.nothing {
		s.Listeners, s.Backends = m.steered.listeners.list(), m.steered.backends.list()
	}
	for k, i := range m.interfaces {
		c := s
		c.Addresses = m.links[k].own()
		c.Cookies = m.cookiesOn(k)
		if err := i.Steer(c); err != nil {
			return fmt.Errorf("steer on %s: %w", i.Name(), err)
		}
	}
	return nil
}

// cookiesOn is how interface k answers SYNs with cookies.
func (m *master) cookiesOn(k int) bpf.Cookies {
	c := bpf.Cookies{
		Redirect: m.interfaces[k].Link().AnswersByVeth(),
		Key:      m.cookies, MTU: m.links[k].state.MTU,
		Window: uint16(min(m.config.TCP.ReceiveBuffer.DefaultBytes, math.MaxUint16)),
	}
	switch m.config.Filter.SYNCookies {
	case config.SYNCookiesXDP:
		c.Answer = true
	case config.SYNCookiesAuto:
		c.Answer = !c.Redirect
	}
	return c
}

// openToTraffic begins to steer, when all workers serve for the first time, and
// opens what tells of them.
func (m *master) openToTraffic() (err error) {
	m.steered = steered{listeners: endpoints{}, backends: endpoints{}}
	m.steered.listeners.use(listenersOf(m.config), time.Time{})
	m.steered.backends.use(backendsOf(m.config), time.Time{})
	if err := m.steer(); err != nil {
		return err
	}
	if m.config.Admin != (config.AdminAddress{}) {
		m.admin, err = admin.Serve(m.adminOptions())
		switch {
		case err != nil && m.config.Admin == config.DefaultAdmin:
			m.log.Warn("there is no admin endpoint", "error", err) // nobody asked for it
		case err != nil:
			return err
		}
	}
	m.control = control.Serve(m.commands, commands{m}, m.log)
	m.writeStats()
	m.announce()
	return nil
}

// reload reads the configuration again and makes all workers use it, or none.
// Sockets, rings and connections stay. The warnings say what a reload cannot
// change.
func (m *master) reload() (warnings []string, err error) {
	if m.ending != endNot {
		return nil, errEnding
	}
	m.tellManager(notify.Reloading())
	defer func() { m.tellManager(notify.Ready(m.statusLine())) }()
	defer func() {
		if m.reloadErr = err; err != nil {
			m.failedAt = time.Now()
			return
		}
		m.loadedAt = time.Now()
		m.log.Info("the configuration was reloaded", "generation", m.generation)
	}()
	c, err := m.Load()
	if err != nil {
		return nil, err
	}
	if err := doctor.LocalBackends(c); err != nil {
		return nil, err
	}
	for _, key := range m.config.Fixed(c) {
		warnings = append(warnings, key+": restart needed: until then the old value stays")
		m.log.Warn("a key cannot change at run time: restart for it", "key", key)
	}
	c.KeepFixed(m.config)
	pages, err := proxy.ReadPages(c)
	if err != nil {
		return nil, err
	}
	f, err := filter.Open(&c.Filter)
	if err != nil {
		return nil, err
	}
	access := m.access
	if c.Log.Access != m.config.Log.Access {
		if access, err = openAccessLog(c.Log.Access); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := m.install(c, pages, f); err != nil {
		if access != m.access && access != nil {
			access.Close() //nolint:errcheck // nothing was written
		}
		return nil, err
	}
	if access != m.access {
		m.setAccessLog(access)
	}
	m.Level.Set(c.Log.Level)
	if m.drained {
		m.resume()
	}
	return warnings, nil
}

// install makes c the configuration in use. Backends are steered before a worker
// connects to them, listeners when all workers listen; what is in use no more stays
// steered while connections may be left. The filter is replaced with the listeners.
func (m *master) install(c *config.Config, pages map[string][]byte, f *bpf.Filter) error {
	oldConfig, oldPages := m.config, m.pages
	until := time.Now().Add(max(c.Timeouts.Drain, m.config.Timeouts.Drain) + m.config.TCP.TimeWait)
	m.steered.backends.use(backendsOf(c), until)
	if err := m.steer(); err != nil {
		m.steered.backends.use(backendsOf(oldConfig), time.Now())
		return errors.Join(err, m.steer(), f.Close())
	}
	m.config, m.pages = c, pages
	m.generation++
	if err := m.bringUpToDate(m.children...); err != nil {
		m.config, m.pages = oldConfig, oldPages
		m.generation--
		m.steered.backends.use(backendsOf(oldConfig), time.Now())
		return errors.Join(err, m.steer(), f.Close())
	}
	m.steered.listeners.use(listenersOf(c), until)
	old := m.filter
	m.filter = f
	if err := m.steer(); err != nil {
		return err // a program may still use the old one
	}
	return old.Close()
}

// reloadMessage is the configuration in use for a worker.
func (m *master) reloadMessage() worker.Reload {
	return worker.Reload{Config: m.config.YAML(), Pages: m.pages}
}

// bringUpToDate makes the serving ones of some workers use the configuration: all
// of them, or none when one refuses. One that dies meanwhile gets it when it is
// started again.
func (m *master) bringUpToDate(some ...*child) error {
	r := m.reloadMessage()
	var asked []*child
	var errs []error
	for _, c := range some {
		if c.state != stateServing {
			continue
		}
		if err := c.ask(worker.Message{Kind: worker.MessagePrepare, Reload: &r}); err == nil {
			asked = append(asked, c)
		}
	}
	for _, c := range asked {
		if err := c.answer(); err != nil && !errors.Is(err, errDied) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		for _, c := range asked {
			m.tell(c, worker.Message{Kind: worker.MessageAbort})
		}
		return errs[0] // the others say the same
	}
	for _, c := range asked {
		if err := c.ask(worker.Message{Kind: worker.MessageCommit}); err != nil {
			m.log.Debug("a worker does not listen", "worker", c.index, "error", err)
		}
	}
	for _, c := range asked {
		if err := c.answer(); err != nil {
			// It prepared and does not commit: whatever it is, a new process
			// has the configuration.
			m.log.Error("a worker did not take over the configuration: it is replaced", "worker", c.index, "error", err)
			m.kill(c)
			continue
		}
		c.generation = m.generation
	}
	return nil
}

// forgetRetired ends the steering of what no configuration has named for a while.
func (m *master) forgetRetired() {
	now := time.Now()
	listeners, backends := m.steered.listeners.expire(now), m.steered.backends.expire(now)
	if !listeners && !backends {
		return
	}
	if err := m.steer(); err != nil {
		m.log.Error("cannot end the steering of what was removed", "error", err)
	}
}

// yield gives the traffic to the kernel when a drain without end is complete.
func (m *master) yield() {
	if !m.drained || m.steered.nothing {
		return
	}
	for _, c := range m.children {
		if c.alive() {
			return
		}
	}
	m.steered.nothing = true
	if err := m.steer(); err != nil {
		m.log.Error("cannot give the traffic to the kernel", "error", err)
		return
	}
	m.log.Info("drained: the kernel has the traffic until a reload")
}

// resume starts the workers again after a drain. Those that still drain are
// started again when they have ended.
func (m *master) resume() {
	m.drained = false
	for _, c := range m.children {
		if c.state == stateEnded {
			c.state, c.backoff = stateWaiting, 0
			m.restart(c)
		}
	}
}
