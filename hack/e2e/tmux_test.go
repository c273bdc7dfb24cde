package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tmux is a terminal of 80x24 with a program in it, as ssh would give it one.
type tmux struct {
	t      *testing.T
	socket string
}

// openTmux runs a program in a terminal. When it ends its exit status is shown.
func openTmux(t *testing.T, environment []string, argv ...string) *tmux {
	t.Helper()
	m := &tmux{t, filepath.Join(shortDir(t), "tmux.sock")}
	args := []string{"-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"}
	for _, e := range environment {
		args = append(args, "-e", e)
	}
	m.run(append(append(args, "sh", "-c", `"$@"; echo "exit status $?"; exec sleep 600`, "sh"), argv...)...)
	t.Cleanup(func() { m.run("kill-server") })
	return m
}

// shortDir is a folder whose name a socket's address has room for.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (m *tmux) run(args ...string) string {
	m.t.Helper()
	c := exec.Command("tmux", append([]string{"-S", m.socket}, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		m.t.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// press presses keys, each by its name in tmux or as a letter.
func (m *tmux) press(keys ...string) {
	m.t.Helper()
	m.run(append([]string{"send-keys"}, keys...)...)
}

// write types text.
func (m *tmux) write(text string) {
	m.t.Helper()
	m.run("send-keys", "-l", text)
}

func (m *tmux) resize(width, height int) {
	m.t.Helper()
	m.run("resize-window", "-x", strconv.Itoa(width), "-y", strconv.Itoa(height))
}

// text is what is to be seen; colours adds the escape sequences of how.
func (m *tmux) text(colours bool) string {
	m.t.Helper()
	args := []string{"capture-pane", "-p"}
	if colours {
		args = append(args, "-e")
	}
	return m.run(args...)
}

// shows waits until everything is to be seen at once, and returns the screen.
func (m *tmux) shows(parts ...string) (text string) {
	m.t.Helper()
	wait(m.t, startLimit, fmt.Sprintf("%q on the terminal", parts), func() (bool, string) {
		text = m.text(false)
		for _, p := range parts {
			if !strings.Contains(text, p) {
				return false, fmt.Sprintf("%q is missing in\n%s", p, text)
			}
		}
		return true, ""
	})
	return text
}
