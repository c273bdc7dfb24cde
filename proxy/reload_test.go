package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack"
)

// variant makes another configuration from the one that r's worker began with.
func (r *rig) variant(change func(*config.Config)) *config.Config {
	r.t.Helper()
	c := newConfig(change)
	if err := c.Validate(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// reload puts a configuration in the place of the worker's.
func (r *rig) reload(change func(*config.Config)) {
	r.t.Helper()
	c := r.variant(change)
	var err error
	r.on(func() {
		var re *Reload
		if re, err = r.worker.Prepare(c, nil); err == nil {
			re.Commit()
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// answerFrom makes the servers of an upstream say which of them answered.
func answerFrom(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		say(w, name)
	})
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

func server(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, 2}), port)
}

// TestReloadsUnderTraffic: kept-alive connections live through a hundred reloads
// that change everything around them, and every new connection is served.
func TestReloadsUnderTraffic(t *testing.T) {
	// Each reload changes routes, servers, limits (and so the sizes of buffers),
	// the log, and a second listener comes and goes.
	changes := func(n int) func(*config.Config) {
		return func(c *config.Config) {
			if n%2 == 1 {
				c.Upstreams[0].Servers = []netip.AddrPort{server(8081), server(8080)}
				c.Upstreams = append([]config.Upstream{{
					Name: "other", Balance: config.RoundRobin, KeepAlive: n % 3, KeepAliveTimeout: time.Minute, Servers: []netip.AddrPort{server(8081)},
				}}, c.Upstreams...)
				c.Listeners[0].Routes = []config.Route{{Path: "/other", Upstream: "other"}, {Upstream: "app"}}
				c.Limits.FieldsBytes = 256 << 10
				c.Log.Format = config.JSON
				c.Via = true
			}
			c.Listeners[0].Backlog = 1000 + n
			c.Upstreams[len(c.Upstreams)-1].KeepAlive = 1 + n%5
			if n%4 < 2 {
				c.Listeners = append(c.Listeners, config.Listener{Address: netip.MustParseAddrPort("10.1.0.1:81"), Backlog: 16, Routes: []config.Route{{Upstream: "app"}}})
			}
		}
	}
	r := newRig(t, changes(0))
	for _, port := range []int{8080, 8081} {
		r.serve(port, http.HandlerFunc(echo))
	}
	var stop atomic.Bool
	var clients sync.WaitGroup
	var count [2]atomic.Int64
	for k := range 3 {
		clients.Go(func() { // keep-alive
			c, err := r.Client.Dial(front)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			in := bufio.NewReader(c)
			for n := 0; !stop.Load(); n++ {
				limit(c)
				body := strings.Repeat("x", n%7*1000)
				fmt.Fprintf(c, "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", []string{"", "other"}[n%2], len(body), body)
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Errorf("client %d, request %d: %v", k, n, err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != 200 || string(b) != body || resp.Close {
					t.Errorf("client %d, request %d: %d, %d bytes of %d, close %t, %v", k, n, resp.StatusCode, len(b), len(body), resp.Close, err)
					return
				}
				count[0].Add(1)
			}
		})
		clients.Go(func() { // a connection for each request
			for n := 0; !stop.Load(); n++ {
				c, err := r.Client.Dial(front)
				if err != nil {
					t.Errorf("client %d, connection %d: %v", k, n, err)
					return
				}
				limit(c)
				say(c, "GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				b, err := io.ReadAll(c)
				c.Close()
				if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
					t.Errorf("client %d, connection %d: %q, %v", k, n, b, err)
					return
				}
				count[1].Add(1)
			}
		})
	}
	for n := range 100 {
		r.reload(changes(n + 1))
		before := [2]int64{count[0].Load(), count[1].Load()}
		r.until("clients went on", func() bool {
			return count[0].Load() > before[0] && count[1].Load() > before[1] || t.Failed()
		})
		if t.Failed() {
			break
		}
	}
	stop.Store(true)
	clients.Wait()
	s := r.await("nothing is retiring", func(s *Stats) bool { return s.Retiring == 0 && s.ClientsActive == 0 })
	if s.Reloads != 100 || s.ErrorsBackend != 0 || s.ErrorsInternal != 0 || s.ClientsAborted != 0 || s.Responses5xx != 0 || s.DrainsCutOff != 0 {
		t.Errorf("after the reloads: %+v", s)
	}
	if lines := strings.Count(r.access.String(), "\n"); t.Failed() || lines == 0 {
		t.Errorf("%d lines of the access log", lines)
	}
}

// TestReloadKeepsTheConnectionAndTheExchange: what is under way ends as it began,
// the next request on the same connection is treated in the new way.
func TestReloadKeepsTheConnectionAndTheExchange(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Listeners[0].Response.Set = fields("X-Version", "1")
	})
	goOn := make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for {
			req := readRequest(in)
			if req == nil {
				return
			}
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n123")
			<-goOn
			say(c, "456")
		}
	})
	c := r.dial()
	c.send(get("/"))
	r.await("the response has begun", func(s *Stats) bool { return s.Responses2xx == 1 })
	r.reload(func(c *config.Config) {
		c.Upstreams[0].Servers = []netip.AddrPort{server(8081)}
		c.Listeners[0].Routes = []config.Route{
			{Path: "/new", Return: &config.Return{Status: 403, Body: "no", Type: "text/plain"}},
			{Upstream: "app"},
		}
		c.Listeners[0].Response.Set = fields("X-Version", "2")
		c.Limits.FieldCount = 8
	})
	if s := r.stats(); s.Retiring != 1 {
		t.Errorf("%d connections retire, want that to the removed server", s.Retiring)
	}
	close(goOn)
	if resp := c.expect("GET", 200, "123456"); resp.Header.Get("X-Version") != "1" || resp.Close {
		t.Errorf("the exchange under way: %v", resp.Header)
	}
	if s := r.stats(); s.Retiring != 0 || s.BackendsActive != 0 {
		t.Errorf("%d connections retire and %d to backends are left after the exchange", s.Retiring, s.BackendsActive)
	}
	c.send(get("/new"))
	if resp := c.expect("GET", 403, "no"); resp.Header.Get("X-Version") != "2" {
		t.Errorf("the next request: %v", resp.Header)
	}
	c.send("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 8) + "\r\n")
	c.expect("GET", 431, "")
}

