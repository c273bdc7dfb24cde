//go:build closed

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestClosedConnectionsTakeLittleMemory has ringroad close 100,000 connections, all of which it has to remember in TIME_WAIT, and
// compares the memory of its processes with what it was before. Each of several ports is asked as often as a client has ports for: its next
// connection from one to the same port ends the memory of the one before (RFC 6191). It takes a while, and so has a tag of its own.
func TestClosedConnectionsTakeLittleMemory(t *testing.T) {
	const closed, most = 100_000, 10_000_000
	const ports, each, first = 26, 5000, 6 // requests to each port, of which the first warm up; the table has 131,072 places
	var listeners strings.Builder
	var urls []string
	for port := 8000; port < 8000+ports; port++ {
		fmt.Fprintf(&listeners, "  - {address: \"10.1.0.1:%d\", upstream: nginx}\n", port)
		urls = append(urls, fmt.Sprintf("http://10.1.0.1:%d/", port))
	}
	r := start(t, strings.NewReplacer("listeners:\n", "listeners:\n"+listeners.String(), "log:", "tcp: {time_wait: 4m}\nlog:").Replace(bothFamilies))
	load := func(urls []string) {
		for _, url := range urls {
			out := inClient(t, 20*time.Second, "ab", "-q", "-n", fmt.Sprint(each), "-c", "64", url)
			mustMatch(t, out, fmt.Sprintf(`(?m)^Complete requests: +%d$`, each), `(?m)^Failed requests: +0$`)
		}
	}
	look := func() (waiting float64, memory int64) {
		for path, v := range stats(t, r) {
			if strings.HasSuffix(path, ".link.time_wait") {
				waiting += v
			}
		}
		memory, err := r.Memory()
		if err != nil {
			t.Fatal(err)
		}
		return waiting, memory
	}
	load(urls[:first]) // what grows at the first use stays
	look()
	waiting, before := look()
	load(urls[first:])
	now, after := look()
	if now < waiting+closed {
		t.Fatalf("%.0f connections are in TIME_WAIT after %.0f, want %d more", now, waiting, closed)
	}
	t.Logf("%.0f connections in TIME_WAIT take %.1f MB", now-waiting, float64(after-before)/1e6)
	if after-before > most {
		t.Errorf("that is more than %.1f MB", most/1e6)
	}
}
