// Package master prepares the host and supervises workers: it attaches the
// steering program, starts the worker, tells the program what to steer, and
// reacts to signals. It never touches a request.
package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/admin"
	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
	"ringroad/proxy/config"
)

// Options are what the command line adds to the configuration.
type Options struct {
	StatsFile string // JSON counters, rewritten every second and at exit; "": none
	Control   string // path of the control socket
	Log       *slog.Logger
}

const (
	// checkInterval is how often the interfaces are looked at and statistics
	// written.
	checkInterval = time.Second
	// stopTimeout is how long a worker may take to end after Stop. Its loop
	// looks at the flag every turn, so only a stuck one takes longer.
	stopTimeout = 5 * time.Second
)

// Run runs until ctx is done, then stops at once and leaves the host as it
// was. Signals while it runs, as nginx has them: SIGQUIT accepts nothing more,
// lets exchanges finish within timeouts.drain and ends; SIGUSR1 opens the
// access log anew. A nil error means that it was asked to end.
func Run(ctx context.Context, c *config.Config, o Options) (err error) {
	// The loop and netstack's processor hand over to each other on one P; with
	// more every segment would cross cores.
	runtime.GOMAXPROCS(1)
	m := &master{config: c, log: o.Log}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.open(); err != nil {
		return err
	}
	wo := worker.Options{Config: c, Interfaces: m.interfaces, Log: o.Log}
	if m.access, err = openAccessLog(c.Log.Access); err != nil {
		return err
	}
	if m.access != nil {
		wo.AccessLog = m.access
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGUSR1)
	defer signal.Stop(signals)
	w, err := worker.New(wo)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run() }()
	if err := m.serve(w); err != nil {
		w.Stop()
		return errors.Join(err, <-ended)
	}
	// Frames are steered only now that somebody listens: a client's SYN is
	// never answered by nobody.
	if err := m.steer(); err != nil {
		w.Stop()
		return errors.Join(err, <-ended)
	}
	m.announce()
	return m.supervise(ctx, w, ended, signals, o.StatsFile)
}

type master struct {
	config     *config.Config
	log        *slog.Logger
	interfaces []*dataplane.Interface
	access     *accessLog    // nil: none
	admin      *admin.Server // nil: none
}

// open attaches the program to every interface.
func (m *master) open() error {
	if err := checkBackends(m.config); err != nil {
		return err
	}
	warnPorts(m.config, m.log)
	for _, name := range m.config.Interfaces {
		i, err := dataplane.OpenInterface(dataplane.InterfaceOptions{Name: name, Mode: modes[m.config.XDPMode]})
		if err != nil {
			return err
		}
		m.interfaces = append(m.interfaces, i)
		if err := i.NativeFailure(); err != nil {
			m.log.Warn("native XDP is not to be had: generic mode is used, which is several times slower", "interface", name, "reason", err)
		}
		if n := i.RXQueues(); n > 1 {
			m.log.Warn("only queue 0 is served: frames on other queues are dropped; give the interface one queue",
				"interface", name, "queues", n, "remedy", fmt.Sprintf("ethtool -L %s combined 1", name))
		}
	}
	return nil
}

var modes = map[config.XDPMode]dataplane.Mode{
	config.XDPAuto:    dataplane.ModeAuto,
	config.XDPNative:  dataplane.ModeNative,
	config.XDPGeneric: dataplane.ModeGeneric,
}

// steer tells the programs which flows are ours.
func (m *master) steer() error {
	s := bpf.Config{BackendPorts: bpf.PortRange{First: m.config.BackendPorts.First, Last: m.config.BackendPorts.Last}}
	for _, l := range m.config.Listeners {
		s.Listeners = append(s.Listeners, l.Address)
	}
	for _, u := range m.config.Upstreams {
		s.Backends = append(s.Backends, u.Servers...)
	}
	for _, i := range m.interfaces {
		own, err := worker.Addresses(i)
		if err != nil {
			return err
		}
		c := s
		c.Addresses = own
		if err := i.Steer(c); err != nil {
			return fmt.Errorf("steer on %s: %w", i.Name(), err)
		}
	}
	return nil
}

// serve starts the admin endpoint, if one is configured.
func (m *master) serve(w *worker.Worker) (err error) {
	if m.config.Admin.IsValid() {
		m.admin, err = admin.Serve(m.config.Admin, w.Snapshot, m.log)
	}
	return err
}

// announce says what is served. Scripts wait for the message "ready".
func (m *master) announce() {
	var listeners, upstreams []string
	for _, l := range m.config.Listeners {
		listeners = append(listeners, l.Address.String())
	}
	for _, u := range m.config.Upstreams {
		upstreams = append(upstreams, fmt.Sprintf("%s=%v", u.Name, u.Servers))
	}
	m.log.Info("ready", "listeners", listeners, "interfaces", m.config.Interfaces, "upstreams", upstreams)
}

// supervise waits for the end; meanwhile it looks after the interfaces and writes
// statistics.
func (m *master) supervise(ctx context.Context, w *worker.Worker, ended <-chan error, signals <-chan os.Signal, statsFile string) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	write := func() {
		if statsFile == "" {
			return
		}
		if s, ok := w.Snapshot(); ok {
			if err := writeStats(statsFile, s); err != nil {
				m.log.Error("write statistics", "error", err)
			}
		}
	}
	write()
	draining := false
	memory := worker.NewMemory()
	for {
		select {
		case s := <-signals:
			switch {
			case s == syscall.SIGQUIT && !draining:
				draining = true
				m.log.Info("draining: nothing more is accepted", "timeout", m.config.Timeouts.Drain)
				w.Drain()
			case s == syscall.SIGUSR1 && m.access != nil:
				if err := m.access.reopen(); err != nil {
					m.log.Error("the old access log stays in use", "error", err)
				}
			}
		case <-ctx.Done():
			write()
			m.log.Info("stopping", "reason", context.Cause(ctx))
			w.Stop()
			select {
			case err := <-ended:
				return err
			case <-time.After(stopTimeout):
				return fmt.Errorf("the worker did not stop within %v", stopTimeout)
			}
		case err := <-ended:
			if err == nil && !draining {
				err = errors.New("the worker ended by itself")
			}
			return err
		case <-tick.C:
			if err := w.Check(); err != nil {
				w.Stop()
				return errors.Join(err, <-ended)
			}
			memory.Tick()
			write()
		}
	}
}

func (m *master) close() error {
	var errs []error
	if m.access != nil {
		errs = append(errs, m.access.Close())
	}
	if m.admin != nil {
		errs = append(errs, m.admin.Close())
	}
	for _, i := range m.interfaces {
		errs = append(errs, i.Close())
	}
	return errors.Join(errs...)
}
