package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/rss"
)

// shape is what an event has besides "event", "at_ns", "took_ns" and "side": n numbers, s texts, b booleans.
var shape = map[string]string{
	"frame_received": "interface:s queue:n slot:n position:n batch:n frames:n bytes:n flags:s waiting:n",
	"syn_queue":      "", "accept_queue": "", "accepted": "", "receive_buffer": "", "ready": "", "runs": "",
	"taken": "events:n", "read": "bytes:n level:n capacity:n", "parsed": "bytes:n",
	"chosen": "server:s pooled:b attempt:n", "built": "bytes:n", "connecting": "", "connected": "",
	"written": "bytes:n level:n capacity:n left:n", "frame_sent": "interface:s frames:n bytes:n flags:s",
	"kick": "interface:s frames:n all:n calls:n left:n sender:b", "completed": "interface:s frames:n",
	"interim": "status:n", "response": "status:n bytes:n", "answered": "status:n bytes:n", "failed": "error:s retried:b",
	"released": "pooled:b", "tunnel": "", "kept_alive": "", "closed": "", "aborted": "", "last_ack": "",
}

// The phases of a request, in their order.
var (
	handshakePhases = []string{"client frame_received SYN", "client syn_queue", "client frame_received ACK", "client accept_queue", "client accepted", "client taken"}
	requestPhases   = []string{"client frame_received data", "client receive_buffer", "client taken", "client runs", "client read", "client parsed", "backend chosen"}
	connectPhases   = []string{
		"backend chosen", "backend connecting", "backend frame_sent SYN", "kick", "completed", "backend frame_received SYN ACK",
		"backend taken", "backend runs", "backend connected",
	}
	responsePhases = []string{
		"backend chosen", "backend written data", "backend frame_sent data", "kick", "completed",
		"backend frame_received data", "backend receive_buffer", "backend taken", "backend runs", "backend read data", "backend response",
		"client written data", "client frame_sent data",
	}
	endPhases = []string{"client frame_sent data", "client kept_alive", "kick", "completed", "client frame_received", "client last_ack"}
)

// TestTraceShowsTwoRequestsThatAreAnsweredOutOfOrder follows the life of two concurrent requests from the first frame to
// the last acknowledgment.
func TestTraceShowsTwoRequestsThatAreAnsweredOutOfOrder(t *testing.T) {
	r := start(t, bothFamilies)
	drawing := filepath.Join(t.TempDir(), "trace.svg")
	var lines []*traced
	for _, args := range [][]string{{"--json"}, {"--svg", drawing}, {}} {
		p := startTrace(t, r, append(args, "--next", "2", "--path", "/slow")...)
		first, second := dial(t, go4), dial(t, go4)
		if _, err := io.WriteString(first, ask1("/slow?header=300ms")); err != nil {
			t.Fatal(err)
		}
		speak(t, second, ask1("/slow?header=1ms"), 1)
		speak(t, first, "", 1)
		if len(args) != 1 {
			if err := p.Wait(startLimit); err != nil {
				t.Fatalf("%v\n%s", err, p.Output())
			}
			mustContain(t, p.Output(), "2 requests followed")
			if len(args) == 0 {
				mustMatch(t, p.Output(), `(?m)^GET /slow\?header=300ms  200  in `, `client +1 frame received: SYN; e0 queue 0, RX ring slot \d+`,
					`client +all acknowledged`, `copied: frames to packets \d+`)
			}
			continue
		}
		lines = linesOf(t, p)
	}
	early, late := of(t, lines, "/slow?header=300ms"), of(t, lines, "/slow?header=1ms")
	for _, l := range []*traced{early, late} {
		l.mustPass(t, handshakePhases...)
		l.mustPass(t, requestPhases...)
		l.mustPass(t, connectPhases...)
		l.mustPass(t, responsePhases...)
		l.mustPass(t, "client ready", "client taken", "backend connected", "backend ready", "backend taken", "backend released")
		l.mustPass(t, endPhases...)
		if l.Status != 200 || l.Method != "GET" || l.Listener != go4 || l.Upstream != "go" || !slices.Equal(l.Servers, []string{"10.2.0.2:8081"}) || len(l.Errors) != 0 {
			t.Errorf("%+v", l)
		}
		// Every byte is copied at each place, and out of and into frames again when TCP sends it again.
		sent, received := l.sum("client frame_sent data", "bytes"), l.sum("backend frame_received data", "bytes")
		if read := l.sum("backend read", "bytes"); read > received || read < 20 {
			t.Errorf("%s: %v bytes came from the backend and %v were read", l.Target, received, read)
		}
		if written := l.sum("client written", "bytes"); written > sent || written < 20 {
			t.Errorf("%s: %v bytes were written to the client and %v were sent", l.Target, written, sent)
		}
		if n := l.Copied["frame_to_packet"]; float64(n) != l.sum("frame_received", "bytes") {
			t.Errorf("%s: %d bytes were copied out of frames", l.Target, n)
		}
	}
	if e, l := early.at(t, "client parsed"), late.at(t, "client parsed"); !e.Before(l) {
		t.Errorf("the first request was parsed at %v, the second at %v", e, l)
	}
	if e, l := early.at(t, "backend response"), late.at(t, "client last_ack"); !l.Before(e) {
		t.Errorf("the first response came at %v, before the second was delivered at %v", e, l)
	}
	mustDraw(t, drawing, "/slow?header=300ms", "/slow?header=1ms")
}

