// Package master prepares the host and supervises workers: it attaches the
// steering program, starts a worker process for each receive queue, tells the
// program what to steer, and reacts to signals and to the control socket. It never
// touches a request.
//
// One goroutine owns everything here. Whatever happens elsewhere (a worker's
// message or end, a command) comes to it as a call (master.post).
package master

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/admin"
	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/doctor"
	"ringroad/cmd/internal/filter"
	"ringroad/cmd/internal/notify"
	"ringroad/cmd/internal/restore"
	"ringroad/cmd/internal/sandbox"
	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/config"
)

// Options are what the command line adds to the configuration.
type Options struct {
	// Load reads the configuration again, for a reload.
	Load       func() (*config.Config, error)
	File       string // of the configuration, for the status; "": flags
	Version    string
	Control    string // path of the control socket
	StatsFile  string // JSON counters, rewritten every second and at exit; "": none
	CPUProfile string // of worker 0; those of others have their number behind it; "": none
	Log        *slog.Logger
	Level      *slog.LevelVar // of Log
}

const (
	// checkInterval is how often interfaces and workers are looked at and
	// statistics written.
	checkInterval = time.Second
	// beatInterval is how often the beat of workers is looked at.
	beatInterval = 200 * time.Millisecond
	// gcPercent has the heap collected before it is 4 MiB, the least that GOGC=100 begins at: it is seldom, as little
	// happens here.
	gcPercent = 25
)

// ending is how the master is about to end.
type ending int

const (
	endNot   ending = iota
	endDrain        // when the exchanges under way have
	endNow
)

// master belongs to the goroutine of Run, except where it says otherwise.
type master struct {
	Options
	config     *config.Config
	pages      map[string][]byte
	generation int // of the configuration; 1: the one of the start
	loadedAt   time.Time
	reloadErr  error     // of the last reload; nil: it succeeded, or there was none
	failedAt   time.Time // valid iff reloadErr
	startedAt  time.Time
	pid        int
	log        *slog.Logger

	interfaces []*dataplane.Interface
	links      []linkView // of each interface, as seen last
	events     *dataplane.LinkEvents
	journal    *restore.Journal // of changed device settings
	rss        []*dataplane.RSS // of each interface; nil: unknown
	identity   sandbox.Identity
	children   []*child
	clients    *os.File       // table of limits.client
	cookies    bpf.CookieKey  // of SYN cookies
	flows      *bpf.Flows     // which connections are open
	resident   *worker.Memory // of this process
	memory     *os.File       // of handover between workers; nil: one worker
	bells      []*os.File     // an eventfd for each worker
	steered    steered
	filter     *bpf.Filter   // in use; nil: none
	access     *os.File      // nil: none
	admin      *admin.Server // nil: none
	commands   net.Listener  // the control socket
	control    *control.Server
	unpid      func() error // removes the pid file; nil: there is none
	feeds      []*feeding   // captures and traces that are running

	calls     chan func()   // to run on the master's goroutine
	done      chan struct{} // closed when nobody takes calls any more
	announced bool          // "ready" was said
	ending    ending
	drained   bool      // workers were drained, the master stays (SIGWINCH)
	deadline  time.Time // when workers that are to end are killed; zero: never
	failure   error     // why the master ends by itself
}

// Run runs until ctx is done, then stops at once and leaves the host as it
// was. Signals while it runs, as nginx has them: SIGQUIT accepts nothing more,
// lets exchanges finish within timeouts.drain and ends; SIGHUP reads the
// configuration again; SIGUSR1 opens the access log anew; SIGWINCH ends the
// workers gracefully and gives their traffic back to the kernel, until SIGHUP. A
// nil error means that it was asked to end.
func Run(ctx context.Context, c *config.Config, o Options) (err error) {
	runtime.GOMAXPROCS(1) // it has little to do, and should not be in the way of workers
	debug.SetGCPercent(gcPercent)
	// Workers die with the thread that started them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := time.Now()
	m := &master{
		Options: o, config: c, log: o.Log, generation: 1, startedAt: now, loadedAt: now, pid: os.Getpid(),
		calls: make(chan func()), done: make(chan struct{}),
	}
	defer func() { err = errors.Join(err, m.close()) }()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGWINCH)
	defer signal.Stop(signals)
	if err := m.open(); err != nil {
		return err
	}
	if err := m.startWorkers(); err != nil {
		m.ending, m.failure = endNow, err
		m.stopWorkers()
	}
	return m.supervise(ctx, signals)
}

