package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ringroad/proxy/config"
)

// TestChaos lets clients and backends do what they should not, at random but from
// a fixed seed, all at once. Three things must hold: nothing breaks in the worker,
// nothing is left in the end (the rig looks), and whoever gets an answer that
// looks complete has got the right one.
func TestChaos(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		servers(8080, 8081, 8082)(c) // nobody listens on 8082
		for _, d := range []*time.Duration{
			&c.Timeouts.ClientHeader, &c.Timeouts.ClientBody, &c.Timeouts.ClientSend, &c.Timeouts.KeepAlive,
			&c.Timeouts.Connect, &c.Timeouts.BackendRead, &c.Timeouts.BackendSend,
		} {
			*d = time.Second
		}
		c.Upstreams[0].KeepAlive = 4
		c.Limits.MaxConnections = 40
	})
	r.script(8080, chaoticBackend)
	r.script(8081, chaoticBackend)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			c := &chaoticClient{r: r, rand: rand.New(rand.NewPCG(uint64(i), 7))}
			for range 12 {
				c.connection(t)
			}
		})
	}
	wg.Wait()
	// A client that behaves is served as if nothing had been.
	for range 20 {
		c := r.dial()
		c.send("GET /answer/10/1 HTTP/1.1\r\nHost: a\r\n\r\n")
		c.expect("GET", 200, chaosBody(10, 1))
		c.Close()
	}
}

// chaosBody is the one right answer to /KIND/size/tag.
func chaosBody(size, tag int) string {
	return string(bytes.Repeat([]byte{byte('a' + tag%26)}, size))
}

// chaoticBackend does what the path says: /KIND/size/tag.
func chaoticBackend(n int, c net.Conn, in *bufio.Reader) {
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		part := strings.Split(req.URL.Path, "/")
		if len(part) < 4 {
			return
		}
		size, _ := strconv.Atoi(part[2])
		tag, _ := strconv.Atoi(part[3])
		body := chaosBody(size, tag)
		whole := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body)
		if part[1] != "early" && part[1] != "deaf" {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
		switch part[1] {
		case "answer":
			say(c, whole)
		case "pieces":
			for len(whole) > 0 {
				k := min(len(whole), 1+size/7)
				say(c, whole[:k])
				whole = whole[k:]
			}
		case "chunked":
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for b := body; len(b) > 0; {
				k := min(len(b), 1+size/5)
				say(c, fmt.Sprintf("%x\r\n%s\r\n", k, b[:k]))
				b = b[k:]
			}
			say(c, "0\r\n\r\n")
		case "until-close":
			say(c, "HTTP/1.1 200 OK\r\n\r\n"+body)
			return
		case "early":
			say(c, whole)
			return
		case "cut":
			say(c, whole[:len(whole)*2/3])
			return
		case "cut-chunked":
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			say(c, fmt.Sprintf("%x\r\n%s\r\n", size+1, body))
			return
		case "garbage":
			say(c, "\x00\x01\x02 nonsense\r\n\r\n")
		case "extra":
			say(c, whole+"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
		case "close":
			return
		case "deaf":
			time.Sleep(20 * time.Millisecond) // a backend that is slow to close
			return
		case "silent":
			swallow(in)
			return
		}
	}
}

// chaoticClient makes connections that end in any way.
type chaoticClient struct {
	r    *rig
	rand *rand.Rand
}

func (c *chaoticClient) connection(t *testing.T) {
	conn, err := c.r.Client.Dial(front)
	if err != nil {
		return
	}
	defer conn.Close()
	limit(conn)
	in := bufio.NewReader(conn)
	for range 1 + c.rand.IntN(4) {
		size, tag := c.rand.IntN(200), c.rand.IntN(1000)
		if c.rand.IntN(4) == 0 {
			size = c.rand.IntN(200_000)
		}
		kinds := []string{"answer", "pieces", "chunked", "until-close", "early", "cut", "cut-chunked", "garbage", "extra", "close", "deaf", "silent"}
		kind := kinds[c.rand.IntN(len(kinds))]
		if c.rand.IntN(2) == 0 {
			kind = kinds[c.rand.IntN(3)]
		}
		method := []string{"GET", "POST", "PUT"}[c.rand.IntN(3)]
		head := fmt.Sprintf("%s /%s/%d/%d HTTP/1.%d\r\nHost: a\r\nConnection: keep-alive\r\n", method, kind, size, tag, c.rand.IntN(2))
		body := ""
		if method != "GET" {
			body = chaosBody(c.rand.IntN(50_000), tag)
			head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
		}
		if !c.write(conn, head+"\r\n"+body) {
			return
		}
		if c.rand.IntN(12) == 0 {
			return // without waiting for the answer
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return
		}
		if c.rand.IntN(12) == 0 {
			return // within the answer
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			if resp.Close || err != nil {
				return
			}
			continue
		}
		want := chaosBody(size, tag)
		if string(got) != want || strings.HasPrefix(kind, "cut") {
			t.Errorf("%s/%d: a complete answer of %d bytes that is wrong", kind, size, len(got))
			return
		}
		if resp.Close {
			return
		}
	}
	if c.rand.IntN(2) == 0 {
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err == nil {
			swallow(in)
		}
	}
}

// write sends s in a few pieces, and sometimes not all of it.
func (c *chaoticClient) write(conn net.Conn, s string) bool {
	if c.rand.IntN(12) == 0 {
		s = s[:c.rand.IntN(len(s))]
		defer conn.Close()
	}
	for pieces := c.rand.IntN(4); len(s) > 0; pieces-- {
		k := len(s)
		if pieces > 0 {
			k = 1 + c.rand.IntN(len(s))
		}
		if _, err := io.WriteString(conn, s[:k]); err != nil && !errors.Is(err, io.EOF) {
			return true // an early answer may still be read
		}
		s = s[k:]
	}
	return true
}
