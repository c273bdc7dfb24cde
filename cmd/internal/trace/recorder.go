package trace

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ringroad/cmd/internal/feed"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/stack"
)

const (
	// recentFrames is how many received frames with payload are remembered, whose
	// requests may be followed: a power of two.
	recentFrames = 1 << 11
	// window is how many requests before the one that will be followed what comes before
	// the parse is noted: more of a queue than two turns of the loop take.
	window = 64
	// handshakeBits makes room for that many handshakes under way; a newer one takes the
	// place of an older one.
	handshakeBits = 11
	// recentSYNs is how many SYNs to backends are remembered until their connection is
	// known.
	recentSYNs = 16
	// maxLines is how many requests are followed at a time.
	maxLines = 1024
	// maxEvents is how many events a line holds, but for those of its end.
	maxEvents = 4096
	// ackWait is how long a line waits for the last acknowledgment when the request is
	// over.
	ackWait = time.Second
)

// Counters of the ring.
const (
	counterLost   = iota // finished lines that found no room
	counterMissed        // requests that were not followed because too many were
)

// Worker is what a recorder needs to know of its worker.
type Worker struct {
	Index  int
	Now    func() time.Duration // loop time at this moment
	Times  func(on bool)        // makes the stack note when every connection becomes ready
	Queues [][]int              // numbers, by link and device
	TX     []*dataplane.Stats   // of the queue that sends, by link

	RingEntries int // slots of an RX ring
}

// Recorder joins what the layers of one worker see into time lines. Its hooks are
// called by the loop, those of sent frames by netstack's processor too.
type Recorder struct {
	options Options
	worker  Worker
	ring    *feed.Ring
	offset  time.Duration // of the trace's clock from loop time

	// Of the loop.
	batches [][]batch // by link and device
	recent  [recentFrames]sighting
	frames  uint64 // seen with payload
	next    uint64 // of the requests that pass the filters the one that will be followed: 1 is the next
	skipped uint64 // of them nobody is asked about, at first
	begun   uint64
	scratch []byte
	hooks   *proxy.Hooks
	armed   bool // the request that will be followed is near: all is noted

	keys [1 << handshakeBits]uint64 // of connections whose handshake has no ACK yet, by place; 0: none

	// For a look without the lock.
	watching atomic.Int32 // lines

	followed stack.Followed // connections of lines, and those with a handshake under way

	mu         sync.Mutex // what follows is of both; taken after locks of the stack, and never held while calling it
	handshakes [1 << handshakeBits]handshake
	syns       [recentSYNs]sentSYN
	synCount   int
	flows      map[stack.Flow]*watch
	lines      []*line
	kept       uint64 // lines that were put on the ring, or lost there
	free       []*line
	kicks      []kick // under way, by link
}

// batch is the last one of a queue.
type batch struct {
	at            time.Duration // zero: nobody wanted to know yet
	slot, n, left int
	number        uint64
}

// sighting is a received segment.
type sighting struct {
	key   uint64
	at    time.Duration
	batch uint64 // number
	slot  int32  // of the first frame of the batch; -1: it came from the backlog
	n     uint32 // frames of the batch
	left  uint32
	index uint32
	bytes uint32
	queue uint16
	link  uint8
	flags uint8
	from  int8 // -1: from a queue
}

// handshake is one of a client.
type handshake struct {
	flow     stack.Flow
	syn, ack sighting
	synACK   time.Duration // 0: not sent yet
	acked    bool
	used     bool
}

// connection is what is kept for a connection while there is a trace.
type connection struct {
	handshake
	queued   time.Duration // it was put on the accept queue
	accepted time.Duration
}

type sentSYN struct {
	flow   stack.Flow
	at     time.Duration
	link   uint8
	number uint64 // of the frame
}

// kick is one under way.
type kick struct {
	at  time.Duration
	all int
}

// watch is a connection of requests that are followed, the oldest first.
type watch struct{ lines []*line }

// NewRecorder opens the ring in f, which it closes.
func NewRecorder(o *Order, f *os.File, w Worker) (*Recorder, error) {
	defer f.Close()
	ring, err := feed.OpenRing(f)
	if err != nil {
		return nil, fmt.Errorf("start a trace: %w", err)
	}
	r := &Recorder{
		options: o.Options, worker: w, ring: ring,
		flows: make(map[stack.Flow]*watch), kicks: make([]kick, len(w.Queues)), next: max(o.Options.Sample, 1),
	}
	for _, q := range w.Queues {
		r.batches = append(r.batches, make([]batch, len(q)))
	}
	// As a point of the monotonic clock, so that times cannot step back.
	r.offset = time.Since(o.Start) - w.Now()
	return r, nil
}

// now is the trace's clock.
func (r *Recorder) now() time.Duration { return r.worker.Now() + r.offset }