// TestTraceOfEveryKindOfRequest follows what else a request can be.
func TestTraceOfEveryKindOfRequest(t *testing.T) {
	stale(t, "10.2.0.2:8099")
	r := start(t, strings.Replace(bothFamilies, "upstreams:\n", "  - {address: \"10.1.0.1:85\", upstream: stale}\nupstreams:\n  stale: {servers: [\"10.2.0.2:8099\"]}\n", 1))
	one := func(t *testing.T, talk func(c net.Conn), address string) *traced {
		t.Helper()
		p := startTrace(t, r, "--json", "--next", "1")
		c := dial(t, address)
		talk(c)
		list := linesOf(t, p)
		if len(list) != 1 {
			t.Fatalf("%d time lines", len(list))
		}
		return list[0]
	}
	t.Run("keep-alive", func(t *testing.T) {
		p := startTrace(t, r, "--json", "--next", "3")
		c := dial(t, go4)
		for _, target := range []string{"/?1", "/?2", "/?3"} {
			speak(t, c, ask1(target), 1)
		}
		if _, err := io.WriteString(c, ask1("/?4")); err != nil { // what acknowledges the third
			t.Fatal(err)
		}
		list := linesOf(t, p)
		of(t, list, "/?1").mustPass(t, handshakePhases...)
		for _, target := range []string{"/?2", "/?3"} {
			l := of(t, list, target)
			if !l.matches(0, "client frame_received data") || l.count("connecting")+l.count("syn_queue")+l.count("accepted") > 0 {
				t.Errorf("%s begins with %v", target, l.Events[0])
			}
			if chosen := l.sum("chosen", "attempt"); chosen != 1 || l.count("kept_alive") != 1 {
				t.Errorf("%s: chosen %v times", target, chosen)
			}
			l.mustPass(t, requestPhases...)
			l.mustPass(t, responsePhases...)
			l.mustPass(t, endPhases...)
		}
	})
	t.Run("pipelined", func(t *testing.T) {
		p := startTrace(t, r, "--json", "--next", "2")
		speak(t, dial(t, go4), ask1("/?1")+ask1("/?2"), 2)
		list := linesOf(t, p)
		first, second := of(t, list, "/?1"), of(t, list, "/?2")
		first.mustPass(t, handshakePhases...)
		first.mustPass(t, endPhases...)
		if !second.matches(0, "client parsed") || second.count("client read") > 0 {
			t.Errorf("the second begins with %v", second.Events[0])
		}
		second.mustPass(t, append([]string{"client parsed"}, responsePhases...)...)
		second.mustPass(t, endPhases...)
		for _, l := range list {
			if w, s := l.sum("client written", "bytes"), l.sum("client frame_sent data", "bytes"); w > s || w == 0 {
				t.Errorf("%s: %v bytes were written, %v sent", l.Target, w, s)
			}
		}
	})
	t.Run("body", func(t *testing.T) {
		l := one(t, func(c net.Conn) {
			speak(t, c, fmt.Sprintf("POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", mib, strings.Repeat("x", mib)), 1)
		}, go4)
		l.mustPass(t, requestPhases...)
		l.mustPass(t, responsePhases...)
		l.mustPass(t, "client read", "backend written", "client read", "backend written", "backend response", "client last_ack")
		if read := l.sum("client read", "bytes"); read < mib || read > mib+1024 || read > l.sum("client frame_received data", "bytes") {
			t.Errorf("%v bytes were read, %v received", read, l.sum("client frame_received data", "bytes"))
		}
		if n := l.sum("backend written", "bytes"); n < mib || n > l.sum("backend frame_sent data", "bytes") {
			t.Errorf("%v bytes were written to the backend, %v sent", n, l.sum("backend frame_sent data", "bytes"))
		}
		if l.EventsLeftOut != 0 || l.Status != 200 {
			t.Errorf("%d events left out, status %d", l.EventsLeftOut, l.Status)
		}
	})
	t.Run("client that does not read, and aborts", func(t *testing.T) {
		l := one(t, func(c net.Conn) {
			if _, err := io.WriteString(c, ask1("/f/32m")); err != nil {
				t.Fatal(err)
			}
			wait(t, 10*time.Second, "the send buffer is full", func() (bool, string) {
				s := stats(t, r)
				return s["proxy.client_send_buffer_full"] > 0, fmt.Sprint(s["proxy.client_send_buffer_full"])
			})
			if err := c.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}, go4)
		l.mustPass(t, "backend response", "client written", "client frame_received RST ACK", "failed", "client aborted")
		if left := l.sum("client written", "left"); left == 0 || len(l.Errors) != 1 || l.count("last_ack") > 0 {
			t.Errorf("%v bytes did not fit the send buffer; errors %q", left, l.Errors)
		}
	})
	t.Run("stale connection", func(t *testing.T) {
		speak(t, dial(t, "10.1.0.1:85"), ask1("/?1"), 1)
		l := one(t, func(c net.Conn) { speak(t, c, ask1("/?2"), 1) }, "10.1.0.1:85")
		l.mustPass(t, "chosen", "backend written", "failed", "chosen", "backend connecting", "backend connected", "backend written", "backend response", "client last_ack")
		if len(l.Servers) != 2 || len(l.Errors) != 1 || l.Status != 200 || l.sum("chosen", "attempt") != 1+2 {
			t.Errorf("servers %q, errors %q, status %d", l.Servers, l.Errors, l.Status)
		}
	})
	t.Run("refused", func(t *testing.T) {
		l := one(t, func(c net.Conn) { speak(t, c, "GET /bad HTTP/1.1\r\nHost : a\r\n\r\n", 1) }, go4)
		l.mustPass(t, handshakePhases...)
		l.mustPass(t, "client read", "client parsed", "failed", "client answered", "client written", "client closed", "client frame_received")
		if l.Status != 400 || l.count("chosen") != 0 || len(l.Errors) != 1 || !strings.Contains(l.Target, "/bad") {
			t.Errorf("%+v", l)
		}
	})
	t.Run("tunnel", func(t *testing.T) {
		l := one(t, func(c net.Conn) {
			const upgrade = "GET /websocket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
			if _, err := io.WriteString(c, upgrade); err != nil {
				t.Fatal(err)
			}
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%v, %v", resp, err)
			}
		}, go4)
		l.mustPass(t, "backend response", "tunnel", "client written", "client frame_sent data", "client last_ack")
		if !l.Tunnel || l.Status != 101 || l.count("kept_alive") > 0 {
			t.Errorf("%+v", l)
		}
	})
	t.Run("not finished", func(t *testing.T) {
		p := startTrace(t, r, "--json")
		c := dial(t, go4)
		if _, err := io.WriteString(c, ask1("/slow?header=1m")); err != nil {
			t.Fatal(err)
		}
		wait(t, 10*time.Second, "the request is under way", func() (bool, string) {
			s := stats(t, r)
			return s["proxy.exchanges_active"] > 0, fmt.Sprint(s["proxy.exchanges_active"])
		})
		list := interrupted(t, p)
		if len(list) != 1 || !list[0].Unfinished || list[0].Status != 0 {
			t.Fatalf("%d time lines: %+v", len(list), list)
		}
		list[0].mustPass(t, "client parsed", "backend chosen", "backend written", "completed")
	})
}

