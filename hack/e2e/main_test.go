package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab"
)

const (
	mib = 1 << 20

	startLimit = 10 * time.Second // for ringroad to serve, a queue that is still busy included
	stopLimit  = 5 * time.Second

	// What ringroad listens on in the edge: nginx and the Go server are behind one port each.
	nginx4, nginx6 = "10.1.0.1:80", "[fd00:1::1]:80"
	go4, go6       = "10.1.0.1:81", "[fd00:1::1]:81"
)

// Of the whole package: the lab and the binary.
var (
	shared *lab.Lab
	binary string
)

func TestMain(m *testing.M) {
	lab.Child()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	shared, err = lab.Up(lab.Options{Files: map[string]int64{"32m": 32 * mib, "100m": 100 * mib}})
	if err != nil {
		return 1, err
	}
	defer func() {
		if e := shared.Close(); e != nil {
			status, err = 1, e
		}
	}()
	lab.CloseOnSignal(130, shared)
	if binary, err = lab.BuildRingroad(shared.Dir); err != nil {
		return 1, err
	}
	if !lab.HasNginx() {
		return 1, fmt.Errorf("nginx is not installed: run `make test`, which installs what the tests need")
	}
	return m.Run(), nil
}

// bothFamilies is the configuration that most tests use. Checksums are verified, since the lab's peers fill them in.
const bothFamilies = `interfaces: [e0, e1]
rx_checksum: verify
listeners:
  - {address: "10.1.0.1:80", upstream: nginx}
  - {address: "[fd00:1::1]:80", upstream: nginx6}
  - {address: "10.1.0.1:81", upstream: go}
  - {address: "[fd00:1::1]:81", upstream: go6}
upstreams:
  nginx: {servers: ["10.2.0.2:8080"]}
  nginx6: {servers: ["[fd00:2::2]:8080"]}
  go: {servers: ["10.2.0.2:8081"]}
  go6: {servers: ["[fd00:2::2]:8081"]}
log: {access: off}
`

// start runs ringroad in the shared lab for the time of one test.
func start(t *testing.T, configuration string, flags ...string) *lab.Ringroad {
	t.Helper()
	return startIn(t, shared, configuration, flags...)
}

func startIn(t *testing.T, l *lab.Lab, configuration string, flags ...string) *lab.Ringroad {
	t.Helper()
	r, err := l.StartRingroad(binary, configuration, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-r.Done():
			if t.Failed() {
				t.Logf("ringroad had ended; it printed:\n%s", r.Output())
			}
			return
		default:
		}
		clean := r.Stop(stopLimit)
		if !clean {
			t.Errorf("ringroad had to be killed: it did not end within %v of SIGTERM", stopLimit)
		}
		if t.Failed() {
			t.Logf("ringroad printed:\n%s", r.Output())
		}
	})
	if err := r.WaitReady(startLimit); err != nil {
		t.Fatal(err)
	}
	return r
}

// httpClient speaks HTTP from inside the client's namespace, over connections of its own.
func httpClient(t *testing.T, l *lab.Lab) *http.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.Client.Dial(ctx, network, address)
		},
		DisableCompression:  true,
		MaxIdleConnsPerHost: 100,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: time.Minute, Transport: transport}
}

// fetch performs a request and returns the response, its body read.
func fetch(t *testing.T, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return resp, string(b)
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	return fetch(t, c, request(t, http.MethodGet, url, nil))
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mustServe checks that a request for the front page is answered by nginx.
func mustServe(t *testing.T, l *lab.Lab) {
	t.Helper()
	if resp, body := get(t, httpClient(t, l), "http://"+nginx4+"/"); resp.StatusCode != 200 || body != hello {
		t.Fatalf("GET /: status %s, body %q", resp.Status, body)
	}
}

// hello is what the backends answer to a request for /.
const hello = "hello world\n"

// inClient runs a program in the client's namespace and returns what it printed.
func inClient(t *testing.T, limit time.Duration, name string, args ...string) string {
	t.Helper()
	out, err := shared.Client.Run(limit, name, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// wait polls until a condition holds.
func wait(t *testing.T, limit time.Duration, what string, condition func() (bool, string)) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		ok, state := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %s", what, limit, state)
		}
	}
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// families runs a test over IPv4 and over IPv6; the addresses are those of nginx and of the Go server behind ringroad.
func families(t *testing.T, f func(t *testing.T, nginx, goServer string)) {
	t.Run("IPv4", func(t *testing.T) { f(t, nginx4, go4) })
	t.Run("IPv6", func(t *testing.T) { f(t, nginx6, go6) })
}

func mustContain(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in:\n%s", part, text)
		}
	}
}

func mustMatch(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(text) {
			t.Errorf("nothing matches %q in:\n%s", p, text)
		}
	}
}

func mustNotMatch(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if regexp.MustCompile(p).MatchString(text) {
			t.Errorf("%q matches:\n%s", p, text)
		}
	}
}
