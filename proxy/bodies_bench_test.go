package proxy

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// BenchmarkProxiedBody is BenchmarkProxied with 16 clients and bodies, of the answer (down) or the request (up), in full
// frames whose checksums are verified. cpu-ns is without the peers.
func BenchmarkProxiedBody(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, way := range []string{"down", "up"} {
			for _, caches := range []string{"warm", "cold"} {
				b.Run(way+strconv.Itoa(size>>10)+"K/"+caches, func(b *testing.B) {
					k := &kernel{}
					if caches == "cold" {
						k.memory = make([]uint64, 4<<20/8)
					}
					w := &bodyWire{kernel: k, size: size, up: way == "up"}
					w.run(b)
				})
			}
		}
	}
}

// bodyWire is a kernel with the peers of a benchmark, which acknowledge every fourth frame.
type bodyWire struct {
	*kernel
	size    int
	up      bool
	answers int
	servers map[uint16]*bodyPeer
	peers   []bodyPeer
	frames  [2048][2048]byte // that come in, used in turn as those of a UMEM are
	next    int
	spent   time.Duration // by the peers
	sent    int           // frames that the stack sent
}

// bodyPeer is one end of a connection.
type bodyPeer struct {
	stacktest.Peer
	received    int    // bytes of the message
	unanswered  int    // frames
	queue       int    // bytes to be sent, as far as the window permits
	sent, acked uint32 // bytes so far
}

const (
	bodyClients = 16
	bodyFull    = 1448
	bodyWindow  = 96 << 10 // a peer's window, so that frames do not pile up
)

// Kick has the peers take what was sent, which is not the worker's time.
func (w *bodyWire) Kick() error {
	began := processorTime()
	err := w.kernel.Kick()
	w.spent += processorTime() - began
	return err
}

func (w *bodyWire) push(p *bodyPeer, flags byte, head string, body int) {
	f := p.Send(flags, head)
	p.Stopped = true // segments of one millisecond are merged
	p.Seq += uint32(body)
	to := w.frames[w.next%len(w.frames)][:len(f)+body]
	w.next++
	copy(to, f)
	stacktest.Finish(to)
	w.Put(to)
}

// pour sends what the window of the peer permits.
func (w *bodyWire) pour(p *bodyPeer) {
	for p.queue > 0 && p.sent-p.acked < bodyWindow {
		n := min(p.queue, bodyFull)
		flags := stacktest.ACK
		if p.queue -= n; p.queue == 0 {
			flags |= stacktest.PSH
		}
		p.sent += uint32(n)
		w.push(p, flags, "", n)
	}
}

// message begins one with a body of the size.
func (w *bodyWire) message(p *bodyPeer, head string, body bool) {
	if !body {
		p.sent += uint32(len(head))
		w.push(p, stacktest.ACK|stacktest.PSH, head, 0)
		return
	}
	n := min(w.size, bodyFull-len(head))
	p.sent += uint32(n + len(head))
	p.queue = w.size - n
	w.push(p, stacktest.ACK, head, n)
	w.pour(p)
}

func (w *bodyWire) take(p *bodyPeer, t *stacktest.Segment) bool {
	if t.Acked > 0 && t.Flags&stacktest.SYN == 0 {
		p.acked = t.Acked - 1001
	}
	if !p.Take(t) && t.Bytes > 0 {
		return false
	}
	p.received += t.Bytes
	w.pour(p)
	if p.unanswered++; t.Bytes > 0 && p.unanswered >= 4 {
		p.unanswered = 0
		w.push(p, stacktest.ACK, "", 0)
	}
	return true
}

func (w *bodyWire) run(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as a worker has it
	const backend, firstPort, warm = 8080, 32768, 20 * bodyClients
	link := w.Link()
	link.Device, link.Checksums = w, stack.ChecksumsRight
	worker := benchmarkWorker(b, stack.Config{Resolver: w, Waiter: w, Links: []stack.Link{link}})
	length := "Content-Length: " + strconv.Itoa(w.size)
	request, response := plainRequest, strings.Replace(plainResponse, "Content-Length: 0", length, 1)
	if w.up {
		request, response = strings.Replace(plainRequest, "GET", "POST", 1), plainResponse
		request = strings.TrimSuffix(request, "\r\n") + length + "\r\n\r\n"
	}
	w.servers, w.peers = map[uint16]*bodyPeer{}, make([]bodyPeer, bodyClients)
	before := time.Duration(0)
	w.Sent = func(t stacktest.Segment) {
		w.sent++
		if t.To == backend {
			p := w.servers[t.From]
			if p == nil {
				p = &bodyPeer{Peer: stacktest.Peer{Host: 3, Port: backend, To: t.From, Seq: 1000}}
				w.servers[t.From] = p
			}
			if t.Flags&stacktest.SYN != 0 {
				p.Take(&t)
				w.push(p, stacktest.SYN|stacktest.ACK, "", 0)
				return
			}
			if !w.take(p, &t) || t.Bytes == 0 {
				return
			}
			if !w.up || p.received >= w.size {
				p.received, p.unanswered = 0, 0
				w.message(p, response, !w.up)
			}
			return
		}
		p := &w.peers[t.To-firstPort]
		if t.Flags&stacktest.SYN != 0 {
			p.Take(&t)
			w.push(p, stacktest.ACK, "", 0)
			w.message(p, request, w.up)
			return
		}
		if !w.take(p, &t) || t.Bytes == 0 {
			return
		}
		if !w.up && p.received < w.size {
			return
		}
		p.received, p.unanswered = 0, 0
		switch w.answers++; w.answers {
		case warm:
			before, w.sent = processorTime()-w.spent, 0
			b.ResetTimer()
		case warm + b.N:
			worker.Stop()
			return
		}
		w.message(p, request, w.up)
	}
	for i := range w.peers {
		p := &w.peers[i]
		p.Peer = stacktest.Peer{Host: 2, Port: firstPort + uint16(i), To: 80, Seq: 1000}
		w.push(p, stacktest.SYN, "", 0)
	}
	b.SetBytes(int64(w.size))
	b.ReportAllocs()
	worker.Run()
	b.ReportMetric(float64(processorTime()-w.spent-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(w.sent)/float64(b.N), "frames/op")
}