// Queue returns the hooks of a queue.
func (r *Recorder) Queue(link, device int) *dataplane.Hooks {
	b := &r.batches[link][device]
	return &dataplane.Hooks{
		Peeked: func(slot, n, left int) {
			*b = batch{slot: slot, n: n, left: left, number: b.number + 1}
		},
		Kicking: func(_ uint64, n int) { r.kicking(link, n) },
		Kicked:  func(calls, left int, sender bool) { r.kicked(link, calls, left, sender) },
		Reaped:  func(frames uint64, _ int) { r.reaped(link, frames) },
	}
}

// Stack returns the hooks of the stack.
func (r *Recorder) Stack() *stack.Hooks {
	return &stack.Hooks{Received: r.received, Sent: r.sent, Followed: &r.followed}
}

// Proxy returns the hooks of the proxy.
func (r *Recorder) Proxy() *proxy.Hooks {
	r.hooks = &proxy.Hooks{Accepted: r.accepted, Wanted: r.wanted, Follow: r.follow}
	r.arm()
	return r.hooks
}

// arm decides whether all is noted: always, unless so few are followed that the next
// one is far. Without other filters nobody has to be asked about requests until the next
// one is near, and then until it comes.
func (r *Recorder) arm() {
	armed := r.options.Sample < 2*window || r.next <= window
	if armed != r.armed {
		r.armed, r.hooks.Fine, r.followed.Data = armed, armed, armed
		r.worker.Times(armed)
	}
	if !r.options.Client.IsValid() && r.options.Path == "" {
		if r.skipped = r.next - 1; !armed {
			r.skipped -= window
		}
		r.hooks.Skip = r.skipped
	}
}

// place is where a connection is in the table of handshakes.
func place(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 >> (64 - handshakeBits) } // Fibonacci hashing

// received takes a segment that came in.
func (r *Recorder) received(s *stack.Segment) {
	syn := s.Flags & (flagSYN | flagACK)
	seen := &r.recent[r.frames%recentFrames]
	if s.Bytes > 0 {
		r.frames++
	}
	*seen = sighting{key: s.Key, bytes: uint32(s.Bytes), link: uint8(s.Link), flags: s.Flags, from: -1}
	if s.From < 0 {
		b := &r.batches[s.Link][s.Device]
		if b.at == 0 {
			b.at = r.now()
		}
		seen.at, seen.batch, seen.n, seen.left, seen.index = b.at, b.number, uint32(b.n), uint32(b.left), uint32(s.Index)
		seen.slot, seen.queue = int32(b.slot), uint16(r.worker.Queues[s.Link][s.Device])
	} else {
		seen.at, seen.from = r.now(), int8(s.From)
	}
	r.shake(s, seen, syn)
	if !r.followed.Has(s.Key) {
		return
	}
	r.mu.Lock()
	if w := r.flows[s.Flow()]; w != nil {
		r.receivedFor(w, seen, s)
	}
	r.mu.Unlock()
}

// shake notes the SYN of a client, and the ACK that ends its handshake.
func (r *Recorder) shake(s *stack.Segment, seen *sighting, syn uint8) {
	at := place(s.Key)
	h := &r.handshakes[at]
	switch {
	case syn == flagSYN:
		r.mu.Lock()
		*h = handshake{flow: s.Flow(), syn: *seen, used: true}
		r.mu.Unlock()
		if r.keys[at] != 0 {
			r.followed.Remove(r.keys[at])
		}
		r.keys[at] = s.Key
		r.followed.Add(s.Key)
	case r.keys[at] == s.Key && s.Flags&flagSYN == 0:
		// netstack's processor does not look at these fields.
		h.ack, h.acked = *seen, true
		r.keys[at] = 0
		r.followed.Remove(s.Key)
	}
}

// receivedFor gives a segment to the requests of its connection.
func (r *Recorder) receivedFor(w *watch, seen *sighting, s *stack.Segment) {
	last := w.lines[len(w.lines)-1]
	fromClient := s.Flow() == last.client
	side := Backend
	if fromClient {
		side = Client
		if last.fed && s.Bytes > 0 {
			last = nil // the next request
		}
	}
	// Lines that end here leave the list.
	for i := 0; i < len(w.lines); {
		l := w.lines[i]
		if l == last || fromClient && l.over {
			l.frameReceived(side, seen)
		}
		if fromClient && l.over && l.endKnown && s.Flags&flagACK != 0 && int32(s.Acknowledgment()-l.end) >= 0 {
			l.add(Event{At: max(seen.at, l.overAt), Kind: LastACK, Side: Client})
			r.finish(l)
			continue
		}
		if fromClient && l.over && s.Flags&flagRST != 0 {
			r.finish(l)
			continue
		}
		i++
	}
}

