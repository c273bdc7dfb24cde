package control_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/trace"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy"
)

// witness is a master that takes down what it is asked for.
type witness struct {
	mu    sync.Mutex
	t     *testing.T
	asked []string
}

// begin forgets what was asked for.
func (m *witness) begin(t *testing.T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.t, m.asked = t, nil
}

func (m *witness) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func (m *witness) note(what string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, what)
	if err != nil {
		m.t.Errorf("%s was asked for with what cannot be: %v", what, err)
	}
}

func (m *witness) Reload(context.Context) ([]string, error) {
	m.note("POST /reload", nil)
	return []string{"a warning"}, nil
}
func (m *witness) Quit()                           { m.note("POST /quit", nil) }
func (m *witness) Stop()                           { m.note("POST /stop", nil) }
func (m *witness) Status() (control.Status, error) { return control.Status{}, nil }
func (m *witness) Stats() (worker.Snapshot, error) { return worker.Snapshot{}, nil }
func (m *witness) StopCapture() bool               { m.note("DELETE /capture", nil); return true }
func (m *witness) StopTrace() bool                 { m.note("DELETE /trace", nil); return false }
func (m *witness) Connections(q proxy.Query) (control.Connections, error) {
	m.note("GET /connections", q.Check())
	return control.Connections{}, nil
}

func (m *witness) Capture(_ context.Context, o capture.Options, out feed.Output) error {
	m.note("GET /capture", o.Check())
	_, err := out.Write([]byte("frames"))
	return err
}

func (m *witness) Trace(_ context.Context, o trace.Options, out feed.Output) error {
	m.note("GET /trace", o.Check())
	_, err := out.Write([]byte("requests"))
	return err
}

// FuzzRequests writes bytes to the control socket. Each request in them is answered once, with HTTP, until the connection is closed; the
// master is asked for what they say and nothing else; and the next client is served.
func FuzzRequests(f *testing.F) {
	for _, target := range []string{
		"/status", "/stats", "/connections?client=10.0.0.0/8&sort=age&limit=5", "/connections?limit=-1",
		"/capture?filter=tcp+port+80&direction=in&snaplen=96&buffer=65536&handed=1&count=9&duration=1s", "/capture?filter=(((",
		"/trace?next=3&client=fd00::/8&path=/a&slower=1ms&duration=1m", "/trace?sample=0&slower=-1h", "/%73tatus", "//status", "/../quit", "http://x/status", "*",
	} {
		f.Add([]byte("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	for _, s := range []string{
		"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcPOST /quit HTTP/1.1\r\nHost: x\r\n\r\nPOST /stop HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /quit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nDELETE /capture HTTP/1.0\r\n\r\n",
		"DELETE /trace HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
		"HEAD /status HTTP/1.1\r\nHost: x\r\n\r\nGET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET /status", "\x16\x03\x01",
	} {
		f.Add([]byte(s))
	}
	m, socket := &witness{}, filepath.Join(f.TempDir(), "control.sock")
	l, err := control.Listen(socket)
	if err != nil {
		f.Fatal(err)
	}
	s := control.Serve(l, m, slog.New(slog.DiscardHandler))
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		m.begin(t)
		answers := bufio.NewReader(bytes.NewReader(say(t, socket, b)))
		asked := m.all()
		requests := bufio.NewReader(bytes.NewReader(b))
		var allowed []string
		for answered := true; ; {
			q, err := http.ReadRequest(requests)
			if err == nil {
				_, err = io.Copy(io.Discard, q.Body)
				allowed = append(allowed, q.Method+" "+q.URL.Path)
			}
			if answered {
				answered = answer(t, answers, q)
			}
			if err != nil {
				break
			}
		}
		for _, what := range asked {
			i := slices.Index(allowed, what)
			if i < 0 {
				t.Fatalf("the master was asked for %q, the requests are %q", what, allowed)
			}
			allowed = allowed[i+1:]
		}
		if got := say(t, socket, []byte("GET /status HTTP/1.0\r\n\r\n")); !bytes.HasPrefix(got, []byte("HTTP/1.0 200 OK\r\n")) {
			t.Fatalf("the next client was answered %q", got)
		}
	})
}

// say writes all of b, ends its side, and reads to the end of the other.
func say(t *testing.T, socket string, b []byte) []byte {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_, _ = conn.Write(b) // the server may have closed by then
		_ = conn.(*net.UnixConn).CloseWrite()
	}()
	answers, err := io.ReadAll(conn)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		t.Fatalf("no end after %q", answers)
	}
	<-written
	return answers
}

// answer reads the answer to a request, nil for what is none. It reports whether there may be another one.
func answer(t *testing.T, answers *bufio.Reader, q *http.Request) bool {
	t.Helper()
	if _, err := answers.Peek(1); err != nil {
		return false
	}
	r, err := http.ReadResponse(answers, q)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("half an answer: %v", err)
	}
	if r.Header.Get("Content-Type") == "application/json" && (q == nil || q.Method != http.MethodHead) && !json.Valid(body) {
		t.Fatalf("no JSON: %q", body)
	}
	return !r.Close && r.StatusCode >= 200
}
