package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/config"
)

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
