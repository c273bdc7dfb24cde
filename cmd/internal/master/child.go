package master

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"ringroad/cmd/internal/worker"
)

const (
	// startTimeout is how long a worker may take to be ready; a queue that its
	// predecessor held may be busy for some seconds of it.
	startTimeout = 20 * time.Second
	// replyTimeout is how long a worker may take to answer: its loop does it
	// between two turns.
	replyTimeout = 5 * time.Second
	// backoffMin and backoffMax bound the wait before a worker that died is
	// started again; the first time there is none. It doubles with every death
	// within steadyTime.
	backoffMin = 100 * time.Millisecond
	backoffMax = 10 * time.Second
	steadyTime = 30 * time.Second
)

// childState is what a worker is about.
type childState string

const (
	stateStarting childState = "starting"
	stateServing  childState = "serving"
	stateDraining childState = "draining"
	stateWaiting  childState = "waiting" // died, and will be started again
	stateEnded    childState = "ended"   // as it was asked to
)

// reply is an answer to a message, by its number.
type reply struct {
	number uint64
	err    error
}

// child is one worker and the process that does its work at present. It belongs to
// the master's goroutine.
type child struct {
	index    int
	cpu      int // -1: any
	links    []worker.Link
	page     *worker.Page
	pageFile *os.File
	profile  *os.File // nil: none; the first process alone writes it
	ended    worker.Ended

	state      childState
	process    *os.Process
	channel    *worker.Channel
	replies    chan reply
	asked      uint64 // number of the last message that is to be answered
	started    time.Time
	generation int // of the configuration it has
	queues     []worker.Queue
	restarts   uint64
	backoff    time.Duration
	failure    string // why it said that it cannot serve

	turns  uint64    // of its loop when last looked at
	beat   time.Time // when they last moved
	mute   bool      // it has let an answer be waited for in vain, and not moved since
	killed bool      // by the watchdog or a timeout: reported already
}

// alive reports whether there is a process.
func (c *child) alive() bool {
	return c.state == stateStarting || c.state == stateServing || c.state == stateDraining
}

// spawn starts a process for the worker. Its messages and its end come as calls on
// the master's goroutine.
func (m *master) spawn(c *child) error {
	channel, theirs, err := worker.NewChannel()
	if err != nil {
		return err
	}
	if err := m.equip(c, len(m.children)); err != nil {
		return err
	}
	c.page.Clear()
	cmd := exec.Cmd{
		Path: "/proc/self/exe", // the program that this process is, even if its file was replaced
		Args: []string{fmt.Sprintf("ringroad: worker %d", c.index)},
		Env: append(os.Environ(), worker.RoleVariable+"=worker", "GOMAXPROCS=1",
			"NOTIFY_SOCKET=", "WATCHDOG_USEC="), // only the master speaks to systemd
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{
			Pdeathsig: syscall.SIGKILL, // even if it is stopped
			Setpgid:   true,            // signals from a terminal are for the master
		},
	}
	err = cmd.Start()
	if closeErr := theirs.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return errors.Join(fmt.Errorf("start worker %d: %w", c.index, err), channel.Close())
	}
	c.state, c.process, c.channel, c.replies = stateStarting, cmd.Process, channel, make(chan reply, 1)
	c.started, c.beat, c.turns = time.Now(), time.Now(), 0
	c.generation, c.queues, c.failure, c.killed, c.mute = m.generation, nil, "", false, false
	received := make(chan struct{})
	go m.receive(c, channel, c.replies, received)
	go func() {
		err := cmd.Wait()
		<-received // what it said before it died comes first
		m.post(func() { m.died(c, err) })
	}()
	if err := m.instruct(c); err != nil {
		// It has died already, or is stuck: its end is on the way, or the
		// start timeout is.
		m.log.Debug("a worker does not listen", "worker", c.index, "error", err)
	}
	return nil
}

// instruct sends a new process what it needs to know.
func (m *master) instruct(c *child) error {
	s := worker.Start{
		Index: c.index, Workers: len(m.children), Master: os.Getpid(), Links: c.links,
		Reload: m.reloadMessage(), CPU: c.cpu, Identity: m.identity,
		HasAccessLog: m.access != nil, HasProfile: c.profile != nil,
		Cookies: m.cookies,
	}
	flows := m.flows.FDs()
	fds := []int{fdOf(c.pageFile), fdOf(m.clients), flows[0], flows[1]}
	if len(m.children) > 1 {
		fds = append(fds, fdOf(m.memory))
		for _, b := range m.bells {
			fds = append(fds, fdOf(b))
		}
	}
	if m.access != nil {
		fds = append(fds, fdOf(m.access))
	}
	if c.profile != nil {
		fds = append(fds, fdOf(c.profile))
	}
	for _, i := range m.interfaces {
		fds = append(fds, i.AnswersFD())
	}
	err := c.channel.Send(worker.Message{Kind: worker.MessageStart, Start: &s}, fds...)
	if c.profile != nil {
		err = errors.Join(err, c.profile.Close())
		c.profile = nil
	}
	return err
}

// fdOf is the descriptor of a file. Unlike Fd it does not change how the file
// blocks, which others see that share it.
func fdOf(f *os.File) (fd int) {
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	if err != nil {
		return -1 // closed: sending it fails
	}
	return fd
}