// TestReloadKeepsPooledConnections: of the servers that stay; those of the others
// are closed at once.
func TestReloadKeepsPooledConnections(t *testing.T) {
	two := func(c *config.Config) { c.Upstreams[0].Servers = []netip.AddrPort{server(8080), server(8081)} }
	r := newRig(t, two)
	for _, port := range []int{8080, 8081, 8082} {
		r.serve(port, answerFrom(fmt.Sprint(port)))
	}
	c := r.dial()
	ask := func(want ...string) {
		t.Helper()
		for _, w := range want {
			c.send(get("/"))
			c.expect("GET", 200, w)
		}
	}
	ask("8080", "8081", "8080", "8081", "8080")
	if s := r.stats(); s.BackendConnects != 2 || s.BackendsIdle != 2 {
		t.Fatalf("%d connections, %d idle", s.BackendConnects, s.BackendsIdle)
	}
	// The turn stays with 8081, which is in another place now.
	r.reload(func(c *config.Config) {
		c.Upstreams[0].Servers = []netip.AddrPort{server(8082), server(8081)}
		c.Upstreams[0].KeepAliveTimeout = time.Hour
	})
	s := r.stats()
	if s.BackendsIdle != 1 || s.BackendsActive != 1 {
		t.Errorf("%d idle of %d connections, want one", s.BackendsIdle, s.BackendsActive)
	}
	ask("8081", "8082", "8081", "8082")
	if s := r.stats(); s.BackendConnects != 3 {
		t.Errorf("%d connections, want one more", s.BackendConnects)
	}
	r.reload(func(c *config.Config) { two(c); c.Upstreams[0].KeepAlive = 0 })
	if s := r.stats(); s.BackendsActive != 0 {
		t.Errorf("%d connections in pools of size 0", s.BackendsActive)
	}
	ask("8081", "8080")
	if s := r.stats(); s.BackendConnects != 5 || s.BackendsActive != 0 {
		t.Errorf("%d connections, %d left", s.BackendConnects, s.BackendsActive)
	}
}

// TestReloadShortensIdleWaits: of clients and of backends that wait already.
func TestReloadShortensIdleWaits(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Timeouts.KeepAlive = time.Hour })
	r.serve(8080, answerFrom("a"))
	c := r.dial()
	c.send(get("/"))
	c.expect("GET", 200, "a")
	r.reload(func(c *config.Config) {
		c.Timeouts.KeepAlive = short
		c.Upstreams[0].KeepAliveTimeout = short
	})
	c.closed()
	r.await("the idle connection to the backend is closed", func(s *Stats) bool { return s.BackendsActive == 0 && s.TimeoutsKeepAlive == 1 })
}

