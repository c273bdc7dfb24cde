package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/faultlink"
)

const (
	impatient   = "10.1.0.1:82"   // a listener that waits for a client to take something of an answer no longer than sendTimeout
	sendTimeout = 2 * time.Second // or, elsewhere, a minute
)

// TestBadWires gives the client's wire one fault after the other.
func TestBadWires(t *testing.T) {
	t.Parallel()
	l, err := lab.Up(lab.Options{ClientFault: &faultlink.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	log := filepath.Join(l.Dir, "access.log")
	r := startIn(t, l, fmt.Sprintf(`interfaces: [e0, e1]
rx_checksum: verify
listeners:
  - {address: "10.1.0.1:81", upstream: go}
  - {address: "10.1.0.1:82", routes: [{upstream: go, timeouts: {client_send: %v}}]}
upstreams:
  go: {servers: ["10.2.0.2:8081"]}
log: {access: %s, format: json}
`, sendTimeout, log))
	set := func(t *testing.T, o faultlink.Options) {
		t.Helper()
		if err := l.ClientWire.Set(o); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("corruption", func(t *testing.T) {
		set(t, faultlink.Options{Seed: 1, Corrupt: 0.01})
		moveBodies(t, httpClient(t, l), "http://"+go4, mib, 2)
		if stats(t, r)["stack.checksum_errors"] == 0 {
			t.Error("no checksum was wrong: nothing was corrupted")
		}
	})

	t.Run("everything at once", func(t *testing.T) {
		set(t, faultlink.Options{
			Seed: 2, Loss: 0.01, Burst: 3, Duplicate: 0.02, Reorder: 0.03, Corrupt: 0.005, Delay: time.Millisecond, Jitter: time.Millisecond,
		})
		moveBodies(t, httpClient(t, l), "http://"+go4, mib, 1)
	})

	t.Run("down for a second", func(t *testing.T) {
		set(t, faultlink.Options{DownAt: 50 * time.Millisecond, DownFor: time.Second, Rate: 100e6})
		began := time.Now()
		moveBodies(t, httpClient(t, l), "http://"+go4, 2*mib, 1)
		if took := time.Since(began); took < time.Second {
			t.Errorf("done after %v: the link was not down", took)
		}
	})

	// What vanishes ends by its timeout, says so in the access log, and leaves nothing.
	for name, o := range map[string]faultlink.Options{
		"black hole for large packets": {MTU: 1000, Only: faultlink.FromEdge},
		"vanished client":              {DownAt: 50 * time.Millisecond, DownFor: time.Hour, Rate: 100e6},
	} {
		t.Run(name, func(t *testing.T) {
			set(t, o)
			host := strings.ReplaceAll(name, " ", "-")
			c := dialIn(t, l, impatient)
			if _, err := fmt.Fprintf(c, "GET /bytes/50000000 HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, c) }() // to the end of the test
			wait(t, 20*time.Second, "the access log tells of the client", func() (bool, string) {
				b, _ := os.ReadFile(log) // without the line it is waited for
				for line := range strings.Lines(string(b)) {
					if strings.Contains(line, host) {
						return strings.Contains(line, `"termination":"client"`), line
					}
				}
				return false, "no line"
			})
			mustBeEmpty(t, r)
		})
	}

	t.Run("clients that do what they should not", func(t *testing.T) {
		set(t, faultlink.Options{Seed: 3, Loss: 0.02, Duplicate: 0.02, Reorder: 0.03, Delay: time.Millisecond})
		for i := range 12 {
			c := dialIn(t, l, go4)
			switch i % 4 {
			case 0: // an answer before the body of the request has come
				fmt.Fprintf(c, "PUT /status/413 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
				_, _ = io.CopyN(c, zeros{}, 300_000) // ringroad may close
			case 1: // half a connection is closed, and the answer comes all the same
				fmt.Fprintf(c, "GET /bytes/300000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					t.Error(err)
				}
				b, err := io.ReadAll(c)
				if _, body, ok := strings.Cut(string(b), "\r\n\r\n"); err != nil || !ok || len(body) != 300_000 {
					t.Errorf("after half-close: %d bytes, %v", len(b), err)
				}
			default: // a reset in the middle of an answer or a request
				fmt.Fprintf(c, "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
				_, _ = io.CopyN(c, zeros{}, int64(i)*50_000)
				if err := c.(*net.TCPConn).SetLinger(0); err != nil {
					t.Error(err)
				}
			}
			c.Close()
		}
		mustBeEmpty(t, r)
	})

	set(t, faultlink.Options{})
	moveBodies(t, httpClient(t, l), "http://"+go4, mib, 1)
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// dialIn opens a connection from the client of a lab; the test closes it.
func dialIn(t *testing.T, l *lab.Lab, address string) net.Conn {
	t.Helper()
	c, err := l.Client.Dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// mustBeEmpty waits until ringroad serves nobody, and has every frame.
func mustBeEmpty(t *testing.T, r *lab.Ringroad) {
	t.Helper()
	wait(t, 30*time.Second, "nothing is left", func() (bool, string) {
		s, err := r.Snapshot()
		if err != nil {
			return false, err.Error()
		}
		for _, name := range []string{"proxy.clients_active", "proxy.exchanges_active", "proxy.buffers_in_use"} {
			if v, ok := s[name]; !ok || v != 0 {
				return false, fmt.Sprintf("%s is %v", name, v)
			}
		}
		for path, frames := range s {
			if queue, ok := strings.CutSuffix(path, ".levels.frames"); ok && s[queue+".levels.free"]+s[queue+".levels.fill"] != frames {
				return false, fmt.Sprintf("%s: %v of %v frames are free", queue, s[queue+".levels.free"]+s[queue+".levels.fill"], frames)
			}
		}
		return true, ""
	})
}
