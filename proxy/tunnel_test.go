package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"ringroad/proxy/config"
)

const (
	upgradeRequest = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nUser-Agent: ua/1\r\n\r\n"
	switching      = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
)

// tunnels permits what makes tunnels, on every listener.
func tunnels(c *config.Config) {
	for i := range c.Listeners {
		c.Listeners[i].Upgrade = []string{"websocket", "chat/2"}
		c.Listeners[i].Connect = true
	}
}

// with joins changes of a configuration.
func with(changes ...func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		for _, change := range changes {
			change(c)
		}
	}
}

// closeWrite ends the sending direction of a connection.
func closeWrite(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// readHeadOf reads the head of an answer at a client.
func (c *raw) readHeadOf(status string) string {
	c.t.Helper()
	head := readHead(c.in)
	if !strings.HasPrefix(head, "HTTP/1.1 "+status) {
		c.t.Fatalf("got %q, want %s", head, status)
	}
	return head
}

func (c *raw) read(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
		c.t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// TestWebSocket: client and server of a WebSocket library, with messages of every
// form of length, many at a time, and the closing handshake.
func TestWebSocket(t *testing.T) {
	r := newRig(t, tunnels)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c, err := websocket.Accept(w, req, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.CloseNow() }()
		c.SetReadLimit(-1)
		for {
			kind, b, err := c.Read(req.Context())
			if err != nil {
				return
			}
			if string(b) == "bye" {
				_ = c.Close(4321, "as you wish")
				return
			}
			if err := c.Write(req.Context(), kind, b); err != nil {
				return
			}
		}
	}))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const clientCount = 3
	var clients sync.WaitGroup
	for range clientCount {
		clients.Go(func() {
			c, resp, err := websocket.Dial(ctx, "ws://"+front+"/chat", &websocket.DialOptions{
				HTTPClient:   &http.Client{Transport: &http.Transport{DialContext: r.Client.DialContext}},
				Subprotocols: []string{"echo"},
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.CloseNow() }()
			if resp.StatusCode != 101 || c.Subprotocol() != "echo" {
				t.Errorf("status %d, subprotocol %q", resp.StatusCode, c.Subprotocol())
			}
			c.SetReadLimit(-1)
			for _, size := range []int{0, 1, 125, 126, 65535, 65536, 200_000} {
				for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
					want := bytes.Repeat([]byte("x"), size)
					if kind == websocket.MessageBinary {
						want = pattern(size)
					}
					if err := c.Write(ctx, kind, want); err != nil {
						t.Error(err)
						return
					}
					gotKind, got, err := c.Read(ctx)
					if err != nil || gotKind != kind || !bytes.Equal(got, want) {
						t.Errorf("%d bytes: got %d of type %v, %v", size, len(got), gotKind, err)
						return
					}
				}
			}
			if err := c.Write(ctx, websocket.MessageText, []byte("bye")); err != nil {
				t.Error(err)
			}
			if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4321 {
				t.Errorf("closed with %v", err)
			}
		})
	}
	clients.Wait()
	s := r.await("all tunnels ended", func(s *Stats) bool { return s.TunnelsActive == 0 && s.ClientsActive == 0 && s.BackendsActive == 0 })
	if s.Tunnels != clientCount || s.Responses1xx != clientCount || s.ClientsAborted != 0 || s.ErrorsClient+s.ErrorsBackend != 0 {
		t.Errorf("%d tunnels, %d clients cut off, %d errors", s.Tunnels, s.ClientsAborted, s.ErrorsClient+s.ErrorsBackend)
	}
}

// TestTunnelBytesInAnyDelivery splits what the backend says, and what the client
// says behind its head, everywhere.
func TestTunnelBytesInAnyDelivery(t *testing.T) {
	const answer, request = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + switching + "\x81\x02hi", upgradeRequest + "\x81\x02yo"
	r := newRig(t, tunnels)
	got, read := make(chan string, 1), make(chan struct{})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		say(c, answer[:n])
		<-read
		say(c, answer[n:])
		all, _ := io.ReadAll(in)
		got <- string(all)
	})
	for at := range len(answer) {
		received := r.stats().BackendBytesIn
		c := r.dial()
		split := at % len(request)
		c.send(request[:split])
		c.send(request[split:])
		r.await("the first part was read", func(s *Stats) bool { return s.BackendBytesIn == received+uint64(at) })
		read <- struct{}{}
		c.readHeadOf("103")
		c.readHeadOf("101")
		c.read("\x81\x02hi")
		closeWrite(t, c.Conn)
		if all := <-got; all != "\x81\x02yo" {
			t.Fatalf("split at %d: the backend got %q", at, all)
		}
		c.closed()
		c.Close()
	}
}

