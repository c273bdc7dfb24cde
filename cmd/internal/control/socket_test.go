package control_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"ringroad/cmd/internal/control"
)

func TestListenMakesThePathForItsOwnerAlone(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "a", "b", "control.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, want := range map[string]os.FileMode{path: os.ModeSocket | 0o600, filepath.Dir(path): os.ModeDir | 0o755} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestListenReplacesWhatAKilledMasterLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	master := startMaster(t, path)
	if err := master.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = master.Wait()
	if _, err := control.Dial(path); err == nil || !strings.Contains(err.Error(), "nobody answers") {
		t.Errorf("dial: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Dial(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("dial a file: %v", err)
	}
	// Of many that find it, one may have it.
	const n = 8
	var listeners [n]net.Listener
	var errs [n]error
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() { listeners[i], errs[i] = control.Listen(path) })
	}
	done.Wait()
	won := 0
	for i := range n {
		if errs[i] == nil {
			won++
			defer listeners[i].Close()
		} else if !strings.Contains(errs[i].Error(), "is in use by") {
			t.Error(errs[i])
		}
	}
	if won != 1 {
		t.Errorf("%d of %d listen", won, n)
	}
	dial(t, path)
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	live := filepath.Join(dir, "live")
	master := startMaster(t, live)
	other := filepath.Join(dir, "other")
	anotherProgram(t, other, "")
	for path, want := range map[string]string{
		"":                             "the path is empty",
		"/" + strings.Repeat("x", 107): "at most 107 bytes",
		file:                           file + " exists and is no socket: remove it",
		filepath.Join(file, "s"):       "not a directory; name another place with --control",
		live:                           fmt.Sprintf("%s is in use by ringroad, process %d: end it first, or name another place with --control", live, master.Process.Pid),
		other:                          fmt.Sprintf("%s is in use by process %d: ", other, os.Getpid()),
	} {
		l, err := control.Listen(path)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), "open the control socket: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "kept" || err != nil {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if _, err := dial(t, live).Status(within(t)); err != nil {
		t.Errorf("the live one: %v", err)
	}
}

// anotherProgram serves a socket as no ringroad does: whoever connects gets the text.
func anotherProgram(t *testing.T, path, text string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte(text))
			c.Close()
		}
	}()
}

// What answers as no ringroad does is told from one that has ended.
func TestAnotherProgramsSocket(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "another protocol": "SSH-2.0-OpenSSH\r\n"} {
		path := filepath.Join(t.TempDir(), "s")
		anotherProgram(t, path, text)
		_, err := dial(t, path).Status(within(t))
		if want := fmt.Sprintf("process %d, which answers there, is another program: --control wants the socket of a ringroad that runs", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestDialSaysWhatToDo(t *testing.T) {
	_, path := serve(t, newMaster())
	if _, err := control.Dial(path + "x"); err == nil || !strings.Contains(err.Error(), "is ringroad running? with another --control?") {
		t.Errorf("no such file: %v", err)
	}
	// For file permissions this thread is another user for a moment.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(12345); err != nil {
		t.Fatal(err)
	}
	_, err := control.Dial(path)
	if _, back := unix.SetfsuidRetUid(os.Geteuid()); back != nil {
		t.Fatal(back)
	}
	if err == nil || !strings.Contains(err.Error(), "permission denied: run this as") {
		t.Errorf("another user: %v", err)
	}
}

func TestAnotherServerOnTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	if _, err := dial(t, path).Status(within(t)); err == nil || !strings.Contains(err.Error(), "404 Not Found: is it another version, or another program") {
		t.Errorf("got %v", err)
	}
}

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "ringroad.pid")
	remove, err := control.WritePIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := strconv.Itoa(os.Getpid()) + "\n"
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if b, err := os.ReadFile(path); string(b) != own || err != nil {
		t.Errorf("holds %q, %v", b, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := remove(); err != nil {
		t.Errorf("removed twice: %v", err)
	}

	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	for _, stale := range []string{strconv.Itoa(ended.Process.Pid), own} {
		write(t, path, stale)
		if _, err := control.WritePIDFile(path); err != nil {
			t.Errorf("over %q: %v", stale, err)
		}
		if b, err := os.ReadFile(path); string(b) != own || err != nil {
			t.Errorf("over %q: holds %q, %v", stale, b, err)
		}
	}
	write(t, path, "1\n")
	if err := remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("removed the file of another process")
	}
	for content, want := range map[string]string{
		"1\n":    "names process 1, which is running: end it",
		"":       "holds no process number",
		"root:x": "holds no process number",
		"-1":     "holds no process number",
	} {
		write(t, path, content)
		if _, err := control.WritePIDFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("over %q: %v, want %q", content, err, want)
		}
		if b, err := os.ReadFile(path); string(b) != content || err != nil {
			t.Errorf("%q became %q, %v", content, b, err)
		}
	}
	if left, err := filepath.Glob(path + ".*"); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
