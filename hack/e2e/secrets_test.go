package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOtherUsersAreRefused: another user of the host, a real process of it, can neither command ringroad nor read its memory. By the admin
// endpoint on loopback it sees numbers, and nothing else.
func TestOtherUsersAreRefused(t *testing.T) {
	open, err := os.MkdirTemp("", "rr-") // unlike those of a test everybody can enter it
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(open)
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	control, admin := filepath.Join(open, "run", "control.sock"), filepath.Join(open, "run", "admin.sock")
	umask := syscall.Umask(0) // at worst
	defer syscall.Umask(umask)
	r := start(t, bothFamilies+"admin: unix:"+admin+"\nuser: daemon\n", "--control", control)
	r.Control = control
	nobody := func(argv ...string) (string, error) {
		return shared.Edge.Run(startLimit, "setpriv", append([]string{"--reuid=65534", "--regid=65534", "--clear-groups"}, argv...)...)
	}
	for _, command := range []string{"status", "reload", "quit", "stop", "connections", "trace", "capture", "top --once"} {
		out, err := nobody(append(append([]string{binary}, strings.Fields(command)...), "--control", control)...)
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s as another user: %v\n%s", command, err, out)
		}
	}
	for _, socket := range []string{control, admin} {
		if out, err := nobody("curl", "-sS", "--unix-socket", socket, "http://ringroad/status"); err == nil {
			t.Errorf("another user reads %s:\n%s", socket, out)
		}
	}
	pids, err := r.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		for _, file := range []string{"mem", "environ", "maps", "fd/0"} {
			if out, err := nobody("dd", fmt.Sprintf("if=/proc/%d/%s", pid, file), "of=/dev/null", "count=1"); err == nil {
				t.Errorf("another user reads %s of process %d: %s", file, pid, out)
			}
		}
	}
	if _, err := r.Command(startLimit, "status"); err != nil {
		t.Errorf("its own user: %v", err)
	}
}

// secret is what no output may show, with a name for each place where it came from.
func secret(place string) string { return "s3cret-" + place }

// tlv is a PROXY protocol header, version 2, with a TLV that holds a secret (PP2_TYPE_AUTHORITY).
func tlv() string {
	value := secret("tlv")
	b := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11")
	b = append(b, 0, byte(12+3+len(value)))
	b = append(b, 203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 80, 0x02, 0, byte(len(value)))
	return string(append(b, value...))
}

// TestNoSecretsInWhatIsShown sends secrets in every place that has them, through exchanges that go well and that fail, and looks for them in
// everything that ringroad prints and shows: the log at debug level, stacks of a worker that crashes, access lines, the list of connections,
// traces, statistics. The query, which belongs to the request target, is in access lines and traces, and nowhere else.
func TestNoSecretsInWhatIsShown(t *testing.T) {
	ln, err := shared.Backend.Listen("tcp", "10.2.0.2:9100")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	hold := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Set-Cookie", "answer="+secret("set-cookie"))
		switch req.URL.Path {
		case "/held":
			if _, err := io.CopyN(io.Discard, req.Body, 5); err != nil {
				return
			}
			<-hold
		case "/broken":
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, secret("answer"))
	})}
	go server.Serve(ln) //nolint:errcheck // it ends by Close
	defer server.Close()

	for _, format := range []string{"combined", "json"} {
		t.Run(format, func(t *testing.T) {
			access := filepath.Join(t.TempDir(), "access.log")
			r := start(t, fmt.Sprintf(`interfaces: [e0, e1]
admin: 127.0.0.1:9901
listeners:
  - {address: "10.1.0.1:80", upstream: app, proxy_protocol: on}
upstreams:
  app: {servers: ["10.2.0.2:9100"]}
limits: {client: {requests: 1, burst: 5}}
log: {level: debug, access: %s, format: %s}
`, access, format))
			trace, err := r.StartCommand("trace", "--next", "2")
			if err != nil {
				t.Fatal(err)
			}
			if err := trace.WaitLine("following requests", startLimit); err != nil {
				t.Fatal(err)
			}
			lines, shown := sendSecrets(t, r.Output, access, func() string { return mustRun(t, r.Command, "connections", "--json") })
			if err := trace.Wait(startLimit); err != nil {
				t.Fatalf("%v\n%s", err, trace.Output())
			}
			mustContain(t, lines, secret("query"))
			mustContain(t, trace.Output(), secret("query"))
			outputs := map[string]string{
				"connections": shown,
				"status":      mustRun(t, r.Command, "status", "--json") + mustRun(t, r.Command, "status"),
				"/status":     askAdmin(t, shared, "127.0.0.1:9901", "/status"),
				"/metrics":    askAdmin(t, shared, "127.0.0.1:9901", "/metrics"),
			}
			if err := syscall.Kill(workerPID(t, r, 0), syscall.SIGABRT); err != nil {
				t.Fatal(err)
			}
			if err := r.WaitLine("the worker serves again", startLimit); err != nil {
				t.Fatal(err)
			}
			outputs["log"] = r.Output()
			mustContain(t, outputs["log"], "SIGABRT", "goroutine ", "exchange failed", "level=DEBUG", "a client is over its limit")
			if b, err := os.ReadFile(r.StatsFile); err == nil {
				outputs["statistics file"] = string(b)
			}
			for name, text := range outputs {
				mustNotMatch(t, name+": "+text, `s3cret`)
			}
			for name, text := range map[string]string{"access log": lines, "trace": trace.Output()} {
				mustNotMatch(t, name+": "+strings.ReplaceAll(text, secret("query"), ""), `s3cret`)
			}
		})
	}
	close(hold)
}

