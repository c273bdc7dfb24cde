package failure

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ringroad/hack/lab"
)

const (
	// patience bounds each wait for something that is about to happen.
	patience = 20 * time.Second
	// answerLimit bounds a whole conversation of a client.
	answerLimit = 40 * time.Second
	lookEvery   = 50 * time.Millisecond
)

// Stage is what a scenario is played on.
type Stage struct {
	Lab      *lab.Lab
	Ringroad *lab.Ringroad

	scenario  *Scenario
	backend   *pretender
	bystander *bystander
	before    reading
	show      *show
	looked    bool

	mu    sync.Mutex
	conns []net.Conn
}

// client is a connection to a listener.
type client struct {
	net.Conn
	in *bufio.Reader
}

// dial connects. With several workers the bystander's is worker 0; whoever else comes is served by the last one.
func (s *Stage) dial(address string) (*client, error) {
	return s.dialFor(max(s.scenario.Queues, 1)-1, address)
}

func (s *Stage) dialFor(worker int, address string) (*client, error) {
	var c net.Conn
	var err error
	if workers := s.scenario.Queues; workers > 1 {
		c, err = s.Lab.DialWorker(worker, workers, address, patience)
	} else {
		err = s.Lab.Client.Do(func() error {
			c, err = net.DialTimeout("tcp", address, patience)
			return err
		})
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	return &client{c, bufio.NewReader(c)}, c.SetDeadline(time.Now().Add(answerLimit))
}

// hold connects n times.
func (s *Stage) hold(n int, address string) ([]*client, error) {
	list := make([]*client, n)
	for i := range list {
		var err error
		if list[i], err = s.dial(address); err != nil {
			return nil, fmt.Errorf("connection %d of %d: %w", i+1, n, err)
		}
	}
	return list, nil
}

// leave closes all connections of clients.
func (s *Stage) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

// ask sends a request and reads the answer.
func (c *client) ask() (status int, body string, err error) {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
		return 0, "", err
	}
	return c.answer()
}

func (c *client) answer() (status int, body string, err error) {
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// want asks and fails on another answer than this.
func (c *client) want(status int, body string) error {
	got, text, err := c.ask()
	if err != nil {
		return err
	}
	if got != status || body != "" && text != body {
		return fmt.Errorf("answered %d, %q, want %d, %q", got, text, status, body)
	}
	return nil
}

// once asks over a connection of its own, and fails unless the answer has the status.
func (s *Stage) once(address string, status int) error {
	c, err := s.dial(address)
	if err != nil {
		return err
	}
	defer c.Close()
	body := ""
	if status == http.StatusOK {
		body = hello
	}
	return c.want(status, body)
}

// several does something n times at once; the function returned waits for all of them.
func several(n int, f func() error) func() error {
	results := make(chan error, n)
	for range n {
		go func() { results <- f() }()
	}
	return func() error {
		var all error
		for range n {
			all = errors.Join(all, <-results)
		}
		return all
	}
}

// await polls until a condition holds. state says how far it is from that.
func await(what string, condition func() (ok bool, state string, err error)) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(lookEvery) {
		ok, state, err := condition()
		switch {
		case err != nil:
			return fmt.Errorf("wait until %s: %w", what, err)
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("wait until %s: not within %v: %s", what, patience, state)
		}
	}
}

// level waits until a metric is at least so high.
func (s *Stage) level(metric string, least float64) error {
	return await(fmt.Sprintf("%s is at least %.0f", metric, least), func() (bool, string, error) {
		r, err := scrape(s.Lab)
		return r[metric] >= least, fmt.Sprintf("%.0f", r[metric]), err
	})
}

