package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/trace"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy"
)

// limit bounds what should take no time.
const limit = 20 * time.Second

// masterAt makes the test binary a master on the socket that it names.
const masterAt = "RINGROAD_TEST_MASTER"

func TestMain(m *testing.M) {
	if path := os.Getenv(masterAt); path != "" {
		if err := beMaster(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beMaster serves until it is asked to end.
func beMaster(path string) error {
	l, err := control.Listen(path)
	if err != nil {
		return err
	}
	m := newMaster()
	s := control.Serve(l, m, slog.New(slog.DiscardHandler))
	fmt.Println("ready")
	if <-m.ended == "quit" {
		select {} // drains for ever: other goroutines serve
	}
	return s.Close()
}

// startMaster runs a master as a process and waits until it serves.
func startMaster(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), masterAt+"="+path)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the master said %q, %v", line, err)
	}
	return c
}

// fake is a master without workers.
type fake struct {
	status      control.Status
	stats       worker.Snapshot
	fail        error // of Status and Stats
	reload      func(context.Context) ([]string, error)
	query       proxy.Query // the last one
	connections control.Connections
	ended       chan string

	capture   func(context.Context, capture.Options, feed.Output) error
	capturing chan struct{} // closed by StopCapture; nil: no capture is running
}

func newMaster() *fake {
	return &fake{status: control.Status{PID: os.Getpid(), State: control.StateRunning}, ended: make(chan string, 2)}
}

func (f *fake) Capture(ctx context.Context, o capture.Options, out feed.Output) error {
	return f.capture(ctx, o, out)
}

func (f *fake) StopCapture() bool {
	if f.capturing != nil {
		close(f.capturing)
	}
	return f.capturing != nil
}

func (f *fake) Trace(context.Context, trace.Options, feed.Output) error {
	return errors.New("nothing to trace")
}
func (f *fake) StopTrace() bool { return false }

func (f *fake) Connections(q proxy.Query) (control.Connections, error) {
	f.query = q
	return f.connections, f.fail
}
func (f *fake) Reload(ctx context.Context) ([]string, error) { return f.reload(ctx) }
func (f *fake) Quit()                                        { f.ended <- "quit" }
func (f *fake) Stop()                                        { f.ended <- "stop" }
func (f *fake) Status() (control.Status, error)              { return f.status, f.fail }
func (f *fake) Stats() (worker.Snapshot, error)              { return f.stats, f.fail }

// serve serves a master in this process and returns a client of it.
func serve(t *testing.T, m control.Master) (c *control.Client, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "control.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s := control.Serve(l, m, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return dial(t, path), path
}

