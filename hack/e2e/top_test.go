package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTopOnATerminal drives top by its keys, on a terminal of 80x24, against a ringroad that serves.
func TestTopOnATerminal(t *testing.T) {
	r := start(t, bothFamilies)
	mustServe(t, shared)
	master, terminal := openTerminal(t, 80, 24)
	c := shared.Edge.Exec(binary, "top", "--interval", "200ms", "--control", r.Control)
	c.Env = append(os.Environ(), "TERM=xterm-256color")
	c.Stdin, c.Stdout, c.Stderr = terminal, terminal, terminal
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	terminal.Close()
	s := &seen{}
	go s.copy(master)
	press := func(keys string) {
		t.Helper()
		if _, err := io.WriteString(master, keys); err != nil {
			t.Fatal(err)
		}
	}
	s.mustShow(t, fmt.Sprintf("process %d running", r.PID()), "worker", "fill", "completion", "requests/s", "quit")
	press("w")
	s.mustShow(t, "handshakes;", "cookies") // single words: what was a space before may not be written again
	press("p")
	s.mustShow(t, "PAUSED")
	press("q")
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("ended with %v; it showed:\n%q", err, s.text())
		}
	case <-time.After(stopLimit):
		c.Process.Kill() //nolint:errcheck // it is reported below
		t.Errorf("q does not end it; it showed:\n%q", s.text())
	}
	mustServe(t, shared)

	out, err := r.Command(doctorLimit, "top", "--once", "--interval", "200ms")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustMatch(t, out, `(?m)^requests/s +\d`, `(?m)^fill ring +\[#+\.*\] +\d+/8192`)
	mustNotMatch(t, out, `\x1b`)
}

// seen is what a program has written to its terminal.
type seen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *seen) copy(from io.Reader) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		s.mu.Lock()
		s.buf.Write(b[:n])
		s.mu.Unlock()
		if err != nil {
			return // EIO: the program has closed its end
		}
	}
}

func (s *seen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *seen) mustShow(t *testing.T, parts ...string) {
	t.Helper()
	wait(t, startLimit, fmt.Sprintf("%q on the terminal", parts), func() (bool, string) {
		text := s.text()
		for _, p := range parts {
			if !strings.Contains(text, p) {
				return false, fmt.Sprintf("%q is missing in %q", p, text)
			}
		}
		return true, ""
	})
}

// openTerminal makes a pseudo-terminal; what is written to one end is read from the other.
func openTerminal(t *testing.T, width, height uint16) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, terminal
}