// worker returns the process of a worker.
func (s *Stage) worker(index int) (pid int, err error) {
	out, err := s.Ringroad.Command(patience, "status", "--json")
	if err != nil {
		return 0, fmt.Errorf("status: %w: %s", err, out)
	}
	var status struct {
		Workers []struct{ Index, PID int }
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return 0, fmt.Errorf("status: %w", err)
	}
	for _, w := range status.Workers {
		if w.Index == index && w.PID > 1 {
			return w.PID, nil
		}
	}
	return 0, fmt.Errorf("status shows no process of worker %d:\n%s", index, out)
}

// signal sends a signal to a worker.
func (s *Stage) signal(index int, signal syscall.Signal) error {
	pid, err := s.worker(index)
	if err == nil {
		err = syscall.Kill(pid, signal)
	}
	if err != nil {
		return fmt.Errorf("signal worker %d: %w", index, err)
	}
	return nil
}

// Broken is called by Scenario.Play when the failure is there. It waits until everything that tells of it does, and makes sure that
// nobody else suffers.
func (s *Stage) Broken() error {
	var now reading
	err := await("the counters tell of it", func() (bool, string, error) {
		var err error
		if now, err = scrape(s.Lab); err != nil {
			return false, "", err
		}
		for _, name := range s.scenario.Moves {
			if now[name] == s.before[name] {
				return false, fmt.Sprintf("%s stands still; what moved: %v", name, now.moved(s.before)), nil
			}
		}
		for _, l := range s.scenario.Levels {
			if now[l.Metric] < l.Least {
				return false, fmt.Sprintf("%s is %.0f, not %.0f", l.Metric, now[l.Metric], l.Least), nil
			}
		}
		return true, "", nil
	})
	if now != nil {
		s.show.table("broken", now, s.before)
	}
	if err != nil {
		return err
	}
	if err := s.look(); err != nil {
		return err
	}
	if why := s.scenario.Everybody; why != "" {
		s.show.say("everybody waits: %s", why)
		return nil
	}
	n, err := s.bystander.goOn()
	if err != nil {
		return fmt.Errorf("the bystander: %w", err)
	}
	s.show.say("meanwhile %d requests of somebody else were answered", n)
	return nil
}

// look has the signs shown, once. A scenario calls it when they are there before the counters move.
func (s *Stage) look() error {
	if s.looked {
		return nil
	}
	s.looked = true
	var all error
	for _, sign := range s.scenario.Sees {
		all = errors.Join(all, s.see(sign))
	}
	return all
}

// bystander asks on and on over one connection.
type bystander struct {
	asked atomic.Int64
	stop  chan struct{}
	done  chan struct{}
	err   error // valid once done is closed
}

// pause lets a bystander leave the processor to others.
const pause = 5 * time.Millisecond

func (s *Stage) newBystander() (*bystander, error) {
	c, err := s.dialFor(0, beside)
	if err != nil {
		return nil, err
	}
	// leave is not to close it while it asks.
	s.mu.Lock()
	s.conns = slices.DeleteFunc(s.conns, func(k net.Conn) bool { return k == c.Conn })
	s.mu.Unlock()
	b := &bystander{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		defer c.Close()
		for {
			select {
			case <-b.stop:
				return
			case <-time.After(pause):
			}
			if b.err = c.SetDeadline(time.Now().Add(answerLimit)); b.err != nil {
				return
			}
			if b.err = c.want(http.StatusOK, hello); b.err != nil {
				b.err = fmt.Errorf("request %d of somebody else: %w", b.asked.Load()+1, b.err)
				return
			}
			b.asked.Add(1)
		}
	}()
	return b, nil
}

// goOn waits until it was answered some more.
func (b *bystander) goOn() (n int64, err error) {
	from := b.asked.Load()
	err = await("it is answered", func() (bool, string, error) {
		select {
		case <-b.done:
			return false, "", b.err
		default:
		}
		n = b.asked.Load() - from
		return n >= 10, fmt.Sprintf("%d answers", n), nil
	})
	return n, err
}

// end returns how it went.
func (b *bystander) end() error {
	close(b.stop)
	<-b.done
	return b.err
}
