package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/hack/lab"
)

// version is the configuration of most tests with a field in nginx's responses that tells one version from another.
func (w *wide) version(n int) string {
	mark := fmt.Sprintf(`, response: {set: {X-Version: "%d"}}}`, n)
	// A connection would be closed after a thousand requests.
	return w.configuration(strings.NewReplacer("upstream: nginx}", "upstream: nginx"+mark, "upstream: nginx6}", "upstream: nginx6"+mark).Replace(bothFamilies),
		"limits: {keepalive_requests: 0}")
}

// withoutGo leaves out the listeners and upstreams of the Go server.
func withoutGo(configuration string) string {
	var kept []string
	for line := range strings.Lines(configuration) {
		if !strings.Contains(line, "upstream: go") && !strings.HasPrefix(strings.TrimSpace(line), "go") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// kept is a client connection that must outlive every reload.
type kept struct {
	net.Conn
	in *bufio.Reader
}

func (w *wide) keep(t *testing.T, worker int, listener string) *kept {
	t.Helper()
	c, err := w.dialWorker(worker, listener, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &kept{c, bufio.NewReader(c)}
}

// version asks for the front page and returns which configuration the answer was made under.
func (k *kept) version() (string, error) {
	if err := k.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(k, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK || string(b) != hello {
		return "", fmt.Errorf("%s, %q, %w", r.Status, b, err)
	}
	return r.Header.Get("X-Version"), nil
}

// mustReload returns what the command printed.
func mustReload(t *testing.T, r *lab.Ringroad, configuration string) string {
	t.Helper()
	if err := r.Configure(configuration); err != nil {
		t.Fatal(err)
	}
	out, err := r.Command(20*time.Second, "reload")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// TestReloadsUnderLoadDisturbNobody reloads a hundred times. When the command has ended every worker goes by the new configuration, on
// connections that were open before too.
func TestReloadsUnderLoadDisturbNobody(t *testing.T) {
	const reloads = 100
	for _, c := range []struct {
		name, header string
		comeAndGo    bool
	}{
		{"kept connections", "Connection: keep-alive", false},
		{"a connection for every request", "Connection: close", false},
		{"listeners and upstreams come and go, kept connections", "Connection: keep-alive", true},
		{"listeners and upstreams come and go, a connection for every request", "Connection: close", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, r := startPair(t)
			connections := []*kept{w.keep(t, 0, nginx4), w.keep(t, 1, nginx4), w.keep(t, 0, nginx6), w.keep(t, 1, nginx6)}
			pids, err := r.Processes()
			if err != nil {
				t.Fatal(err)
			}
			programs, links := attachedIn(t, w.Lab)
			const loaded = 32
			load, err := w.Start("wrk", w.Client.Exec("wrk", "-t1", fmt.Sprintf("-c%d", loaded), "-d300", "-H", c.header, "http://"+nginx4+"/"))
			if err != nil {
				t.Fatal(err)
			}
			defer load.Stop(time.Second)
			var before lab.Stats
			wait(t, 20*time.Second, "the load is on", func() (bool, string) {
				before = stats(t, r)
				return before["proxy.requests"] > 1000 && before["proxy.clients_active"] >= float64(len(connections)), fmt.Sprint(before["proxy.requests"])
			})
			for n := range reloads {
				configuration, present := w.version(n), true
				if c.comeAndGo && n%2 == 0 {
					configuration, present = withoutGo(configuration), false
				}
				if out := mustReload(t, r, configuration); out != "" {
					t.Fatalf("reload %d: %s", n, out)
				}
				for i, k := range connections {
					if v, err := k.version(); err != nil || v != fmt.Sprint(n) {
						t.Fatalf("reload %d, kept connection %d: version %q, %v", n, i, v, err)
					}
				}
				if c.comeAndGo {
					w.mustListen(t, go4, n%2, present)
				}
			}
			moved := stats(t, r).Moved(before)
			if err := load.Signal(syscall.SIGINT); err != nil { // wrk ends and reports
				t.Fatal(err)
			}
			if err := load.Wait(20 * time.Second); err != nil {
				t.Error(err)
			}
			checkWrk(t, load.Output())
			if c.header == "Connection: keep-alive" && !c.comeAndGo && (moved["proxy.clients_accepted"] != 0 || moved["proxy.clients_closed"] != 0) {
				t.Errorf("%.0f connections accepted and %.0f closed during the reloads", moved["proxy.clients_accepted"], moved["proxy.clients_closed"])
			}
			if moved["proxy.responses_5xx"] != 0 {
				t.Errorf("%.0f responses 5xx", moved["proxy.responses_5xx"])
			}
			if now, err := r.Processes(); err != nil || !slices.Equal(now, pids) {
				t.Errorf("processes %v, before the reloads %v, %v", now, pids, err)
			}
			if p, l := attachedIn(t, w.Lab); !slices.Equal(p, programs) || !slices.Equal(l, links) {
				t.Errorf("programs %v and links %v, before %v and %v", p, l, programs, links)
			}
		})
	}
}

// mustListen checks that a worker accepts connections to a listener, or that the kernel, which has no such server, refuses them.
func (w *wide) mustListen(t *testing.T, listener string, worker int, present bool) {
	t.Helper()
	c, err := w.dialWorker(worker, listener, 5*time.Second)
	if err == nil {
		defer c.Close()
	}
	switch {
	case present && err == nil:
		err = exchange(c, 1)
	case !present && errors.Is(err, syscall.ECONNREFUSED):
		err = nil
	case !present && err == nil:
		err = errors.New("connected")
	}
	if err != nil {
		t.Errorf("listener present %v: %v", present, err)
	}
}

// TestReloadLetsRemovedListenersFinish takes listener and backend of an exchange away in the middle of it.
func TestReloadLetsRemovedListenersFinish(t *testing.T) {
	w, r := startPair(t)
	var connections []*kept
	for worker := range 2 {
		k := w.keep(t, worker, go4)
		if _, err := io.WriteString(k, "GET /slow?body=2s HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := k.in.Peek(1); err != nil { // the first half is there
			t.Fatal(err)
		}
		connections = append(connections, k)
	}
	mustReload(t, r, withoutGo(w.version(1)))
	for i, k := range connections {
		w.mustListen(t, go4, i, false)
		if err := k.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(k.in, nil)
		if err != nil {
			t.Errorf("worker %d: %v", i, err)
			continue
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "first half, second half\n" {
			t.Errorf("worker %d: %q, %v", i, b, err)
		}
		resp.Body.Close()
	}
}

// TestReloadWithAMistakeChangesNothing and says why.
func TestReloadWithAMistakeChangesNothing(t *testing.T) {
	w, r := startPair(t)
	mustReload(t, r, w.version(1))
	connections := []*kept{w.keep(t, 0, nginx4), w.keep(t, 1, nginx4)}
	mustBe := func(version string) {
		t.Helper()
		for i, k := range connections {
			if v, err := k.version(); err != nil || v != version {
				t.Errorf("worker %d: version %q, %v; want %q", i, v, err, version)
			}
		}
	}
	for _, c := range []struct {
		name, configuration string
		says                []string
	}{
		{"an unknown key", w.version(2) + "intrefaces: [e0]\n", []string{"intrefaces", "did you mean interfaces"}},
		{"no YAML", "listeners: [", []string{"cannot be read as YAML", ":1:12"}},
		{"an upstream that is missing", strings.Replace(w.version(2), "upstream: go}", "upstream: gone}", 1), []string{"gone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := r.Configure(c.configuration); err != nil {
				t.Fatal(err)
			}
			out, err := r.Command(20*time.Second, "reload")
			if err == nil {
				t.Fatalf("the command succeeded: %s", out)
			}
			mustContain(t, out, c.says...)
			mustBe("1")
			if err := r.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if err := r.WaitLine(c.says[0], 10*time.Second); err != nil {
				t.Error(err)
			}
			mustBe("1")
		})
	}
	// What needs a restart stays as it is; the rest is done.
	mustContain(t, mustReload(t, r, w.version(2)+"workers: 1\n"), "workers", "restart")
	mustBe("2")
	if err := r.Configure(w.version(3)); err != nil {
		t.Fatal(err)
	}
	if err := r.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for i, k := range connections {
		wait(t, 10*time.Second, "SIGHUP takes effect", func() (bool, string) {
			v, err := k.version()
			return v == "3", fmt.Sprintf("worker %d: version %q, %v", i, v, err)
		})
	}
}
