//go:build closed

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestClosedConnectionsTakeLittleMemory has ringroad close 100,000 connections, all of which it has to remember in TIME_WAIT, and
// compares the memory of its processes with what it was before. Several ports are asked: a client's next connection from a port to the
// same port ends the memory of the one before (RFC 6191). It takes half a minute, and so has a tag of its own.
func TestClosedConnectionsTakeLittleMemory(t *testing.T) {
	const closed, most = 100_000, 10_000_000
	var listeners strings.Builder
	var urls []string
	for port := 8000; port < 8016; port++ {
		fmt.Fprintf(&listeners, "  - {address: \"10.1.0.1:%d\", upstream: nginx}\n", port)
		urls = append(urls, fmt.Sprintf("http://10.1.0.1:%d/", port))
	}
	r := start(t, strings.NewReplacer("listeners:\n", "listeners:\n"+listeners.String(), "log:", "tcp: {time_wait: 4m}\nlog:").Replace(bothFamilies))
	loads := 0
	load := func() {
		checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d1", "-H", "Connection: close", urls[loads%len(urls)]))
		loads++
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
	for range 2 { // what grows at the first use stays
		load()
		look()
	}
	waiting, before := look()
	now, after := waiting, before
	for limit := time.Now().Add(2 * time.Minute); now < waiting+closed; now, after = look() {
		if time.Now().After(limit) {
			t.Fatalf("only %.0f connections are in TIME_WAIT", now)
		}
		load()
	}
	t.Logf("%.0f connections in TIME_WAIT take %.1f MB", now-waiting, float64(after-before)/1e6)
	if after-before > most {
		t.Errorf("that is more than %.1f MB", most/1e6)
	}
}
