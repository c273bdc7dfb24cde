package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/doctor"
	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/trace"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy"
	"ringroad/stack"
)

// masterAt makes the test binary a master on the socket that it names, obstinacy one that does not end when it is asked to.
const (
	masterAt  = "RINGROAD_TEST_MASTER"
	obstinacy = "RINGROAD_TEST_OBSTINATE"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(masterAt); path != "" {
		if err := beMaster(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	time.Local = time.UTC // what is printed depends on it
	os.Exit(m.Run())
}

// beMaster serves until it is asked to end, and says how.
func beMaster(path string) error {
	l, err := control.Listen(path)
	if err != nil {
		return err
	}
	m := &fakeMaster{ended: make(chan string, 1), status: control.Status{PID: os.Getpid(), DrainTimeout: control.Seconds(30 * time.Second)}}
	s := control.Serve(l, m, slog.New(slog.DiscardHandler))
	fmt.Println("ready")
	fmt.Println(<-m.ended)
	if os.Getenv(obstinacy) != "" {
		for {
			time.Sleep(time.Hour)
		}
	}
	return s.Close()
}

type fakeMaster struct {
	status   control.Status
	stats    worker.Snapshot
	warnings []string
	fail     error // of Reload
	ended    chan string
	capture  atomic.Pointer[capture.Session] // nil: none is running
	trace    atomic.Pointer[trace.Session]   // nil: none is running

	connections control.Connections
	query       proxy.Query // the last one
}

// Capture is that of a master whose workers receive nothing.
func (f *fakeMaster) Capture(ctx context.Context, o capture.Options, out feed.Output) error {
	s, err := capture.New(o, []capture.Link{{Name: "eth0"}}, 1)
	if err != nil {
		return err
	}
	f.capture.Store(s)
	err = s.Run(ctx, out, func() { f.capture.Store(nil) })
	return errors.Join(err, s.Close())
}

func (f *fakeMaster) StopCapture() bool {
	s := f.capture.Load()
	if s != nil {
		s.Stop()
	}
	return s != nil
}

// Trace is that of a master whose workers receive nothing.
func (f *fakeMaster) Trace(ctx context.Context, o trace.Options, out feed.Output) error {
	s, err := trace.New(o, []string{"eth0"}, 1)
	if err != nil {
		return err
	}
	f.trace.Store(s)
	err = s.Run(ctx, out, func() { f.trace.Store(nil) })
	return errors.Join(err, s.Close())
}

func (f *fakeMaster) StopTrace() bool {
	s := f.trace.Load()
	if s != nil {
		s.Stop()
	}
	return s != nil
}

func (f *fakeMaster) Connections(q proxy.Query) (control.Connections, error) {
	f.query = q
	return f.connections, f.fail
}

func (f *fakeMaster) Reload(context.Context) ([]string, error) { return f.warnings, f.fail }
func (f *fakeMaster) Quit()                                    { f.ended <- "quit" }
func (f *fakeMaster) Stop()                                    { f.ended <- "stop" }
func (f *fakeMaster) Status() (control.Status, error)          { return f.status, nil }
func (f *fakeMaster) Stats() (worker.Snapshot, error)          { return f.stats, nil }

// serveMaster serves a master in this process and returns its socket.
func serveMaster(t *testing.T, m control.Master) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := control.Serve(l, m, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { s.Close() })
	return path
}

var running = control.Status{
	Version: "v1.2.3", PID: 4711, State: control.StateRunning,
	Started: time.Date(2026, 9, 7, 10, 20, 30, 0, time.UTC), Uptime: control.Seconds(27*time.Hour + 5*time.Minute),
	Configuration: control.Configuration{
		File: "/etc/ringroad.yaml", Generation: 2, Loaded: time.Date(2026, 9, 7, 11, 0, 0, 0, time.UTC),
		Failed: time.Date(2026, 9, 8, 9, 0, 0, 0, time.UTC), Error: "a.yaml:1:1: one\na.yaml:2:1: two",
	},
	Interfaces: []control.Interface{{Name: "eth0", State: control.LinkUp, MTU: 1500, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, Driver: "igb", Mode: "native", ZeroCopy: true, Queues: 4,
		SYNCookiesByXDP: true, SYNCookies: 1234,
		TXChecksum: true, TXChecksumReason: "driver igb announces tx-checksum", Features: &control.Features{XDP: []string{"basic", "redirect"}, TXMetadata: []string{"tx-timestamp", "tx-checksum"}, ZeroCopySegments: 1}},
		{Name: "e1", State: control.LinkNoCarrier, Since: time.Date(2026, 9, 8, 8, 0, 0, 0, time.UTC), MTU: 1500, Driver: "veth", Mode: "generic", Reason: "generic mode always copies", Queues: 2}},
	Listeners: []string{"0.0.0.0:80", "[::]:80"},
	Upstreams: []control.Upstream{{Name: "app", Servers: []string{"10.0.0.2:8080", "10.0.0.3:8080"}}, {Name: "api", Servers: []string{"10.0.0.4:80"}}},
	Workers: []control.Worker{
		{Index: 0, PID: 4712, CPU: 0, Queues: []int{0, 2}, State: "running", Started: time.Date(2026, 9, 7, 10, 20, 30, 0, time.UTC),
			Clients: 64, Backends: 32, Requests: 1234567, HandedOver: 3, Beat: control.Seconds(98765432)},
		{Index: 1, CPU: -1, Queues: []int{1, 3}, State: "ended", Started: time.Date(2026, 9, 8, 13, 25, 0, 0, time.UTC), Restarts: 12},
	},
}

func TestStatusForPeople(t *testing.T) {
	stdout, stderr, status := command(unserved(t), "status", "--control", serveMaster(t, &fakeMaster{status: running}))
	want := `ringroad v1.2.3 is running: process 4711, since 2026-09-07 10:20:30 (1d3h)

configuration  /etc/ringroad.yaml, generation 2, loaded 2026-09-07 11:00:00
               the reload of 2026-09-08 09:00:00 failed:
                 a.yaml:1:1: one
                 a.yaml:2:1: two
interfaces     eth0: igb, native, zero-copy, queues 4, MTU 1500
                 checksums of what is sent: offload (driver igb announces tx-checksum)
                 SYN cookies when a SYN queue is full: by XDP, 1234 so far
                 features: XDP basic redirect; RX metadata none; TX metadata tx-timestamp tx-checksum; zero-copy frames of up to 1 descriptors
               e1: veth, generic, copies (generic mode always copies), queues 2, MTU 1500
                 no carrier since 2026-09-08 08:00:00
                 SYN cookies when a SYN queue is full: by the loop
                 features: not known, Linux 6.3 would tell
listeners      0.0.0.0:80, [::]:80
upstreams      app: 10.0.0.2:8080, 10.0.0.3:8080
               api: 10.0.0.4:80

WORKER  PID   CPU  QUEUES  STATE    UP    RESTARTS  CLIENTS  BACKENDS  REQUESTS  HANDED OVER  BEAT
0       4712  0    0,2     running  1d3h  0         64       32        1234567   3            99ms
1       -     any  1,3     ended    -     12        0        0         0         0            0s
`
	if stdout != want || stderr != "" || status != statusOK {
		t.Errorf("status %d, stderr %q, stdout\n%s\nwant\n%s", status, stderr, stdout, want)
	}
}

func TestStatusForPrograms(t *testing.T) {
	stdout, stderr, status := command(unserved(t), "status", "--json", "--control", serveMaster(t, &fakeMaster{status: running}))
	var got control.Status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || !reflect.DeepEqual(got, running) || stderr != "" || status != statusOK {
		t.Errorf("status %d, stderr %q, %v, stdout\n%s", status, stderr, err, stdout)
	}
}

// waiting is a connection whose backend does not answer.
var waiting = &proxy.Connection{
	Worker: 1, Number: 7, Client: netip.MustParseAddrPort("10.1.0.2:37978"), Listener: netip.MustParseAddrPort("0.0.0.0:80"),
	State: proxy.StateWait, InState: 1500 * time.Millisecond, Age: 3 * time.Minute, Requests: 3, Held: 4,
	TCP:     stack.Info{State: "ESTABLISHED", RTT: 12 * time.Millisecond, CongestionWindow: 10, Retransmits: 2, Buffered: stack.Buffered{Sent: 250_000, SendRoom: 262_144}},
	Request: &proxy.RequestUnderWay{Method: "GET", Host: "a.example", Path: "/slow", Age: 1500 * time.Millisecond, Attempts: 1},
	Backend: &proxy.BackendConnection{Upstream: "app", Server: netip.MustParseAddrPort("10.2.0.2:8080"), Pooled: true, Requests: 2},
}

func TestConnections(t *testing.T) {
	idle := *waiting
	idle.Client, idle.Worker, idle.State, idle.Request, idle.Backend, idle.TCP.RTT = netip.MustParseAddrPort("[2001:db8::1]:80"), 0, proxy.StateIdle, nil, nil, 0
	m := &fakeMaster{connections: control.Connections{
		Workers:     []control.Surveyed{{Worker: 0, Open: 5, Matching: 1}, {Worker: 1, Open: 7, Matching: 1}, {Worker: 2, Error: "it is waiting"}},
		Connections: []*proxy.Connection{waiting, &idle},
	}}
	socket := serveMaster(t, m)
	stdout, stderr, status := command(unserved(t), "connections", "--client", "10.0.0.7", "--limit", "50", "--sort", "rtt", "--control", socket)
	want := `W  CLIENT            STATE  SINCE  AGE   RTT   CWND  RECV  SEND  RESENT  REQUEST    BACKEND
1  10.1.0.2:37978    wait   1.5s   3.0m  12ms  10    0     250k  2       GET /slow  10.2.0.2:8080 pooled
0  [2001:db8::1]:80  idle   1.5s   3.0m  -     10    0     250k  2       -          -
2 of 2 connections that match, 12 open, by rtt
worker 2: it is waiting
`
	if stdout != want || stderr != "" || status != statusOK {
		t.Errorf("status %d, stderr %q, stdout\n%s\nwant\n%s", status, stderr, stdout, want)
	}
	if q := m.query; q.Client != netip.MustParsePrefix("10.0.0.7/32") || q.Limit != 50 || q.Order != proxy.ByRTT {
		t.Errorf("asked for %+v", q)
	}
	stdout, _, _ = command(unserved(t), "connections", "--json", "--control", socket)
	var got control.Connections
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || !reflect.DeepEqual(got, m.connections) || m.query.Client.IsValid() {
		t.Errorf("%v, of %+v: %s", err, m.query, stdout)
	}
	for _, args := range [][]string{{"--limit", "0"}, {"--limit", "1001"}, {"--sort", "size"}, {"--client", "10.0.0.0/99"}, {"all"}} {
		stdout, stderr, status := command(unserved(t), append([]string{"connections", "--control", socket}, args...)...)
		if status != statusUsage || stdout != "" || !strings.Contains(stderr, strings.TrimLeft(args[0], "-")) {
			t.Errorf("%v: status %d, stderr %q", args, status, stderr)
		}
	}
}

func TestTopWithoutTerminalPrintsOnce(t *testing.T) {
	m := &fakeMaster{status: running, stats: worker.Snapshot{Workers: []worker.Stats{{Worker: 0, PID: 4712, Proxy: map[string]uint64{"clients_active": 64}}}}}
	stdout, stderr, status := command(unserved(t), "top", "--interval", "200ms", "--control", serveMaster(t, m))
	if stderr != "" || status != statusOK || !strings.Contains(stdout, "ringroad v1.2.3  process 4711 running") ||
		!strings.Contains(stdout, " 64 ^0\n") || strings.ContainsAny(stdout, "\x1b\r") {
		t.Errorf("status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
}

func TestTopRefusesAnIntervalTooShort(t *testing.T) {
	for _, interval := range []string{"0s", "-1s", "199ms"} {
		stdout, stderr, status := command(unserved(t), "top", "--interval", interval)
		if want := "ringroad: --interval " + interval + ": 200ms is the least (see `ringroad top --help`)\n"; status != statusUsage || stdout != "" || stderr != want {
			t.Errorf("status %d, stdout %q, stderr %q, want %q", status, stdout, stderr, want)
		}
	}
}

func TestDoctorFails(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	stdout, stderr, status := command(unserved(t), "doctor", "--json", "--control", socket, "nosuchif0")
	var report doctor.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %q", err, stdout)
	}
	n := report.Count(doctor.Problem)
	if want := fmt.Sprintf("ringroad: problems were found: %d\n", n); n == 0 || stderr != want || status != statusFailed {
		t.Errorf("status %d, stderr %q, want %q", status, stderr, want)
	}
	for _, args := range [][]string{{"doctor", "a", "b"}, {"doctor", "--interface", "a", "b"}, {"doctor"}} {
		if _, stderr, status := command(unserved(t), append(args, "--control", socket)...); status != statusUsage {
			t.Errorf("%v: status %d, stderr %q", args, status, stderr)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59900 * time.Millisecond: "59s", 61 * time.Second: "1m1s", time.Hour: "1h0m", 26 * time.Hour: "1d2h", 2400 * time.Hour: "100d0h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestReload(t *testing.T) {
	m := &fakeMaster{warnings: []string{"rings.entries: restart needed"}}
	socket := serveMaster(t, m)
	for _, c := range []struct {
		fail   error
		stderr string
		status int
	}{
		{nil, "ringroad: warning: rings.entries: restart needed\n", statusOK},
		{errors.New("a.yaml:1:1: one\na.yaml:2:1: two"),
			"ringroad: warning: rings.entries: restart needed\nringroad: a.yaml:1:1: one\nringroad: a.yaml:2:1: two\n", statusFailed},
	} {
		m.fail = c.fail
		if stdout, stderr, status := command(unserved(t), "reload", "--control", socket); stdout != "" || stderr != c.stderr || status != c.status {
			t.Errorf("status %d, stdout %q, stderr %q, want %d, %q", status, stdout, stderr, c.status, c.stderr)
		}
	}
}

// startMaster runs a master as a process and waits until it serves.
func startMaster(t *testing.T, environment ...string) (socket string, c *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "control.sock")
	c = exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), append(environment, masterAt+"="+socket)...)
	c.Stderr = os.Stderr
	pipe, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	out = bufio.NewReader(pipe)
	if line, err := out.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the master said %q, %v", line, err)
	}
	return socket, c, out
}

