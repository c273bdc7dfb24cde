package proxy

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"ringroad/proxy/config"
)

// keepAlive is a client connection and an answering backend for requests that are
// repeated many times, with no allocation of their own.
type keepAlive struct {
	r       *rig
	c       *raw
	request []byte
	answer  []byte
}

func newKeepAlive(t testing.TB, request, response string, change func(*config.Config)) *keepAlive {
	r := newRig(t, change)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		// Requests are of one size once the first was seen.
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := io.WriteString(c, response); err != nil {
				return
			}
		}
	})
	k := &keepAlive{r: r, c: r.dial(), request: []byte(request)}
	return k
}

// exchange is one request. The size of the answer is learnt from the first.
func (k *keepAlive) exchange(t testing.TB) {
	if _, err := k.c.Write(k.request); err != nil {
		t.Fatal(err)
	}
	if k.answer == nil {
		b := make([]byte, 64<<10)
		n, err := k.c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		k.answer = b[:n]
		return
	}
	if _, err := io.ReadFull(k.c.Conn, k.answer); err != nil {
		t.Fatal(err)
	}
}

const (
	plainRequest  = "GET /path?query HTTP/1.1\r\nHost: example.org\r\nUser-Agent: test/1.0\r\nAccept: */*\r\n\r\n"
	plainResponse = "HTTP/1.1 200 OK\r\nServer: test\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
)

// TestSteadyStateDoesNotAllocate counts what the loop's own code allocates, by the
// profile of all allocations: netstack and the peers have theirs.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	for _, tt := range []struct {
		name, request, response string
		change                  func(*config.Config)
	}{
		{"no body", plainRequest, plainResponse, nil},
		{"length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", ok, nil},
		{"chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", nil},
		{"error page", "GET /none HTTP/1.1\r\nHost: elsewhere\r\n\r\n", "", func(c *config.Config) {
			c.Listeners[0].Routes[0].Host = "example.org"
		}},
		{"fields and JSON lines", plainRequest, plainResponse, func(c *config.Config) {
			c.Log.Format, c.Forwarded, c.Via = config.JSON, config.ForwardedReplace, true
			c.Listeners[0].Request = config.Edits{Set: fields("X-Host", "$host$request_uri"), Remove: []string{"Accept"}}
			c.Listeners[0].Response = config.Edits{Set: fields("Server", "x"), Add: fields("X-Client", "$remote_addr")}
		}},
		{"redirect", plainRequest, "", func(c *config.Config) {
			c.Listeners[0].Routes[0] = config.Route{Redirect: &config.Redirect{Status: 308, Location: "https://$host$request_uri"}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newKeepAlive(t, tt.request, tt.response, tt.change)
			for range 100 {
				k.exchange(t)
			}
			k.r.reload(func(c *config.Config) { // to the same, with other limits
				if tt.change != nil {
					tt.change(c)
				}
				c.Limits.FieldsBytes *= 2
			})
			for range 100 {
				k.exchange(t)
			}
			k.r.stats() // the loop is between two turns from here on
			runtime.MemProfileRate = 1
			before := ownAllocations()
			const n = 1000
			for range n {
				k.exchange(t)
			}
			after := ownAllocations()
			runtime.MemProfileRate = 0
			if got := after - before; got > n/50 {
				t.Errorf("%d allocations in %d exchanges", got, n)
			}
		})
	}
}

// TestKeepAliveTakesTwoReadsAndTwoWrites: one of each a side and exchange, and
// none that only finds out that there is nothing.
func TestKeepAliveTakesTwoReadsAndTwoWrites(t *testing.T) {
	k := newKeepAlive(t, plainRequest, plainResponse, nil)
	for range 10 {
		k.exchange(t)
	}
	// A segment that comes between two reads of a turn costs one more.
	const n, slack = 1000, 20
	before := k.r.stats()
	for range n {
		k.exchange(t)
	}
	s := k.r.stats()
	reads, empty, writes := s.Reads-before.Reads, s.ReadsEmpty-before.ReadsEmpty, s.Writes-before.Writes
	if reads > 2*n+slack || empty > slack || writes > 2*n+slack {
		t.Errorf("%d reads, %d of them empty, and %d writes for %d exchanges", reads, empty, writes, n)
	}
}

// ownAllocations is how many objects this package and those beneath it in the
// folder have allocated since the profile was turned on: by the first frame of the
// allocation's stack that belongs to this module or to netstack.
func ownAllocations() (n int64) {
	runtime.GC() // the profile is complete up to the last but one cycle
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 20_000)
	count, enough := runtime.MemProfile(records, true)
	if !enough {
		panic("more allocation sites than room for them")
	}
	for _, r := range records[:count] {
		frames := runtime.CallersFrames(r.Stack())
		for {
			f, more := frames.Next()
			if strings.HasPrefix(f.Function, "ringroad/proxy") && !strings.HasSuffix(f.File, "_test.go") {
				n += r.AllocObjects
			}
			if strings.HasPrefix(f.Function, "ringroad/") || strings.HasPrefix(f.Function, "gvisor.dev/") || !more {
				break
			}
		}
	}
	return n
}

// BenchmarkKeepAlive is one exchange of a keep-alive client through the worker
// over the in-memory network. The peers and both netstacks are in the figure.
func BenchmarkKeepAlive(b *testing.B) {
	k := newKeepAlive(b, plainRequest, plainResponse, nil)
	k.exchange(b)
	b.ReportAllocs()
	for b.Loop() {
		k.exchange(b)
	}
}