// TestUpgradeNotGranted: unless the backend answers 101 the connection stays HTTP,
// and what follows the request is the next one.
func TestUpgradeNotGranted(t *testing.T) {
	for _, tt := range []struct {
		name, request string
		change        func(*config.Config)
		asked         bool // the backend sees the wish
		body          string
	}{
		{"by the backend", upgradeRequest, tunnels, true, ""},
		{"by the configuration", upgradeRequest, nil, false, ""},
		{"by the route", upgradeRequest, with(tunnels, func(c *config.Config) { c.Listeners[0].Routes[0].Upgrade = []string{} }), false, ""},
		{"another protocol", strings.Replace(upgradeRequest, "WebSocket", "IRC/6.9", 1), tunnels, false, ""},
		{"several, one not allowed", strings.Replace(upgradeRequest, "WebSocket", "websocket, IRC/6.9", 1), tunnels, false, ""},
		{"several, all allowed", strings.Replace(upgradeRequest, "WebSocket", "Chat/2, websocket", 1), tunnels, true, ""},
		{"h2c", strings.Replace(upgradeRequest, "WebSocket", "h2c", 1), tunnels, false, ""},
		{"two fields", strings.Replace(upgradeRequest, "Upgrade: WebSocket", "Upgrade: websocket\r\nUpgrade: websocket", 1), tunnels, false, ""},
		{"not nominated", strings.Replace(upgradeRequest, "Connection: Upgrade\r\n", "", 1), tunnels, false, ""},
		{"HTTP/1.0", strings.Replace(upgradeRequest, "HTTP/1.1\r\nHost: a\r\nConnection: Upgrade", "HTTP/1.0\r\nHost: a\r\nConnection: Upgrade, keep-alive", 1), tunnels, false, ""},
		{"with a body", strings.Replace(upgradeRequest, "\r\n\r\n", "\r\nContent-Length: 4\r\n\r\nbody", 1), tunnels, false, "body"},
		{"with an empty body", strings.Replace(upgradeRequest, "\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1), tunnels, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.change)
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				for {
					req := readRequest(in)
					if req == nil {
						return
					}
					b, _ := io.ReadAll(req.Body)
					say(c, fmt.Sprintf("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\nX-Saw: %s %t %s\r\n\r\n", req.URL.Path, req.Header.Get("Upgrade") != "", b))
				}
			})
			c := r.dial()
			c.send(tt.request + "GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
			for _, want := range []string{fmt.Sprintf("/chat %t %s", tt.asked, tt.body), "/next false "} {
				if saw := c.expect("GET", 426, "").Header.Get("X-Saw"); strings.TrimSpace(saw) != strings.TrimSpace(want) {
					t.Errorf("the backend saw %q, want %q", saw, want)
				}
			}
			if s := r.stats(); s.Tunnels != 0 || s.ClientsAccepted != 1 || s.BackendConnects != 1 {
				t.Errorf("%d tunnels, %d connections and %d to the backend", s.Tunnels, s.ClientsAccepted, s.BackendConnects)
			}
		})
	}
}

// TestSwitchThatNobodyAskedFor: the client gets 502, and the backend nothing of
// what the client sends.
func TestSwitchThatNobodyAskedFor(t *testing.T) {
	for _, tt := range []struct{ name, request, answer string }{
		{"no wish", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", switching},
		{"wish not passed on", strings.Replace(upgradeRequest, "WebSocket", "irc", 1), switching},
		{"another protocol", upgradeRequest, strings.Replace(switching, "websocket", "irc", 1)},
		{"one protocol more", upgradeRequest, strings.Replace(switching, "websocket", "websocket, irc", 1)},
		{"no protocol", upgradeRequest, "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		{"HTTP/1.0", upgradeRequest, strings.Replace(switching, "1.1", "1.0", 1)},
		{"with a body", upgradeRequest, strings.Replace(switching, "\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx", 1)},
		{"to CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", switching},
		{"within a body", "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 9\r\n\r\n", switching},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tunnels)
			rest := make(chan string, 1)
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				readHead(in)
				say(c, tt.answer)
				b, _ := io.ReadAll(in)
				rest <- string(b)
			})
			c := r.dial()
			c.send(tt.request)
			c.expect("GET", 502, "")
			say(c.Conn, "for the tunnel")
			if got := <-rest; got != "" {
				t.Errorf("the backend got %q", got)
			}
			if s := r.stats(); s.Tunnels != 0 {
				t.Error("a tunnel was opened")
			}
		})
	}
}

