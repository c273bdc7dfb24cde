package failure

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
)

// hello is what backends answer.
const hello = "hello world\n"

// behaviour serves one request, of which the head was read. It reports whether the connection may be used again.
type behaviour func(*served) bool

// served is a request at a backend.
type served struct {
	*http.Request
	conn *net.TCPConn
	nth  int // request of its connection, from 1
}

// pretender is the backend behind door: it behaves as told. Its methods may be called from any goroutine.
type pretender struct {
	lab *lab.Lab

	mu     sync.Mutex
	ln     net.Listener // nil: connections are refused
	behave behaviour
	conns  map[net.Conn]bool
}

func newPretender(l *lab.Lab) *pretender {
	return &pretender{lab: l, behave: answers, conns: map[net.Conn]bool{}}
}

// open lets connections come.
func (p *pretender) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		return nil
	}
	ln, err := p.lab.Backend.Listen("tcp", behind)
	if err != nil {
		return fmt.Errorf("listen in the backend: %w", err)
	}
	p.ln = ln
	go p.accept(ln)
	return nil
}

// close refuses connections and ends those there are.
func (p *pretender) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		p.ln.Close()
		p.ln = nil
	}
	for c := range p.conns {
		c.Close()
	}
}

// set says how requests are served from now on.
func (p *pretender) set(b behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behave = b
}

func (p *pretender) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = true
		p.mu.Unlock()
		go p.serve(c.(*net.TCPConn))
	}
}

func (p *pretender) serve(c *net.TCPConn) {
	in := bufio.NewReader(c)
	for nth := 1; ; nth++ {
		r, err := http.ReadRequest(in)
		if err != nil {
			break
		}
		p.mu.Lock()
		behave := p.behave
		p.mu.Unlock()
		if !behave(&served{r, c, nth}) {
			break
		}
	}
	c.Close()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

// say writes an answer. Who hung up does not get it.
func (r *served) say(format string, args ...any) { fmt.Fprintf(r.conn, format, args...) }

// answers does what is expected: the body of a request back as its digest, hello to those without one.
func answers(r *served) bool {
	text := hello
	if r.ContentLength != 0 {
		sum, _, err := backend.Sum(r.Body)
		if err != nil {
			return false
		}
		text = sum
	}
	r.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	return true
}

// waits answers once the channel is closed, and takes nothing of the body before.
func waits(until <-chan struct{}) behaviour {
	return func(r *served) bool {
		<-until
		return answers(r)
	}
}

// resets cuts the connection off.
func resets(r *served) bool {
	r.conn.SetLinger(0) //nolint:errcheck // then it is a FIN, which the test notices
	return false
}

// truncates closes in the middle of the body.
func truncates(r *served) bool {
	r.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 2*len(hello), hello)
	return false
}

// floods sends a body of that size.
func floods(size int64) behaviour {
	return func(r *served) bool {
		r.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		_, err := io.Copy(r.conn, backend.Body("bytes", size))
		return err == nil
	}
}

// closesBeforeSecond answers one request of a connection, and closes when it gets the next, as a backend does whose idle timeout ends
// at that moment.
func closesBeforeSecond(r *served) bool { return r.nth == 1 && answers(r) }
