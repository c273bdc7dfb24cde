package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"ringroad/hack/lab"
	"ringroad/proxy"
)

// TestTopOnATerminal drives top by its keys, in tmux, against a ringroad that serves a client which does not read.
func TestTopOnATerminal(t *testing.T) {
	r := start(t, bothFamilies)
	stuck := dialStuck(t)
	client := stuck.LocalAddr().String()

	top := openTmux(t, []string{"NO_COLOR=1"}, binary, "top", "--interval", "200ms", "--control", r.Control)
	screen := top.shows(fmt.Sprintf("process %d running", r.PID()), "worker 0", "fill ring      [#", "/8192", "\nexchanges  ", " 1 ^1\n", "requests/s", "q quit")
	if lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n"); len(lines) != 24 || !strings.HasPrefix(lines[23], "q quit") {
		t.Errorf("%d lines, want 24 with the keys in the last:\n%s", len(lines), screen)
	}
	mustMatch(t, screen, `(?m)^exchanges +1 \^1$`)
	colour := regexp.MustCompile("\x1b\\[[0-9;]*[34][0-8][;m]")
	if styled := top.text(true); colour.MatchString(styled) {
		t.Errorf("NO_COLOR leaves colours: %q", styled)
	}
	top.press("w")
	top.shows("handshakes; ! full, cookies sent")
	top.press("w", "p")
	top.shows("PAUSED")
	top.press("p")

	// Connections: the one that is stuck comes first.
	top.press("c")
	screen = top.shows("\n>0 "+client+" ", " relay ", "status 200", "ESTABLISHED, nginx, new", "c back")
	mustMatch(t, screen, `1 of 1 connections, by request`, `(?m)^>0 .* \d+k +\d+ GET /f/100m$`, `(?m)^client .* ESTABLISHED, open`,
		`(?m)^ +rtt \S+, rto \S+, cwnd \d+, ssthresh \S+, recv 0/\S+, send \d+k/\S+$`, `(?m)^request +GET 10\.1\.0\.1/f/100m$`)
	t.Logf("connections at 80x24:\n%s", screen)
	if strings.Contains(screen, "secret") {
		t.Errorf("a secret is shown:\n%s", screen)
	}
	top.press("/")
	top.write("10.9.9.0/24")
	top.press("Enter")
	top.shows("0 of 0 connections that match, 1 open", "client 10.9.9.0/24")
	top.press("/")
	top.press("BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "BSpace", "Enter")
	top.press("s")
	top.shows("1 of 1 connections, by age", "\n>0 "+client+" ")
	top.resize(120, 40)
	wait(t, startLimit, "the screen has another size", func() (bool, string) {
		screen = top.text(false)
		lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
		return len(lines) == 40 && strings.HasPrefix(lines[39], "c back") && strings.HasPrefix(lines[len(lines)-2], "  "), screen
	})
	top.press("Escape")
	top.shows("time wait", "errors/s") // rows that 80x24 has no room for

	connections(t, r, client)
	out, err := r.Command(doctorLimit, "top", "--once", "--interval", "200ms")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustMatch(t, out, `(?m)^requests/s +\d`, `(?m)^fill ring +\[#+\.*\] +\d+/8192`)
	mustNotMatch(t, out, `\x1b`)
	dumb := openTmux(t, []string{"TERM=dumb"}, "env", "TERM=dumb", binary, "top", "--interval", "200ms", "--control", r.Control)
	mustMatch(t, dumb.shows("exit status 0"), `(?m)^ringroad: TERM is dumb`, `(?m)^requests/s +\d`)

	examined := openTmux(t, nil, shared.Edge.Exec(binary, "doctor", "--control", r.Control).Args...)
	mustMatch(t, examined.shows("exit status 0"), `(?m)^(ok|warning) +[a-z]`)
	examined.resize(240, 100) // long lines come together again
	mustMatch(t, examined.shows("\nok       xdp e0: the program of the running ringroad"), `(?m)^ok +features e0: XDP basic`, `(?m)^(ok|warning) +processors`, `(?m)^ok +backend 10\.2\.0\.2:8080`)

	// A worker dies, then ringroad ends.
	if err := syscall.Kill(workerPID(t, r, 0), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	top.shows("worker 0 !1 restarts", fmt.Sprintf("process %d running", r.PID()))
	if !r.Stop(stopLimit) {
		t.Error("ringroad had to be killed")
	}
	top.shows("RINGROAD HAS ENDED: q quits")
	top.press("q")
	top.shows("exit status 0")
}

// dialStuck is a client in the middle of a response that it does not read.
func dialStuck(t *testing.T) net.Conn {
	t.Helper()
	c, err := shared.Client.Dial(t.Context(), "tcp", nginx4)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "GET /f/100m?token=secret HTTP/1.1\r\nHost: 10.1.0.1\r\nAuthorization: Basic secret\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

// connections asks for the stuck client's connection on the command line.
func connections(t *testing.T, r *lab.Ringroad, client string) {
	t.Helper()
	ask := func(args ...string) string {
		t.Helper()
		out, err := r.Command(doctorLimit, "connections", args...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	mustMatch(t, ask("--client", "10.1.0.0/24"), `(?m)^W +CLIENT +STATE +SINCE +AGE +RTT +CWND +RECV +SEND +RESENT +REQUEST +BACKEND$`,
		`(?m)^0 +`+regexp.QuoteMeta(client)+` +relay .* GET /f/100m +10\.2\.0\.2:8080 new$`, `(?m)^1 of 1 connections, by request$`)
	mustMatch(t, ask("--client", "10.1.0.3"), `^0 of 0 connections that match, 1 open, by request\n$`)
	out := ask("--json", "--sort", "buffer", "--limit", "1")
	mustNotMatch(t, out, "secret")
	mustFit(t, "connections.json", out)
	status, err := r.Command(doctorLimit, "status", "--json")
	if err != nil {
		t.Fatal(err)
	}
	mustFit(t, "status.json", status)
	var found struct{ Connections []*proxy.Connection }
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Connections) != 1 {
		t.Fatalf("%v in\n%s", err, out)
	}
	c := found.Connections[0]
	if c.Client.String() != client || c.State != proxy.StateRelay || c.Held == 0 || c.TCP.Sent < 64<<10 || c.TCP.BytesRead < 80 ||
		c.Request.Path != "/f/100m" || c.Backend.Pooled || c.Backend.Upstream != "nginx" || c.Backend.TCP.Received == 0 || c.Backend.TCP.BytesRead < c.TCP.BytesWritten {
		t.Errorf("got\n%s", out)
	}
}