// open attaches the program to every interface and opens what workers are given.
func (m *master) open() (err error) {
	c := m.config
	if err := dataplane.CheckCapabilities(); err != nil {
		return fmt.Errorf("open interface %s: %w", c.Interfaces[0], err)
	}
	if m.identity, err = sandbox.Lookup(c.User); err != nil {
		return err
	}
	if m.resident, err = worker.NewMemory(); err != nil {
		return err
	}
	if err := doctor.LocalBackends(c); err != nil {
		return err
	}
	if m.pages, err = proxy.ReadPages(c); err != nil {
		return err
	}
	rand.Read(m.cookies[:]) //nolint:errcheck // it never fails
	if m.filter, err = filter.Open(&c.Filter); err != nil {
		return err
	}
	// Two masters with one control socket or pid file are a mistake, to be found
	// before anything is touched.
	if m.commands, err = control.Listen(m.Control); err != nil {
		return err
	}
	if c.PIDFile != "" {
		if m.unpid, err = control.WritePIDFile(c.PIDFile); err != nil {
			return err
		}
	}
	if err := m.openJournal(); err != nil {
		return err
	}
	m.prepareDevices()
	for _, f := range doctor.Ports(c) {
		m.log.Warn(f.Text, "check", f.Check, "subject", f.Subject, "remedy", f.Remedy)
	}
	if m.flows, err = bpf.NewFlows(); err != nil {
		return err
	}
	for _, name := range c.Interfaces {
		i, err := dataplane.OpenInterface(dataplane.InterfaceOptions{Name: name, Mode: modes[c.XDPMode], Flows: m.flows})
		if err != nil {
			return err
		}
		m.interfaces = append(m.interfaces, i)
		if err := i.NativeFailure(); err != nil {
			m.log.Warn("native XDP is not to be had: generic mode is used, which is several times slower", "interface", name, "reason", err)
		}
	}
	if err := m.watchLinks(); err != nil {
		return err
	}
	if err := m.pollDevices(); err != nil {
		return err
	}
	if m.access, err = openAccessLog(c.Log.Access); err != nil {
		return err
	}
	return nil
}

var modes = map[config.XDPMode]dataplane.Mode{
	config.XDPAuto:    dataplane.ModeAuto,
	config.XDPNative:  dataplane.ModeNative,
	config.XDPGeneric: dataplane.ModeGeneric,
}

// openAccessLog returns nil for no path.
func openAccessLog(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the access log: %w; make its folder, or set log.access to off", err)
	}
	return f, nil
}

// post has f called by the master's goroutine. Any other goroutine may call it; f
// is lost when the master has ended.
func (m *master) post(f func()) {
	select {
	case m.calls <- f:
	case <-m.done:
	}
}

// fail ends the master by itself.
func (m *master) fail(err error) {
	if m.failure == nil {
		m.failure = err
	}
	m.stop()
}

// supervise is the master's loop: it ends when all workers have.
func (m *master) supervise(ctx context.Context, signals <-chan os.Signal) error {
	check, beat := time.NewTicker(checkInterval), time.NewTicker(beatInterval)
	defer check.Stop()
	defer beat.Stop()
	asked := ctx.Done()
	for !m.finished() {
		select {
		case f := <-m.calls:
			f()
		case s := <-signals:
			m.signal(s)
		case <-asked:
			asked = nil
			m.log.Info("stopping", "reason", context.Cause(ctx))
			m.stop()
		case <-m.events.Changed():
			m.followLinks()
		case <-beat.C:
			m.watch()
		case <-check.C:
			m.check()
		}
	}
	m.writeStats()
	return m.failure
}

// finished reports that the master is to end and no worker is left. After a drain
// without end it stays.
func (m *master) finished() bool {
	if m.ending == endNot {
		return false
	}
	for _, c := range m.children {
		if c.alive() {
			return false
		}
	}
	return true
}

func (m *master) signal(s os.Signal) {
	switch s {
	case syscall.SIGQUIT:
		m.quit()
	case syscall.SIGHUP:
		if _, err := m.reload(); err != nil {
			m.log.Error("the configuration stays as it was", "error", err)
		}
	case syscall.SIGUSR1:
		if err := m.reopen(); err != nil {
			m.log.Error("the old access log stays in use", "error", err)
		}
	case syscall.SIGWINCH:
		m.drain()
	}
}

// stop ends everything at once.
func (m *master) stop() {
	if m.ending == endNow {
		return
	}
	m.ending = endNow
	m.tellManager(notify.Stopping())
	m.stopWorkers()
}