func TestEndWaitsForTheProcess(t *testing.T) {
	for _, name := range []string{"quit", "stop"} {
		socket, c, out := startMaster(t)
		stdout, stderr, status := command(unserved(t), name, "--control", socket)
		if stdout != "" || stderr != "" || status != statusOK {
			t.Errorf("%s: status %d, stdout %q, stderr %q", name, status, stdout, stderr)
		}
		// Nobody has taken its exit status yet, so it is there, but as a zombie.
		if state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid)); err != nil || !strings.Contains(string(state), ") Z ") {
			t.Errorf("%s: still runs: %s, %v", name, state, err)
		}
		if line, err := out.ReadString('\n'); line != name+"\n" {
			t.Errorf("the master said %q, %v, want %s", line, err, name)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("%s: the master ended with %v", name, err)
		}
	}
}

func TestEndGivesUpWaiting(t *testing.T) {
	for name, remedy := range map[string]string{"quit": "`ringroad stop` ends it at once", "stop": "SIGKILL does, and leaves nothing attached"} {
		socket, c, _ := startMaster(t, obstinacy+"=1")
		_, stderr, status := command(unserved(t), name, "--control", socket, "--timeout", "1ms")
		want := fmt.Sprintf("ringroad: process %d has not ended: not within 1ms; %s\n", c.Process.Pid, remedy)
		if stderr != want || status != statusFailed {
			t.Errorf("%s: status %d, stderr %q, want %q", name, status, stderr, want)
		}
	}
	socket, _, _ := startMaster(t, obstinacy+"=1")
	if _, stderr, status := command(unserved(t), "quit", "--control", socket, "--timeout", "0s"); stderr != "" || status != statusOK {
		t.Errorf("without waiting: status %d, stderr %q", status, stderr)
	}
}

func TestNothingRuns(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	want := "ringroad: " + socket + " does not exist: is ringroad running? with another --control?\n"
	for _, name := range []string{"status", "top", "connections", "reload", "quit", "stop"} {
		if stdout, stderr, status := command(unserved(t), name, "--control", socket); stdout != "" || stderr != want || status != statusFailed {
			t.Errorf("%s: status %d, stdout %q, stderr %q, want %q", name, status, stdout, stderr, want)
		}
	}
}
