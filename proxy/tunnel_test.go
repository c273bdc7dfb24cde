package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

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

// TestTunnelIsLoggedWhenItEnds, and holds no buffer while nothing moves.
func TestTunnelIsLoggedWhenItEnds(t *testing.T) {
	r := newRig(t, tunnels)
	head := make(chan string, 1)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		head <- readHead(in)
		say(c, switching)
		_, _ = io.Copy(c, in)
	})
	c := r.dial()
	c.send(upgradeRequest)
	answer := strings.ToLower(c.readHeadOf("101"))
	if !strings.Contains(answer, "\r\nupgrade: websocket\r\n") || !strings.Contains(answer, "\r\nconnection: upgrade\r\n") {
		t.Errorf("answer %q", answer)
	}
	if got := <-head; !strings.Contains(got, "\r\nUpgrade: WebSocket\r\n") || !strings.Contains(got, "\r\nConnection: upgrade\r\n") {
		t.Errorf("request %q", got)
	}
	c.send("12345")
	c.read("12345")
	s := r.await("the buffers are free", func(s *Stats) bool { return s.BuffersInUse == 0 })
	if s.TunnelsActive != 1 || r.access.String() != "" {
		t.Errorf("%d tunnels, log %q", s.TunnelsActive, r.access.String())
	}
	c2 := r.dial() // uses the buffers again
	c2.send("GET /other HTTP/1.1\r\nHost a\r\nUser-Agent: other\r\n\r\n")
	c2.expect("GET", 400, "")
	closeWrite(t, c.Conn)
	c.closed()
	r.stop()
	_, line, _ := strings.Cut(r.access.String(), "\n")
	if !regexp.MustCompile(`^10\.1\.0\.2 - - \[[^]]+\] "GET /chat HTTP/1\.1" 101 5 "-" "ua/1"\n$`).MatchString(line) {
		t.Errorf("log %q", r.access.String())
	}
}

// TestTunnelHalfClose: each direction ends by itself, after all that was sent in
// it, and the other one goes on.
func TestTunnelHalfClose(t *testing.T) {
	const size = 3 << 20
	t.Run("client first", func(t *testing.T) {
		r := newRig(t, tunnels)
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, switching)
			got, err := io.ReadAll(in)
			if err != nil || !bytes.Equal(got, pattern(size)) {
				t.Errorf("the backend got %d bytes, %v", len(got), err)
			}
			_, _ = c.Write(pattern(size))
		})
		c := r.dial()
		c.send(upgradeRequest)
		c.readHeadOf("101")
		if _, err := c.Write(pattern(size)); err != nil {
			t.Fatal(err)
		}
		closeWrite(t, c.Conn)
		if got := c.closed(); got != string(pattern(size)) {
			t.Errorf("the client got %d bytes", len(got))
		}
	})
	t.Run("backend first", func(t *testing.T) {
		r := newRig(t, tunnels)
		done := make(chan struct{})
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			defer close(done)
			readHead(in)
			say(c, switching)
			_, _ = c.Write(pattern(size))
			closeWrite(t, c)
			got, err := io.ReadAll(in)
			if err != nil || !bytes.Equal(got, pattern(size)) {
				t.Errorf("the backend got %d bytes, %v", len(got), err)
			}
		})
		c := r.dial()
		c.send(upgradeRequest)
		c.readHeadOf("101")
		if got := c.closed(); got != string(pattern(size)) {
			t.Errorf("the client got %d bytes", len(got))
		}
		if _, err := c.Write(pattern(size)); err != nil {
			t.Fatal(err)
		}
		closeWrite(t, c.Conn)
		<-done
		s := r.await("the tunnel ended", func(s *Stats) bool { return s.ClientsActive == 0 && s.BackendsActive == 0 })
		if s.ClientsAborted != 0 {
			t.Error("the client was cut off")
		}
	})
	t.Run("before the answer", func(t *testing.T) {
		r := newRig(t, tunnels)
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, switching)
			got, _ := io.ReadAll(in)
			say(c, "all "+string(got))
		})
		c := r.dial()
		c.send(upgradeRequest + "early")
		closeWrite(t, c.Conn)
		c.readHeadOf("101")
		if got := c.closed(); got != "all early" {
			t.Errorf("got %q", got)
		}
	})
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

