package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Process is a program that runs in the lab until it ends by itself or is stopped. Its methods may be called from any goroutine.
type Process struct {
	Name string
	cmd  *exec.Cmd
	out  tail
	done chan struct{} // closed when the process has been waited for
	err  error         // of Wait; valid once done is closed
}

// Start starts a command (see Namespace.Exec) as a process of the lab. What it prints is kept (Process.Output); its standard error
// goes to the command's own Stderr too. The lab stops it on Close.
func (l *Lab) Start(name string, c *exec.Cmd) (*Process, error) {
	p := &Process{Name: name, cmd: c, done: make(chan struct{})}
	if c.Stdout == nil {
		c.Stdout = &p.out
	}
	if c.Stderr == nil {
		c.Stderr = &p.out
	} else {
		c.Stderr = io.MultiWriter(&p.out, c.Stderr)
	}
	// A grandchild that outlives the child must not keep Wait waiting for the end of its output.
	c.WaitDelay = time.Second
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = c.Wait()
		close(p.done)
		p.out.wake()
	}()
	l.mu.Lock()
	l.processes = append(l.processes, p)
	l.mu.Unlock()
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Processes returns the ids of the process and of all its descendants, such as the workers of a master. What a server uses is the sum
// over them.
func (p *Process) Processes() ([]int, error) { return family(p.PID()) }

// CPU returns the processor time that the process and its descendants have used. One that has ended counts no more.
func (p *Process) CPU() (time.Duration, error) {
	pids, err := p.Processes()
	if err != nil {
		return 0, err
	}
	user, system, err := CPU(pids...)
	return user + system, err
}

// Memory returns the memory that the process and its descendants take up, in bytes (see PSS).
func (p *Process) Memory() (int64, error) {
	pids, err := p.Processes()
	if err != nil {
		return 0, err
	}
	return PSS(pids...)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output returns the end of what the process has printed so far.
func (p *Process) Output() string { return p.out.String() }

// WaitLine waits until the process has printed the text, and fails when it ends or the time passes first.
func (p *Process) WaitLine(text string, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		changed := p.out.changed()
		if strings.Contains(p.Output(), text) {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return fmt.Errorf("%s did not print %q within %v; it printed:\n%s", p.Name, text, limit, p.Output())
		}
		select {
		case <-p.done:
			if !strings.Contains(p.Output(), text) {
				return fmt.Errorf("%s ended (%v) before it printed %q; it printed:\n%s", p.Name, p.err, text, p.Output())
			}
		default:
		}
	}
}

// Wait waits for the end of the process and returns how it ended, as exec.Cmd.Wait does.
func (p *Process) Wait(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("%s (pid %d) still runs after %v", p.Name, p.PID(), limit)
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

func (p *Process) signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the process: SIGTERM, and SIGKILL when that has not helped within the given time. It returns true when SIGTERM was
// enough or the process had already ended.
func (p *Process) Stop(grace time.Duration) bool {
	_ = p.signal(syscall.SIGTERM) // fails only when the process has ended
	select {
	case <-p.done:
		return true
	case <-time.After(grace):
	}
	_ = p.signal(syscall.SIGKILL)
	<-p.done
	return false
}

// tailBytes is how much output of a process is kept: enough for a crash's trace back of all goroutines.
const tailBytes = 512 << 10

// tail keeps the end of what is written to it.
type tail struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	notify chan struct{} // closed at the next write
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(b)
	if over := t.buf.Len() - tailBytes; over > 0 {
		t.buf.Next(over)
	}
	t.wakeLocked()
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

func (t *tail) changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.notify == nil {
		t.notify = make(chan struct{})
	}
	return t.notify
}

func (t *tail) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wakeLocked()
}

func (t *tail) wakeLocked() {
	if t.notify != nil {
		close(t.notify)
		t.notify = nil
	}
}
