package proxy

import (
	"bufio"
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// inTwo is what one side of a kept connection sends as head and body, in two segments.
type inTwo struct {
	r     *rig
	bytes atomic.Int64 // of its payload so far on the wire
	lose  func(func([]byte) bool)
	keep  func([]byte) bool
	say   func(string)
}

// arrive sends s while the loop stands still, until the worker's next turn will find it.
func (p *inTwo) arrive(s string) {
	before := p.bytes.Load()
	p.say(s)
	p.r.until(s+" is on the wire", func() bool { return p.bytes.Load() >= before+int64(len(s)) })
	p.lose(p.keep) // waits for the frame that keep has seen last
}

// TestShortMessagesLeaveInOnePiece: head and body that come in two turns are written at
// once, in either direction; a head that stays alone is passed on all the same, and so is one
// whose sender waits for 100.
func TestShortMessagesLeaveInOnePiece(t *testing.T) {
	const (
		get, ok    = "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		post, half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
		expects    = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	)
	r := newRig(t, nil)
	heads, say := make(chan string), make(chan string)
	r.script(8080, func(_ int, c net.Conn, in *bufio.Reader) {
		go func() {
			for s := range say {
				_, _ = io.WriteString(c, s)
			}
		}()
		for {
			head := readHead(in)
			if head == "" {
				return
			}
			heads <- head
			if head[0] == 'P' {
				_, _ = io.ReadFull(in, make([]byte, 5))
			}
			heads <- "body"
		}
	})
	t.Cleanup(func() { close(say) })
	c := r.dial()
	var fins atomic.Int64
	client := &inTwo{r: r, lose: r.LoseFromClient, say: c.send}
	backend := &inTwo{r: r, lose: r.LoseFromBackend, say: func(s string) { say <- s }}
	for _, p := range []*inTwo{client, backend} {
		p.keep = watch(&p.bytes, &fins)
		p.lose(p.keep)
	}
	// Connections are established, and nothing is under way.
	begin := func(request string) {
		c.send(request)
		<-heads
	}
	settle := func() {
		<-heads
		say <- ok
		c.expect("GET", 200, "")
	}
	begin(get)
	settle()

	// together has p send head and body so that one turn finds the head and the next one the body.
	together := func(p *inTwo, head string) {
		t.Helper()
		before := r.stats().Writes
		first := r.freeze()
		p.arrive(head)
		frozen, hold := make(chan struct{}), make(chan struct{})
		r.worker.Post(func() { close(frozen); <-hold })
		first()
		<-frozen // the turn that has the head, before it does anything
		p.arrive("hello")
		close(hold)
		if p == client {
			<-heads
			<-heads
		} else {
			c.expect("GET", 200, "hello")
		}
		if n := r.stats().Writes - before; n != 1 {
			t.Errorf("%q and its body: %d writes", head, n)
		}
	}
	begin(get)
	<-heads
	together(backend, half)
	together(client, post)
	say <- ok
	c.expect("POST", 200, "")

	begin(get)
	<-heads
	say <- half
	if got := readHead(c.in); got == "" {
		t.Fatal("no head")
	}
	say <- "hello"
	if _, err := io.ReadFull(c.in, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	for _, head := range []string{post, expects} {
		begin(head)
		c.send("hello")
		settle()
	}
}
