package stacktest

import (
	"sync"

	"ringroad/dataplane"
)

// exchange is the handover of all workers: a bounded FIFO for each.
type exchange struct {
	mu      sync.Mutex
	workers []*handover
	limit   int // frames that a worker's FIFO takes
}

// handover is one worker's stack.Handover.
type handover struct {
	*exchange
	self   int
	wake   func()
	sent   []parcel // not yet flushed; the owner's
	queue  []parcel // guarded by mu
	parked bool     // guarded by mu
}

type parcel struct {
	to int
	dataplane.Handed
}

func newExchange(workers int) *exchange {
	x := &exchange{limit: ringFrames}
	for i := range workers {
		x.workers = append(x.workers, &handover{exchange: x, self: i})
	}
	return x
}

func (x *exchange) inject(to int, h dataplane.Handed) {
	x.mu.Lock()
	w := x.workers[to]
	w.queue = append(w.queue, parcel{to, h})
	x.mu.Unlock()
	w.wake()
}

func (x *exchange) waiting() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.workers {
		n += len(w.queue)
	}
	return n
}

func (h *handover) Send(to, link, origin int, frame []byte) bool {
	if to == h.self {
		panic("handed over to itself")
	}
	h.mu.Lock()
	full := len(h.workers[to].queue)+len(h.sent) >= h.limit
	h.mu.Unlock()
	if full {
		return false
	}
	h.sent = append(h.sent, parcel{to, dataplane.Handed{Link: link, Origin: origin, Frame: append([]byte(nil), frame...)}})
	return true
}

func (h *handover) Receive() (dataplane.Handed, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) == 0 {
		return dataplane.Handed{}, false
	}
	p := h.queue[0]
	h.queue = h.queue[1:]
	return p.Handed, true
}

func (h *handover) Flush() {
	h.mu.Lock()
	var wake []func()
	for _, p := range h.sent {
		w := h.workers[p.to]
		w.queue = append(w.queue, p)
		if w.parked {
			w.parked = false
			wake = append(wake, w.wake)
		}
	}
	h.sent = h.sent[:0]
	h.mu.Unlock()
	for _, f := range wake {
		f()
	}
}

func (h *handover) Park() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parked = len(h.queue) == 0
	return h.parked
}

func (h *handover) Unpark() {
	h.mu.Lock()
	h.parked = false
	h.mu.Unlock()
}
