package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNoErrorUnderLoad uses the programs that count every request that fails.
func TestNoErrorUnderLoad(t *testing.T) {
	start(t, bothFamilies)
	families(t, func(t *testing.T, nginx, _ string) {
		t.Run("wrk", func(t *testing.T) {
			checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d2", "http://"+nginx+"/"))
		})
		t.Run("ab", func(t *testing.T) {
			out := inClient(t, 60*time.Second, "ab", "-q", "-k", "-n", "20000", "-c", "64", "http://"+nginx+"/")
			mustMatch(t, out, `Complete requests:\s+20000\n`, `Failed requests:\s+0\n`, `Keep-Alive requests:\s+20000\n`,
				`HTML transferred:\s+240000 bytes`)
			mustNotMatch(t, out, `Non-2xx`)
		})
		t.Run("h2load", func(t *testing.T) {
			// It writes an IPv6 address into Host without its brackets, which is no valid Host.
			out := inClient(t, 2*time.Minute, "h2load", "--h1", "-n", "100000", "-c", "64", "-t", "1", "--connect-to="+nginx, "http://example.org/")
			mustMatch(t, out, `requests: 100000 total, 100000 started, 100000 done, 100000 succeeded, 0 failed, 0 errored, 0 timeout`,
				`status codes: 100000 2xx, 0 3xx, 0 4xx, 0 5xx`)
		})
	})
}

// TestConnectionPerRequest opens and closes both sides all the time: nothing of a closed connection may reach the next.
func TestConnectionPerRequest(t *testing.T) {
	start(t, strings.ReplaceAll(bothFamilies, `8080"]}`, `8080"], keepalive: 0}`))
	families(t, func(t *testing.T, nginx, _ string) {
		checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d2", "-H", "Connection: close", "http://"+nginx+"/"))
	})
}

// TestAThousandConnectionsAtOnce keeps a thousand connections open and uses all of them, several times.
func TestAThousandConnectionsAtOnce(t *testing.T) {
	start(t, bothFamilies)
	families(t, func(t *testing.T, nginx, _ string) {
		const connections, rounds = 1000, 5
		var open []net.Conn
		defer func() {
			for _, c := range open {
				c.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for range connections {
			c, err := shared.Client.Dial(ctx, "tcp", nginx)
			if err != nil {
				t.Fatalf("connection %d: %v", len(open)+1, err)
			}
			open = append(open, c)
		}
		var wg sync.WaitGroup
		errs := make(chan error, connections)
		for _, c := range open {
			wg.Go(func() { errs <- exchange(c, rounds) })
		}
		wg.Wait()
		close(errs)
		failed := 0
		for err := range errs {
			if err != nil {
				if failed++; failed <= 3 {
					t.Error(err)
				}
			}
		}
		if failed > 0 {
			t.Errorf("%d of %d connections failed", failed, connections)
		}
	})
}

// exchange sends requests over one connection, one after the other.
func exchange(c net.Conn, rounds int) error {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	for i := range rounds {
		if err := ask(c, in); err != nil {
			return fmt.Errorf("request %d from %v: %w", i+1, c.LocalAddr(), err)
		}
	}
	return nil
}

// ask sends one request over a connection and checks the answer; in reads from the connection.
func ask(c net.Conn, in *bufio.Reader) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
		return err
	}
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || r.StatusCode != 200 || string(b) != hello {
		return fmt.Errorf("answered %s, %q, %w", r.Status, b, err)
	}
	return nil
}

func checkWrk(t *testing.T, out string) {
	t.Helper()
	mustMatch(t, out, `\d+ requests in`)
	mustNotMatch(t, out, `Socket errors`, `Non-2xx`, `\b0 requests in`)
}
