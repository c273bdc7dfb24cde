package proxy

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestAccessLogLines(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(pattern(1234))
	}))
	tests := []struct{ request, line string }{
		{"GET /a?b=c HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: ua/1\r\n\r\n", `"GET /a?b=c HTTP/1.1" 200 1234 "http://r/" "ua/1"`},
		{"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", `"HEAD / HTTP/1.1" 200 0 "-" "-"`},
		{"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a\" 200 1 \"\\\té\r\n\r\n", `"GET / HTTP/1.1" 200 1234 "-" "a\x22 200 1 \x22\x5C\x09\xC3\xA9"`},
		{"\r\nGET /\x01 HTTP/1.1\r\n", `"GET /\x01 HTTP/1.1" 400 0 "-" "-"`},
	}
	c := r.dial()
	for _, tt := range tests {
		c.send(tt.request)
		c.response(strings.TrimSpace(tt.request[:4]))
	}
	r.stop()
	lines := strings.Split(strings.TrimSuffix(r.access.String(), "\n"), "\n")
	if len(lines) != len(tests) {
		t.Fatalf("%d lines for %d requests:\n%s", len(lines), len(tests), r.access.String())
	}
	prefix := regexp.MustCompile(`^10\.1\.0\.2 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] `)
	for i, tt := range tests {
		head := prefix.FindString(lines[i])
		if head == "" || lines[i][len(head):] != tt.line {
			t.Errorf("line %d:\n got %s\nwant %s", i, lines[i], tt.line)
		}
	}
}

// gate is a disk that stands still until it is opened.
type gate struct {
	lockedBuffer
	open chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.lockedBuffer.Write(p)
}

func TestAccessLogNeverBlocks(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	a := newAccessLog(g, slog.New(slog.DiscardHandler), nil)
	var w Worker
	x := &exchange{}
	x.session = &session{worker: &w, addrBytes: 1}
	x.session.in = buffer{b: []byte(strings.Repeat("x", 1000)), w: 1000}
	written, lost := 0, 0
	for range 2 * logBuffers * logBufferBytes / 1000 {
		if a.line(x, time.Second, time.Time{}) {
			written++
		} else {
			lost++
		}
	}
	if lost == 0 || written == 0 {
		t.Errorf("%d lines taken and %d lost by a writer that stands still", written, lost)
	}
	close(g.open)
	a.end()
	<-a.done
	if got := strings.Count(g.String(), "\n"); got != written {
		t.Errorf("%d lines written of %d taken", got, written)
	}
}

func TestAccessLogReportsAFailingDiskOnce(t *testing.T) {
	var log lockedBuffer
	a := newAccessLog(writerFunc(func([]byte) (int, error) { return 0, errors.New("no space left") }), slog.New(slog.NewTextHandler(&log, nil)), nil)
	x := &exchange{}
	x.session = &session{addrBytes: 1}
	for range 3 {
		a.line(x, 1, time.Time{})
		a.flush()
	}
	a.end()
	<-a.done
	if n := strings.Count(log.String(), "no space left"); n != 1 {
		t.Errorf("reported %d times:\n%s", n, log.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var _ io.Writer = writerFunc(nil)