// TestReloadWithAnotherProxyProtocol: no connection that began in one way is used
// in the other.
func TestReloadWithAnotherProxyProtocol(t *testing.T) {
	r := newRig(t, nil)
	var heads sync.Map
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		first, _ := in.Peek(5)
		for {
			b, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if b == "\r\n" {
				heads.Store(n, string(first))
				say(c, ok)
			}
		}
	})
	c := r.dial()
	for _, p := range []config.ProxyProtocol{config.ProxyOff, config.ProxyV1, config.ProxyOff} {
		r.reload(func(c *config.Config) { c.Upstreams[0].ProxyProtocol = p })
		c.send(get("/"))
		c.expect("GET", 200, "ok")
	}
	for n, want := range []string{"GET /", "PROXY", "GET /"} {
		if got, _ := heads.Load(n); got != want {
			t.Errorf("connection %d began with %v, want %s", n, got, want)
		}
	}
}

// TestPrepareThatFailsChangesNothing and can be repeated.
func TestPrepareThatFailsChangesNothing(t *testing.T) {
	page := filepath.Join(t.TempDir(), "404.html")
	withPage := func(file string) func(*config.Config) {
		return func(c *config.Config) {
			c.ErrorPages = []config.ErrorPage{{Status: 404, File: file}}
			c.Upstreams[0].Servers = []netip.AddrPort{server(8081)}
			c.Listeners = append(c.Listeners, config.Listener{
				Address: netip.MustParseAddrPort("10.1.0.1:81"), Backlog: 16, Routes: []config.Route{{Upstream: "app"}},
			})
		}
	}
	r := newRig(t, nil)
	r.serve(8080, answerFrom("old"))
	r.serve(8081, answerFrom("new"))
	var taken *stack.Listener
	r.on(func() { taken, _ = r.Stack.Listen(netip.MustParseAddrPort("10.1.0.1:82"), 1) })
	for _, tt := range []struct {
		name, want string
		c          *config.Config
		pages      map[string][]byte
	}{
		{"no page", "no such file", r.variant(withPage(page)), nil},
		{"page not given", "was not read", r.variant(withPage(page)), map[string][]byte{}},
		{"address in use", "address already in use", r.variant(with(withPage(page), func(c *config.Config) {
			c.Listeners[2].Address = netip.MustParseAddrPort("10.1.0.1:82")
		})), map[string][]byte{page: nil}},
		{"address of nobody", "none of the interfaces named has it", r.variant(with(withPage(page), func(c *config.Config) {
			c.Listeners[0].Address = netip.MustParseAddrPort("10.7.7.7:83")
		})), map[string][]byte{page: nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := r.stats()
			var err error
			r.on(func() { _, err = r.worker.Prepare(tt.c, tt.pages) })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
			if after := r.stats(); after != before {
				t.Errorf("counters changed from %+v to %+v", before, after)
			}
			c := r.dial()
			c.send(get("/"))
			c.expect("GET", 200, "old")
			if _, err := r.Client.Dial("10.1.0.1:81"); err == nil {
				t.Error("a listener is left")
			}
			c.Close()
			r.await("the client is gone", func(s *Stats) bool { return s.ClientsActive == 0 })
		})
	}
	r.on(taken.Close)
	if err := os.WriteFile(page, []byte("gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.on(func() {
		re, err := r.worker.Prepare(r.variant(withPage(page)), nil)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := r.worker.Prepare(r.variant(nil), nil); err == nil {
			t.Error("two reloads can be prepared")
		}
		re.Abort()
		re.Commit()
		re.Abort()
	})
	if _, err := r.Client.Dial("10.1.0.1:81"); err == nil {
		t.Error("a listener of an aborted reload is left")
	}
	r.reload(withPage(page))
	c := r.dialTo("10.1.0.1:81")
	c.send(get("/"))
	c.expect("GET", 200, "new")
}

