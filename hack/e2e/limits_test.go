package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/hack/lab"
	"ringroad/hack/lab/rss"
)

// limited is a connection of the client to a certain worker.
type limited struct {
	net.Conn
	in *bufio.Reader
}

func (w *wide) limited(t *testing.T, worker int) *limited {
	t.Helper()
	c, err := w.dialWorker(worker, nginx4, startLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return &limited{c, bufio.NewReader(c)}
}

// ask returns the status of the answer, 0 where there was none.
func (c *limited) ask() int {
	if _, err := c.Write([]byte(ask1("/"))); err != nil {
		return 0
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		return 0
	}
	return resp.StatusCode
}

// TestClientLimitsAreThoseOfAllWorkers: what a client does at one worker counts at the other, a reload forgets nothing of it, and a worker
// that dies leaves no connection behind.
func TestClientLimitsAreThoseOfAllWorkers(t *testing.T) {
	w := upWide(t, lab.Options{Queues: 2, RSS: rss.DefaultKey})
	const burst = 8
	limits := func(members string) string { return w.configuration(bothFamilies, "limits: {client: {"+members+"}}") }
	rates := fmt.Sprintf("requests: 1, burst: %d", burst)
	r := startIn(t, w.Lab, limits(rates))
	c := []*limited{w.limited(t, 0), w.limited(t, 1)}
	began := time.Now()
	passed := 0
	for n := range 4 * burst {
		if n == 2*burst {
			mustReload(t, r, limits(rates+", prefix_ipv6: 56, status: 503"))
		}
		switch status := c[n%2].ask(); {
		case status == http.StatusOK:
			passed++
		case n < 2*burst && status == http.StatusTooManyRequests, n >= 2*burst && status == http.StatusServiceUnavailable:
		default:
			t.Fatalf("request %d: status %d", n, status)
		}
	}
	if most := burst + int(time.Since(began)/time.Second) + 1; passed < burst || passed > most {
		t.Errorf("%d requests passed both workers, want %d to %d", passed, burst, most)
	}
	out, err := w.Client.Run(startLimit, "curl", "-sS", "-i", "http://"+nginx4+"/", "http://"+nginx4+"/", "http://"+nginx4+"/")
	if err != nil {
		t.Fatal(err)
	}
	mustMatch(t, out, `(?m)^HTTP/1.1 503 `, `(?m)^Retry-After: [1-9]`)

	mustReload(t, r, limits("connections: 4"))
	c = append(c, w.limited(t, 0), w.limited(t, 1))
	for i, conn := range c {
		if status := conn.ask(); status != http.StatusOK {
			t.Errorf("connection %d: status %d", i, status)
		}
	}
	if status := w.limited(t, 0).ask(); status != http.StatusServiceUnavailable {
		t.Errorf("a connection over the limit: status %d", status)
	}
	pid := workerPID(t, r, 1)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	replaced(t, r, 1, pid, startLimit)
	wait(t, startLimit, "connections of the dead worker do not count", func() (bool, string) {
		status := w.limited(t, 0).ask()
		return status == http.StatusOK, fmt.Sprint(status)
	})
	s := stats(t, r)
	if s["proxy.limited_connections"] < 1 || s["proxy.limited_requests"] < burst {
		t.Errorf("counted %v connections and %v requests", s["proxy.limited_connections"], s["proxy.limited_requests"])
	}
}

// TestFullDiskForLogs: requests go on, the log tells it once, lines are whole again when there is room, and what was lost is counted.
func TestFullDiskForLogs(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 48<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "access.log")
	r := start(t, strings.Replace(bothFamilies, "access: off", "access: "+path, 1))
	c := httpClient(t, shared)
	pad := "/?" + strings.Repeat("x", 500)
	asked := 0
	ask := func(target string) {
		t.Helper()
		if resp, _ := get(t, c, "http://"+nginx4+target); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", target, resp.Status)
		}
		asked++
	}
	const failing, again = "write access log: lines are lost until it works again", "the access log can be written again"
	wait(t, time.Minute, "the disk is full", func() (bool, string) {
		for range 20 {
			ask(pad)
		}
		return strings.Contains(r.Output(), failing), fmt.Sprintf("%d requests", asked)
	})
	for range 20 {
		ask(pad)
	}
	mustContain(t, r.Output(), "no space left on device")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	wait(t, startLimit, "the log is written again", func() (bool, string) {
		ask("/?again")
		return strings.Contains(r.Output(), again), r.Output()
	})
	ask("/?last") // with its line the worker counts what was lost
	wait(t, startLimit, "every line is in the log, or counted", func() (bool, string) {
		b, err := os.ReadFile(path)
		if err != nil {
			return false, err.Error()
		}
		lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		whole := 0
		for _, l := range lines {
			if strings.HasSuffix(l, `"`) && strings.HasPrefix(l, "10.1.0.2 - - [") {
				whole++
			}
		}
		lost := int(stats(t, r)["proxy.log_lines_lost"])
		return lost > 0 && whole+lost == asked && len(lines)-whole <= 2,
			fmt.Sprintf("%d requests, %d lines of which %d are whole, %d lost", asked, len(lines), whole, lost)
	})
	if n := strings.Count(r.Output(), failing); n > 2 {
		t.Errorf("the failure was told %d times", n)
	}
}