// receive takes a process's messages until it is gone.
func (m *master) receive(c *child, channel *worker.Channel, replies chan reply, done chan<- struct{}) {
	defer close(done)
	defer close(replies)
	for {
		message, files, err := channel.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				m.post(func() { m.log.Error("a worker sent what cannot be read", "worker", c.index, "error", err) })
			}
			return
		}
		switch message.Kind {
		case worker.MessageReply:
			err = nil
			if message.Error != "" {
				err = errors.New(message.Error)
			}
			r := reply{message.Number, err}
			select {
			case replies <- r:
			default:
				// Nobody waited for the one before any more. The next can be waited for.
				select {
				case <-replies:
				default:
				}
				replies <- r
			}
		case worker.MessageReady:
			m.post(func() { m.ready(c, message.Ready, files) })
		case worker.MessageEnd:
			m.post(func() { c.failure = message.Error })
		}
	}
}

// ready enters the sockets of a worker that serves.
func (m *master) ready(c *child, r *worker.Ready, sockets []*os.File) {
	defer func() {
		for _, s := range sockets {
			s.Close() //nolint:errcheck // a copy: the worker has the socket
		}
	}()
	if c.state != stateStarting || r == nil || len(r.Queues) != len(sockets) {
		return
	}
	for k, q := range r.Queues {
		if err := m.interfaces[q.Link].SetSocket(q.Queue, fdOf(sockets[k])); err != nil {
			c.failure = err.Error()
			m.kill(c)
			return
		}
	}
	c.state, c.queues, c.beat = stateServing, r.Queues, time.Now()
	if c.generation != m.generation {
		// The configuration changed while it started.
		if err := m.bringUpToDate(c); err != nil {
			c.failure = err.Error()
			m.kill(c)
			return
		}
	}
	m.joinAll(c)
	if c.restarts > 0 {
		m.log.Info("the worker serves again", "worker", c.index, "pid", c.process.Pid)
	}
	m.served()
}

// died takes the end of a worker's process.
func (m *master) died(c *child, how error) {
	c.channel.Close() //nolint:errcheck // nothing is on its way
	c.ended.Note(c.page)
	lived := time.Since(c.started)
	pid := c.process.Pid
	c.process, c.queues = nil, nil
	if c.state == stateDraining || m.ending != endNot {
		if how != nil && !c.killed {
			m.log.Error("a worker ended badly", "worker", c.index, "pid", pid, "how", how)
		}
		c.state = stateEnded
		if m.ending == endNot && !m.drained {
			// A reload came while it was draining.
			c.state = stateWaiting
			m.restart(c)
		}
		return
	}
	c.state = stateWaiting
	if c.failure != "" && !m.announced {
		m.fail(errors.New(c.failure))
		return
	}
	if !m.announced {
		m.fail(fmt.Errorf("worker %d ended while it started: %w", c.index, orClean(how)))
		return
	}
	if lived > steadyTime {
		c.backoff = 0
	}
	wait := c.backoff
	c.backoff = min(max(2*c.backoff, backoffMin), backoffMax)
	c.restarts++
	args := []any{"worker", c.index, "pid", pid, "how", orClean(how), "lived", lived.Round(time.Millisecond), "restart_in", wait}
	if c.failure != "" {
		args = append(args, "reason", strings.ReplaceAll(c.failure, "\n", "; "))
	}
	m.log.Error("a worker died: the connections of its queues are lost", args...)
	time.AfterFunc(wait, func() { m.post(func() { m.restart(c) }) })
}

// orClean is an error for the end of a process that should not have ended.
func orClean(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// restart starts a worker that died, unless the master is about to end.
func (m *master) restart(c *child) {
	if c.state != stateWaiting || m.ending != endNot || m.drained {
		return
	}
	if err := m.spawn(c); err != nil {
		m.log.Error("cannot start a worker again", "error", err, "retry_in", c.backoff)
		c.backoff = min(max(2*c.backoff, backoffMin), backoffMax)
		time.AfterFunc(c.backoff, func() { m.post(func() { m.restart(c) }) })
	}
}

// kill ends a process that does not do what it should.
func (m *master) kill(c *child) {
	if c.process != nil {
		c.killed = true
		c.process.Kill() //nolint:errcheck // it has ended already
	}
}

// errDied is the answer of a worker that does not live to give one.
var errDied = errors.New("the worker died")

// ask sends a message to a worker that is to answer it.
func (c *child) ask(m worker.Message, fds ...int) error {
	c.asked++
	m.Number = c.asked
	return c.channel.Send(m, fds...)
}

// answer waits for the answer to what was asked last. A worker that stood still may
// have answers to what was given up: they are for nobody. One that stands still is
// waited for once: the master does nothing else meanwhile, not even replace it.
func (c *child) answer() error {
	limit := replyTimeout
	if c.mute {
		limit = 0
	}
	late := time.After(limit)
	for {
		select {
		case r, ok := <-c.replies:
			if !ok {
				return errDied
			}
			if r.number == c.asked {
				c.mute = false
				return r.err
			}
		case <-late:
			c.mute = true
			return fmt.Errorf("worker %d did not answer within %v", c.index, replyTimeout)
		}
	}
}