// TestTunnelTimeout: the tunnel's own timeout is the only one that counts in it.
func TestTunnelTimeout(t *testing.T) {
	timeout := func(c *config.Config) { c.Timeouts.Tunnel = 10 * long }
	alone := func(r *rig) {
		r.t.Helper()
		r.on(func() {
			s := r.worker.sessions.next
			if b := s.x.backend; !s.reading.armed(waitTunnel) || s.writing.at != 0 || b.reading.at != 0 || b.writing.at != 0 {
				r.t.Error("another timeout is on than timeouts.tunnel alone")
			}
		})
	}
	t.Run("idle", func(t *testing.T) {
		r := newRig(t, with(tunnels, timeout))
		ended := make(chan error, 1)
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, switching)
			_, err := io.ReadAll(in)
			ended <- err
		})
		c := r.dial()
		c.send(upgradeRequest)
		c.readHeadOf("101")
		alone(r)
		r.elapse(waitTunnel, 10*long)
		if b, err := io.ReadAll(c.in); err == nil {
			t.Errorf("the client read a clean end after %q", b)
		}
		if <-ended == nil {
			t.Error("the backend read a clean end")
		}
		r.stop()
		if s := r.worker.stats; s.TimeoutsTunnel != 1 || s.TunnelsActive != 0 {
			t.Errorf("%d timeouts, %d tunnels", s.TimeoutsTunnel, s.TunnelsActive)
		}
		if !strings.Contains(r.access.String(), `" 101 0 "`) {
			t.Errorf("log %q", r.access.String())
		}
	})
	t.Run("stalled", func(t *testing.T) {
		r := newRig(t, with(tunnels, func(c *config.Config) { c.Timeouts.Tunnel = 300 * time.Millisecond }))
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, switching)
			pour(c, -1)
		})
		c := r.dial()
		c.send(upgradeRequest)
		r.await("the tunnel is cut", func(s *Stats) bool { return s.TimeoutsTunnel == 1 && s.ClientsActive == 0 && s.BackendsActive == 0 })
	})
	t.Run("one direction moves", func(t *testing.T) {
		r := newRig(t, with(tunnels, timeout))
		next := make(chan struct{})
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, switching)
			for range next {
				say(c, "x")
			}
		})
		c := r.dial()
		c.send(upgradeRequest)
		c.readHeadOf("101")
		for range 12 {
			alone(r)
			at := r.deadline(waitTunnel)
			next <- struct{}{}
			c.read("x")
			r.until("the timeout is put off", func() bool { return r.deadline(waitTunnel) > at })
		}
		close(next)
		closeWrite(t, c.Conn)
		c.closed()
	})
}

// cutOff tells whether a connection was reset. A FIN may have come first: one side
// closed before the data arrived that it then answered with a reset.
func cutOff(c net.Conn, in io.Reader) bool {
	_, err := io.Copy(io.Discard, in)
	for end := time.Now().Add(patience / 2); err == nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
		_, err = c.Write([]byte("more"))
	}
	return err != nil
}

// TestTunnelReset: a reset goes through, in both directions, also when the other
// side does not read.
func TestTunnelReset(t *testing.T) {
	for _, full := range []bool{false, true} {
		t.Run(fmt.Sprintf("by the client/full=%t", full), func(t *testing.T) {
			r := newRig(t, tunnels)
			ended, release := make(chan bool, 1), make(chan struct{})
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				readHead(in)
				say(c, switching+"unread")
				<-release
				ended <- cutOff(c, in)
			})
			c := r.dial()
			c.send(upgradeRequest)
			r.await("the tunnel is open", func(s *Stats) bool { return s.TunnelsActive == 1 && s.ClientBytesOut > uint64(len(switching)) })
			if full {
				go pour(c.Conn, -1)
				r.stalled(func(s *Stats) uint64 { return s.ClientBytesIn })
			}
			c.Close() // with data unread
			s := r.await("the tunnel ended", func(s *Stats) bool { return s.ClientsActive == 0 && s.BackendsActive == 0 })
			close(release)
			if !<-ended {
				t.Error("the backend notices nothing")
			}
			if s.ErrorsClient != 1 || s.ErrorsBackend != 0 {
				t.Errorf("%d errors of the client, %d of the backend", s.ErrorsClient, s.ErrorsBackend)
			}
		})
		t.Run(fmt.Sprintf("by the backend/full=%t", full), func(t *testing.T) {
			r := newRig(t, tunnels)
			release := make(chan struct{})
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				readHead(in)
				say(c, switching)
				if full {
					go pour(c, -1)
				}
				<-release // with data unread
			})
			c := r.dial()
			c.send(upgradeRequest)
			c.readHeadOf("101")
			c.send("unread")
			if full {
				r.stalled(func(s *Stats) uint64 { return s.BackendBytesIn })
			}
			close(release)
			s := r.await("the tunnel ended", func(s *Stats) bool { return s.ClientsActive == 0 && s.BackendsActive == 0 })
			if !cutOff(c.Conn, c.in) {
				t.Error("the client notices nothing")
			}
			if s.ErrorsBackend != 1 || s.ErrorsClient != 0 {
				t.Errorf("%d errors of the client, %d of the backend", s.ErrorsClient, s.ErrorsBackend)
			}
		})
	}
}

