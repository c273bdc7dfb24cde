package conformance

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"ringroad/proxy"
	"ringroad/proxy/config"
)

const (
	bulk = 64 << 20
	// heldBytes is what the worker may hold of a body on its way: a relay buffer a direction, and
	// what is in front of it.
	heldBytes = 2 * 64 << 10
)

// stream is bulk bytes that differ everywhere.
type stream struct{ at int }

func (s *stream) fill(p []byte) {
	for i := range p {
		p[i] = byte((s.at + i) * 7 >> 3)
	}
	s.at += len(p)
}

// check reads up to n bytes, which must be the next ones.
func (s *stream) check(r io.Reader, n int) error {
	p, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for n > 0 {
		k, err := r.Read(p[:min(n, len(p))])
		s.fill(want[:k])
		if !bytes.Equal(p[:k], want[:k]) {
			return fmt.Errorf("other bytes than were sent, behind %d", s.at-k)
		}
		n -= k
		if err != nil && n > 0 {
			return fmt.Errorf("%d bytes missing: %w", n, err)
		}
	}
	return nil
}

// pour writes bulk bytes.
func pour(c net.Conn) {
	s, p := stream{}, make([]byte, 64<<10)
	for s.at < bulk {
		s.fill(p)
		if _, err := c.Write(p); err != nil {
			return
		}
	}
}

// stuck waits until nothing moves between the peers, because one of them does not
// read, while other clients are served, and checks what is held meanwhile.
func (r *rig) stuck(other func(), in, out func(*proxy.Stats) uint64) {
	r.t.Helper()
	for still := 0; still < 20; {
		other()
		before := r.stats()
		time.Sleep(5 * time.Millisecond) // between two looks
		s := r.stats()
		if still++; in(&s) != in(&before) || in(&s) < bulk/1000 {
			still = 0
		}
		if held := in(&s) - out(&s); held > heldBytes && in(&s) > out(&s) {
			r.t.Fatalf("%d bytes held in the worker", held)
		}
		if s.BuffersInUse > 6 {
			r.t.Fatalf("%d buffers in use", s.BuffersInUse)
		}
	}
}

// TestSlowReaderOfALargeResponse: the response stops at the backend when its client
// does not read, nobody else notices, and it arrives whole when the client does.
func TestSlowReaderOfALargeResponse(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"Content-Length: " + fmt.Sprint(bulk), "X: until close"} {
		t.Run(framing, func(t *testing.T) {
			r := newRig(t, func(c *config.Config) { c.Limits.KeepAliveRequests = 0 })
			r.script(func(_ int, c net.Conn) {
				for m := readRequest(c); m != nil; m = readRequest(c) {
					if m.target != "/bulk" {
						say(c, okAnswer)
						continue
					}
					say(c, okHead+framing+"\r\n\r\n")
					pour(c)
					if strings.HasPrefix(framing, "X") {
						return
					}
				}
			})
			conn, err := r.Client.Dial(front)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * patience))
			// HTTP/1.0, so that the body comes as it is.
			say(conn, "GET /bulk HTTP/1.0\r\nHost: a.example\r\n\r\n")
			c, n := r.dial(), 0
			other := func() {
				n++
				c.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
				if a := c.final(n)[n-1]; a.status != 200 {
					t.Fatalf("another client got %d", a.status)
				}
			}
			r.stuck(other, func(s *proxy.Stats) uint64 { return s.BackendBytesIn }, func(s *proxy.Stats) uint64 { return s.ClientBytesOut })
			if s := r.stats(); s.BackendBytesIn > bulk/2 {
				t.Errorf("%d bytes of %d were taken from the backend for a client that does not read", s.BackendBytesIn, bulk)
			}
			readHead(conn)
			var got stream
			// Slowly at first: a little between two requests of the other client.
			for range 50 {
				if err := got.check(conn, 10_000); err != nil {
					t.Fatal(err)
				}
				other()
			}
			if err := got.check(conn, bulk-got.at); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
				t.Errorf("behind the body: %d bytes, %v", len(rest), err)
			}
		})
	}
}

