package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"ringroad/hack/lab/backend"
)

const (
	// visitLimit bounds each request, and connecting: more than every timeout of the configuration.
	visitLimit = 40 * time.Second
	idleLimit  = 15 * time.Second // timeouts.keepalive
	host       = "Host: example.org\r\n"
)

// visitor is a client. One goroutine has it.
type visitor struct {
	leg    *leg
	random *rand.Rand

	// Of the present visit.
	conn     conn
	requests int
}

// kind is a way to behave.
type kind struct {
	name   string
	weight int
	play   func(*visitor) error
}

// visit plays one kind after the other until the time is over. The last visit goes on to its end.
func (v *visitor) visit(ctx context.Context) {
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	for ctx.Err() == nil {
		n := v.random.IntN(sum)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				began := time.Now()
				v.conn, v.requests = conn{opened: began, worker: -1}, 0
				err := k.play(v)
				v.leg.ledger.record(k.name, v.conn, v.requests, time.Since(began), err)
				break
			}
		}
	}
}

// line is a connection to a door.
type line struct {
	*net.TCPConn
	in *bufio.Reader
	v  *visitor
}

// dial connects to a door, by IPv4 or IPv6.
func (v *visitor) dial(door int) (*line, error) {
	address := fmt.Sprintf("10.1.0.1:%d", door)
	if v.random.IntN(2) == 0 {
		address = fmt.Sprintf("[fd00:1::1]:%d", door)
	}
	now := time.Now()
	v.conn = conn{door: door, opened: now, worker: -1}
	ctx, cancel := context.WithDeadline(context.Background(), now.Add(visitLimit))
	defer cancel()
	c, err := v.leg.lab.Client.Dial(ctx, "tcp", address)
	for (errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH)) && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond) // the client's own link is down
		c, err = v.leg.lab.Client.Dial(ctx, "tcp", address)
	}
	if err != nil {
		return nil, err
	}
	v.conn.local = c.LocalAddr().String()
	if t := v.leg.table; t != nil {
		from, to := netip.MustParseAddrPort(v.conn.local), netip.MustParseAddrPort(address)
		v.conn.worker = t.Queue(from, to) % v.leg.queues
	}
	return &line{TCPConn: c.(*net.TCPConn), in: bufio.NewReader(c), v: v}, c.SetDeadline(now.Add(visitLimit))
}

// send writes the head of a request: its line, and fields that each end in CRLF.
func (l *line) send(request, fields string) error {
	l.v.requests++
	if err := l.SetDeadline(time.Now().Add(visitLimit)); err != nil {
		return err
	}
	_, err := io.WriteString(l, request+"\r\n"+host+fields+"\r\n")
	return err
}

// answer is what came back, its body read.
type answer struct {
	status  int
	length  int64
	sum     string // SHA-256
	close   bool
	interim []int // statuses 1xx before it
	trailer http.Header
}

// receive reads the answer to a request with the method.
func (l *line) receive(method string) (a answer, err error) {
	for {
		r, err := http.ReadResponse(l.in, &http.Request{Method: method})
		if err != nil {
			return a, err
		}
		if r.StatusCode < 200 && r.StatusCode != http.StatusSwitchingProtocols {
			a.interim = append(a.interim, r.StatusCode)
			continue
		}
		a.status, a.close = r.StatusCode, r.Close
		if r.StatusCode == http.StatusSwitchingProtocols {
			return a, nil
		}
		a.sum, a.length, err = backend.Sum(r.Body)
		a.trailer = r.Trailer
		return a, err
	}
}

// page is something to ask for, and the answer that is right.
type page struct {
	method, path string
	status       int
	body         func() io.Reader // nil: none
}

var hello = page{"GET", "/", 200, func() io.Reader { return strings.NewReader("hello world\n") }}

// bytesPage is n bytes of the Go server.
func bytesPage(n int64, chunked bool) page {
	path := fmt.Sprintf("/bytes/%d", n)
	if chunked {
		path += "?chunked"
	}
	return page{"GET", path, 200, func() io.Reader { return backend.Body("bytes", n) }}
}

func filePage(name string, n int64) page {
	return page{"GET", "/f/" + name, 200, func() io.Reader { return backend.Body(name, n) }}
}

// anyPage is one of a door: of nginx, or of the Go server.
func (v *visitor) anyPage(door int) page {
	small := []page{hello, hello, {"GET", "/empty", 200, nil}, {"HEAD", "/", 200, nil}, filePage("64k", 64<<10)}
	if v.random.IntN(40) == 0 {
		return filePage("2m", 2<<20)
	}
	if door == doorNginx {
		return small[v.random.IntN(len(small))]
	}
	size := int64(1) << v.random.IntN(18)
	size += v.random.Int64N(size)
	return append(small, bytesPage(size, false), bytesPage(size, true), page{"GET", "/status/204", 204, nil}, page{"GET", "/status/304", 304, nil},
		page{"GET", "/early", 200, hello.body}, page{"GET", "/trailer", 200, func() io.Reader { return strings.NewReader("body with a trailer\n") }},
		page{"GET", "/slow?header=20ms&body=20ms", 200, func() io.Reader { return strings.NewReader("first half, second half\n") }},
	)[v.random.IntN(len(small)+7)]
}

// check compares an answer with what it should be.
func (p page) check(a answer) error {
	if a.status != p.status {
		return fmt.Errorf("%s %s was answered %d, want %d", p.method, p.path, a.status, p.status)
	}
	var want io.Reader = strings.NewReader("")
	if p.body != nil {
		want = p.body()
	}
	sum, n, _ := backend.Sum(want) // from memory
	switch {
	case a.length != n || a.sum != sum:
		return fmt.Errorf("%s %s: WRONG BODY of %d bytes, want %d", p.method, p.path, a.length, n)
	case p.path == "/trailer" && a.trailer.Get("X-Sum") != "55555555":
		return fmt.Errorf("%s: trailer %v", p.path, a.trailer)
	case p.path == "/early" && (len(a.interim) != 1 || a.interim[0] != http.StatusEarlyHints):
		return fmt.Errorf("%s: interim answers %v", p.path, a.interim)
	}
	return nil
}

// get asks for a page and checks the answer.
func (l *line) get(p page, fields string) (a answer, err error) {
	if err := l.send(p.method+" "+p.path+" HTTP/1.1", fields); err != nil {
		return a, err
	}
	if a, err = l.receive(p.method); err != nil {
		return a, fmt.Errorf("%s %s: %w", p.method, p.path, err)
	}
	return a, p.check(a)
}

// ended checks that nothing comes any more and the connection ends in order.
func (l *line) ended() error {
	b, err := l.in.ReadByte()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return fmt.Errorf("another byte %q came, and no end", b)
	}
	return fmt.Errorf("wait for the end: %w", err)
}

// gone reports whether an error says that the other side gave the connection up.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