// stalled waits until a counter that was growing stands still.
func (r *rig) stalled(count func(*Stats) uint64) {
	r.t.Helper()
	before := uint64(0)
	for still := 0; still < 20; {
		s := r.stats()
		if n := count(&s); n == before && n > headBytes {
			still++
		} else {
			still, before = 0, n
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// TestTunnelSlowReader: whoever does not read slows the other side down, and costs
// one buffer.
func TestTunnelSlowReader(t *testing.T) {
	const size = 20 << 20
	t.Run("client", func(t *testing.T) {
		r := newRig(t, tunnels)
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, switching)
			pour(c, size)
			swallow(in)
		})
		c := r.dial()
		c.send(upgradeRequest)
		r.stalled(func(s *Stats) uint64 { return s.BackendBytesIn })
		s := r.stats()
		if held := int64(s.BackendBytesIn - s.ClientBytesOut); held > relayBytes || s.BuffersInUse > 1 || s.BackendBytesIn >= size {
			t.Errorf("%d bytes held in %d buffers, %d read", held, s.BuffersInUse, s.BackendBytesIn)
		}
		// The other direction and other clients are not concerned.
		c.send("still here")
		r.await("it was passed on", func(s *Stats) bool { return s.BackendBytesOut >= uint64(len("still here")) })
		c.readHeadOf("101")
		if n, err := io.CopyN(io.Discard, c.in, size); err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	t.Run("backend", func(t *testing.T) {
		r := newRig(t, tunnels)
		release, got := make(chan struct{}), make(chan int64)
		r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, switching)
			<-release
			n64, _ := io.Copy(io.Discard, in)
			got <- n64
		})
		c := r.dial()
		c.send(upgradeRequest)
		c.readHeadOf("101")
		go func() {
			pour(c.Conn, size)
			closeWrite(t, c.Conn)
		}()
		r.stalled(func(s *Stats) uint64 { return s.ClientBytesIn })
		s := r.stats()
		if held := int64(s.ClientBytesIn - s.BackendBytesOut); held > relayBytes+int64(headBytes) || s.BuffersInUse > 1 || s.ClientBytesIn >= size {
			t.Errorf("%d bytes held in %d buffers, %d read", held, s.BuffersInUse, s.ClientBytesIn)
		}
		close(release)
		if n := <-got; n != size {
			t.Errorf("the backend got %d bytes of %d", n, size)
		}
	})
}

func TestTunnelIsCutOffAtTheEndOfADrain(t *testing.T) {
	r := newRig(t, with(tunnels, func(c *config.Config) { c.Timeouts.Drain = long }))
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		say(c, switching)
		_, _ = io.Copy(c, in)
	})
	c := r.dial()
	c.send(upgradeRequest)
	c.readHeadOf("101")
	r.worker.Drain()
	c.send("during the drain")
	c.read("during the drain")
	r.on(func() { r.worker.drainUntil = r.worker.now })
	if b, err := io.ReadAll(c.in); err == nil {
		t.Errorf("the client read a clean end after %q", b)
	}
	<-r.done
	if !strings.Contains(r.access.String(), `" 101 16 "`) {
		t.Errorf("log %q", r.access.String())
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
