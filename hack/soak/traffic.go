package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"ringroad/hack/lab/backend"
)

// kinds are the ways to behave, and how often.
var kinds = []kind{
	{"keep-alive", 20, (*visitor).keepAlive},
	{"close", 20, (*visitor).closes},
	{"pipeline", 8, (*visitor).pipelines},
	{"upload", 10, (*visitor).uploads},
	{"echo", 6, (*visitor).echoes},
	{"http/1.0", 5, (*visitor).old},
	{"proxy", 6, (*visitor).introduced},
	{"tunnel", 6, (*visitor).tunnels},
	{"slow-client", 3, (*visitor).slowClient},
	{"slow-reader", 3, (*visitor).slowReader},
	{"half-close", 6, (*visitor).halfCloses},
	{"reset", 8, (*visitor).resets},
	{"leave", 6, (*visitor).leaves},
	{"garbage", 6, (*visitor).garbage},
	{"idle", 2, (*visitor).idles},
	{"early-answer", 4, (*visitor).early},
	{"cut-off", 4, (*visitor).cutOff},
	{"flaky", 10, (*visitor).flaky},
	{"coming", 6, (*visitor).coming},
}

// serve asks for up to n pages on connections to a door, each for as long as the proxy keeps it.
func (v *visitor) serve(door, n int) error {
	for n > 0 {
		l, err := v.dial(door)
		if err != nil {
			return err
		}
		for closed := false; n > 0 && !closed && err == nil; n-- {
			var a answer
			if a, err = l.get(v.anyPage(door), ""); a.close && err == nil {
				closed, err = true, l.ended()
			}
		}
		l.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *visitor) backendDoor() int { return doorNginx + v.random.IntN(2) }

func (v *visitor) keepAlive() error { return v.serve(v.backendDoor(), 1+v.random.IntN(100)) }
func (v *visitor) flaky() error     { return v.serve(doorFlaky, 1+v.random.IntN(10)) }
func (v *visitor) coming() error    { return v.serve(doorComing, 1+v.random.IntN(10)) }

func (v *visitor) closes() error {
	for range 1 + v.random.IntN(10) {
		door := v.backendDoor()
		l, err := v.dial(door)
		if err != nil {
			return err
		}
		if _, err = l.get(v.anyPage(door), "Connection: close\r\n"); err == nil {
			err = l.ended()
		}
		l.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// pipelines sends several requests at once.
func (v *visitor) pipelines() error {
	door := v.backendDoor()
	l, err := v.dial(door)
	if err != nil {
		return err
	}
	defer l.Close()
	var pages []page
	var text strings.Builder
	for range 2 + v.random.IntN(15) {
		p := v.anyPage(door)
		pages = append(pages, p)
		fmt.Fprintf(&text, "%s %s HTTP/1.1\r\n%s\r\n", p.method, p.path, host)
	}
	v.requests += len(pages)
	if _, err := io.WriteString(l, text.String()); err != nil {
		return err
	}
	for i, p := range pages {
		a, err := l.receive(p.method)
		if err == nil {
			err = p.check(a)
		}
		if err != nil {
			return fmt.Errorf("answer %d of %d: %w", i+1, len(pages), err)
		}
	}
	return nil
}

// bodySize is small as a rule, and large at times.
func (v *visitor) bodySize() int64 {
	n := int64(1) << v.random.IntN(18)
	if v.random.IntN(10) == 0 {
		n = 1 << (18 + v.random.IntN(5))
	}
	return n + v.random.Int64N(n)
}

// sendBody sends n bytes of Body("upload", n), as a chunked body or as it is, and takes their sum.
func (l *line) sendBody(n int64, chunked bool, sum hash.Hash) error {
	body := backend.Body("upload", n)
	buffer := make([]byte, 1+l.v.random.IntN(32<<10))
	for {
		k, err := body.Read(buffer)
		if k > 0 {
			sum.Write(buffer[:k])
			out := buffer[:k]
			if chunked {
				out = append(append(fmt.Appendf(nil, "%x\r\n", k), out...), "\r\n"...)
			}
			if _, err := l.Write(out); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if chunked {
		_, err := io.WriteString(l, "0\r\n\r\n")
		return err
	}
	return nil
}

// framing are the fields of a body, and whether it is chunked.
func (v *visitor) framing(n int64) (fields string, chunked bool) {
	if v.random.IntN(2) == 0 {
		return "Transfer-Encoding: chunked\r\n", true
	}
	return fmt.Sprintf("Content-Length: %d\r\n", n), false
}

// uploads sends bodies that the backend takes the sum of, with and without waiting for 100 (Continue).
func (v *visitor) uploads() error {
	l, err := v.dial(doorGo)
	if err != nil {
		return err
	}
	defer l.Close()
	for range 1 + v.random.IntN(4) {
		n := v.bodySize()
		fields, chunked := v.framing(n)
		expect := v.random.IntN(4) == 0
		if expect {
			fields += "Expect: 100-continue\r\n"
		}
		if err := l.send("PUT /digest HTTP/1.1", fields); err != nil {
			return err
		}
		if expect {
			r, err := http.ReadResponse(l.in, nil)
			if err != nil {
				return fmt.Errorf("wait for 100: %w", err)
			}
			if r.StatusCode != http.StatusContinue {
				return fmt.Errorf("answered %s, want 100", r.Status)
			}
		}
		sum := sha256.New()
		if err := l.sendBody(n, chunked, sum); err != nil {
			return fmt.Errorf("upload %d bytes: %w", n, err)
		}
		r, err := http.ReadResponse(l.in, nil)
		if err != nil {
			return fmt.Errorf("answer to %d bytes: %w", n, err)
		}
		var d backend.Digest
		err = json.NewDecoder(r.Body).Decode(&d)
		if _, e := io.Copy(io.Discard, r.Body); err == nil {
			err = e
		}
		if err != nil || r.StatusCode != 200 {
			return fmt.Errorf("answer to %d bytes: %s, %w", n, r.Status, err)
		}
		if d.Bytes != n || d.SHA256 != hex.EncodeToString(sum.Sum(nil)) {
			return fmt.Errorf("WRONG BODY uploaded: %d bytes of %d, chunked %v", d.Bytes, n, chunked)
		}
		if r.Close {
			return nil
		}
	}
	return nil
}

// echoes gets back what it sends while it sends.
func (v *visitor) echoes() error {
	l, err := v.dial(doorGo)
	if err != nil {
		return err
	}
	defer l.Close()
	n := v.bodySize()
	fields, chunked := v.framing(n)
	if err := l.send("POST /echo HTTP/1.1", fields); err != nil {
		return err
	}
	sent, sum := make(chan error, 1), sha256.New()
	go func() { sent <- l.sendBody(n, chunked, sum) }()
	a, err := l.receive("POST")
	if err != nil {
		l.Close()
	}
	if e := <-sent; err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("echo of %d bytes: %w", n, err)
	}
	if a.status != 200 || a.length != n || a.sum != hex.EncodeToString(sum.Sum(nil)) {
		return fmt.Errorf("WRONG BODY: echo of %d bytes was answered %d with %d bytes", n, a.status, a.length)
	}
	return nil
}

// old speaks HTTP/1.0.
func (v *visitor) old() error {
	door := v.backendDoor()
	l, err := v.dial(door)
	if err != nil {
		return err
	}
	defer l.Close()
	kept := v.random.IntN(2) == 0
	for range 1 + v.random.IntN(3) {
		p := v.anyPage(door)
		if p.path == "/early" { // a client of 1.0 knows no 1xx
			p = hello
		}
		fields := ""
		if kept {
			fields = "Connection: keep-alive\r\n"
		}
		if err := l.send(p.method+" "+p.path+" HTTP/1.0", fields); err != nil {
			return err
		}
		a, err := l.receive(p.method)
		if err == nil {
			if p.path == "/trailer" { // there are none without chunks
				a.trailer = http.Header{"X-Sum": {"55555555"}}
			}
			err = p.check(a)
		}
		if err != nil {
			return fmt.Errorf("HTTP/1.0, %s %s: %w", p.method, p.path, err)
		}
		if a.close || !kept {
			return l.ended()
		}
	}
	return nil
}

// introduced begins with a PROXY protocol header.
func (v *visitor) introduced() error {
	l, err := v.dial(doorProxy)
	if err != nil {
		return err
	}
	defer l.Close()
	header := "PROXY TCP4 192.0.2.7 10.1.0.1 4711 82\r\n"
	if v.random.IntN(2) == 0 {
		header = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x01\x00\x01\x12\x67\x00\x52"
	}
	if v.random.IntN(4) == 0 {
		return l.inPieces(header + "GET / HTTP/1.1\r\n" + host + "\r\n")
	}
	if _, err := io.WriteString(l, header); err != nil {
		return err
	}
	for range 1 + v.random.IntN(10) {
		if _, err := l.get(v.anyPage(doorProxy), ""); err != nil {
			return err
		}
	}
	return nil
}

// inPieces sends the request for the front page, piece by piece.
func (l *line) inPieces(text string) error {
	l.v.requests++
	for text != "" {
		n := min(1+l.v.random.IntN(20), len(text))
		if _, err := io.WriteString(l, text[:n]); err != nil {
			return err
		}
		text = text[n:]
		time.Sleep(time.Duration(l.v.random.IntN(100)) * time.Millisecond) // what makes it slow
	}
	a, err := l.receive("GET")
	if err != nil {
		return err
	}
	return hello.check(a)
}

// tunnels upgrades, and gets back what it sends, to the end that it says.
func (v *visitor) tunnels() error {
	l, err := v.dial(doorGo)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.send("GET /upgrade HTTP/1.1", "Connection: Upgrade\r\nUpgrade: echo\r\n"); err != nil {
		return err
	}
	a, err := l.receive("GET")
	if err != nil {
		return err
	}
	if a.status != http.StatusSwitchingProtocols {
		return fmt.Errorf("upgrade was answered %d", a.status)
	}
	n := v.bodySize()
	sent, sum := make(chan error, 1), sha256.New()
	cut := v.random.IntN(5) == 0
	go func() {
		err := l.sendBody(n, false, sum)
		if err == nil && !cut {
			err = l.CloseWrite()
		}
		sent <- err
	}()
	if cut {
		_, err = io.CopyN(io.Discard, l.in, n/2)
		l.SetLinger(0) //nolint:errcheck // a reset is wished, not needed
		l.Close()
		<-sent //nolint:errcheck // it was cut off
		if err != nil {
			return fmt.Errorf("tunnel of %d bytes: %w", n, err)
		}
		return nil
	}
	got, length, err := backend.Sum(l.in)
	if err != nil {
		l.Close()
	}
	if e := <-sent; err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("tunnel, behind %d of %d bytes: %w", length, n, err)
	}
	if length != n || got != hex.EncodeToString(sum.Sum(nil)) {
		return fmt.Errorf("WRONG BODY: tunnel gave back %d bytes of %d", length, n)
	}
	return nil
}

func (v *visitor) slowClient() error {
	l, err := v.dial(v.backendDoor())
	if err != nil {
		return err
	}
	defer l.Close()
	return l.inPieces("GET / HTTP/1.1\r\n" + host + "X-Filler: " + strings.Repeat("x", v.random.IntN(100)) + "\r\n\r\n")
}

// slowReader takes some seconds for a body that does not fit into the buffers on the way.
func (v *visitor) slowReader() error {
	l, err := v.dial(doorGo)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.SetReadBuffer(32 << 10); err != nil {
		return err
	}
	p := bytesPage(2<<20+v.random.Int64N(4<<20), v.random.IntN(2) == 0)
	if err := l.send("GET "+p.path+" HTTP/1.1", ""); err != nil {
		return err
	}
	pause := time.Duration(v.random.IntN(60)) * time.Millisecond
	l.in = bufio.NewReaderSize(readerFunc(func(b []byte) (int, error) {
		time.Sleep(pause) // what makes it slow
		return l.Read(b)
	}), 128<<10)
	a, err := l.receive("GET")
	if err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	return p.check(a)
}

// halfCloses says that nothing more will come, and waits for the answer.
func (v *visitor) halfCloses() error {
	door := v.backendDoor()
	l, err := v.dial(door)
	if err != nil {
		return err
	}
	defer l.Close()
	p := v.anyPage(door)
	if err := l.send(p.method+" "+p.path+" HTTP/1.1", ""); err != nil {
		return err
	}
	if err := l.CloseWrite(); err != nil {
		return err
	}
	a, err := l.receive(p.method)
	if err == nil {
		err = p.check(a)
	}
	if err == nil {
		err = l.ended()
	}
	if err != nil {
		return fmt.Errorf("half-closed, %s %s: %w", p.method, p.path, err)
	}
	return nil
}

// begin starts something: a download, an upload, or the head of a request. It is not to be finished.
func (v *visitor) begin() (*line, error) {
	l, err := v.dial(doorGo)
	if err != nil {
		return nil, err
	}
	n := 1 + v.bodySize()
	switch v.random.IntN(5) {
	case 0: // nothing at all
	case 1:
		_, err = io.WriteString(l, "GET /bytes/1 HTTP/1.1\r\nHo")
	case 2:
		if err = l.send(fmt.Sprintf("GET /bytes/%d HTTP/1.1", n), ""); err == nil {
			_, err = io.CopyN(io.Discard, l.in, n/2)
		}
	case 3:
		if err = l.send("PUT /digest HTTP/1.1", fmt.Sprintf("Content-Length: %d\r\n", 2*n)); err == nil {
			err = l.sendBody(n, false, sha256.New())
		}
	case 4:
		if err = l.send("PUT /echo HTTP/1.1", "Transfer-Encoding: chunked\r\n"); err == nil {
			_, err = fmt.Fprintf(l, "%x\r\n%s", n, strings.Repeat("e", int(min(n, 1<<15)/2)))
		}
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("begin: %w", err)
	}
	return l, nil
}

// resets gives up in the middle by a reset.
func (v *visitor) resets() error {
	l, err := v.begin()
	if err != nil {
		return err
	}
	if err := l.SetLinger(0); err != nil {
		l.Close()
		return err
	}
	return l.Close()
}

// leaves gives up in the middle in order.
func (v *visitor) leaves() error {
	l, err := v.begin()
	if err != nil {
		return err
	}
	return l.Close()
}

// garbage sends what is no request; it is answered 4xx or 5xx, or cut off, and never forwarded.
func (v *visitor) garbage() error {
	doors := []int{doorNginx, doorGo, doorProxy}
	l, err := v.dial(doors[v.random.IntN(len(doors))])
	if err != nil {
		return err
	}
	defer l.Close()
	text := make([]byte, 1+v.random.IntN(2000))
	for i := range text {
		text[i] = byte(v.random.IntN(256))
	}
	samples := []string{
		string(text), "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/9.9\r\n" + host + "\r\n",
		"POST /echo HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"POST /echo HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "GET / HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 200) + "\r\n",
		"GET /" + strings.Repeat("x", 20000) + " HTTP/1.1\r\n" + host + "\r\n",
	}
	if _, err := io.WriteString(l, samples[v.random.IntN(len(samples))]); err != nil && !gone(err) {
		return err
	}
	l.CloseWrite() //nolint:errcheck // it may be cut off already
	r, err := http.ReadResponse(l.in, nil)
	switch {
	case err == nil && r.StatusCode < 400:
		return fmt.Errorf("garbage was answered %s", r.Status)
	case err != nil && !gone(err):
		return fmt.Errorf("after garbage: %w", err)
	}
	return nil
}

// idles waits until it is sent away.
func (v *visitor) idles() error {
	l, err := v.dial(v.backendDoor())
	if err != nil {
		return err
	}
	defer l.Close()
	if v.random.IntN(2) == 0 {
		if _, err := l.get(hello, ""); err != nil {
			return err
		}
		return l.ended()
	}
	a, err := l.receive("GET")
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || err == nil && a.status == http.StatusRequestTimeout {
		return nil
	}
	return fmt.Errorf("a connection without request: answered %d, %w", a.status, err)
}

// early is answered while it sends a body that nobody reads.
func (v *visitor) early() error {
	l, err := v.dial(doorBreaks)
	if err != nil {
		return err
	}
	defer l.Close()
	n := int64(1<<20) + v.random.Int64N(8<<20)
	fields, chunked := v.framing(n)
	if err := l.send("PUT /status/413 HTTP/1.1", fields); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.sendBody(n, chunked, sha256.New()) // it may be cut off
	}()
	a, err := l.receive("PUT")
	l.Close()
	<-done
	if err != nil {
		return fmt.Errorf("an early answer to %d bytes: %w", n, err)
	}
	if a.status != http.StatusRequestEntityTooLarge {
		return fmt.Errorf("an early answer to %d bytes is %d, want 413", n, a.status)
	}
	return nil
}

// cutOff asks for what the backend does not finish, which must not look whole.
func (v *visitor) cutOff() error {
	l, err := v.dial(doorBreaks)
	if err != nil {
		return err
	}
	defer l.Close()
	if v.random.IntN(2) == 0 {
		if err := l.send("GET /close HTTP/1.1", ""); err != nil {
			return err
		}
		if a, err := l.receive("GET"); err != nil || a.status != http.StatusBadGateway {
			return fmt.Errorf("a backend that says nothing: answered %d, %w", a.status, err)
		}
		return nil
	}
	n := v.bodySize()
	if err := l.send(fmt.Sprintf("GET /close?after=%d HTTP/1.1", n), ""); err != nil {
		return err
	}
	a, err := l.receive("GET")
	var timeout net.Error
	switch {
	case err == nil:
		return fmt.Errorf("half an answer of %d bytes looks whole: %d with %d bytes", 2*n, a.status, a.length)
	case errors.As(err, &timeout) && timeout.Timeout(), !gone(err):
		return fmt.Errorf("half an answer of %d bytes: %w", 2*n, err)
	}
	return nil
}
