package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Visitors that are slow, break off, leave without a word or talk garbage.

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
