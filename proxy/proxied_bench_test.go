package proxy

import (
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// BenchmarkProxied is a small request through the loop on 64 kept connections and as many to a backend, in turns of three
// frames, as a worker has them with that many clients. The peers are the benchmark itself: it is what a request takes of
// user space, but for the rings and waiting. cpu-ns is the processor time of the process, which other programs on the
// machine disturb least. In cold the caches are as after a kick, in which the kernel and the peers had them; the time to
// make them so is not counted.
func BenchmarkProxied(b *testing.B) {
	b.Run("warm", func(b *testing.B) { benchmarkProxied(b, new(kernel)) })
	b.Run("cold", func(b *testing.B) { benchmarkProxied(b, &kernel{memory: make([]uint64, 1<<20/8)}) })
}

// kernel is a Direct whose kicks leave other memory in the caches.
type kernel struct {
	stacktest.Direct
	memory []uint64
	took   time.Duration
}

func (k *kernel) Kick() error {
	err := k.Direct.Kick()
	if k.memory != nil {
		began := processorTime()
		for i := 0; i < len(k.memory); i += 8 {
			k.memory[i]++
		}
		k.took += processorTime() - began
	}
	return err
}

func (k *kernel) time() time.Duration { return processorTime() - k.took }

func benchmarkProxied(b *testing.B, d *kernel) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as a worker has it
	const clients, backend, firstPort = 64, 8080, 32768
	link := d.Link()
	link.Device = d
	w := benchmarkWorker(b, stack.Config{Resolver: d, Waiter: d, Batch: 3, Links: []stack.Link{link}})
	peers, servers := make([]stacktest.Peer, clients), map[uint16]*stacktest.Peer{}
	answers, first, before := 0, 0, time.Duration(0)
	d.Sent = func(t stacktest.Segment) {
		if t.To == backend {
			p := servers[t.From]
			if p == nil {
				p = &stacktest.Peer{Host: 3, Port: backend, To: t.From, Seq: 2000}
				servers[t.From] = p
			}
			if !p.Take(&t) {
				return // sent again: the machine stood still
			}
			switch {
			case t.Flags&stacktest.SYN != 0:
				d.Put(p.Send(stacktest.SYN|stacktest.ACK, ""))
			case t.Bytes > 0:
				d.Put(p.Send(stacktest.ACK|stacktest.PSH, plainResponse))
			}
			return
		}
		p := &peers[t.To-firstPort]
		if !p.Take(&t) {
			return
		}
		switch {
		case t.Flags&stacktest.SYN != 0:
			d.Put(p.Send(stacktest.ACK, ""))
		case t.Bytes > 0:
			if answers++; answers == 100*clients {
				first, before = answers, d.time()
				b.ResetTimer()
			}
			if answers == first+b.N && first > 0 {
				w.Stop()
				return
			}
		}
		d.Put(p.Send(stacktest.ACK|stacktest.PSH, plainRequest))
	}
	for i := range peers {
		peers[i] = stacktest.Peer{Host: 2, Port: firstPort + uint16(i), To: 80, Seq: 1000}
		d.Put(peers[i].Send(stacktest.SYN, ""))
	}
	w.Run()
	b.ReportMetric(float64(d.time()-before)/float64(b.N), "cpu-ns/op")
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// benchmarkWorker is a worker on a stack of its own, with the backend 10.1.0.3:8080.
func benchmarkWorker(b *testing.B, on stack.Config) *Worker {
	s, err := stack.New(on)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	c := newConfig(func(c *config.Config) {
		c.Upstreams[0].Servers = []netip.AddrPort{netip.MustParseAddrPort("10.1.0.3:8080")}
	})
	if err := c.Validate(); err != nil {
		b.Fatal(err)
	}
	w, err := New(Options{Config: c, Stack: s, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	return w
}
