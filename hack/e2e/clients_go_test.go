package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"ringroad/hack/lab/backend"
)

// goCells is net/http.
var goCells = map[feature]cell{
	canGet: does(func(t *testing.T, s *site) { goGet(t, httpClient(t, shared), s) }),
	canHead: does(func(t *testing.T, s *site) {
		c := httpClient(t, shared)
		resp, body := fetch(t, c, request(t, http.MethodHead, s.url("/bytes/5000"), nil))
		if resp.StatusCode != 200 || resp.ContentLength != 5000 || body != "" {
			t.Errorf("got %s, length %d, %q", resp.Status, resp.ContentLength, body)
		}
		goGet(t, c, s)
	}),
	canPost: does(func(t *testing.T, s *site) {
		_, answer := fetch(t, httpClient(t, shared), request(t, http.MethodPost, s.url("/digest"), strings.NewReader(small)))
		checkDigest(t, answer, false, false)
	}),
	canPostChunked: does(func(t *testing.T, s *site) {
		_, answer := fetch(t, httpClient(t, shared), request(t, http.MethodPost, s.url("/digest"), unsized(strings.NewReader(small))))
		checkDigest(t, answer, true, false)
	}),
	canExpect: does(func(t *testing.T, s *site) {
		for _, body := range []io.Reader{strings.NewReader(small), unsized(strings.NewReader(small))} {
			got := make(chan struct{}, 1)
			trace := &httptrace.ClientTrace{Got100Continue: func() { got <- struct{}{} }}
			r := request(t, http.MethodPost, s.url("/digest"), body)
			r.Header.Set("Expect", "100-continue")
			c := httpClient(t, shared)
			c.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute // it would send the body then
			_, answer := fetch(t, c, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
			checkDigest(t, answer, r.ContentLength == 0, true)
			if len(got) != 1 {
				t.Error("no 100 (Continue)")
			}
		}
	}),
	canDownload: does(func(t *testing.T, s *site) {
		for _, query := range []string{"", "?chunked"} {
			resp, err := httpClient(t, shared).Get(s.url(fmt.Sprintf("/bytes/%d%s", s.large.size, query)))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if sum, n, err := backend.Sum(resp.Body); err != nil || n != s.large.size || sum != s.large.bytesSum {
				t.Errorf("%d bytes of %d, %v, with SHA-256 %s, want %s", n, s.large.size, err, sum, s.large.bytesSum)
			}
		}
	}),
	canUpload: does(func(t *testing.T, s *site) {
		for _, length := range []int64{s.large.size, -1} {
			f, err := os.Open(s.large.file)
			if err != nil {
				t.Fatal(err)
			}
			r := request(t, http.MethodPut, s.url("/digest"), f) // which closes it
			r.ContentLength = length
			_, answer := fetch(t, httpClient(t, shared), r)
			checkUpload(t, s, answer, length < 0)
		}
	}),
	canReuse: does(func(t *testing.T, s *site) {
		c := httpClient(t, shared)
		for range 10 {
			goGet(t, c, s)
		}
	}),
	canUpgrade: does(func(t *testing.T, s *site) {
		r := request(t, http.MethodGet, s.url("/upgrade"), nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		c := httpClient(t, shared)
		c.Timeout = 0 // with one, the tunnel could not be written to
		resp, err := c.Do(r.WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		tunnel, ok := resp.Body.(io.ReadWriteCloser)
		if !ok || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "echo" {
			t.Fatalf("got %s, %v", resp.Status, resp.Header)
		}
		for _, n := range []int{1, 1000, 300_000} {
			sent, got := make([]byte, n), make([]byte, n)
			_, _ = rand.Read(sent)
			go func() { _, _ = tunnel.Write(sent) }() // the echo tells
			if _, err := io.ReadFull(tunnel, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%d bytes did not come back: %v", n, err)
			}
		}
	}),
	canBodyless: does(func(t *testing.T, s *site) {
		c := httpClient(t, shared)
		for _, status := range []int{204, 304} {
			resp, body := fetch(t, c, request(t, http.MethodGet, s.url(fmt.Sprintf("/status/%d", status)), nil))
			if resp.StatusCode != status || body != "" {
				t.Errorf("%d: got %s, %q", status, resp.Status, body)
			}
		}
		goGet(t, c, s)
	}),
	canInterim: does(func(t *testing.T, s *site) {
		var early []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			early = append(early, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		}}
		r := request(t, http.MethodGet, s.url("/early"), nil)
		resp, body := fetch(t, httpClient(t, shared), r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
		if want := []string{"103 </style.css>; rel=preload"}; resp.StatusCode != 200 || body != hello || !reflect.DeepEqual(early, want) {
			t.Errorf("got %q, then %s, %q", early, resp.Status, body)
		}
	}),
}

// unsized hides what a reader is, so that net/http sends it in chunks.
func unsized(r io.Reader) io.Reader { return io.MultiReader(r) }

func goGet(t *testing.T, c *http.Client, s *site) {
	t.Helper()
	resp, body := fetch(t, c, request(t, http.MethodGet, s.url("/"), nil))
	if resp.StatusCode != 200 || resp.Proto != "HTTP/1.1" || body != hello {
		t.Errorf("got %s, %s, %q", resp.Proto, resp.Status, body)
	}
}

// webSocketCells is github.com/coder/websocket, which has one thing to do.
var webSocketCells = func() map[feature]cell {
	cells := map[feature]cell{}
	for _, f := range features {
		cells[f] = cannot("it has one request, an upgrade")
	}
	cells[canUpgrade] = does(func(t *testing.T, s *site) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for _, compression := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionContextTakeover} {
			c, resp, err := websocket.Dial(ctx, "ws://"+s.address+"/websocket", &websocket.DialOptions{
				HTTPClient: &http.Client{Transport: httpClient(t, shared).Transport}, CompressionMode: compression,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.CloseNow() }() // closed already when all goes well
			if resp.StatusCode != http.StatusSwitchingProtocols {
				t.Errorf("got %s", resp.Status)
			}
			c.SetReadLimit(64 * mib)
			sent := make([]byte, 4*mib)
			_, _ = rand.Read(sent)
			for i, message := range [][]byte{[]byte("hello"), {}, bytes.Repeat([]byte("ä"), 50_000), sent} {
				kind := websocket.MessageText
				if i == 3 {
					kind = websocket.MessageBinary
				}
				if err := c.Write(ctx, kind, message); err != nil {
					t.Fatal(err)
				}
				gotKind, got, err := c.Read(ctx)
				if err != nil || gotKind != kind || !bytes.Equal(got, message) {
					t.Fatalf("message %d: %v, %d bytes, %v", i, gotKind, len(got), err)
				}
			}
			if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil { // waits for the other side's
				t.Error(err)
			}
		}
	})
	return cells
}()