// stale serves on an address in the backend: the first connection ends at its second request, without an answer.
func stale(t *testing.T, address string) {
	t.Helper()
	ln, err := shared.Backend.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for k := 0; ; k++ {
					if _, err := http.ReadRequest(in); err != nil || n == 0 && k == 1 {
						return
					}
					if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// TestTraceFiltersCombine counts what passes them.
func TestTraceFiltersCombine(t *testing.T) {
	r := start(t, bothFamilies)
	for _, c := range []struct {
		args string
		want int
	}{
		{"", 12},
		{"--path /slow", 2},
		{"--path /slow --slower 50ms", 1},
		{"--sample 5", 2},
		{"--client 10.1.0.0/16 --path /empty", 10},
		{"--client fd00:1::/64", 0},
		{"--client 10.1.0.3", 0},
	} {
		p := startTrace(t, r, strings.Fields("--json --next 0 "+c.args)...)
		conn := dial(t, go4)
		for range 10 {
			speak(t, conn, ask1("/empty"), 1)
		}
		speak(t, conn, ask1("/slow?header=60ms")+ask1("/slow"), 2)
		conn.Close()
		if got := len(interrupted(t, p)); got != c.want {
			t.Errorf("%q: %d requests, want %d", c.args, got, c.want)
		}
	}
	p := startTrace(t, r, "--json", "-d", "50ms")
	if got := len(linesOf(t, p)); got != 0 {
		t.Errorf("%d requests although there was none", got)
	}
	if out, err := r.Command(startLimit, "trace", "--client", "10.1.0"); err == nil {
		t.Error("a mistake in the client is taken")
	} else {
		mustContain(t, out, `--client: "10.1.0" is no address`)
	}
	p = startTrace(t, r)
	if out, err := r.Command(startLimit, "trace", "-d", "1s"); err == nil || !strings.Contains(out, "another trace is running") {
		t.Errorf("a second trace: %v\n%s", err, out)
	}
	if out, err := r.Command(startLimit, "trace", "--stop"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := p.Wait(startLimit); err != nil {
		t.Error(err)
	}
}

// TestTraceOfTwoWorkers follows requests at both, while one is started again.
func TestTraceOfTwoWorkers(t *testing.T) {
	w := upWide(t, lab.Options{Queues: 2, RSS: rss.DefaultKey})
	r := startIn(t, w.Lab, w.configuration(bothFamilies))
	p := startTrace(t, r, "--json", "--next", "0")
	request := func(worker int, target string) {
		t.Helper()
		c, err := w.dialWorker(worker, go4, startLimit)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		speak(t, c, ask1(target), 1)
	}
	request(0, "/?0")
	request(1, "/?1")
	pid := workerPID(t, r, 1)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.WaitLine("the worker serves again", startLimit); err != nil {
		t.Fatal(err)
	}
	request(0, "/?2")
	request(1, "/?3")
	list := interrupted(t, p)
	for i := range 4 {
		l := of(t, list, "/?"+strconv.Itoa(i))
		if l.Worker != i%2 {
			t.Errorf("%s was followed at worker %d", l.Target, l.Worker)
		}
		l.mustPass(t, handshakePhases...)
		l.mustPass(t, responsePhases...)
		for k := range l.Events {
			if l.matches(k, "frame_received") && l.number(k, "queue") != float64(i%2) {
				t.Errorf("%s: %v", l.Target, l.Events[k])
			}
		}
	}
}

// TestSlowTraceCostsTheWorkersNothing stops the client of a trace under load: time lines are lost, requests are not.
func TestSlowTraceCostsTheWorkersNothing(t *testing.T) {
	r := start(t, bothFamilies)
	p := startTrace(t, r, "--json", "--next", "0")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const requests = 8000
	out, err := shared.Client.Run(time.Minute, "h2load", "--h1", "-n", fmt.Sprint(requests), "-c", "16", "-t", "1", "--connect-to="+nginx4, "http://example.org/")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustMatch(t, out, fmt.Sprintf(`%[1]d done, %[1]d succeeded, 0 failed`, requests))
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Signal(syscall.SIGINT), p.Wait(startLimit)); err != nil {
		t.Fatal(err)
	}
	number := func(what string) (n int) {
		m := regexp.MustCompile(`(?m)^(\d+) ` + what).FindStringSubmatch(p.Output())
		if m == nil {
			t.Fatalf("it does not say how many %s", what)
		}
		n, _ = strconv.Atoi(m[1]) // digits
		return n
	}
	if came, lost := number("requests followed"), number("time lines lost because a buffer was full"); came == 0 || came+lost != requests {
		t.Errorf("%d time lines came, %d were lost", came, lost)
	}
	mustServe(t, shared)
}
