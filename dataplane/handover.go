package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// handoverTurn is how many frames of one sender are received before the next sender has its turn.
const handoverTurn = 64

// HandoverOptions say which memory is shared with whom.
type HandoverOptions struct {
	Memory *os.File       // made by NewHandoverMemory
	Bells  []*os.File     // of each worker, made by NewHandoverBell
	Self   int            // the worker that this process is
	Stats  *HandoverStats // where to count; default: memory of its own
}

// HandoverStats counts what one worker handed over and was handed. Its fields follow the rules of [Stats].
type HandoverStats struct {
	Sent     uint64 `name:"sent" unit:"frames" kind:"counter" help:"Frames handed over to other workers."`
	Bytes    uint64 `name:"bytes" unit:"bytes" kind:"counter" help:"Bytes handed over to other workers, Ethernet headers included."`
	Full     uint64 `name:"full" unit:"frames" kind:"counter" help:"Frames not handed over because the ring to their worker was full."`
	Refused  uint64 `name:"refused" unit:"frames" kind:"counter" help:"Frames not handed over because they were too long, or meant for no other worker."`
	Bells    uint64 `name:"bells" unit:"calls" kind:"counter" help:"Times a sleeping worker was woken for frames handed over."`
	Received uint64 `name:"received" unit:"frames" kind:"counter" help:"Frames handed over by other workers."`
	Resyncs  uint64 `name:"resyncs" unit:"events" kind:"counter" help:"Times a ring held what no worker writes, and was skipped to its end."`

	RingHighWater uint64 `name:"ring_high_water" unit:"bytes" kind:"gauge" help:"Most bytes seen waiting on a ring to another worker."`
}

// HandoverLevels tells how full the rings of one worker are, in bytes.
type HandoverLevels struct {
	Out, In   int // on the fullest ring to another worker, and from one
	RingBytes int // capacity of each
}

// Handed is a frame that another worker handed over.
type Handed struct {
	Link   int    // index of the interface in the configuration, as its sender says
	Origin int    // worker on whose queue it came in
	Frame  []byte // from the Ethernet header on; in the shared memory
}

// Handover passes frames between the processes of the workers: those that came in on the queue of another worker than
// the one whose flow they belong to. Between any two workers there is a ring in shared memory (handover_ring.go); a
// worker that sleeps is woken by its bell, an eventfd.
//
// All methods are for the one goroutine that owns the worker's loop. None of them locks, and none but Flush makes a
// system call.
//
// Between senders and receiver stand two words in the receiver's cache line. ready has a bit for each sender whose ring
// has something new. A sender publishes the ring's tail, then sets its bit, then looks whether the receiver sleeps; the
// receiver clears the bits, then drains those rings, and before it sleeps it says so first and looks at the bits then.
// Go's atomics are sequentially consistent, so at least one of them sees the other. asleep counts: odd is asleep. A
// sender rings first and then moves the very value it saw on, so one that dies in between leaves no sleeper that nobody
// rings, and one that is late leaves a later sleep alone. The price is that two senders at the same moment both ring.
//
// A worker may die at any instruction. What it had not published is lost, what it had is received; its successor goes on
// behind it. Positions or records that cannot be right make the receiver skip to the end of that ring.
type Handover struct {
	self  int
	out   []sendRing    // by receiver; that to itself is not used
	in    []receiveRing // by sender; same
	peers []handoverPeer
	stats *HandoverStats

	dirty uint64 // receivers that Flush has to see, a bit each

	ready   uint64 // bits taken from the shared word whose rings are not drained yet
	from    int    // sender of current
	current *receiveRing
	turn    int // frames left to current; 0: it is another's turn

	bell     *os.File // our own, in Go's netpoller
	watching sync.WaitGroup
	mem      []byte
}

// handoverPeer is one worker as the others see it.
type handoverPeer struct {
	ready, asleep *sharedWord
	bell          int // descriptor; -1 for ourselves
}

