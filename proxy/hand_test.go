package proxy

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"ringroad/stack"
)

// numbered is n bytes in which no two stretches are the same.
func numbered(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b) //nolint:errcheck // never fails
	return string(b)
}

// Bodies whose bytes are handed on, of lengths at which another way begins, arrive as they were sent in both directions, with
// what follows them.
func TestHandedBodies(t *testing.T) {
	r := newRig(t, nil)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for {
			q := readRequest(in)
			if q == nil {
				return
			}
			body, err := io.ReadAll(q.Body)
			if err != nil {
				return
			}
			say(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		}
	})
	c := r.dial()
	for _, n := range []int{stack.MoveBytes - 1, stack.MoveBytes, minRoom + stack.MoveBytes + 1, headBytes, relayBytes, relayBytes + 1, turnBytes + 1, 5_000_000} {
		body := numbered(n)
		go c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", n, body))
		if _, got := c.response("POST"); got != body {
			t.Fatalf("a body of %d bytes comes back as another one of %d", n, len(got))
		}
	}
}

// What a client does not take stays in the backend's connection, but for a buffer at most, which shows that it is waited for, and
// goes on from there.
func TestStalledBodyStaysInTheConnection(t *testing.T) {
	r := newRig(t, nil)
	body := numbered(20 << 20)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		say(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	})
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.stalled(func(s *Stats) uint64 { return s.BackendBytesIn })
	r.on(func() {
		held := r.worker.sessions.next.x.response.out.len()
		if held == 0 || held > relayBytes {
			t.Errorf("%d bytes are held", held)
		}
	})
	if _, got := c.response("GET"); sha256.Sum256([]byte(got)) != sha256.Sum256([]byte(body)) {
		t.Errorf("the body comes as another one, of %d bytes", len(got))
	}
}

// What a backend sends behind a body is never taken for the answer to the next request, wherever the handing on of the body ends.
func TestNothingFollowsAHandedBody(t *testing.T) {
	r := newRig(t, nil)
	sizes := []int{stack.MoveBytes, minRoom, headBytes, relayBytes, turnBytes, 200_000}
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		if readRequest(in) == nil {
			return
		}
		body := numbered(sizes[n])
		say(c, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", len(body), body))
		readRequest(in)
	})
	c := r.dial()
	for _, n := range sizes { // each by a connection of its own
		c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, got := c.response("GET"); got != numbered(n) {
			t.Fatalf("a body of %d bytes comes as another one of %d", n, len(got))
		}
	}
}
