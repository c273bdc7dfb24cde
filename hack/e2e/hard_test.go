package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
	"ringroad/hack/lab/faultlink"
)

// upFaulty makes a lab whose two wires may be given faults.
func upFaulty(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Up(lab.Options{ClientFault: &faultlink.Options{}, BackendFault: &faultlink.Options{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// setWire gives a wire faults, from its next frame with TCP on.
func setWire(t *testing.T, w *lab.Wire, o faultlink.Options) {
	t.Helper()
	if err := w.Set(o); err != nil {
		t.Fatal(err)
	}
}

// moveBothWays moves a body of so many bytes down and another one up at the same time, over connections of their own, and compares what
// arrived.
func moveBothWays(t *testing.T, l *lab.Lab, url string, size int64) {
	t.Helper()
	want, _, err := backend.Sum(backend.Body("bytes", size))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := httpClient(t, l)
	down := func() (sum string, err error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/bytes/%d", url, size), nil)
		if err != nil {
			return "", err
		}
		resp, err := c.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		sum, n, err := backend.Sum(resp.Body)
		if err != nil {
			err = fmt.Errorf("after %d bytes: %w", n, err)
		}
		return sum, err
	}
	up := func() (string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/digest", backend.Body("bytes", size))
		if err != nil {
			return "", err
		}
		r.ContentLength = size
		resp, err := c.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		var d backend.Digest
		b, err := io.ReadAll(resp.Body)
		return d.SHA256, errors.Join(err, json.Unmarshal(b, &d))
	}
	var both sync.WaitGroup
	for name, move := range map[string]func() (string, error){"down": down, "up": up} {
		both.Go(func() {
			if sum, err := move(); err != nil || sum != want {
				t.Errorf("%d bytes %s: sum %q, want %q, %v", size, name, sum, want, err)
			}
		})
	}
	both.Wait()
}

// TestNoWrongByteIsDelivered moves large bodies over wires that turn a bit in one of a thousand frames, behind the checksums that the
// peers have filled in. With rx_checksum auto, which is for peers on a veth that fill in none, they protect as well.
func TestNoWrongByteIsDelivered(t *testing.T) {
	l := upFaulty(t)
	setWire(t, l.ClientWire, faultlink.Options{Seed: 1, Corrupt: 0.001})
	setWire(t, l.BackendWire, faultlink.Options{Seed: 2, Corrupt: 0.001})
	for _, mode := range []string{"verify", "auto"} {
		t.Run(mode, func(t *testing.T) {
			r := startIn(t, l, fmt.Sprintf(`interfaces: [e0, e1]
rx_checksum: %s
listeners: [{address: "10.1.0.1:81", upstream: go}]
upstreams: {go: {servers: ["10.2.0.2:8081"]}}
log: {access: off}
`, mode))
			moveBothWays(t, l, "http://"+go4, 100*mib)
			if stats(t, r)["stack.checksum_errors"] == 0 {
				t.Error("no checksum was wrong: nothing was corrupted")
			}
		})
	}
}

// TestTransfersOutliveALinkThatIsDown takes each of the two links away for three seconds while bodies are on their way over it.
func TestTransfersOutliveALinkThatIsDown(t *testing.T) {
	t.Parallel()
	const down = 3 * time.Second
	l := upFaulty(t)
	startIn(t, l, `interfaces: [e0, e1]
rx_checksum: verify
listeners: [{address: "10.1.0.1:81", upstream: go}]
upstreams: {go: {servers: ["10.2.0.2:8081"], keepalive: 0}}
log: {access: off}
`)
	for name, w := range map[string]*lab.Wire{"client": l.ClientWire, "backend": l.BackendWire} {
		t.Run(name, func(t *testing.T) {
			// At this rate the bodies take a second or two.
			setWire(t, w, faultlink.Options{DownAt: 300 * time.Millisecond, DownFor: down, Rate: 200e6})
			began := time.Now()
			moveBothWays(t, l, "http://"+go4, 16*mib)
			if took := time.Since(began); took < down {
				t.Errorf("done after %v: the link was not down", took)
			}
			in, out, err := w.Cut()
			if err != nil {
				t.Fatal(err)
			}
			if in.Down == 0 || out.Down == 0 {
				t.Errorf("frames lost while it was down: %d to the edge and %d from it", in.Down, out.Down)
			}
			setWire(t, w, faultlink.Options{})
		})
	}
}

// impatientConfiguration waits for nobody longer than a second or two, and remembers nobody longer.
const impatientConfiguration = `interfaces: [e0, e1]
rx_checksum: verify
listeners: [{address: "10.1.0.1:81", routes: [{upstream: go, upgrade: [echo]}]}]
upstreams: {go: {servers: ["10.2.0.2:8081"], keepalive: 0}}
timeouts: {client_header: 1s, client_body: 1s, client_send: 1s, keepalive: 1s, linger: 1s, connect: 1s, backend_read: 2s, backend_send: 1s, tunnel: 1s}
tcp: {fin_wait: 1s, time_wait: 1s}
log: {access: off}
`

// phases are requests that somebody may vanish in, each with what has arrived of the answer when it may.
var phases = map[string]struct{ request, answer string }{
	"an idle connection":            {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", hello},
	"a response body":               {"GET /bytes/100000000 HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\n"},
	"a tunnel":                      {"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping", "ping"},
	"half a head":                   {"GET / HTTP/1.1\r\nHost: a\r\n", ""},
	"a request body":                {"PUT /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + strings.Repeat("x", 200_000), ""},
	"a response that does not come": {"GET /slow?header=1h HTTP/1.1\r\nHost: a\r\n\r\n", ""},
}

// TestWhoVanishesIsForgotten cuts each of the two links for good while connections are in every phase. None gets a FIN or a reset. All
// exchanges end within the timeouts that are set, and nothing is left of them, neither in the proxy nor in TCP; clients that were
// answered for it (408, 504) get as long to take that as a close lingers.
func TestWhoVanishesIsForgotten(t *testing.T) {
	t.Parallel()
	for name, wire := range map[string]func(*lab.Lab) *lab.Wire{
		"client":  func(l *lab.Lab) *lab.Wire { return l.ClientWire },
		"backend": func(l *lab.Lab) *lab.Wire { return l.BackendWire },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := upFaulty(t)
			r := startIn(t, l, impatientConfiguration)
			fresh := stats(t, r)["stack.endpoints"]
			var clients []net.Conn
			for phase, p := range phases {
				c := dialIn(t, l, go4)
				clients = append(clients, c)
				if _, err := io.WriteString(c, p.request); err != nil {
					t.Fatal(err)
				}
				for got := ""; !strings.Contains(got, p.answer); {
					b := make([]byte, 1000)
					n, err := c.Read(b)
					if err != nil {
						t.Fatalf("%s: %v after %q", phase, err, got)
					}
					got += string(b[:n])
				}
			}
			if _, _, err := wire(l).Cut(); err != nil {
				t.Fatal(err)
			}
			if name == "backend" {
				for _, c := range clients {
					go func() { _, _ = io.Copy(io.Discard, c); c.Close() }() // as a client does: to the end
				}
			}
			wait(t, 15*time.Second, "all is given up", func() (bool, string) {
				s := snapshot(t, r)
				exchanges, active, endpoints := s["proxy.exchanges_active"], s["proxy.clients_active"], s["stack.endpoints"]
				return s["proxy.clients_accepted"] == float64(len(phases)) && exchanges == 0 && active == 0 && endpoints <= fresh,
					fmt.Sprintf("%.0f exchanges, %.0f clients, %.0f endpoints after %.0f", exchanges, active, endpoints, fresh)
			})
		})
	}
}

// TestBlackHolesEndByTimeout lets packets of more than 1000 bytes vanish on one of the four ways, without a word of ICMP, as behind a
// tunnel whose router is silent. The transfer that needs them ends by the timeout for it, with the status that says so where there is
// still an answer to give, and nothing is left.
func TestBlackHolesEndByTimeout(t *testing.T) {
	t.Parallel()
	const upload, download = "PUT /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n", "GET /bytes/3000000 HTTP/1.1\r\nHost: a\r\n\r\n"
	l := upFaulty(t)
	r := startIn(t, l, impatientConfiguration)
	for name, c := range map[string]struct {
		wire     *lab.Wire
		only     faultlink.Way
		request  string
		statuses string // one of them; "": the connection ends without the whole answer
	}{
		"from the client":  {l.ClientWire, faultlink.ToEdge, upload, "408"},
		"to the client":    {l.ClientWire, faultlink.FromEdge, download, ""},
		"from the backend": {l.BackendWire, faultlink.ToEdge, download, ""}, // its head is small
		"to the backend":   {l.BackendWire, faultlink.FromEdge, upload, "502 504"},
	} {
		t.Run(name, func(t *testing.T) {
			setWire(t, c.wire, faultlink.Options{MTU: 1000, Only: c.only})
			conn := dialIn(t, l, go4)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = io.WriteString(conn, c.request)
				if c.request == upload {
					_, _ = io.CopyN(conn, zeros{}, 3_000_000) // to the end of the connection
				}
			}()
			answer, err := io.ReadAll(conn)
			if len(answer) >= 3_000_000 {
				t.Errorf("all of the answer arrived: nothing vanished")
			}
			status, _, _ := strings.Cut(strings.TrimPrefix(string(answer), "HTTP/1.1 "), " ")
			if c.statuses != "" && !slices.Contains(strings.Fields(c.statuses), status) {
				t.Errorf("answered %q and ended with %v, want %s", answer[:min(len(answer), 100)], err, c.statuses)
			}
			if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // or its kernel goes on trying, and ringroad listens
				t.Error(err)
			}
			conn.Close()
			<-sent
			mustBeEmpty(t, r)
			setWire(t, c.wire, faultlink.Options{})
		})
	}
	moveBothWays(t, l, "http://"+go4, mib)
}

// TestUnfilledChecksumsOfAKernelAreTaken leaves the veths as they are made: their kernels fill in no checksum.
func TestUnfilledChecksumsOfAKernelAreTaken(t *testing.T) {
	l, err := lab.Up(lab.Options{Offloads: lab.OffloadsOn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	r := startIn(t, l, strings.Replace(bothFamilies, "rx_checksum: verify\n", "", 1))
	families(t, func(t *testing.T, _, goServer string) { moveBothWays(t, l, "http://"+goServer, 10*mib) })
	if n := stats(t, r)["stack.checksum_errors"]; n != 0 {
		t.Errorf("%.0f checksums were wrong", n)
	}
}