// sent takes a segment that was put on the TX ring.
func (r *Recorder) sent(s *stack.Segment) {
	syn := s.Flags & flagSYN
	r.mu.Lock()
	defer r.mu.Unlock()
	now, flow := r.now(), s.Flow()
	number := r.worker.TX[s.Link].TXFrames
	if syn != 0 && s.Flags&flagACK != 0 {
		if h := &r.handshakes[place(s.Key)]; h.used && h.flow == flow && h.synACK == 0 {
			h.synACK = now
		}
		return
	}
	w := r.flows[flow]
	if w == nil {
		if syn != 0 {
			r.syns[r.synCount%recentSYNs] = sentSYN{flow, now, uint8(s.Link), number}
			r.synCount++
		}
		return
	}
	l := w.lines[0]
	for _, next := range w.lines[1:] {
		if l.endKnown && int32(s.Sequence()-l.end) >= 0 && s.Bytes > 0 {
			l = next
		}
	}
	l.frameSent(Event{At: now, Side: l.sideOf(&flow)}, s, number)
}

func (r *Recorder) kicking(link, all int) {
	if r.watching.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kicks[link] = kick{r.now(), all}
	for _, l := range r.lines {
		t := &l.tx[link]
		t.kick = -1
		if t.submitted == 0 {
			continue
		}
		t.kick = l.add(Event{At: r.kicks[link].at, Kind: Kick, Values: [maxValues]uint32{uint32(link), t.submitted, uint32(all)}})
		t.kicked += t.submitted
		t.submitted = 0
	}
}

func (r *Recorder) kicked(link, calls, left int, sender bool) {
	if r.watching.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, l := range r.lines {
		t := &l.tx[link]
		if t.kick < 0 {
			continue
		}
		if t.kick < len(l.events) {
			e := &l.events[t.kick]
			e.Took = now - e.At
			e.Values[kickCalls], e.Values[kickLeft] = uint32(calls), uint32(left)
			if sender {
				e.Values[kickSender] = 1
			}
		}
		t.kick = -1
	}
}

func (r *Recorder) reaped(link int, done uint64) {
	if r.watching.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, l := range r.lines {
		if t := &l.tx[link]; t.kicked > 0 && t.last <= done {
			l.add(Event{At: now, Kind: Completed, Values: [maxValues]uint32{uint32(link), t.kicked}})
			t.kicked = 0
		}
	}
}

// accepted takes a connection off the accept queue.
func (r *Recorder) accepted(from *stack.Listener, c *stack.Conn) any {
	k := &connection{accepted: r.now()}
	flow := c.Flow()
	r.mu.Lock()
	if h := &r.handshakes[place(flow.Key())]; h.used && h.flow == flow {
		k.handshake = *h
		h.used = false
	}
	r.mu.Unlock()
	if k.acked {
		// The event of the listener is about the first connection that came onto the
		// queue since it was emptied.
		k.queued = min(max(from.Waking().Readable+r.offset, k.ack.at), k.accepted)
	}
	return k
}

