package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/config"
)

// slowly makes rates those of hours instead of seconds, so that no test is too slow to
// meet its limit.
func (r *rig) slowly() {
	r.on(func() {
		r.worker.client.interval *= 3600
		r.worker.client.tolerance *= 3600
	})
}

func TestClientRequests(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		dryRun bool
	}{
		{"as by default", 429, false},
		{"with another status", 503, false},
		{"dry run", 200, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) {
				c.Limits.Client.Requests, c.Limits.Client.Burst, c.Limits.Client.DryRun = 1, 3, tt.dryRun
				c.Limits.Client.Status = max(tt.status, 400)
				c.Log.Format = config.JSON
			})
			r.slowly()
			r.serve(8080, http.HandlerFunc(echo))
			c := r.dial()
			c.send(strings.Repeat(get("/"), 5))
			for range 3 {
				c.expect("GET", 200, "")
			}
			for range 2 { // the connection stays
				resp := c.expect("GET", tt.status, "")
				if after := resp.Header.Get("Retry-After"); (after == "3600") == tt.dryRun || resp.Close {
					t.Errorf("Retry-After %q, close %v", after, resp.Close)
				}
			}
			other := r.dial()
			other.send(get("/"))
			other.expect("GET", tt.status, "")
			// A body that nobody reads to its end closes the connection.
			body := r.dial()
			body.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("x", 50))
			if !tt.dryRun {
				if resp := body.expect("POST", tt.status, ""); !resp.Close {
					t.Error("the connection stays in the middle of a body")
				}
			}
			if s := r.await("all are counted", func(s *Stats) bool { return s.LimitedRequests == 4 }); !tt.dryRun && s.Responses2xx != 3 {
				t.Errorf("%d responses with 2xx, want 3", s.Responses2xx)
			}
			if !tt.dryRun {
				const reason = `"termination":"client","phase":"reading the request head","error":"the client sends too many requests (limits.client.requests)"`
				r.until("the log tells", func() bool { return strings.Count(r.access.String(), reason) >= 3 })
			}
			if log := r.log.String(); strings.Count(log, "a client is over its limit") == 0 || !strings.Contains(log, fmt.Sprintf("dry_run=%v", tt.dryRun)) {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func TestClientConnections(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Limits.Client.Connections = 2 })
	r.serve(8080, http.HandlerFunc(echo))
	var c []*raw
	for n := range 4 {
		c = append(c, r.dial())
		// Later ones must not overtake it in the accept queue of the other address family.
		r.await("it was accepted", func(s *Stats) bool { return s.ClientsAccepted == uint64(n+1) })
	}
	r.wantRefused("a connection beyond twice the limit")
	if s := r.stats(); s.ClientsAccepted != 4 || s.LimitedResets != 1 {
		t.Errorf("%d were accepted, %d refused", s.ClientsAccepted, s.LimitedResets)
	}
	for i, status := range []int{200, 200, 503} {
		c[i].send(get("/"))
		if resp := c[i].expect("GET", status, ""); resp.Close != (status == 503) {
			t.Errorf("connection %d: close %v", i, resp.Close)
		}
	}
	if rest := c[2].closed(); rest != "" {
		t.Errorf("after 503 came %q", rest)
	}
	c[2].Close()
	c[0].Close()
	// What came when there were too many is served once there are not.
	r.await("one has left", func(s *Stats) bool { return s.ClientsActive == 2 })
	c[3].send(get("/"))
	c[3].expect("GET", 200, "")
	late := r.dial()
	var before time.Duration
	r.on(func() { r.worker.told = r.worker.now + long; before = r.worker.told })
	late.send(get("/"))
	late.expect("GET", 503, "")
	r.on(func() {
		if more := r.worker.told - before; more != time.Second/explained {
			t.Errorf("an answer of 503 counts for %v", more)
		}
		r.worker.told = 0
	})
	if s := r.stats(); s.LimitedConnections != 2 || s.LimitedResets != 1 || s.LimitedUntracked != 0 {
		t.Errorf("counted %d requests, %d resets, %d untracked", s.LimitedConnections, s.LimitedResets, s.LimitedUntracked)
	}
	late.Close()
	r.await("it has left", func(s *Stats) bool { return s.ClientsActive == 2 })
	r.on(func() { r.worker.told = r.worker.now + long }) // as if that were the last of many
	r.wantRefused("while many are told why, one beyond the limit")
	c[1].Close()
	r.await("another has left", func(s *Stats) bool { return s.ClientsActive == 1 })
	again := r.dial()
	again.send(get("/"))
	again.expect("GET", 200, "")
}