// sendSecrets returns the lines of the access log, and what connections showed in the middle of a request.
func sendSecrets(t *testing.T, log func() string, access string, connections func() string) (lines, shown string) {
	t.Helper()
	dialled := func() (net.Conn, *bufio.Reader) {
		c := dial(t, nginx4)
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, tlv()); err != nil {
			t.Fatal(err)
		}
		return c, bufio.NewReader(c)
	}
	request := func(method, path, body string) string {
		return fmt.Sprintf("%s %s?token=%s HTTP/1.1\r\nHost: example.org\r\nAuthorization: Bearer %s\r\nCookie: id=%s\r\nX-Key: %s\r\nContent-Length: %d\r\n\r\n%s",
			method, path, secret("query"), secret("authorization"), secret("cookie"), secret("field"), len(body), body)
	}
	ask := func(text string, status int) {
		t.Helper()
		c, in := dialled()
		defer c.Close()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("status %d, want %d", resp.StatusCode, status)
		}
	}
	ask(request("POST", "/", secret("body")), http.StatusOK)
	ask(request("POST", "/broken", secret("body")), http.StatusBadGateway)
	ask("GET / HTTP/1.1\r\nHost: a\r\nX-Key: "+secret("field")+"\r\n "+secret("folded")+"\r\n\r\n", http.StatusBadRequest)
	ask("GET / HTTP/1.1\r\nHost: a\r\nAuth orization: "+secret("name")+"\r\n\r\n", http.StatusBadRequest)
	ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+secret("chunk")+"\r\n", http.StatusBadRequest)
	wait(t, startLimit, "the log tells of a connection without header", func() (bool, string) {
		c := dial(t, nginx4) // one of many a second is told
		defer c.Close()
		if _, err := io.WriteString(c, "GET /"+secret("stranger")+" HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			return false, err.Error()
		}
		return strings.Contains(log(), "connection refused: listener has proxy_protocol on"), log()
	})

	c, _ := dialled()
	held := request("POST", "/held", secret("body"))
	if _, err := io.WriteString(c, held[:len(held)-1]); err != nil {
		t.Fatal(err)
	}
	wait(t, startLimit, "connections show the request", func() (bool, string) {
		shown = connections()
		return strings.Contains(shown, "/held"), shown
	})
	c.Close()
	for range 20 { // over the rate
		c, _ := dialled()
		if _, err := io.WriteString(c, request("GET", "/", "")); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		defer c.Close()
	}
	wait(t, startLimit, "access lines of all are there", func() (bool, string) {
		b, err := os.ReadFile(access)
		if err != nil {
			return false, err.Error()
		}
		lines = string(b)
		return strings.Contains(lines, "429") && strings.Contains(lines, "/held") && strings.Contains(lines, "502"), lines
	})
	return lines, shown
}

// mustRun returns what a command of ringroad prints.
func mustRun(t *testing.T, run func(time.Duration, string, ...string) (string, error), name string, args ...string) string {
	t.Helper()
	out, err := run(startLimit, name, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return out
}