// TestLimitsOfAHeadUnderWay: a head that began under larger limits may grow to
// them although buffers are smaller by now.
func TestLimitsOfAHeadUnderWay(t *testing.T) {
	large := func(c *config.Config) { c.Limits.FieldsBytes = 512 << 10 }
	r := newRig(t, large)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for {
			head := readHead(in)
			if !strings.HasSuffix(head, "\r\n\r\n") {
				return
			}
			say(c, "HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("y", 300<<10))
			if _, err := in.ReadByte(); err != nil { // the test says when
				return
			}
			fmt.Fprintf(c, "\r\nContent-Length: 0\r\nX-Request: %d\r\n\r\n", len(head))
		}
	})
	c := r.dial()
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nX-Long: " + strings.Repeat("x", 100<<10))
	r.await("half of the head has come", func(s *Stats) bool { return s.ClientBytesIn > 100<<10 })
	r.reload(nil)
	c.send(strings.Repeat("x", 300<<10) + "\r\n\r\n")
	r.await("half of the answer has come", func(s *Stats) bool { return s.BackendBytesIn > 300<<10 })
	r.reload(large)
	r.reload(nil)
	c.send("!")
	resp := c.expect("POST", 200, "")
	if n := len(resp.Header.Get("X-Long")); n != 300<<10 || len(resp.Header.Get("X-Request")) != 6 {
		t.Errorf("%d bytes of the long field, request head of %s", n, resp.Header.Get("X-Request"))
	}
	c.send("GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("x", 100<<10) + "\r\n\r\n")
	c.expect("GET", 431, "")
}

func TestMaxConnectionsCanChange(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Limits.MaxConnections = 2 })
	r.serve(8080, answerFrom("a"))
	first := r.dial()
	first.send(get("/"))
	first.expect("GET", 200, "a")
	second := r.dial() // after the answer: connections may be accepted in another order than dialled
	second.send(get("/"))
	r.await("accepting pauses", func(s *Stats) bool { return s.AcceptPauses == 1 })
	r.reload(func(c *config.Config) { c.Limits.MaxConnections = 4 })
	second.expect("GET", 200, "a")
}

// TestOldConfigurationsAreForgotten: nothing holds what a reload replaced.
func TestOldConfigurationsAreForgotten(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, answerFrom("a"))
	c := r.dial()
	const reloads = 20
	var collected atomic.Int64
	for n := range reloads {
		cfg := r.variant(func(c *config.Config) {
			c.Upstreams[0].Servers = append(c.Upstreams[0].Servers, server(uint16(9000+n)))
			c.Listeners[0].Response.Set = fields("X-N", fmt.Sprint(n))
			c.Listeners[0].Routes = []config.Route{{Path: "/none", Return: &config.Return{Status: 404, Body: "x", Type: "a/b"}}, {Upstream: "app"}}
		})
		runtime.AddCleanup(cfg, func(int) { collected.Add(1) }, 0)
		r.on(func() {
			re, err := r.worker.Prepare(cfg, nil)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range re.listeners {
				runtime.AddCleanup(&re.routings[i].routes[0], func(int) { collected.Add(1) }, 0)
			}
			re.Commit()
		})
		c.send(get("/none"))
		c.expect("GET", 404, "x")
	}
	c.send(get("/"))
	c.expect("GET", 200, "a")
	// The last ones are in use.
	const each = 3 // a configuration and the routes of two listeners
	r.until("the old configurations are collected", func() bool {
		runtime.GC()
		return collected.Load() >= (reloads-1)*each
	})
	if n := collected.Load(); n > (reloads-1)*each {
		t.Errorf("%d objects collected: some are in use", n)
	}
}

func TestAccessLogCanBeSwapped(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, answerFrom("a"))
	c := r.dial()
	ask := func(path string) {
		t.Helper()
		c.send(get(path))
		c.expect("GET", 200, "a")
	}
	swap := func(w io.Writer) (released <-chan struct{}) {
		r.on(func() { released = r.worker.SetAccessLog(w) })
		return released
	}
	ask("/1")
	slow := &gate{open: make(chan struct{})}
	<-swap(slow)
	if got := r.access.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "/1") {
		t.Errorf("the first log has %q", got)
	}
	ask("/2")
	last := new(lockedBuffer)
	released := swap(last) // although the one before stands still
	ask("/3")
	select {
	case <-released:
		t.Error("released before it was written")
	default:
	}
	close(slow.open)
	<-released
	if got := slow.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "/2") {
		t.Errorf("the second log has %q", got)
	}
	<-swap(nil)
	if got := last.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "/3") {
		t.Errorf("the third log has %q", got)
	}
	ask("/4")
	<-swap(last)
	ask("/5")
	r.stop()
	if got := last.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "/5") {
		t.Errorf("the third log has %q in the end", got)
	}
	if s := r.worker.stats; s.LogLines != 4 || s.LogLinesLost != 0 {
		t.Errorf("%d lines, %d lost", s.LogLines, s.LogLinesLost)
	}
}
