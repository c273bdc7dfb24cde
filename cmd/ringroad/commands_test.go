package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/cmd/internal/master"
	"ringroad/proxy/config"
)

const good = `interfaces: [eth0]
listeners:
  - address: 192.0.2.1:80
    routes:
      - {host: a.example.org, path: /v1/, upstream: api}
      - {upstream: app}
  - {address: "[::]:80", upstream: app}
upstreams:
  app: {servers: [10.0.0.2:8080, 10.0.0.3:8080]}
  api: {servers: ["[fd00::2]:8080"]}
`

// write makes a configuration file and returns its name.
func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ringroad.yaml")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// command runs a command line with serve in the place of the proxy.
func command(serve serveFunc, args ...string) (stdout, stderr string, status int) {
	var out, err bytes.Buffer
	root := newRoot(serve)
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&err)
	status = report(root.ExecuteContext(context.Background()), &err)
	return out.String(), err.String(), status
}

// unserved fails a test whose command line must not come as far as serving.
func unserved(t *testing.T) serveFunc {
	return func(context.Context, *config.Config, master.Options) error {
		t.Error("serves")
		return nil
	}
}

func TestCheck(t *testing.T) {
	file := write(t, strings.Replace(good, "      - {upstream: app}", `      - {path: /old, redirect: {status: 301, location: /new}}
      - {path: /x, return: {status: 204}}
      - {upstream: app}`, 1))
	stdout, stderr, status := command(unserved(t), "check", "-c", file)
	want := file + `: ok
interfaces: eth0
listener 192.0.2.1:80:
  host a.example.org, path /v1/, to api
  host any, path /old, to /new (redirect 301)
  host any, path /x, to a fixed answer, 204
  host any, path any, to app
listener [::]:80: all to app
upstream app: 10.0.0.2:8080, 10.0.0.3:8080
upstream api: [fd00::2]:8080
`
	if stdout != want || stderr != "" || status != statusOK {
		t.Errorf("status %d, stderr %q, stdout\n%s\nwant\n%s", status, stderr, stdout, want)
	}
}

func TestCheckReportsEveryMistakeOnce(t *testing.T) {
	file := write(t, strings.Replace(good, "address: 192.0.2.1:80", "addresss: 192.0.2.1:80", 1)+"timeouts: {connect: 5}\n")
	stdout, stderr, status := command(unserved(t), "check", "--config", file)
	want := "ringroad: " + file + ":3:5: listeners[0].addresss: unknown key (did you mean address?)\n" +
		"ringroad: " + file + ":11:21: timeouts.connect: \"5\" has no unit (did you mean 5s?)\n"
	if stdout != "" || stderr != want || status != statusFailed {
		t.Errorf("status %d, stdout %q, stderr\n%s\nwant\n%s", status, stdout, stderr, want)
	}
}

func TestCheckPrintsAFileThatMeansTheSame(t *testing.T) {
	stdout, stderr, status := command(unserved(t), "check", "--interface", "eth0", "--listen", ":80", "--backend", "10.0.0.2:8080", "--print")
	if stderr != "" || status != statusOK {
		t.Fatalf("status %d, stderr %q", status, stderr)
	}
	again, stderr, status := command(unserved(t), "check", "-c", write(t, stdout), "--print")
	if again != stdout || stderr != "" || status != statusOK {
		t.Errorf("status %d, stderr %q, printed\n%s\nand then\n%s", status, stderr, stdout, again)
	}
}

func TestMistakes(t *testing.T) {
	file, missing := write(t, good), filepath.Join(t.TempDir(), "none.yaml")
	for name, c := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"no command":       {nil, statusUsage, "ringroad: a command is missing: run, check, doctor, status, top, connections, trace, capture, reload, quit, stop or version (see `ringroad --help`)\n"},
		"unknown command":  {[]string{"chekc"}, statusUsage, "ringroad: unknown command \"chekc\" (did you mean check?) (see `ringroad --help`)\n"},
		"unknown flag":     {[]string{"run", "--intreface", "x"}, statusUsage, "ringroad: unknown flag: --intreface (see `ringroad run --help`)\n"},
		"no number":        {[]string{"trace", "--next", "-1"}, statusUsage, "ringroad: invalid argument \"-1\" for \"--next\" flag: want a whole number from 0 on (see `ringroad trace --help`)\n"},
		"argument":         {[]string{"check", file}, statusUsage, "ringroad: unexpected argument \"" + file + "\" (see `ringroad check --help`)\n"},
		"no configuration": {[]string{"run"}, statusUsage, "ringroad: no configuration: name a file with --config, or use --interface, --listen and --backend (see `ringroad run --help`)\n"},
		"file and flags":   {[]string{"run", "-c", file, "--listen", ":80"}, statusUsage, "ringroad: --listen: cannot stand beside --config: listeners and upstreams are in the file (see `ringroad run --help`)\n"},
		"missing file":     {[]string{"run", "-c", missing}, statusFailed, "ringroad: read configuration: open " + missing + ": no such file or directory: is the path after --config right?\n"},
		"missing flags":    {[]string{"run", "--interface", "eth0"}, statusFailed, "ringroad: --listen: is missing: name at least one address to listen on\nringroad: --backend: is missing: name at least one backend\n"},
		"wrong flag":       {[]string{"check", "-c", file, "--log-level", "wran"}, statusFailed, "ringroad: --log-level: \"wran\" is not one of debug, info, warn, error (did you mean warn?)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, status := command(unserved(t), c.args...)
			if stdout != "" || stderr != c.want || status != c.status {
				t.Errorf("status %d, stdout %q, stderr\n%s\nwant %d\n%s", status, stdout, stderr, c.status, c.want)
			}
		})
	}
}