func TestConnect(t *testing.T) {
	const request = "CONNECT db.example.org:5432 HTTP/1.1\r\nHost: db.example.org:5432\r\n\r\n"
	routes := func(c *config.Config) {
		c.Listeners[0].Routes = []config.Route{
			{Host: "db.example.org", Upstream: "app", Connect: config.On},
			{Upstream: "app"},
		}
	}
	t.Run("tunnel", func(t *testing.T) {
		for name, change := range map[string]func(*config.Config){"listener": tunnels, "route": routes} {
			for _, answer := range []string{
				"HTTP/1.1 200 OK\r\n\r\n",
				"HTTP/1.0 200 OK\r\n\r\n",
				"HTTP/1.1 204 No Content\r\n\r\n",
				"HTTP/1.1 299 Fine\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n\r\n", // RFC 9110 9.3.6: to be ignored
			} {
				r := newRig(t, change)
				r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
					if head := readHead(in); !strings.HasPrefix(head, "CONNECT db.example.org:5432 HTTP/1.1\r\nHost: db.example.org:5432\r\n") {
						t.Errorf("%s: the backend got %q", name, head)
					}
					say(c, answer+"hello")
					_, _ = io.Copy(c, in)
				})
				c := r.dial()
				c.send(request + "early ") // what does not wait for the answer
				head := c.readHeadOf(answer[len("HTTP/1.1 "):][:3])
				if strings.Contains(strings.ToLower(head), "content-length") || strings.Contains(strings.ToLower(head), "transfer-encoding") {
					t.Errorf("%s: framing in %q", name, head)
				}
				c.send("and late")
				c.read("helloearly and late")
				closeWrite(t, c.Conn)
				if rest := c.closed(); rest != "" {
					t.Errorf("%s: %q at the end", name, rest)
				}
				r.await("the tunnel ended", func(s *Stats) bool { return s.TunnelsActive == 0 && s.BackendsActive == 0 })
			}
		}
	})
	// Bytes behind a CONNECT that is refused are not a request.
	const behind = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	t.Run("refused by the backend", func(t *testing.T) {
		r := newRig(t, tunnels)
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			if head := readHead(in); head != "" {
				t.Errorf("the backend got %q", head)
			}
		})
		c := r.dial()
		c.send(request + behind)
		if resp := c.expect("CONNECT", 403, ""); !resp.Close {
			t.Error("no Connection: close")
		}
		if rest := c.closed(); rest != "" {
			t.Errorf("%q behind the answer", rest)
		}
	})
	for name, tt := range map[string]struct {
		change  func(*config.Config)
		request string
		status  int
	}{
		"off":              {nil, request, 501},
		"off by the route": {with(tunnels, func(c *config.Config) { c.Listeners[0].Routes[0].Connect = config.Off }), request, 501},
		"another route":    {routes, strings.ReplaceAll(request, "db.", "www."), 501},
		"no route":         {with(tunnels, func(c *config.Config) { c.Listeners[0].Routes[0].Path = "/" }), request, 404},
		"with a body":      {tunnels, strings.Replace(request, "\r\n\r\n", "\r\nContent-Length: 35\r\n\r\n", 1), 400},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tt.change)
			c := r.dial()
			c.send(tt.request + behind)
			if resp := c.expect("GET", tt.status, ""); !resp.Close {
				t.Error("no Connection: close")
			}
			if rest := c.closed(); rest != "" {
				t.Errorf("%q behind the answer", rest)
			}
			if s := r.stats(); s.BackendConnects != 0 {
				t.Error("a backend was connected to")
			}
		})
	}
}