// TestSlowReaderOfALargeRequest is the same in the other direction.
func TestSlowReaderOfALargeRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Limits.KeepAliveRequests = 0 })
	read := make(chan struct{})
	result := make(chan error, 1)
	r.script(func(_ int, c net.Conn) {
		for {
			head := readHead(c)
			if head == "" {
				return
			}
			if strings.HasPrefix(head, "PUT /bulk ") {
				<-read
				var got stream
				result <- got.check(c, bulk)
			}
			say(c, okAnswer)
		}
	})
	conn, err := r.Client.Dial(front)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * patience))
	go func() {
		say(conn, fmt.Sprintf("PUT /bulk HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n", bulk))
		pour(conn)
	}()
	c, n := r.dial(), 0
	r.stuck(func() {
		n++
		c.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
		if a := c.final(n)[n-1]; a.status != 200 {
			t.Fatalf("another client got %d", a.status)
		}
	}, func(s *proxy.Stats) uint64 { return s.ClientBytesIn }, func(s *proxy.Stats) uint64 { return s.BackendBytesOut })
	if s := r.stats(); s.ClientBytesIn > bulk/2 {
		t.Errorf("%d bytes of %d were taken from the client for a backend that does not read", s.ClientBytesIn, bulk)
	}
	close(read)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if head := readHead(conn); !strings.HasPrefix(head, okHead) {
		t.Errorf("got %q", head)
	}
}

// served waits for the first answer, or the end of the connection, and tells whether that
// is a 200.
func (c *client) served() bool {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Microsecond) { // between two looks
		ended := c.hasEnded()
		if all, _, _ := c.answers(); len(all) > 0 {
			return all[0].status == 200
		}
		if ended || time.Now().After(end) {
			return false
		}
	}
}

// TestSlowHeads: a thousand clients send their heads byte by byte without end. A
// well-behaved one is served meanwhile, and each of the others is told off when its
// time is over.
func TestSlowHeads(t *testing.T) {
	t.Parallel()
	const slow, requests = 1000, 500
	const head = "GET / HTTP/1.1\r\nHost: a.example\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
	r := newRig(t, func(c *config.Config) {
		c.Timeouts.ClientHeader = 2 * time.Second
		c.Limits.KeepAliveRequests = 0
	})
	r.witness()
	var conns []net.Conn
	for range slow {
		conn, err := r.Client.Dial(front)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * patience))
		say(conn, head[:1]) // a connection without a byte would not be told off
		conns = append(conns, conn)
	}
	// A byte of each, then the next one of each as soon as the worker has read those, but
	// not at once: more than it can take would cost the well-behaved client its time, too.
	stop := make(chan struct{})
	var dripping sync.WaitGroup
	dripping.Go(func() {
		for i := 1; i < len(head); i++ {
			for _, c := range conns {
				say(c, head[i:i+1])
			}
			for r.stats().ClientBytesIn < uint64(slow*(i+1)) {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond): // between two looks
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(30 * time.Millisecond): // the clients are slow
			}
		}
	})
	r.await("all heads have begun", func(s *proxy.Stats) bool { return s.ClientBytesIn >= slow })
	good, late := 0, uint64(0)
	for i := range requests {
		// A connection each: being accepted must work, too.
		c := r.dial()
		c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n", i))
		if c.served() {
			good++
		} else {
			// One that sends nothing in time ends without an answer: on a starved machine
			// that may happen to a well-behaved client. Nothing else may.
			b, why := c.received()
			if s := r.stats(); len(b) > 0 || why != nil || s.TimeoutsClientHeader-s.Answers <= late {
				t.Errorf("request %d was lost: got %q, ended %t, %v; %d time-outs, %d answers", i, b, c.hasEnded(), why, s.TimeoutsClientHeader, s.Answers)
			} else {
				late = s.TimeoutsClientHeader - s.Answers
				t.Logf("request %d came too late", i)
			}
		}
		c.close()
	}
	if good < requests*99/100 {
		t.Errorf("%d of %d requests of the well-behaved client were served", good, requests)
	}
	if s := r.stats(); s.BuffersInUse > slow+10 {
		t.Errorf("%d buffers for %d slow heads", s.BuffersInUse, slow)
	}
	s := r.await("all slow clients are told off", func(s *proxy.Stats) bool { return s.Answers == slow })
	if s.TimeoutsClientHeader != slow+late {
		t.Errorf("%d time-outs for %d slow heads", s.TimeoutsClientHeader, slow)
	}
	close(stop)
	dripping.Wait()
	told := 0
	for _, c := range conns {
		if head := readHead(c); strings.HasPrefix(head, "HTTP/1.1 408 ") {
			told++
		}
		c.Close()
	}
	if told != slow {
		t.Errorf("%d of %d slow clients read a 408", told, slow)
	}
	r.idle(0)
}
