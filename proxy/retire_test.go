package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"ringroad/proxy/config"
)

// TestReloadRemovesListeners: new connections are refused at once, idle ones closed,
// what is under way ends with Connection: close.
func TestReloadRemovesListeners(t *testing.T) {
	second := func(c *config.Config) {
		c.Listeners = append(c.Listeners, config.Listener{
			Address: netip.MustParseAddrPort("10.1.0.1:81"), Backlog: 16, Routes: []config.Route{{Upstream: "app"}},
		})
	}
	r := newRig(t, second)
	finish := make(chan struct{})
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/slow" {
			<-finish
		}
		say(w, "done")
	}))
	kept := r.dial()
	kept.send(get("/"))
	kept.expect("GET", 200, "done")
	idle, slow, fresh := r.dialTo("10.1.0.1:81"), r.dialTo("10.1.0.1:81"), r.dialTo("10.1.0.1:81")
	idle.send(get("/"))
	idle.expect("GET", 200, "done")
	slow.send(get("/slow"))
	r.await("all are where they are to be", func(s *Stats) bool { return s.ClientsActive == 4 && s.ExchangesActive == 1 })
	r.reload(nil)
	if s := r.stats(); s.Retiring != 3 {
		t.Errorf("%d connections retire, want 3", s.Retiring)
	}
	if _, err := r.Client.Dial("10.1.0.1:81"); err == nil {
		t.Error("a removed listener takes a connection")
	}
	idle.closed()
	fresh.send(get("/"))
	if resp := fresh.expect("GET", 200, "done"); !resp.Close {
		t.Error("no Connection: close in the first answer of a removed listener")
	}
	fresh.closed()
	close(finish)
	if resp := slow.expect("GET", 200, "done"); !resp.Close {
		t.Error("no Connection: close in the answer of a removed listener")
	}
	slow.closed()
	r.await("nothing is left of it", func(s *Stats) bool { return s.Retiring == 0 })
	kept.send(get("/"))
	if resp := kept.expect("GET", 200, "done"); resp.Close {
		t.Error("Connection: close from a listener that stays")
	}
	// It can come back, under the same address.
	r.reload(second)
	back := r.dialTo("10.1.0.1:81")
	back.send(get("/"))
	back.expect("GET", 200, "done")
}

// TestListenerRemovedAndBackAgain: before the last handshake is over the listener
// itself is still there.
func TestListenerRemovedAndBackAgain(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, answerFrom("a"))
	c := r.dial()
	c.send(get("/"))
	c.expect("GET", 200, "a")
	elsewhere := func(c *config.Config) {
		c.Listeners = c.Listeners[:1]
		c.Listeners[0].Address = netip.MustParseAddrPort("10.1.0.1:8000")
	}
	// Both reloads in one turn, and the second one late.
	away, back := r.variant(elsewhere), r.variant(nil)
	r.on(func() {
		for _, c := range []*config.Config{away, back} {
			re, err := r.worker.Prepare(c, nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.worker.now += 2 * lastCall
			r.worker.retire()
			re.Commit()
		}
		if n := r.worker.stats.Retiring; n != 0 {
			t.Errorf("%d connections of a listener that is back retire", n)
		}
	})
	c.send(get("/"))
	if resp := c.expect("GET", 200, "a"); resp.Close {
		t.Error("Connection: close")
	}
	for range 2 {
		c := r.dial()
		c.send(get("/"))
		c.expect("GET", 200, "a")
	}
	if _, err := r.Client.Dial("10.1.0.1:8000"); err == nil {
		t.Error("the listener of the configuration in between takes a connection")
	}
}

// TestRemovedIsCutOff: what a reload removed has timeouts.drain to end.
func TestRemovedIsCutOff(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Listeners = append(c.Listeners, config.Listener{
			Address: netip.MustParseAddrPort("10.1.0.1:81"), Backlog: 16, Routes: []config.Route{{Upstream: "app"}},
		})
	})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		req := readRequest(in)
		if req != nil && req.URL.Path == "/begun" {
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
		}
		swallow(in)
	})
	r.script(8081, func(n int, c net.Conn, in *bufio.Reader) {
		for readRequest(in) != nil {
			say(c, ok)
		}
	})
	begun, waiting, silent, fresh := r.dial(), r.dial(), r.dialTo("10.1.0.1:81"), r.dialTo("10.1.0.1:81")
	begun.send(get("/begun"))
	waiting.send(get("/"))
	silent.send(get("/"))
	r.await("all are under way", func(s *Stats) bool { return s.ExchangesActive == 3 && s.Responses2xx == 1 && s.ClientsActive == 4 })
	r.reload(func(c *config.Config) {
		c.Timeouts.Drain = 2 * short
		c.Upstreams[0].Servers = []netip.AddrPort{server(8081)}
	})
	if b, err := io.ReadAll(begun.in); err == nil {
		t.Errorf("a clean end after half a response: %q", b)
	}
	if resp := waiting.expect("GET", 503, ""); resp.Close {
		t.Error("the listener stays, but not the connection")
	}
	if resp := silent.expect("GET", 503, ""); !resp.Close {
		t.Error("no Connection: close from a removed listener")
	}
	silent.closed()
	fresh.closed()
	waiting.send(get("/"))
	waiting.expect("GET", 200, "ok")
	s := r.await("nothing is left of it", func(s *Stats) bool { return s.Retiring == 0 })
	if s.DrainsCutOff != 4 {
		t.Errorf("%d connections cut off, want 4", s.DrainsCutOff)
	}
}
