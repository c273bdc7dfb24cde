package sandbox_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"ringroad/cmd/internal/sandbox"
)

// jail is the program in testdata, built without C code.
var jail string

func TestMain(m *testing.M) {
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "sandbox")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	jail = filepath.Join(dir, "jail")
	c := exec.Command("go", "build", "-o", jail, "./testdata/jail")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build jail: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// prisoner is a jail that has made its report.
type prisoner struct {
	Log      string
	Attempts map[string]string
	Failures []string

	pid    int
	cpu    int
	stdin  io.Closer
	stderr *strings.Builder
	wait   func() error
}

// imprison starts a jail and reads its report.
func imprison(t *testing.T, attributes *syscall.SysProcAttr) *prisoner {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root")
	}
	allowed, err := sandbox.AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	// The worker dies with the thread that started it.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	p := &prisoner{cpu: allowed[len(allowed)-1], stderr: &strings.Builder{}}
	c := exec.Command(jail, "try", "nobody", strconv.Itoa(p.cpu))
	c.SysProcAttr = attributes
	c.Stderr = p.stderr
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid, p.stdin, p.wait = c.Process.Pid, stdin, c.Wait
	t.Cleanup(func() { _ = c.Process.Kill() })
	if err := json.NewDecoder(stdout).Decode(p); err != nil {
		t.Fatalf("no report: %v; %v\n%s", err, c.Wait(), p.stderr)
	}
	return p
}

// threads reads /proc/PID/task/*/status.
func (p *prisoner) threads(t *testing.T) []map[string]string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has ended
		}
		status := map[string]string{}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			status[key] = strings.Join(strings.Fields(value), " ")
		}
		all = append(all, status)
	}
	return all
}

const none = "0000000000000000"

func TestEveryThreadIsConfined(t *testing.T) {
	p := imprison(t, nil)
	nobody, err := sandbox.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	four := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }
	want := map[string]string{
		"Uid": four(nobody.UID), "Gid": four(nobody.GID), "Groups": "",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
		"NoNewPrivs": "1", "Seccomp": "2",
		"Cpus_allowed_list": strconv.Itoa(p.cpu),
	}
	threads := p.threads(t)
	if len(threads) < 7 {
		t.Errorf("only %d threads, six of them block", len(threads))
	}
	for _, status := range threads {
		for key, value := range want {
			if got, ok := status[key]; !ok || got != value {
				t.Errorf("thread %s: %s is %q, want %q", status["Pid"], key, got, value)
			}
		}
	}
	if p.Log != "" {
		t.Errorf("logged %s", p.Log)
	}
	p.release(t)
}

// release lets the jail end.
func (p *prisoner) release(t *testing.T) {
	t.Helper()
	if err := errors.Join(p.stdin.Close(), p.wait()); err != nil || p.stderr.Len() > 0 {
		t.Errorf("ended with %v, printed %q", err, p.stderr)
	}
}

func TestSystemCallsAreRefused(t *testing.T) {
	p := imprison(t, nil)
	for name, got := range p.Attempts {
		want := "operation not permitted"
		switch {
		case strings.HasPrefix(name, "open "):
			want = "permission denied"
		case name == "clone3":
			want = "function not implemented"
		}
		if !strings.HasSuffix(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if len(p.Attempts) < 20 {
		t.Errorf("only %d attempts", len(p.Attempts))
	}
	p.release(t)
}

func TestOrdinaryWorkSucceeds(t *testing.T) {
	p := imprison(t, nil)
	for _, f := range p.Failures {
		t.Error(f)
	}
	p.release(t)
}

// TestUnprivilegedProcessStaysWhoItIs starts as a user that cannot become nobody.
func TestUnprivilegedProcessStaysWhoItIs(t *testing.T) {
	const uid, gid = 12345, 54321
	if err := os.Chmod(filepath.Dir(jail), 0o755); err != nil {
		t.Fatal(err)
	}
	p := imprison(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}})
	for _, status := range p.threads(t) {
		if got := strings.Fields(status["Uid"])[1]; got != strconv.Itoa(uid) {
			t.Errorf("runs as %s", got)
		}
		if status["CapPrm"] != none || status["Seccomp"] != "2" {
			t.Errorf("CapPrm %s, Seccomp %s", status["CapPrm"], status["Seccomp"])
		}
	}
	for _, want := range []string{"stays the user it is", "uid=12345 gid=54321", "bounding set stays"} {
		if !strings.Contains(p.Log, want) {
			t.Errorf("%q is not in the log:\n%s", want, p.Log)
		}
	}
	p.release(t)
}

func TestEndsWithItsMaster(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.Command(jail, "orphan", "nobody")
	c.Stdout, c.Stderr = w, w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	out := bufio.NewReader(r)
	if line, err := out.ReadString('\n'); line != "in\n" {
		t.Errorf("said %q, %v", line, err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	// Both have the pipe: it ends when the second does.
	if rest, err := io.ReadAll(out); len(rest) > 0 || err != nil {
		t.Errorf("said %q more, %v", rest, err)
	}
}

func TestRefusesAMasterThatHasEnded(t *testing.T) {
	out, err := exec.Command(jail, "sit", "nobody", "1").CombinedOutput()
	if want := "jail: the master (process 1) has ended\n"; err == nil || string(out) != want {
		t.Errorf("%v, printed %q, want %q", err, out, want)
	}
}

func TestLookup(t *testing.T) {
	root := sandbox.Identity{UID: 0, GID: 0, Name: "root"}
	for name, want := range map[string]sandbox.Identity{
		"root":     root,
		"0":        root,
		"87654321": {UID: 87654321, GID: 87654321, Name: "87654321"},
	} {
		if got, err := sandbox.Lookup(name); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"":            "the user is empty",
		"nobdoy":      "user nobdoy does not exist: make it (useradd",
		"-1":          "user -1 does not exist",
		"4294967295":  "the number is reserved",
		"99999999999": "user 99999999999 does not exist",
	} {
		if _, err := sandbox.Lookup(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

func TestAllowedCPUs(t *testing.T) {
	cpus, err := sandbox.AllowedCPUs()
	if err != nil || len(cpus) != runtime.NumCPU() || !slices.IsSorted(cpus) {
		t.Errorf("%v, %v; the runtime counts %d", cpus, err, runtime.NumCPU())
	}
}

func TestPinRefuses(t *testing.T) {
	for _, cpu := range []int{-1, 1 << 20} {
		if err := sandbox.Pin(cpu); err == nil || !strings.Contains(err.Error(), "none of this number") {
			t.Errorf("CPU %d: %v", cpu, err)
		}
	}
	out, err := exec.Command(jail, "try", "nobody", "8191").CombinedOutput()
	if want := "jail: pin to CPU 8191: it does not exist or this process may not use it (allowed: ["; err == nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("%v, printed %q", err, out)
	}
}
