package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"ringroad/hack/lab/backend"
)

// TestClientsGetCorrectAnswers runs the programs that people use.
func TestClientsGetCorrectAnswers(t *testing.T) {
	start(t, bothFamilies)
	families(t, func(t *testing.T, nginx, goServer string) {
		t.Run("curl", func(t *testing.T) {
			if got := inClient(t, 10*time.Second, "curl", "-sSf", "http://"+nginx+"/"); got != hello {
				t.Errorf("got %q", got)
			}
			// Three requests over one connection, in HTTP/1.1 and with a header for each.
			url := "http://" + nginx + "/"
			got := inClient(t, 10*time.Second, "curl", "-sSf", "-w", "%{num_connects} %{http_version}\n", url, url, url)
			if want := hello + "1 1.1\n" + hello + "0 1.1\n" + hello + "0 1.1\n"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := inClient(t, 10*time.Second, "curl", "-sSf", "-0", url); got != hello {
				t.Errorf("HTTP/1.0: got %q", got)
			}
			head := inClient(t, 10*time.Second, "curl", "-sSf", "-I", url)
			mustContain(t, head, "200", "Content-Length: 12")
			if got := inClient(t, 10*time.Second, "curl", "-sSf", "-d", "a=b&c=d", "http://"+goServer+"/echo"); got != "a=b&c=d" {
				t.Errorf("echo: got %q", got)
			}
		})
		t.Run("wget", func(t *testing.T) {
			if got := inClient(t, 10*time.Second, "wget", "-q", "-T", "5", "-t", "1", "-O", "-", "http://"+nginx+"/"); got != hello {
				t.Errorf("got %q", got)
			}
		})
		t.Run("python", func(t *testing.T) {
			if got := inClient(t, 20*time.Second, "/usr/bin/python3", "-c", pythonClient, nginx, goServer); got != "ok\n" {
				t.Errorf("got %q", got)
			}
		})
		t.Run("wrk", func(t *testing.T) {
			checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d2", "http://"+nginx+"/"))
		})
		t.Run("ab", func(t *testing.T) {
			out := inClient(t, 60*time.Second, "ab", "-q", "-k", "-n", "20000", "-c", "64", "http://"+nginx+"/")
			mustMatch(t, out, `Complete requests:\s+20000\n`, `Failed requests:\s+0\n`, `Keep-Alive requests:\s+20000\n`,
				`HTML transferred:\s+240000 bytes`)
			mustNotMatch(t, out, `Non-2xx`)
		})
	})
}

// pythonClient sends a hundred requests over one connection of http.client and posts a body in chunks.
const pythonClient = `
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], timeout=5)
for i in range(100):
    c.request("GET", "/", headers={"X-Count": str(i)})
    r = c.getresponse()
    assert (r.status, r.version, r.read()) == (200, 11, b"hello world\n"), r.status
local = c.sock.getsockname()
c.request("HEAD", "/")
r = c.getresponse()
assert r.status == 200 and r.headers["Content-Length"] == "12" and r.read() == b""
assert c.sock.getsockname() == local, "the connection was not kept"
c = http.client.HTTPConnection(sys.argv[2], timeout=5)
c.request("POST", "/echo", body=iter([b"one ", b"two ", b"three"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
r = c.getresponse()
assert r.status == 200 and r.read() == b"one two three"
print("ok")
`

// TestNoErrorInAHundredThousandRequests uses h2load, which counts every request that fails.
func TestNoErrorInAHundredThousandRequests(t *testing.T) {
	start(t, bothFamilies)
	families(t, func(t *testing.T, nginx, _ string) {
		// h2load writes an IPv6 address into Host without its brackets, which is no valid Host.
		out := inClient(t, 2*time.Minute, "h2load", "--h1", "-n", "100000", "-c", "64", "-t", "1", "--connect-to="+nginx, "http://example.org/")
		mustMatch(t, out, `requests: 100000 total, 100000 started, 100000 done, 100000 succeeded, 0 failed, 0 errored, 0 timeout`,
			`status codes: 100000 2xx, 0 3xx, 0 4xx, 0 5xx`)
	})
}

// TestConnectionPerRequest opens and closes both sides all the time: nothing of a closed connection may reach the next.
func TestConnectionPerRequest(t *testing.T) {
	start(t, strings.ReplaceAll(bothFamilies, `8080"]}`, `8080"], keepalive: 0}`))
	families(t, func(t *testing.T, nginx, _ string) {
		checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d2", "-H", "Connection: close", "http://"+nginx+"/"))
	})
}

// TestBodiesOfAHundredMegabytesArriveIntact moves 100 MiB each way, with a length and in chunks. curl asks for 100 (Continue) before
// it sends so much.
func TestBodiesOfAHundredMegabytesArriveIntact(t *testing.T) {
	start(t, bothFamilies)
	const size = 100 * mib
	file := shared.Files + "/100m"
	fileSum, _, err := backend.Sum(backend.Body("100m", size))
	if err != nil {
		t.Fatal(err)
	}
	bytesSum, _, err := backend.Sum(backend.Body("bytes", size))
	if err != nil {
		t.Fatal(err)
	}
	families(t, func(t *testing.T, nginx, goServer string) {
		for _, c := range []struct{ name, url, sum string }{
			{"download with length", "http://" + nginx + "/f/100m", fileSum},
			{"download in chunks", fmt.Sprintf("http://%s/bytes/%d?chunked", goServer, size), bytesSum},
		} {
			t.Run(c.name, func(t *testing.T) {
				sum, n := sumOfOutput(t, shared.Client.Exec("curl", "-sSf", "-m", "60", c.url))
				if n != size || sum != c.sum {
					t.Errorf("%d bytes of %d with SHA-256 %s, want %s", n, size, sum, c.sum)
				}
			})
		}
		for _, c := range []struct {
			name    string
			source  string
			chunked bool
		}{
			{"upload with length", file, false},
			{"upload in chunks", "-", true},
		} {
			t.Run(c.name, func(t *testing.T) {
				script := fmt.Sprintf("exec curl -sSf -m 60 -T %s http://%s/digest <%s", c.source, goServer, file)
				out := inClient(t, time.Minute, "sh", "-c", script)
				want := fmt.Sprintf(`{"bytes":%d,"sha256":"%s","chunked":%v}`+"\n", size, fileSum, c.chunked)
				if out != want {
					t.Errorf("the backend got %s, want %s", out, want)
				}
			})
		}
	})
}

// sumOfOutput runs a command and returns the SHA-256 and the length of what it printed.
func sumOfOutput(t *testing.T, c *exec.Cmd) (string, int64) {
	t.Helper()
	var complaints strings.Builder
	c.Stderr = &complaints
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	sum, n, err := backend.Sum(out)
	if err != nil {
		t.Error(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, complaints.String())
	}
	return sum, n
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
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
			return fmt.Errorf("request %d from %v: %w", i+1, c.LocalAddr(), err)
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return fmt.Errorf("response %d to %v: %w", i+1, c.LocalAddr(), err)
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != 200 || string(b) != hello {
			return fmt.Errorf("response %d to %v: %s, %q, %w", i+1, c.LocalAddr(), r.Status, b, err)
		}
	}
	return nil
}

func checkWrk(t *testing.T, out string) {
	t.Helper()
	mustMatch(t, out, `\d+ requests in`)
	mustNotMatch(t, out, `Socket errors`, `Non-2xx`, `\b0 requests in`)
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
