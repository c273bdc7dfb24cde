package trace

import (
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"ringroad/cmd/internal/feed"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/config"
	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// BenchmarkFollowed is a relayed request on kept connections, of 64 clients whose
// frames, and those of the server, the benchmark makes itself. Every few milliseconds a
// trace begins or ends: traced/off is what it costs, as the median of ratios of
// processor time between neighbours, which other programs on the machine disturb least.
func BenchmarkFollowed(b *testing.B) {
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"sample=1000", Options{Sample: 1000}},
		{"path of no request", Options{Path: "/other"}},
		{"slower than all", Options{Slower: 10 * time.Second}},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkFollowed(b, c.o) })
	}
}

func benchmarkFollowed(b *testing.B, o Options) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	d := newWire()
	s, err := stack.New(stack.Config{
		Resolver: d, Waiter: d, FirstPort: 50000, LastPort: 59999,
		Links: []stack.Link{d.Link()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c := config.Default()
	c.Limits.KeepAliveRequests = 0
	c.Upstreams = []config.Upstream{{Name: "app", KeepAlive: 256, KeepAliveTimeout: time.Minute, Servers: []netip.AddrPort{netip.MustParseAddrPort("10.1.0.3:8080")}}}
	c.Listeners = []config.Listener{{Address: netip.MustParseAddrPort("10.1.0.1:80"), Backlog: 64, Routes: []config.Route{{Upstream: "app"}}}}

	session, err := feed.New("benchmark", bufferBytes, 1)
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	r, err := NewRecorder(&Order{Options: o, Start: time.Now()}, session.File(0), Worker{
		Now: s.Elapsed, Times: s.SetTimes, Queues: [][]int{{0}}, TX: []*dataplane.Stats{{}},
	})
	if err != nil {
		b.Fatal(err)
	}
	var w *proxy.Worker
	var costs []float64 // of a request, in pieces: off, traced, off, ...
	var spent time.Duration
	answered, last, first := 0, d.answered, 0
	tick := func() {
		now := processorTime()
		if n := d.answered - last; len(costs) > 0 || d.answered > 20_000 {
			costs = append(costs, float64(now-spent)/float64(n))
			if len(costs) == 1 {
				first = d.answered
				b.ResetTimer()
			}
		}
		if len(costs)%2 == 1 {
			s.SetHooks(r.Stack())
			w.SetHooks(r.Proxy())
		} else {
			s.SetHooks(nil)
			s.SetTimes(false)
			w.SetHooks(nil)
			r.finishAll()
		}
		for _, ok := session.Rings[0].Peek(); ok; _, ok = session.Rings[0].Peek() {
			session.Rings[0].Take()
		}
		last, spent = d.answered, processorTime()
		if answered = d.answered - first; len(costs) > 8 && answered >= b.N {
			w.Stop()
		}
	}
	w, err = proxy.New(proxy.Options{Config: c, Stack: s, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Tick: tick, TickInterval: 5 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 64 {
		d.connect(uint16(5000 + i))
	}
	w.Run()
	b.StopTimer()
	var ratios, off []float64
	for i := 2; i+1 < len(costs); i += 2 { // costs[i] is off with a traced one on either side
		ratios = append(ratios, (costs[i-1]+costs[i+1])/2/costs[i])
		off = append(off, costs[i])
	}
	slices.Sort(ratios)
	slices.Sort(off)
	b.ReportMetric(off[len(off)/2], "cpu-ns/op")
	b.ReportMetric(ratios[len(ratios)/2], "traced/off")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const (
	wireRequest = "GET /plain HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n"
	wireAnswer  = "HTTP/1.1 200 OK\r\nServer: benchmark\r\nDate: Thu, 26 Nov 2026 12:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
)

// wire is the network: peers that answer what is sent at once.
type wire struct {
	stacktest.Direct
	answered int
	peers    map[uint16]*stacktest.Peer // by port of the client, or of the worker where it is a server
}

func newWire() *wire {
	d := &wire{peers: map[uint16]*stacktest.Peer{}}
	d.Sent = d.answer
	return d
}

func (d *wire) connect(port uint16) {
	d.peers[port] = &stacktest.Peer{Host: 2, Port: port, To: 80, Seq: 1000}
	d.Put(d.peers[port].Send(flagSYN, ""))
}

// answer has a peer answer.
func (d *wire) answer(t stacktest.Segment) {
	port, server := t.To, t.To == 8080
	if server {
		port = t.From
	}
	p := d.peers[port]
	if p == nil {
		p = &stacktest.Peer{Host: 3, Port: 8080, To: port, Seq: 1000}
		d.peers[port] = p
	}
	p.Take(&t)
	switch syn := t.Flags&flagSYN != 0; {
	case syn && server:
		d.Put(p.Send(flagSYN|flagACK, ""))
	case syn:
		d.Put(p.Send(flagACK, ""), p.Send(flagACK|flagPSH, wireRequest))
	case t.Bytes > 0 && server:
		d.Put(p.Send(flagACK|flagPSH, wireAnswer))
	case t.Bytes > 0:
		d.answered++
		d.Put(p.Send(flagACK|flagPSH, wireRequest))
	}
}
