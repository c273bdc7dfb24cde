package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestQuitLetsExchangesFinish drains under load: what is under way is answered whole, nothing new is accepted, and the process ends by
// itself with status 0.
func TestQuitLetsExchangesFinish(t *testing.T) {
	r := start(t, bothFamilies)
	c := httpClient(t, shared)
	get(t, c, "http://"+nginx4+"/")                       // an idle connection, closed by the drain
	resp, err := c.Get("http://" + go4 + "/slow?body=1s") // returns with the first half
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := r.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if err := r.WaitLine("draining", stopLimit); err != nil {
		t.Fatal(err)
	}
	if resp, err := httpClient(t, shared).Get("http://" + nginx4 + "/"); err == nil {
		resp.Body.Close()
		t.Errorf("a new connection was answered with %s during the drain", resp.Status)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "first half, second half\n" {
		t.Errorf("the response under way: %q, %v", body, err)
	}
	if err := r.Wait(stopLimit); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestAccessLogIsReopened rotates the log as logrotate does.
func TestAccessLogIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	r := start(t, strings.Replace(bothFamilies, "access: off", "access: "+path, 1))
	c := httpClient(t, shared)
	lines := func(name, target string) func() (bool, string) {
		return func() (bool, string) {
			b, err := os.ReadFile(name)
			if err != nil {
				return false, err.Error()
			}
			return strings.Contains(string(b), "GET "+target+" "), string(b)
		}
	}
	ask := func(target string) {
		if resp, _ := get(t, c, "http://"+nginx4+target); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", target, resp.Status)
		}
	}
	ask("/?before")
	wait(t, 5*time.Second, "a line in the log", lines(path, "/?before"))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	wait(t, 5*time.Second, "the log is open again", func() (bool, string) {
		_, err := os.Stat(path)
		return err == nil, "no file"
	})
	ask("/?after")
	wait(t, 5*time.Second, "a line in the new log", lines(path, "/?after"))
	if ok, content := lines(path+".1", "/?after")(); ok {
		t.Errorf("the old log was written to after the signal:\n%s", content)
	}
}