func TestRunHandsOverConfigurationAndLog(t *testing.T) {
	served := 0
	serve := func(_ context.Context, c *config.Config, o master.Options) error {
		served++
		if c.Interfaces[0] != "eth7" || c.Listeners[0].Address.String() != "192.0.2.1:80" || o.StatsFile != "/run/stats.json" || o.Control != "/run/c.sock" {
			t.Errorf("got %+v, %+v", c, o)
		}
		o.Log.Warn("seen", "port", 80)
		o.Log.Info("not seen")
		return nil
	}
	stdout, stderr, status := command(serve, "run", "-c", write(t, good), "--interface", "eth7", "--log-level", "warn", "--stats-file", "/run/stats.json", "--control", "/run/c.sock")
	if served != 1 || stdout != "" || status != statusOK {
		t.Errorf("served %d times, status %d, stdout %q", served, status, stdout)
	}
	if !strings.HasSuffix(stderr, " level=WARN msg=seen port=80\n") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("logged %q", stderr)
	}
}

func TestRunFailurePrintsOneLine(t *testing.T) {
	serve := func(context.Context, *config.Config, master.Options) error {
		return errors.New("open interface eth0: no such interface")
	}
	stdout, stderr, status := command(serve, "run", "-c", write(t, good))
	if want := "ringroad: open interface eth0: no such interface\n"; stdout != "" || stderr != want || status != statusFailed {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

func TestRunEndsOnSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		serve := func(ctx context.Context, _ *config.Config, _ master.Options) error {
			if err := syscall.Kill(os.Getpid(), sig); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		}
		if _, stderr, status := command(serve, "run", "-c", write(t, good)); stderr != "" || status != statusOK {
			t.Errorf("%v: status %d, stderr %q", sig, status, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.3",
		Main:      debug.Module{Path: "ringroad", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "github.com/cilium/ebpf", Version: "v0.22.0"},
			{Path: "gvisor.dev/gvisor", Version: "v0.0.1", Replace: &debug.Module{Path: "gvisor.dev/gvisor", Version: "v0.0.2"}},
		},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc123"}, {Key: "vcs.modified", Value: "true"}},
	}
	got := versionText("v1.2.3", info)
	for _, want := range []string{"ringroad  v1.2.3\n", "commit    abc123 (modified)\n", "go        go1.26.3 linux/", "gvisor    v0.0.2\n", "ebpf      v0.22.0\n", "xdp       unknown\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	stdout, stderr, status := command(unserved(t), "version")
	if !strings.HasPrefix(stdout, "ringroad  ") || stderr != "" || status != statusOK {
		t.Errorf("status %d, stderr %q, stdout %q", status, stderr, stdout)
	}
}

// TestNoCommandWaitsForASilentSocket: what listens on the control socket accepts, and never says a word.
func TestNoCommandWaitsForASilentSocket(t *testing.T) {
	defer func(d time.Duration) { answerTimeout = d }(answerTimeout)
	answerTimeout = 50 * time.Millisecond
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{
		{"status"}, {"connections"}, {"top", "--once"}, {"capture"}, {"capture", "--stop"}, {"trace"}, {"trace", "--stop"}, {"doctor"},
		{"reload", "--timeout", "50ms"}, {"quit", "--timeout", "50ms"}, {"stop", "--timeout", "50ms"},
	} {
		begun := time.Now()
		_, stderr, status := command(unserved(t), append(args, "--control", path)...)
		if took := time.Since(begun); status != 1 || took > 5*time.Second || !strings.Contains(stderr, path+": process ") || !strings.Contains(stderr, ": no answer within 50ms") {
			t.Errorf("%v: status %d after %v, and says %q", args, status, took, stderr)
		}
	}
}

// TestStopIsSentToWhoDoesNotSayWhatRuns: the status is only asked for how long to wait.
func TestStopIsSentToWhoDoesNotSayWhatRuns(t *testing.T) {
	defer func(d time.Duration) { answerTimeout = d }(answerTimeout)
	answerTimeout = 200 * time.Millisecond
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{}, 1)
	s := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			<-r.Context().Done()
			return
		}
		stopped <- struct{}{}
		w.WriteHeader(http.StatusInternalServerError) // nobody has to wait for the end of this process
	})}
	defer s.Close()
	go s.Serve(l) //nolint:errcheck // it ends with the test
	if _, stderr, status := command(unserved(t), "stop", "--control", path); status != 1 || len(stopped) != 1 {
		t.Errorf("status %d, %d times stopped, and says %q", status, len(stopped), stderr)
	}
}
