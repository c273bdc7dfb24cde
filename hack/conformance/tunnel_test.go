package conformance

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"ringroad/proxy"
	"ringroad/proxy/config"
)

// tunnelEnds is a rig whose backend agrees to every tunnel, echoes what comes through
// until its end, and then says good-bye.
type tunnelEnds struct {
	*rig
	mu     sync.Mutex
	agrees []string // pieces of the answer, each sent when the one before was read
	heads  []string // of the requests that the backend got
}

const goodbye = "\r\ngood-bye\r\n"

func newTunnelEnds(t *testing.T) *tunnelEnds {
	e := &tunnelEnds{rig: newRig(t, func(c *config.Config) {
		c.Limits.KeepAliveRequests = 0
		c.Listeners[0].Upgrade = []string{"websocket"}
		c.Listeners[0].Connect = true
	})}
	e.script(func(_ int, c net.Conn) {
		head := readHead(c)
		if head == "" {
			return
		}
		e.mu.Lock()
		e.heads = append(e.heads, head)
		pieces := e.agrees
		e.mu.Unlock()
		before, said := e.stats().BackendBytesIn, uint64(0)
		for _, p := range pieces {
			say(c, p)
			said += uint64(len(p))
			if len(pieces) > 1 {
				e.await("the worker has read it", func(s *proxy.Stats) bool { return s.BackendBytesIn-before >= said })
			}
		}
		_, _ = io.Copy(c, c)
		say(c, goodbye)
	})
	return e
}

// tunnelAsked are the requests for a tunnel, the heads that the backend must see, and the
// answers that agree.
var tunnelAsked = []struct{ name, request, forwarded, agrees string }{
	{
		"upgrade", "GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nX-Forwarded-For: 10.1.0.2\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\nConnection: upgrade\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
	}, {
		"CONNECT", "CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n",
		"CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\nX-Forwarded-For: 10.1.0.2\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: b.example:443\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
	},
}

// tunnelled is what goes through tunnels: whatever it looks like, it is bytes.
var tunnelled = []string{
	smuggled, "\x00\x01\xff\r\n\n\r", "0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "PROXY UNKNOWN\r\n", strings.Repeat("x", 20_000) + "\r\n\r\n",
}

// TestTunnels: bytes behind an upgrade and behind CONNECT pass unchanged in both directions
// and to nobody else, wherever they are cut, and each side's end passes on its own (RFC
// 9110 7.8, 9.3.6).
func TestTunnels(t *testing.T) {
	t.Parallel()
	for _, asked := range tunnelAsked {
		t.Run(asked.name, func(t *testing.T) {
			e := newTunnelEnds(t)
			tunnels := 0
			try := func(pieces, agrees []string, payload, behind string) {
				t.Helper()
				e.mu.Lock()
				e.agrees = agrees
				e.mu.Unlock()
				before := e.idle(0)
				c := e.dial()
				e.deliver(c, pieces, before.ClientBytesIn)
				c.finish()
				c.waitEnd()
				tunnels++
				got, why := c.received()
				head, rest, _ := strings.Cut(string(got), "\r\n\r\n")
				if !strings.HasPrefix(head, asked.agrees[:len("HTTP/1.1 200")]) || rest != behind+payload+goodbye || why != nil {
					t.Fatalf("%q, answered by %q: got %q (%v)", pieces, agrees, got, why)
				}
				c.close()
			}
			for _, payload := range tunnelled {
				raw := asked.request + payload
				try([]string{raw}, []string{asked.agrees}, payload, "")
				try(bytewise(raw), []string{asked.agrees}, payload, "")
				for i := 1; i < min(len(raw), len(asked.request)+100); i++ {
					if payload != smuggled && (i < len(asked.request)-1 || i > len(asked.request)+1) {
						continue // byte by byte says as much
					}
					try([]string{raw[:i], raw[i:]}, []string{asked.agrees}, payload, "")
				}
			}
			// The same in the other direction.
			answer := asked.agrees + smuggled
			for i := 1; i < len(answer); i++ {
				try([]string{asked.request + "ping"}, []string{answer[:i], answer[i:]}, "ping", smuggled)
			}
			try([]string{asked.request + "ping"}, bytewise(answer), "ping", smuggled)
			s := e.idle(0)
			if s.Tunnels != uint64(tunnels) || s.TunnelsActive != 0 || s.BackendConnects != uint64(tunnels) {
				t.Errorf("%d tunnels, %d of them open, over %d connections; want %d", s.Tunnels, s.TunnelsActive, s.BackendConnects, tunnels)
			}
			for _, head := range e.heads {
				if head != asked.forwarded {
					t.Fatalf("the backend got %q, want %q", head, asked.forwarded)
				}
			}
		})
	}
}

// TestTunnelsRefused: what follows a request for a tunnel that the backend does not agree to is
// a request behind an upgrade, and nothing at all behind CONNECT.
func TestTunnelsRefused(t *testing.T) {
	t.Parallel()
	for _, asked := range tunnelAsked {
		t.Run(asked.name, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) {
				c.Limits.KeepAliveRequests = 0
				c.Listeners[0].Upgrade = []string{"websocket"}
				c.Listeners[0].Connect = true
			})
			var mu sync.Mutex
			var heads []string
			r.script(func(_ int, c net.Conn) {
				for head := readHead(c); head != ""; head = readHead(c) {
					mu.Lock()
					heads = append(heads, head)
					mu.Unlock()
					say(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
				}
			})
			for _, payload := range []string{smuggled, "\x00\x01\xff\r\n\n\r", "0\r\n\r\n"} {
				raw := asked.request + payload
				for i := range raw {
					mu.Lock()
					heads = nil
					mu.Unlock()
					before := r.idle(0)
					c := r.dial()
					r.deliver(c, cut(raw, []int{i}), before.ClientBytesIn)
					answers, requests := 1, []string{asked.forwarded}
					switch {
					case asked.name == "CONNECT":
					case payload == smuggled:
						answers, requests = 2, append(requests, "GET /smuggled ")
					default:
						answers = 2 // our own 400
					}
					final := c.final(answers)
					last := final[answers-1]
					if final[0].status != 403 || final[0].body != "no" || asked.name == "CONNECT" && last.get("Connection") != "close" ||
						answers == 2 && payload != smuggled && (last.status != 400 || last.get("Connection") != "close") {
						t.Fatalf("cut at %d: got %+v", i, last)
					}
					c.finish()
					c.waitEnd()
					if _, why := c.received(); why != nil {
						t.Fatalf("cut at %d: the connection ended with %v", i, why)
					}
					c.close()
					r.idle(0)
					mu.Lock()
					got := fmt.Sprintf("%q", heads)
					ok := len(heads) == len(requests)
					for k := range requests {
						ok = ok && strings.HasPrefix(heads[k], requests[k])
					}
					mu.Unlock()
					if !ok {
						t.Fatalf("cut at %d: the backend got %s, want %q", i, got, requests)
					}
				}
			}
			if s := r.stats(); s.Tunnels != 0 {
				t.Errorf("%d tunnels", s.Tunnels)
			}
		})
	}
}