// wantRefused: a SYN is answered with RST.
func (r *rig) wantRefused(what string) {
	r.t.Helper()
	c, err := r.Client.Dial(front)
	if err == nil {
		c.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "refused") {
		r.t.Errorf("%s: %v, want that it is refused", what, err)
	}
}

// TestClientOfProxyHeader: the client is the one that the header names.
func TestClientOfProxyHeader(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		introduced(c)
		c.Limits.Client.Connections, c.Limits.Client.PrefixIPv4 = 1, 24
	})
	r.serve(8080, http.HandlerFunc(echo))
	from := func(client string) *raw {
		c := r.dial()
		c.send(header2(netip.MustParseAddrPort(client), netip.MustParseAddrPort("192.0.2.80:80")))
		c.send(get("/"))
		return c
	}
	from("203.0.113.7:1").expect("GET", 200, "")
	from("203.0.114.7:1").expect("GET", 200, "")
	from("203.0.113.8:1").expect("GET", 503, "")
}

// TestClientLimitsAfterReload: connections that are there count, and what was counted
// before goes on.
func TestClientLimitsAfterReload(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	first := r.dial()
	first.send(get("/"))
	first.expect("GET", 200, "")
	r.reload(func(c *config.Config) { c.Limits.Client.Connections = 1 })
	second := r.dial()
	second.send(get("/"))
	second.expect("GET", 503, "")
	first.send(get("/"))
	first.expect("GET", 200, "")

	r.reload(func(c *config.Config) { c.Limits.Client.Requests = 2 })
	r.slowly()
	for _, status := range []int{200, 200, 429} {
		first.send(get("/"))
		first.expect("GET", status, "")
	}
	r.reload(func(c *config.Config) { c.Limits.Client.Requests, c.Limits.Client.Burst = 2, 1 })
	r.slowly()
	first.send(get("/"))
	first.expect("GET", 429, "") // no new burst
	r.reload(nil)
	first.send(get("/"))
	first.expect("GET", 200, "")
	third := r.dial()
	third.send(get("/"))
	third.expect("GET", 200, "")
}

// TestClientLimitsHoldAgainstAFlood: many connections and requests of one client take
// nothing from another, and nothing of theirs is left.
func TestClientLimitsHoldAgainstAFlood(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		introduced(c)
		c.Limits.MaxConnections = 100
		c.Limits.Client.Connections, c.Limits.Client.Requests = 5, 1
	})
	r.slowly()
	r.serve(8080, http.HandlerFunc(echo))
	header := header2(netip.MustParseAddrPort("203.0.113.7:1"), netip.MustParseAddrPort("192.0.2.80:80"))
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for range 300 {
				select {
				case <-stop:
					return
				default:
				}
				c, err := r.Client.Dial(front)
				if err != nil {
					continue
				}
				limit(c)
				say(c, header+strings.Repeat(get("/"), 3))
				go func(c net.Conn) { // clients that do not leave by themselves
					defer c.Close()
					time.Sleep(100 * time.Millisecond)
				}(c)
			}
		}()
	}
	c := r.dial()
	c.send(header2(netip.MustParseAddrPort("203.0.113.8:1"), netip.MustParseAddrPort("192.0.2.80:80")))
	c.send(get("/"))
	c.expect("GET", 200, "")
	for range 4 {
		<-done
	}
	close(stop)
	s := r.await("the flood is over", func(s *Stats) bool { return s.ClientsActive == 1 })
	if s.LimitedResets == 0 || s.LimitedConnections == 0 || s.AcceptPauses > 0 {
		t.Errorf("%d resets, %d requests refused, %d pauses", s.LimitedResets, s.LimitedConnections, s.AcceptPauses)
	}
	r.on(func() {
		if n := r.worker.clients.Connections(r.worker.sessions.next.entry); n != 1 {
			t.Errorf("%d connections of the client that is left", n)
		}
	})
}