func dial(t *testing.T, path string) *control.Client {
	t.Helper()
	c, err := control.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestStatusArrivesWhole(t *testing.T) {
	m := newMaster()
	at := time.Date(2026, 9, 7, 10, 20, 30, 0, time.UTC)
	m.status = control.Status{
		Version: "v1.2.3", PID: 42, Started: at, Uptime: control.Seconds(90 * time.Minute), State: control.StateReloading,
		DrainTimeout:  control.Seconds(30 * time.Second),
		Configuration: control.Configuration{File: "/etc/ringroad.yaml", Generation: 3, Loaded: at, Failed: at.Add(time.Hour), Error: "line 1\nline 2"},
		Interfaces:    []control.Interface{{Name: "eth0", Driver: "mlx5_core", Mode: "native", ZeroCopy: true, Queues: 4}},
		Listeners:     []string{"0.0.0.0:80"},
		Upstreams:     []control.Upstream{{Name: "app", Servers: []string{"10.0.0.2:80"}}},
		Workers: []control.Worker{{
			Index: 1, PID: 43, CPU: -1, Queues: []int{1, 3}, State: "running", Started: at, Restarts: 2, Clients: 5, Backends: 6,
			Requests: 1 << 60, HandedOver: 7, Beat: control.Seconds(100 * time.Millisecond),
		}},
	}
	c, _ := serve(t, m)
	got, err := c.Status(within(t))
	if err != nil || !reflect.DeepEqual(got, m.status) {
		t.Errorf("%v, got\n%+v\nwant\n%+v", err, got, m.status)
	}
	m.fail = errors.New("no memory")
	if _, err := c.Status(within(t)); err == nil || err.Error() != "no memory" {
		t.Errorf("got %v", err)
	}
}

func TestStatsArriveWhole(t *testing.T) {
	m := newMaster()
	m.stats = worker.Snapshot{
		Time: time.Date(2026, 9, 7, 10, 20, 30, 0, time.UTC), Proxy: map[string]uint64{"requests": 1 << 63},
		Interfaces: []worker.InterfaceStats{{Name: "eth0", Queues: []worker.QueueStats{{Queue: 1, Worker: 1, Levels: map[string]uint64{"free": 7}}}}},
		Workers:    []worker.Stats{{Worker: 1, PID: 43, State: "serving", Stack: map[string]uint64{"turns": 3}}},
	}
	c, _ := serve(t, m)
	if got, err := c.Stats(within(t)); err != nil || !reflect.DeepEqual(got, m.stats) {
		t.Errorf("%v, got\n%+v\nwant\n%+v", err, got, m.stats)
	}
	m.fail = errors.New("ringroad is about to end")
	if _, err := c.Stats(within(t)); err == nil || err.Error() != "ringroad is about to end" {
		t.Errorf("got %v", err)
	}
}

func TestSpeaksPlainHTTP(t *testing.T) {
	_, path := serve(t, newMaster())
	h := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer h.CloseIdleConnections()
	for _, c := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/status", 200, `"state": "running"`},
		{"GET", "/reload", 405, ""},
		{"GET", "/stop", 405, ""},
		{"POST", "/status", 405, ""},
		{"POST", "/nothing", 404, ""},
		{"POST", "/quit", 202, "{}\n"},
	} {
		r, err := http.NewRequest(c.method, "http://any"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.code || !strings.Contains(string(b), c.body) {
			t.Errorf("%s %s: %d %q, %v, want %d", c.method, c.path, resp.StatusCode, b, err, c.code)
		}
	}
}

func TestReload(t *testing.T) {
	m := newMaster()
	c, _ := serve(t, m)
	m.reload = func(context.Context) ([]string, error) { return []string{"rings.entries: restart needed"}, nil }
	if warnings, err := c.Reload(within(t)); err != nil || !reflect.DeepEqual(warnings, []string{"rings.entries: restart needed"}) {
		t.Errorf("%q, %v", warnings, err)
	}
	m.reload = func(context.Context) ([]string, error) { return nil, nil }
	if warnings, err := c.Reload(within(t)); err != nil || warnings != nil {
		t.Errorf("%q, %v", warnings, err)
	}
	m.reload = func(context.Context) ([]string, error) {
		return []string{"w"}, errors.New("a.yaml:1:1: one\na.yaml:2:1: two")
	}
	if warnings, err := c.Reload(within(t)); err == nil || err.Error() != "a.yaml:1:1: one\na.yaml:2:1: two" || len(warnings) != 1 {
		t.Errorf("%q, %v", warnings, err)
	}
}

func TestReloadGoesOnWithoutItsClient(t *testing.T) {
	m := newMaster()
	c, _ := serve(t, m)
	began, leave, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	m.reload = func(ctx context.Context) ([]string, error) {
		close(began)
		<-leave
		ended <- ctx.Err()
		return nil, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := c.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(leave)
	if err := <-ended; err != nil {
		t.Errorf("the reload was cancelled: %v", err)
	}
}

func TestAnswersBeforeItEnds(t *testing.T) {
	for name, end := range map[string]func(*control.Client, context.Context) error{
		"quit": (*control.Client).Quit, "stop": (*control.Client).Stop,
	} {
		m := newMaster()
		c, _ := serve(t, m)
		if err := end(c, within(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := <-m.ended; got != name {
			t.Errorf("%s: the master did %s", name, got)
		}
	}
}

func TestWaitForTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	master := startMaster(t, path)
	c := dial(t, path)
	if err := c.Quit(within(t)); err != nil {
		t.Fatal(err)
	}
	// This one drains for ever.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("out of patience"))
	want := fmt.Sprintf("process %d has not ended: out of patience", master.Process.Pid)
	if err := c.Wait(ctx); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}

	path = filepath.Join(t.TempDir(), "control.sock")
	master = startMaster(t, path)
	c = dial(t, path)
	if err := c.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(within(t)); err != nil {
		t.Error(err)
	}
	if err := master.Wait(); err != nil {
		t.Errorf("the master ended with %v", err)
	}
}

func TestCaptureStreamsUntilItIsStopped(t *testing.T) {
	m := newMaster()
	m.capturing = make(chan struct{})
	m.capture = func(ctx context.Context, o capture.Options, out feed.Output) error {
		if o.Filter != "port 80 && ip" || o.Count != 7 {
			return fmt.Errorf("options %+v", o)
		}
		for _, part := range []string{"first ", "last"} {
			if _, err := io.WriteString(out, part); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case <-m.capturing:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	c, _ := serve(t, m)
	ctx := within(t)
	from, err := c.Capture(ctx, capture.Options{Filter: "port 80 && ip", Count: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	b := make([]byte, 6)
	if _, err := io.ReadFull(from, b); err != nil || string(b) != "first " {
		t.Fatalf("%q, %v", b, err)
	}
	if err := c.StopCapture(ctx); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(from); err != nil || string(rest) != "last" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestCaptureThatIsRefusedSaysWhy(t *testing.T) {
	m := newMaster()
	m.capture = func(context.Context, capture.Options, feed.Output) error { return errors.New("another one runs") }
	c, _ := serve(t, m)
	if _, err := c.Capture(within(t), capture.Options{}); err == nil || err.Error() != "another one runs" {
		t.Errorf("refused by the master: %v", err)
	}
	if _, err := c.Capture(within(t), capture.Options{Filter: "prot 80"}); err == nil || !strings.Contains(err.Error(), "column 1") {
		t.Errorf("a mistake in the filter: %v", err)
	}
	if err := c.StopCapture(within(t)); err == nil || err.Error() != "no capture is running" {
		t.Errorf("nothing to stop: %v", err)
	}
}

func TestCaptureEndsWithItsClient(t *testing.T) {
	m := newMaster()
	ended := make(chan struct{})
	m.capture = func(ctx context.Context, _ capture.Options, out feed.Output) error {
		defer close(ended)
		if err := out.Flush(); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	c, _ := serve(t, m)
	ctx, cancel := context.WithCancel(within(t))
	from, err := c.Capture(ctx, capture.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	from.Close()
	select {
	case <-ended:
	case <-time.After(limit):
		t.Fatal("the capture goes on without its client")
	}
}