// quit ends when the exchanges under way have.
func (m *master) quit() {
	if m.ending != endNot {
		return
	}
	m.ending = endDrain
	m.tellManager(notify.Stopping())
	m.drainWorkers()
}

// drain ends the workers as quit does, but the master stays, and the kernel gets
// the traffic: another server on this host can take over, and give it back by
// stopping and a reload here.
func (m *master) drain() {
	if m.ending != endNot || m.drained {
		return
	}
	m.drained = true
	m.drainWorkers()
}

func (m *master) drainWorkers() {
	m.deadline = time.Now().Add(m.config.Timeouts.Drain + m.config.Timeouts.WorkerShutdown)
	var asked []*child
	for _, c := range m.children {
		switch c.state {
		case stateServing:
			c.state = stateDraining
			if err := c.ask(worker.Message{Kind: worker.MessageDrain}); err == nil {
				asked = append(asked, c)
			}
		case stateStarting:
			c.state = stateDraining
			m.kill(c) // it serves nobody yet
		case stateWaiting:
			c.state = stateEnded
		}
	}
	for _, c := range asked {
		if err := c.answer(); err != nil && !errors.Is(err, errDied) {
			m.log.Error("a worker does not drain", "worker", c.index, "error", err) // the deadline is for it
		}
	}
	m.log.Info("draining: nothing more is accepted", "timeout", m.config.Timeouts.Drain)
}

func (m *master) stopWorkers() {
	m.deadline = time.Now().Add(m.config.Timeouts.WorkerShutdown)
	for _, c := range m.children {
		switch {
		case c.state == stateStarting:
			m.kill(c)
		case c.alive():
			m.tell(c, worker.Message{Kind: worker.MessageStop})
		default:
			c.state = stateEnded
		}
	}
}

// tell sends a message that is not answered.
func (m *master) tell(c *child, message worker.Message, fds ...int) {
	if err := c.channel.Send(message, fds...); err != nil {
		m.log.Debug("a worker does not listen", "worker", c.index, "error", err)
	}
}

// reopen opens the access log anew under its name.
func (m *master) reopen() error {
	if m.access == nil {
		return nil
	}
	f, err := openAccessLog(m.config.Log.Access)
	if err != nil {
		return err
	}
	m.setAccessLog(f)
	return nil
}

// setAccessLog makes all workers write to another file; nil: nowhere.
func (m *master) setAccessLog(f *os.File) {
	var fds []int
	if f != nil {
		fds = []int{fdOf(f)}
	}
	for _, c := range m.children {
		if c.alive() {
			m.tell(c, worker.Message{Kind: worker.MessageAccessLog}, fds...)
		}
	}
	if m.access != nil {
		m.access.Close() //nolint:errcheck // the master writes nothing
	}
	m.access = f
}

// announce says what is served. Scripts wait for the message "ready".
func (m *master) announce() {
	m.announced = true
	var listeners, upstreams []string
	for _, l := range m.config.Listeners {
		listeners = append(listeners, l.Address.String())
	}
	for _, u := range m.config.Upstreams {
		upstreams = append(upstreams, fmt.Sprintf("%s=%v", u.Name, u.Servers))
	}
	m.log.Info("ready", "listeners", listeners, "interfaces", m.config.Interfaces, "upstreams", upstreams, "workers", len(m.children))
	m.tellManager(notify.Ready(m.statusLine()))
	m.resident.Started()
}

// statusLine is what `systemctl status` shows.
func (m *master) statusLine() string {
	return fmt.Sprintf("%d workers on %s", len(m.children), strings.Join(m.config.Interfaces, ", "))
}

// tellManager takes what became of telling the service manager something.
func (m *master) tellManager(err error) {
	if err != nil {
		m.log.Warn("the service manager could not be told", "error", err)
	}
}

func (m *master) close() error {
	close(m.done)
	var errs []error
	if m.admin != nil {
		errs = append(errs, m.admin.Close())
	}
	if m.events != nil {
		m.events.Close()
	}
	for _, i := range m.interfaces {
		errs = append(errs, i.Close())
	}
	errs = append(errs, m.filter.Close())
	if m.journal != nil {
		errs = append(errs, m.restoreDevices("the interface has its setting back", func(restore.Change) bool { return true }))
	}
	// Not before: without the socket another master may start.
	switch {
	case m.control != nil:
		errs = append(errs, m.control.Close())
	case m.commands != nil:
		errs = append(errs, m.commands.Close())
	}
	if m.unpid != nil {
		errs = append(errs, m.unpid())
	}
	return errors.Join(errs...)
}
