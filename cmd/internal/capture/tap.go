package capture

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/net/bpf"

	"ringroad/cmd/internal/feed"
	"ringroad/stack"
)

// Order is what a worker is told of a capture.
type Order struct {
	Program   []bpf.RawInstruction `json:"program,omitempty"` // empty: every frame
	SnapLen   int                  `json:"snap_len"`
	Direction Direction            `json:"direction"`
	Handed    bool                 `json:"handed"`
	Start     time.Time            `json:"start"` // of the capture's clock
}

// Tap copies frames of one worker's stack into its ring. The loop makes and closes
// it; while it is on, the loop and netstack's processor call it.
type Tap struct {
	ring    *feed.Ring
	filter  *bpf.VM // nil: every frame
	snapLen int
	in, out bool
	handed  bool
	queues  [][]int // numbers by link and device
	base    time.Time

	mu sync.Mutex // one of the callers may interrupt the other
}

var _ stack.Tap = (*Tap)(nil)

// NewTap opens the ring in f, which it closes. queues are the numbers of the worker's
// queues, by link and device.
func NewTap(o *Order, f *os.File, queues [][]int) (*Tap, error) {
	defer f.Close()
	t := &Tap{
		snapLen: o.SnapLen, in: o.Direction != Outbound, out: o.Direction != Inbound, handed: o.Handed,
		queues: queues,
	}
	if len(o.Program) > 0 {
		code, known := bpf.Disassemble(o.Program)
		if !known {
			return nil, errors.New("start a capture: the filter is no program")
		}
		var err error
		if t.filter, err = bpf.NewVM(code); err != nil {
			return nil, fmt.Errorf("start a capture: %w", err)
		}
	}
	var err error
	if t.ring, err = feed.OpenRing(f); err != nil {
		return nil, fmt.Errorf("start a capture: %w", err)
	}
	// As a point of the monotonic clock, so that times cannot step back.
	now := time.Now()
	t.base = now.Add(o.Start.Sub(now))
	return t, nil
}

// Close unmaps the ring. The stack has the tap no more.
func (t *Tap) Close() error { return t.ring.Close() }

// Received implements stack.Tap.
func (t *Tap) Received(link, device int, frame []byte, fate stack.Fate) {
	if t.in {
		t.put(&record{kind: received, link: uint8(link), queue: uint16(t.queues[link][device]), fate: int16(fate)}, frame)
	}
}

// Handed implements stack.Tap.
func (t *Tap) Handed(link, from int, frame []byte, fate stack.Fate) {
	if t.handed && t.in {
		t.put(&record{kind: handed, link: uint8(link), queue: uint16(t.queues[link][0]), from: int16(from), fate: int16(fate)}, frame)
	}
}

// Sent implements stack.Tap.
func (t *Tap) Sent(link int, frame []byte) {
	if t.out {
		t.put(&record{kind: sent, link: uint8(link), queue: uint16(t.queues[link][0])}, frame)
	}
}

func (t *Tap) put(r *record, frame []byte) {
	if t.filter != nil {
		if n, err := t.filter.Run(frame); n == 0 || err != nil {
			return
		}
	}
	t.mu.Lock()
	r.time = uint64(max(time.Since(t.base), 0))
	r.length = uint32(len(frame))
	r.kept = uint32(min(len(frame), t.snapLen))
	t.ring.Count(accepted(int(r.link)), 1)
	var head [recordBytes]byte
	r.put(&head)
	if !t.ring.Put(head[:], frame[:r.kept]) {
		t.ring.Count(dropped(int(r.link)), 1)
	}
	t.mu.Unlock()
}
