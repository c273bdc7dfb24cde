package stacktest

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"

	"ringroad/dataplane"
)

const (
	frameBytes = 9000 + 14 // of the largest MTU of a link
	pieceBytes = 3840      // what the kernel puts into a frame of 4096 bytes
	txFrames   = 512
	ringFrames = 4096
)

// wire is one direction of an in-memory Ethernet link: a bounded FIFO.
type wire struct {
	mu     sync.Mutex
	frames [][]byte
	notify func()
	filter func([]byte) bool // nil, or false: the frame is lost
}

func (w *wire) put(frame []byte) {
	w.mu.Lock()
	if w.filter != nil && !w.filter(frame) || len(w.frames) >= ringFrames {
		w.mu.Unlock()
		return
	}
	w.frames = append(w.frames, append([]byte(nil), frame...))
	notify := w.notify
	w.mu.Unlock()
	notify()
}

func (w *wire) setFilter(keep func([]byte) bool) {
	w.mu.Lock()
	w.filter = keep
	w.mu.Unlock()
}

// fan is the wire from a host, which ends in the queues of an interface.
type fan struct {
	mu     sync.Mutex
	wires  []*wire // of each queue
	filter func([]byte) bool
	steer  func([]byte) int // nil: queue 0
}

func (f *fan) put(frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.filter != nil && !f.filter(frame) {
		return
	}
	queue := 0
	if f.steer != nil {
		queue = f.steer(frame)
	}
	f.wires[queue].put(frame)
}

func (f *fan) setFilter(keep func([]byte) bool) {
	f.mu.Lock()
	f.filter = keep
	f.mu.Unlock()
}

func (f *fan) setSteer(queue func([]byte) int) {
	f.mu.Lock()
	f.steer = queue
	f.mu.Unlock()
}

func (w *wire) take(max int) [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(max, len(w.frames))
	taken := w.frames[:n:n]
	w.frames = w.frames[n:]
	return taken
}

// device is a stack.Device on two wires, with a bounded number of TX frames.
type device struct {
	in, out *wire

	peeked [][]byte
	more   []bool // which of them go on in the next one

	mu      sync.Mutex
	umem    []byte
	free    []dataplane.TXFrame
	queued  []descriptor
	fresh   int  // of queued: not yet kicked
	stalled bool // the kernel takes nothing
	partial bool // it completes checksums
}

type descriptor struct {
	frame dataplane.TXFrame
	n     int
	// Where the checksum to be completed is, and where what it covers starts; 0: none is.
	start, offset int
}

func newDevice(in, out *wire) *device {
	d := &device{in: in, out: out, umem: make([]byte, txFrames*frameBytes)}
	for i := range txFrames {
		d.free = append(d.free, dataplane.TXFrame(i*frameBytes))
	}
	return d
}

func (d *device) Waiting() int {
	d.in.mu.Lock()
	defer d.in.mu.Unlock()
	return len(d.in.frames)
}

func (d *device) Peek(max int) int {
	d.peeked, d.more = d.peeked[:0], d.more[:0]
	for _, frame := range d.in.take(max) {
		for ; len(frame) > pieceBytes; frame = frame[pieceBytes:] {
			d.peeked, d.more = append(d.peeked, frame[:pieceBytes]), append(d.more, true)
		}
		d.peeked, d.more = append(d.peeked, frame), append(d.more, false)
	}
	return len(d.peeked)
}

func (d *device) Frame(i int) []byte { return d.peeked[i] }
func (d *device) Chained() bool      { return slices.Contains(d.more, true) }
func (d *device) More(i int) bool    { return d.more[i] }

// Release overwrites the frames, as the kernel does sooner or later.
func (d *device) Release(n int) {
	for _, frame := range d.peeked[:n] {
		clear(frame)
	}
}

func (d *device) Reserve() (dataplane.TXFrame, []byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.free) == 0 {
		return 0, nil, false
	}
	f := d.free[len(d.free)-1]
	d.free = d.free[:len(d.free)-1]
	return f, d.umem[f : f+frameBytes], true
}

func (d *device) Submit(f dataplane.TXFrame, n int) {
	d.mu.Lock()
	d.queued = append(d.queued, descriptor{frame: f, n: n})
	d.fresh++
	d.mu.Unlock()
}

func (d *device) TXChecksum() bool { return d.partial }

func (d *device) SubmitPartial(f dataplane.TXFrame, n, start, offset int) {
	d.mu.Lock()
	d.queued = append(d.queued, descriptor{f, n, start, offset})
	d.fresh++
	d.mu.Unlock()
}

func (d *device) Discard(f dataplane.TXFrame) {
	d.mu.Lock()
	d.free = append(d.free, f)
	d.mu.Unlock()
}

func (d *device) Unpublished() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fresh
}

func (d *device) Kick() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fresh = 0
	if d.stalled {
		return nil
	}
	for _, q := range d.queued {
		b := d.umem[q.frame : int(q.frame)+q.n]
		if q.start > 0 { // as skb_checksum_help does
			sum := checksum.Checksum(b[q.start:], 0)
			binary.BigEndian.PutUint16(b[q.start+q.offset:], ^sum)
		}
		d.out.put(b)
		d.free = append(d.free, q.frame)
	}
	d.queued = d.queued[:0]
	return nil
}

func (d *device) Pending() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queued)
}

// parker is a stack.Waiter on a channel.
type parker struct{ wake chan struct{} }

func (p *parker) Poll() bool { return false }

func (p *parker) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *parker) Wait(d time.Duration) {
	if d < 0 {
		<-p.wake
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.wake:
	case <-t.C:
	}
}