// NewHandoverMemory makes the memory of a handover between the given number of workers, at most 64, with rings of
// ringBytes (a power of two; 0: 256 KiB). Pages are allocated when they are first written, so an unused ring costs
// nothing.
func NewHandoverMemory(workers, ringBytes int) (*os.File, error) {
	if ringBytes == 0 {
		ringBytes = defaultHandoverRingBytes
	}
	g := handoverGeometry{workers: workers, ringBytes: ringBytes}
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("make handover memory: %w", err)
	}
	fd, err := unix.MemfdCreate("ringroad-handover", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make handover memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "ringroad-handover")
	err = unix.Ftruncate(fd, int64(g.bytes()))
	if err == nil {
		_, err = f.WriteAt(g.encode(), 0)
	}
	if err == nil {
		// A file that shrinks kills those who have it mapped.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return nil, fmt.Errorf("make handover memory: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// NewHandoverBell makes the bell of a worker. It stays out of the netpoller of the process that makes it.
func NewHandoverBell() (*os.File, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a handover bell: %w", err)
	}
	return os.NewFile(uintptr(fd), "ringroad-bell"), nil
}

// OpenHandover joins as worker Self. The worker's predecessor, if there was one, must be dead: what it published goes on
// its way, what it was sent is skipped.
//
// Memory and Bells are duplicated, the caller should close them: [os.NewFile] puts a bell that another worker watches
// into this process's netpoller, which then wakes for that worker's sake.
func OpenHandover(o HandoverOptions) (*Handover, error) {
	if o.Stats == nil {
		o.Stats = new(HandoverStats)
	}
	h := &Handover{self: o.Self, stats: o.Stats}
	if err := h.open(o); err != nil {
		return nil, fmt.Errorf("open handover as worker %d: %w", o.Self, errors.Join(err, h.Close()))
	}
	return h, nil
}

func (h *Handover) open(o HandoverOptions) error {
	var head [handoverHeaderBytes]byte
	if _, err := o.Memory.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("read its header: %w", err)
	}
	g, err := decodeHandoverGeometry(head[:])
	if err != nil {
		return err
	}
	if o.Self < 0 || o.Self >= g.workers || len(o.Bells) != g.workers {
		return fmt.Errorf("%w: %d bells; the memory is for %d workers", ErrOptions, len(o.Bells), g.workers)
	}
	info, err := o.Memory.Stat()
	if err != nil {
		return err
	}
	if info.Size() != int64(g.bytes()) {
		return fmt.Errorf("%w: memory of %d bytes, want %d", ErrOptions, info.Size(), g.bytes())
	}
	if h.mem, err = unix.Mmap(int(o.Memory.Fd()), 0, g.bytes(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map it: %w", err)
	}
	h.out, h.in = make([]sendRing, g.workers), make([]receiveRing, g.workers)
	for w := range g.workers {
		h.peers = append(h.peers, handoverPeer{ready: word(h.mem, g.readyAt(w)), asleep: word(h.mem, g.asleepAt(w)), bell: -1})
		if w == h.self {
			continue
		}
		h.out[w] = adoptSendRing(h.mem, g, h.self, w)
		h.in[w] = adoptReceiveRing(h.mem, g, w, h.self)
		if h.peers[w].bell, err = duplicate(o.Bells[w]); err != nil {
			return fmt.Errorf("duplicate the bell of worker %d: %w", w, err)
		}
		h.dirty |= 1 << w
	}
	fd, err := duplicate(o.Bells[h.self])
	if err != nil {
		return fmt.Errorf("duplicate its bell: %w", err)
	}
	// Set on the eventfd itself, for every process that has it.
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(fmt.Errorf("make its bell non-blocking: %w", err), unix.Close(fd))
	}
	h.bell = os.NewFile(uintptr(fd), "ringroad-bell")
	h.Unpark()
	h.Flush() // a predecessor may have died between publishing and telling
	return nil
}

func duplicate(f *os.File) (int, error) {
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}

// Send copies a frame to worker to, which receives it after the next Flush. link and origin (below 65536 and 256) go
// with it. False: nothing was sent, because the ring is full, the frame is longer than half the ring, or there is no such
// other worker.
func (h *Handover) Send(to, link, origin int, frame []byte) bool {
	if to < 0 || to >= len(h.out) || to == h.self || recordBytes(len(frame)) > h.out[to].size/2 {
		h.stats.Refused++
		return false
	}
	h.dirty |= 1 << to // a full ring too: its receiver should look at it
	if !h.out[to].put(recordHead(kindFrame, link, origin, len(frame)), frame) {
		h.stats.Full++
		return false
	}
	h.stats.Sent++
	h.stats.Bytes += uint64(len(frame))
	return true
}