// wanted tells whether a request passes the filters that are known at its beginning.
func (r *Recorder) wanted(client netip.Addr, target []byte) bool {
	o := &r.options
	if o.Client.IsValid() && !o.Client.Contains(client) {
		return false
	}
	if o.Path != "" && !hasPrefix(target, o.Path) {
		return false
	}
	r.next -= 1 + r.skipped
	wanted := r.next == 0
	if wanted {
		r.next = max(o.Sample, 1)
	}
	r.arm()
	return wanted
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// follow begins a line.
func (r *Recorder) follow(b *proxy.Begun) proxy.Follower {
	now := r.now()
	buffered := b.Conn.Buffered()
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := &r.options; o.Next > 0 && r.kept+uint64(len(r.lines)) >= o.Next {
		return nil
	}
	if len(r.lines) >= maxLines {
		r.ring.Count(counterMissed, 1)
		return nil
	}
	l := r.newLine()
	r.begun++
	l.id = r.begun
	l.client, l.clientConn = b.Conn.Flow(), b.Conn
	l.clientAddr, l.listener = netip.AddrPortFrom(b.Client, b.Conn.RemoteAddr().Port()), b.Conn.LocalAddr()
	l.method, l.target = string(b.Method), string(b.Target)
	if len(b.Method) == 0 {
		l.target = string(b.Line)
	}
	l.fed, l.parsedAt = !b.BodyFollows, now
	r.begin(l, b, now, &buffered)
	r.watch(l.client, l)
	b.Conn.SetTimes(true)
	r.lines = append(r.lines, l)
	r.watching.Store(int32(len(r.lines)))
	return l
}

// begin puts the events before the parse into l.
func (r *Recorder) begin(l *line, b *proxy.Begun, now time.Duration, held *stack.Buffered) {
	if k, ok := b.Connection.(*connection); ok && b.First {
		if k.used {
			l.frameReceived(Client, &k.syn)
			if k.synACK != 0 {
				l.add(Event{At: max(k.synACK, k.syn.at), Kind: SYNQueue, Side: Client})
			}
			if k.acked && k.ack.bytes == 0 {
				l.frameReceived(Client, &k.ack)
			}
			if k.acked {
				l.add(Event{At: k.queued, Kind: AcceptQueue, Side: Client})
			}
		}
		l.add(Event{At: k.accepted, Kind: Accepted, Side: Client})
	}
	if b.Read != 0 {
		since := time.Duration(-1)
		if b.Since != 0 {
			since = b.Since + r.offset
		}
		key := l.client.Key()
		for i := r.frames - min(r.frames, recentFrames-1); i < r.frames; i++ {
			if f := &r.recent[i%recentFrames]; f.key == key && f.at > since {
				l.frameReceived(Client, f)
			}
		}
		r.awake(l, Client, b.Waking, b.Ran+r.offset)
		l.add(Event{At: b.Read + r.offset, Kind: Read, Side: Client, Values: [maxValues]uint32{uint32(b.ReadSize), uint32(held.Received), uint32(held.ReceiveRoom)}})
		l.copies[ReceiveToHeap] += uint64(b.ReadSize)
	}
	l.add(Event{At: now, Kind: Parsed, Side: Client, Values: [maxValues]uint32{uint32(b.HeadBytes)}})
}

// awake adds the times of an event of the poller.
func (r *Recorder) awake(l *line, side Side, w stack.Waking, ran time.Duration) {
	if w.Taken == 0 {
		return
	}
	if w.Readable != 0 {
		l.add(Event{At: w.Readable + r.offset, Kind: ReceiveBuffer, Side: side})
	}
	if w.Ready != 0 {
		l.add(Event{At: w.Ready + r.offset, Kind: Ready, Side: side})
	}
	l.add(Event{At: w.Taken + r.offset, Kind: Taken, Side: side, Values: [maxValues]uint32{uint32(w.Among)}})
	l.add(Event{At: ran, Kind: Runs, Side: side})
}

// watch makes l be told of a connection.
func (r *Recorder) watch(f stack.Flow, l *line) {
	w := r.flows[f]
	if w == nil {
		w = new(watch)
		r.flows[f] = w
		r.followed.Add(f.Key())
	}
	w.lines = append(w.lines, l)
}

// unwatch makes l not be told of it any more.
func (r *Recorder) unwatch(f stack.Flow, l *line) {
	w := r.flows[f]
	if w == nil {
		return
	}
	for i, other := range w.lines {
		if other == l {
			w.lines = append(w.lines[:i], w.lines[i+1:]...)
			break
		}
	}
	if len(w.lines) == 0 {
		delete(r.flows, f)
		r.followed.Remove(f.Key())
	}
}

// Tick ends lines that have waited for long enough. The loop calls it several times a
// second.
func (r *Recorder) Tick() {
	if r.watching.Load() == 0 {
		return
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.lines) - 1; i >= 0; i-- {
		if l := r.lines[i]; l.over && now >= l.until {
			r.finish(l)
		}
	}
}

// Close ends all lines, and unmaps the ring. No hook is called any more.
func (r *Recorder) Close() error {
	r.finishAll()
	return r.ring.Close()
}

func (r *Recorder) finishAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.lines) > 0 {
		l := r.lines[0]
		l.unfinished = !l.over
		if l.unfinished {
			l.overAt = r.now()
		}
		r.finish(l)
	}
}

// finish takes l off, and gives it to the master if it is wanted.
func (r *Recorder) finish(l *line) {
	for i, other := range r.lines {
		if other == l {
			last := len(r.lines) - 1
			r.lines[i], r.lines[last] = r.lines[last], nil
			r.lines = r.lines[:last]
			break
		}
	}
	r.watching.Store(int32(len(r.lines)))
	r.unwatch(l.client, l)
	l.dropBackend()
	l.untime()
	l.sort()
	if l.overAt-l.events[0].At >= r.options.Slower {
		r.kept++
		r.scratch = l.encode(r.scratch[:0])
		if !r.ring.Put(r.scratch, nil) {
			r.ring.Count(counterLost, 1)
		}
	}
	if cap(l.events) <= keepEvents {
		r.free = append(r.free, l)
	}
}

// newLine takes an empty line.
func (r *Recorder) newLine() *line {
	l := &line{events: make([]Event, 0, keepEvents)}
	if n := len(r.free); n > 0 {
		l = r.free[n-1]
		r.free = r.free[:n-1]
		*l = line{events: l.events[:0], tx: l.tx}
		clear(l.tx)
	} else {
		l.tx = make([]txState, len(r.worker.Queues))
	}
	l.recorder = r
	for i := range l.tx {
		l.tx[i].kick = -1
	}
	return l
}
