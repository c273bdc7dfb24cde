package trace

import (
	"encoding/binary"
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
	d := &wire{peers: map[uint32]*wirePeer{}}
	s, err := stack.New(stack.Config{
		Resolver: d, Waiter: d, FirstPort: 50000, LastPort: 59999,
		Links: []stack.Link{{
			Name: "e0", Index: 1, MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, 1}, Device: d, TrustChecksum: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")},
		}},
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

// wirePeer is a client, or the server's end of a connection.
type wirePeer struct {
	wire     *wire
	server   bool
	port     uint16 // of the worker's peer, or of the worker where it is a server
	seq, ack uint32
	stamp    uint32
	frames   [2][512]byte // of which the later may be made while the other is read
	next     int
}

// wire is the network: a device whose peers answer what is sent at once. It is the
// waiter and the resolver too.
type wire struct {
	in       [][]byte
	out      [2048]byte
	answered int
	peers    map[uint32]*wirePeer
}

func (d *wire) connect(port uint16) {
	p := &wirePeer{wire: d, port: port, seq: 1000}
	d.peers[uint32(port)] = p
	p.send(flagSYN, "", 2, 4, 0x05, 0xb4)
	p.seq++
}

func (p *wirePeer) send(flags byte, data string, options ...byte) {
	be := binary.BigEndian
	p.stamp++
	p.next ^= 1
	from, sport, dport := byte(2), p.port, uint16(80)
	if p.server {
		from, sport, dport = 3, 8080, p.port
	}
	n := 20 + 32 + len(options) + len(data)
	f := append(p.frames[p.next][:0], 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0)
	f = append(f, 0x45, 0, byte(n>>8), byte(n), 0, 0, 0, 0, 64, 6, 0, 0, 10, 1, 0, from, 10, 1, 0, 1)
	sum := uint32(0)
	for i := 14; i < len(f); i += 2 {
		sum += uint32(be.Uint16(f[i:]))
	}
	be.PutUint16(f[24:], ^uint16(sum>>16+sum)) // of addresses such as these it carries over once
	f = be.AppendUint16(be.AppendUint16(f, sport), dport)
	f = be.AppendUint32(be.AppendUint32(f, p.seq), p.ack)
	f = append(f, byte(32+len(options))<<2, flags, 0xf0, 0, 0, 0, 0, 0)
	f = append(f, options...)
	f = be.AppendUint32(append(f, 1, 1, 8, 10), p.stamp)
	f = append(append(f, 0, 0, 0, 0), data...)
	p.seq += uint32(len(data))
	p.wire.in = append(p.wire.in, f)
}

// Submit has the peer answer.
func (d *wire) Submit(_ dataplane.TXFrame, n int) {
	t, be := d.out[34:n], binary.BigEndian
	key, flags := uint32(be.Uint16(t[2:])), t[13]
	server := key == 8080
	if server {
		key = uint32(be.Uint16(t))
	}
	p := d.peers[key]
	if p == nil {
		p = &wirePeer{wire: d, server: true, port: uint16(key), seq: 1000}
		d.peers[key] = p
	}
	payload := uint32(len(t) - int(t[12]>>4)*4)
	p.ack = be.Uint32(t[4:]) + payload
	switch {
	case flags&flagSYN != 0 && server:
		p.ack++
		p.send(flagSYN|flagACK, "", 2, 4, 0x05, 0xb4)
		p.seq++
	case flags&flagSYN != 0:
		p.ack++
		p.send(flagACK, "")
		p.send(flagACK|flagPSH, wireRequest)
	case payload > 0 && server:
		p.send(flagACK|flagPSH, wireAnswer)
	case payload > 0:
		d.answered++
		p.send(flagACK|flagPSH, wireRequest)
	}
}

func (d *wire) Waiting() int       { return len(d.in) }
func (d *wire) Peek(max int) int   { return min(max, len(d.in)) }
func (d *wire) Frame(i int) []byte { return d.in[i] }
func (d *wire) Chained() bool      { return false }
func (d *wire) More(int) bool      { return false }
func (d *wire) Release(n int)      { d.in = d.in[:copy(d.in, d.in[n:])] }
func (d *wire) Reserve() (f dataplane.TXFrame, b []byte, ok bool) {
	return f, d.out[:], true
}
func (d *wire) TXChecksum() bool                               { return false }
func (d *wire) SubmitPartial(f dataplane.TXFrame, n, _, _ int) { d.Submit(f, n) }
func (d *wire) Discard(dataplane.TXFrame)                      {}
func (d *wire) Unpublished() int                               { return 0 }
func (d *wire) Kick() error                                    { return nil }
func (d *wire) Pending() int                                   { return 0 }
func (d *wire) Poll() bool                                     { return len(d.in) > 0 }
func (d *wire) Wait(time.Duration)                             { runtime.Gosched() }
func (d *wire) Wake()                                          {}
func (d *wire) Lookup(int, netip.Addr) ([6]byte, bool)         { return [6]byte{2, 0, 0, 0, 0, 2}, true }
func (d *wire) Provoke(int, netip.Addr)                        {}
func (d *wire) Generation() uint64                             { return 1 }
func (d *wire) Changed() <-chan struct{}                       { return nil }
func (d *wire) Routes() []dataplane.Route {
	return []dataplane.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), IfIndex: 1, Source: netip.MustParseAddr("10.1.0.1")}}
}