// Flush publishes what was sent and rings for receivers that sleep. One system call for each of those, none otherwise.
func (h *Handover) Flush() {
	for ; h.dirty != 0; h.dirty &= h.dirty - 1 {
		to := bits.TrailingZeros64(h.dirty)
		used := h.out[to].publish()
		h.stats.RingHighWater = max(h.stats.RingHighWater, used)
		p := &h.peers[to]
		if bit := uint64(1) << h.self; p.ready.Load()&bit == 0 {
			p.ready.Or(bit)
		}
		if seen := p.asleep.Load(); seen&1 != 0 {
			h.stats.Bells++
			ringBell(p.bell)
			p.asleep.CompareAndSwap(seen, seen+1)
		}
	}
}

// oneRing is what is written to an eventfd.
var oneRing = binary.NativeEndian.AppendUint64(nil, 1)

// ringBell wakes the owner of a bell.
func ringBell(bell int) {
	// It can only fail where it would overflow, when the bell is ringing anyway.
	_, _ = unix.Write(bell, oneRing)
}

// Receive returns the next frame handed to us, of one sender after the other; false: there is none now. The frame is
// valid until the next call of Receive or Close. Senders may be faster than the caller, who should stop at some number.
func (h *Handover) Receive() (Handed, bool) {
	for {
		if h.turn == 0 && !h.nextSender() {
			return Handed{}, false
		}
		head, frame, state := h.current.next()
		if state == ringFrame {
			h.turn--
			h.stats.Received++
			return Handed{Link: recordLink(head), Origin: recordOrigin(head), Frame: frame}, true
		}
		if state == ringBroken {
			h.stats.Resyncs++
		}
		h.turn = 0
		h.ready &^= 1 << h.from
	}
}

// nextSender makes the next sender's ring the current one; false: all are drained.
func (h *Handover) nextSender() bool {
	if h.current != nil {
		h.current.release()
		h.current = nil
	}
	if shared := h.peers[h.self].ready; shared.Load() != 0 {
		others := (uint64(1)<<len(h.peers) - 1) &^ (1 << h.self)
		h.ready |= shared.Swap(0) & others
	}
	if h.ready == 0 {
		return false
	}
	after := h.ready &^ (uint64(2)<<h.from - 1)
	if after == 0 {
		after = h.ready
	}
	h.from = bits.TrailingZeros64(after)
	h.current, h.turn = &h.in[h.from], handoverTurn
	return true
}

// waiting reports whether there are frames to receive.
func (h *Handover) waiting() bool {
	return h.turn != 0 || h.ready != 0 || h.peers[h.self].ready.Load() != 0
}

// Park announces that the loop is about to sleep: from now on whoever sends rings. False: there are frames to receive,
// do not sleep. After a sleep comes Unpark.
func (h *Handover) Park() bool {
	own := &h.peers[h.self]
	if !h.waiting() {
		own.asleep.Store(own.asleep.Load() | 1)
		if own.ready.Load() == 0 {
			return true
		}
		h.Unpark()
	}
	return false
}

// Unpark announces that the loop is awake, and need not be rung for.
func (h *Handover) Unpark() {
	own := &h.peers[h.self]
	if seen := own.asleep.Load(); seen&1 != 0 {
		own.asleep.CompareAndSwap(seen, seen+1) // or a sender was faster
	}
}

// Watch starts a goroutine that calls wake each time our bell rings, until Close. It must be called once at most.
func (h *Handover) Watch(wake func()) {
	h.watching.Go(func() {
		var rings [8]byte
		for {
			if _, err := h.bell.Read(rings[:]); err != nil {
				return // closed
			}
			wake()
		}
	})
}

// Levels tells how full the rings are.
func (h *Handover) Levels() (l HandoverLevels) {
	for w := range h.peers {
		if w != h.self {
			l.Out, l.In = max(l.Out, int(h.out[w].level())), max(l.In, int(h.in[w].level()))
			l.RingBytes = int(h.out[w].size)
		}
	}
	return l
}

// Close leaves the handover. What was sent and not flushed is lost.
func (h *Handover) Close() error {
	var errs []error
	if h.bell != nil {
		errs = append(errs, h.bell.Close())
	}
	h.watching.Wait()
	for _, p := range h.peers {
		if p.bell >= 0 {
			errs = append(errs, unix.Close(p.bell))
		}
	}
	if h.mem != nil {
		errs = append(errs, unix.Munmap(h.mem))
	}
	*h = Handover{self: h.self, stats: h.stats}
	return errors.Join(errs...)
}
