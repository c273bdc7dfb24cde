package proxy

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestSteadyStateDoesNotAllocate counts what the loop's own code allocates in this
// package, in stack and in dataplane, by the profile of all allocations, and what
// netstack does for it: nothing either, but for some that -v lists.
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
		{"limits of the client", plainRequest, plainResponse, func(c *config.Config) {
			c.Limits.Client.Connections, c.Limits.Client.Requests, c.Limits.Client.Burst = 10, 1000000, 1000000
		}},
		{"over the rate of the client", plainRequest, plainResponse, func(c *config.Config) {
			c.Limits.Client.Requests, c.Limits.Client.Burst, c.Limits.Client.DryRun = 1, 1, true
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
			oursBefore, netstackBefore := allocations()
			began := time.Now()
			const n = 1000
			for range n {
				k.exchange(t)
			}
			ours, netstack := allocations()
			runtime.MemProfileRate = 0
			ours, netstack = ours.since(oursBefore), netstack.since(netstackBefore)
			lines := int64(time.Since(began)/time.Second) + 1 // of the log, at most
			if got := ours.total(); got > n/50+20*lines {
				t.Errorf("%d allocations in %d exchanges:\n%v", got, n, ours)
			}
			// Its pools are empty after the collections above, and fill again.
			if got := netstack.total(); got > n/5 && !raceEnabled() {
				t.Errorf("netstack allocates more than it is known to: %d in %d exchanges", got, n)
			}
			t.Logf("netstack: %d allocations in %d exchanges\n%v", netstack.total(), n, netstack)
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

// sites are numbers of allocated objects by the function that is to blame.
type sites map[string]int64

func (s sites) total() (n int64) {
	for _, v := range s {
		n += v
	}
	return n
}

// String lists the sites, those with most objects first.
func (s sites) String() string {
	names := slices.SortedFunc(maps.Keys(s), func(a, b string) int {
		return cmp.Or(cmp.Compare(s[b], s[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%8d %s\n", s[name], name)
	}
	return b.String()
}

// since returns what was allocated after an earlier reading.
func (s sites) since(before sites) sites {
	moved := sites{}
	for name, n := range s {
		if n -= before[name]; n != 0 {
			moved[name] = n
		}
	}
	return moved
}

// allocations are the objects allocated since the profile was turned on: those of
// the product's packages, by the function, and those that netstack made for the
// worker, where the product is further out on the stack, or in its processors,
// where it cannot be told which host's it was. What the peers of the test
// allocate is in neither.
func allocations() (ours, netstack sites) {
	runtime.GC() // the profile is complete up to the last but one cycle
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 20_000)
	count, enough := runtime.MemProfile(records, true)
	if !enough {
		panic("more allocation sites than room for them")
	}
	ours, netstack = sites{}, sites{}
	for _, r := range records[:count] {
		inner, of := blame(runtime.CallersFrames(r.Stack()))
		switch {
		case inner == "":
		case of == "":
			ours[inner] += r.AllocObjects
		default:
			netstack[inner+", in "+of] += r.AllocObjects
		}
	}
	return ours, netstack
}

// blame returns the innermost function of a stack that belongs to the product or to
// netstack. of is "" when it is the product's, or else for whom netstack worked.
func blame(frames *runtime.Frames) (inner, of string) {
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "gvisor.dev/"):
			// How the test's peers use netstack, and how it sends for hosts without
			// the worker's lean path.
			if strings.Contains(f.Function, "/gonet.") || strings.HasSuffix(f.Function, "(*PacketBufferList).PushBack") {
				return "", ""
			}
			if inner == "" {
				inner = f.Function
			}
			if strings.Contains(f.Function, "(*processor).start") {
				return inner, f.Function
			}
		case product(f):
			if inner == "" {
				return f.Function, ""
			}
			return inner, f.Function
		case strings.HasPrefix(f.Function, "ringroad/") || !more:
			return "", ""
		}
	}
}

// raceEnabled reports whether the test was built with -race, which has sync.Pool lose
// objects at random.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// product says whether a function is one that the worker runs.
func product(f runtime.Frame) bool {
	for _, p := range []string{"ringroad/proxy", "ringroad/stack.", "ringroad/dataplane."} {
		if strings.HasPrefix(f.Function, p) && !strings.HasSuffix(f.File, "_test.go") {
			return true
		}
	}
	return false
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
