package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab/backend"
)

func curl(t *testing.T, args ...string) string {
	t.Helper()
	return inClient(t, 20*time.Second, "curl", append([]string{"-sSf", "-m", "15"}, args...)...)
}

// wgetArgs are those of every wget: one attempt, and what it fetches goes to standard output.
func wgetArgs(args ...string) []string {
	return append([]string{"-T", "20", "-t", "1", "-O", "-"}, args...)
}

func wget(t *testing.T, args ...string) string {
	t.Helper()
	return inClient(t, time.Minute, "wget", append([]string{"-q"}, wgetArgs(args...)...)...)
}

// wgetTold returns what was fetched among what wget says of it, heads included.
func wgetTold(args ...string) (string, error) {
	return shared.Client.Run(time.Minute, "sh", append([]string{"-c", `exec wget -S "$@" 2>&1`, "wget"}, wgetArgs(args...)...)...)
}

const anySize = -1 // size of a body

// ab has ab send n requests over one connection, and checks that all are answered, with bodies of the given size.
func ab(t *testing.T, s *site, n int64, target string, size int64, args ...string) {
	t.Helper()
	out := inClient(t, time.Minute, "ab", append(append([]string{"-q", "-k", "-c", "1", "-n", fmt.Sprint(n)}, args...), s.url(target))...)
	mustMatch(t, out, fmt.Sprintf(`Complete requests:\s+%d\n`, n), `Failed requests:\s+0\n`, fmt.Sprintf(`Keep-Alive requests:\s+%d\n`, n))
	if size != anySize {
		mustMatch(t, out, fmt.Sprintf(`HTML transferred:\s+%d bytes`, n*size))
	}
	if !strings.HasSuffix(target, "/304") {
		mustNotMatch(t, out, `Non-2xx`)
	}
}

// h2load is ab for h2load.
func h2load(t *testing.T, s *site, n int64, target string, size int64, args ...string) {
	t.Helper()
	// It writes an IPv6 address into Host without its brackets, which is no valid Host.
	flags := []string{"--h1", "-c", "1", "-t", "1", "-n", fmt.Sprint(n), "--connect-to=" + s.address}
	out := inClient(t, time.Minute, "h2load", append(append(flags, args...), "http://example.org"+target)...)
	mustMatch(t, out, fmt.Sprintf(`requests: %d total, %[1]d started, %[1]d done, %[1]d succeeded, 0 failed, 0 errored, 0 timeout`, n))
	if size != anySize {
		mustMatch(t, out, fmt.Sprintf(`\(%d\) data`, n*size))
	}
}

func tenTimes(url string) []string {
	return strings.Split(strings.Repeat(url+" ", 9)+url, " ")
}

func same(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// checkDigest looks at what the backend says about the small body.
func checkDigest(t *testing.T, answer string, chunked, expect bool) {
	t.Helper()
	mustDigest(t, answer, backend.Digest{Bytes: int64(len(small)), SHA256: smallSum, Chunked: chunked, Expect: expect})
}

// checkUpload looks at what the backend says about the large body. Whether it was asked to expect it is the client's business.
func checkUpload(t *testing.T, s *site, answer string, chunked bool) {
	t.Helper()
	mustDigest(t, answer, backend.Digest{Bytes: s.large.size, SHA256: s.large.fileSum, Chunked: chunked, Expect: strings.Contains(answer, `"expect":true`)})
}

func mustDigest(t *testing.T, answer string, want backend.Digest) {
	t.Helper()
	var got backend.Digest
	if err := json.Unmarshal([]byte(answer), &got); err != nil || got != want {
		t.Errorf("the backend got %s, %v; want %+v", answer, err, want)
	}
}

// checkSum runs a command that must print the large body of /bytes/.
func checkSum(t *testing.T, s *site, c *exec.Cmd) {
	t.Helper()
	if sum, n := sumOfOutput(t, c); n != s.large.size || sum != s.large.bytesSum {
		t.Errorf("%d bytes of %d with SHA-256 %s, want %s", n, s.large.size, sum, s.large.bytesSum)
	}
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

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}
