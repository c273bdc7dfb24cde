package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
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

func (v *visitor) flaky() error { return v.serve(doorFlaky, 1+v.random.IntN(10)) }

func (v *visitor) coming() error { return v.serve(doorComing, 1+v.random.IntN(10)) }

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
