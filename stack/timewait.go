package stack

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A connection that we closed first must be remembered for 2 MSL, to answer a
// FIN that comes again and to keep old segments from a new connection
// (RFC 9293 3.6.1). netstack keeps the whole endpoint for it, 5 KB; the link
// keeps 64 bytes and has netstack forget at once (queueAtOnce): what comes next, netstack
// would answer otherwise, a SYN among them.
//
// The 64 bytes lie outside the heap. There 100,000 connections cost 22 MB: as much garbage
// again, by GOGC, and the smaller tables that they had grown out of. Here they cost 8 MB
// (PSS, go test -tags closed -run Closed ./hack/e2e).

const (
	// netstackTimeWait is how long netstack itself stays in TIME_WAIT when it is not ended
	// before: when its goroutine brought a connection there.
	netstackTimeWait = time.Millisecond
	// maxTimeWait bounds the table, as tcp_max_tw_buckets; the oldest go first.
	maxTimeWait = 1 << 17
	// timeWaitACK is the least time between two ACKs sent for one entry, as
	// tcp_invalid_ratelimit: two hosts must not ACK each other for ever.
	timeWaitACK = 500 * time.Millisecond
	// timeWaitWindow is what its ACKs offer, unscaled.
	timeWaitWindow = 0xffff
)

// waiting is a connection whose FIN we sent first.
type waiting struct {
	remote  [16]byte
	ports   uint32 // as in flowKey
	local   uint32 // place of the address in timeWaitTable.locals
	sendNxt uint32 // behind our FIN
	recvNxt uint32 // behind the peer's FIN. Valid iff complete
	stamp   uint32 // the last TSval that we sent. Valid iff stamped
	stampAt uint32 // loop time of that, ms
	recent  uint32 // the peer's last TSval. Valid iff stamped and complete
	acked   uint32 // loop time of the last ACK sent from here, ms; 0: none
	expires uint32 // loop time, ms

	dead, complete, stamped bool
}

// timeWaitTable is a FIFO of waiting connections in a ring buffer, found by a hash
// index with open addressing. All wait equally long, so the oldest expire first.
type timeWaitTable struct {
	*timeWaitMemory
	seed    maphash.Seed
	locals  [][16]byte // own addresses that connections waited at, a handful
	ring    []waiting  // the front of entries; length is a power of two
	head    uint32     // oldest
	tail    uint32     // next free; entries are head..tail-1, modulo the length
	index   []uint32   // position+1 of an entry, 0: empty; the front of slots, twice as long as ring
	indexed int        // slots of index in use, those of dead entries included
	live    int
}

// timeWaitMemory is what the table of one link grows in. It takes memory as it is used.
type timeWaitMemory struct {
	entries [maxTimeWait]waiting
	slots   [2 * maxTimeWait]uint32
}

// leastTimeWait is the length that the ring begins with.
const leastTimeWait = 256

func newTimeWaitTable(m *timeWaitMemory) timeWaitTable {
	return timeWaitTable{timeWaitMemory: m, seed: maphash.MakeSeed(), ring: m.entries[:leastTimeWait], index: m.slots[:2*leastTimeWait]}
}

func (t *timeWaitTable) at(position uint32) *waiting { return &t.ring[position&uint32(len(t.ring)-1)] }

// key names the connection of w.
func (t *timeWaitTable) key(w *waiting) flowKey { return flowKey{t.locals[w.local], w.remote, w.ports} }

// names reports whether k is the key of w.
func (t *timeWaitTable) names(w *waiting, k *flowKey) bool {
	return w.ports == k.ports && w.remote == k.remote && t.locals[w.local] == k.local
}

func (t *timeWaitTable) hash(k *flowKey) uint32 { return uint32(maphash.Comparable(t.seed, *k)) }

// find returns the entry of k, nil if there is none.
func (t *timeWaitTable) find(k *flowKey) *waiting {
	if t.live == 0 {
		return nil
	}
	mask := uint32(len(t.index) - 1)
	for i := t.hash(k) & mask; t.index[i] != 0; i = (i + 1) & mask {
		if w := t.at(t.index[i] - 1); !w.dead && t.names(w, k) {
			return w
		}
	}
	return nil
}

// near returns the entry of k, which was at a position.
func (t *timeWaitTable) near(position uint32, k *flowKey) *waiting {
	if position-t.head < t.tail-t.head {
		if w := t.at(position); !w.dead && t.names(w, k) {
			return w
		}
	}
	return t.find(k)
}

// add appends an entry for k, replacing an older one.
func (t *timeWaitTable) add(k *flowKey) *waiting {
	if old := t.find(k); old != nil {
		t.kill(old)
	}
	return t.append(k)
}

// append appends an entry for k, which has none.
func (t *timeWaitTable) append(k *flowKey) *waiting {
	if int(t.tail-t.head) == len(t.ring) {
		if len(t.ring) == maxTimeWait {
			t.pop()
		} else {
			t.grow()
		}
	}
	if t.indexed >= len(t.index)*3/4 {
		t.reindex()
	}
	position := t.tail
	t.tail++
	w := t.at(position)
	local := slices.Index(t.locals, k.local)
	if local < 0 {
		local = len(t.locals)
		t.locals = append(t.locals, k.local)
	}
	*w = waiting{remote: k.remote, ports: k.ports, local: uint32(local)}
	t.live++
	t.insert(position)
	return w
}

func (t *timeWaitTable) insert(position uint32) {
	mask := uint32(len(t.index) - 1)
	key := t.key(t.at(position))
	i := t.hash(&key) & mask
	for t.index[i] != 0 {
		i = (i + 1) & mask
	}
	t.index[i] = position + 1
	t.indexed++
}

func (t *timeWaitTable) kill(w *waiting) {
	if !w.dead {
		w.dead = true
		t.live--
	}
}

// pop forgets the oldest entry. Its slot of the index stays until the next
// reindex; find passes over it, because a position is never used again before.
func (t *timeWaitTable) pop() {
	t.kill(t.at(t.head))
	t.head++
}

// grow doubles the ring, which is full: in its place, each entry either stays or has its
// place in the new half.
func (t *timeWaitTable) grow() {
	n := len(t.ring)
	t.ring = t.entries[:2*n]
	for p := t.head; p != t.tail; p++ {
		if w := t.at(p); w != &t.ring[p&uint32(n-1)] {
			*w = t.ring[p&uint32(n-1)]
		}
	}
	t.index = t.slots[:4*n]
	t.reindex()
}

// reindex builds the index anew, without the slots of dead entries.
func (t *timeWaitTable) reindex() {
	clear(t.index)
	t.indexed = 0
	for p := t.head; p != t.tail; p++ {
		if !t.at(p).dead {
			t.insert(p)
		}
	}
}

// expire forgets what is due, and dead entries at the front.
func (t *timeWaitTable) expire(now uint32) {
	for t.head != t.tail {
		if w := t.at(t.head); !w.dead && int32(w.expires-now) > 0 {
			return
		}
		t.pop()
	}
}

// each calls f with each entry.
func (t *timeWaitTable) each(f func(*waiting)) {
	for p := t.head; p != t.tail; p++ {
		if w := t.at(p); !w.dead {
			f(w)
		}
	}
}

func millis(d time.Duration) uint32 { return uint32(d / time.Millisecond) }

// noteOurFIN is told of a FIN that leaves. If the peer's has not come before, the
// connection is going to wait. Called under mu.
func (l *link) noteOurFIN(f *flow, t header.TCP, payload int) {
	if f.peerFIN {
		return // LAST_ACK: nothing to remember
	}
	now := l.stack.Now()
	next := t.SequenceNumber() + uint32(payload) + 1
	w := l.timeWait.find(&f.key)
	switch {
	case w == nil:
	case w.sendNxt == next:
		return // sent again
	default:
		l.timeWait.kill(w)
	}
	w = l.timeWait.append(&f.key)
	f.waiting = l.timeWait.tail - 1
	w.sendNxt = next
	w.expires = millis(now + l.stack.tcp.TimeWait)
	if w.stamp, _, w.stamped = timestamps(t); w.stamped {
		w.stampAt = millis(now)
	}
}

// notePeerFIN is told of a FIN that goes to ep. Whether it is the connection's shows when
// netstack acknowledges it: noteFINAnswered.
func (l *link) notePeerFIN(s *segment, ep netstack.TransportEndpoint) {
	e, ok := ep.(*tcp.Endpoint)
	if !ok || !l.intact(s) {
		return
	}
	switch tcp.EndpointState(e.State()) {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2:
	default:
		return
	}
	key := s.flowKey()
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &l.flows.slots[l.flows.get(&key, hashOf(e), l.stack.Now())]
	f.finCame, f.finEnd = true, s.end()
	f.finStamp, _, _ = timestamps(s.tcp)
}

// noteFINAnswered is told that netstack acknowledges a FIN that came. Called under mu.
func (l *link) noteFINAnswered(f *flow) {
	f.finCame, f.peerFIN = false, true
	if w := l.timeWait.near(f.waiting, &f.key); w != nil && !w.complete {
		w.recvNxt, w.recent, w.complete = f.finEnd, f.finStamp, true
		l.restartTimeWait(w)
	}
}

// waits reports whether the connection of id waits here, and can be answered for.
func (l *link) waits(id *netstack.TransportEndpointID) bool {
	key := flowKeyOf(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.timeWait.find(&key)
	return w != nil && w.complete
}

// restartTimeWait has w wait for its whole time again.
func (l *link) restartTimeWait(w *waiting) {
	expires := millis(l.stack.Now() + l.stack.tcp.TimeWait)
	if expires-w.expires < millis(time.Second) {
		return // the same, but for the order of the table
	}
	again, key := *w, l.timeWait.key(w)
	w = l.timeWait.add(&key)
	*w = again
	w.expires = expires
}

// older reports whether a timestamp is older than the peer's last (RFC 7323 5.3 R1).
func (w *waiting) older(stamp uint32, stamped bool) bool {
	return stamped && w.stamped && int32(stamp-w.recent) < 0
}

// reopens reports whether a SYN may begin a new connection with the ports of w: it cannot
// be mistaken for the old one. Its timestamp decides, else its number (RFC 6191 2).
func (w *waiting) reopens(s *segment) bool {
	newer := int32(s.tcp.SequenceNumber()-w.recvNxt) > 0
	if o := header.ParseSynOptions(s.tcp[header.TCPMinimumSize:], false); o.TS && w.stamped && o.TSVal != w.recent {
		return int32(o.TSVal-w.recent) > 0
	}
	return newer
}

// answerTimeWait takes a segment for which there is no connection but perhaps one
// that waits (RFC 9293 3.10.7.4, TIME-WAIT STATE). It reports false when the
// segment goes on to a listener or to be refused.
func (l *link) answerTimeWait(s *segment) bool {
	key := s.flowKey()
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.timeWait.find(&key)
	if w == nil || !w.complete || !l.intact(s) {
		return false
	}
	beyond := s.tcp.SequenceNumber() - w.recvNxt
	flags := s.tcp.Flags()
	if p := l.stack.peers; p != nil && l.origin != p.self && int32(beyond) > 0 && flags&header.TCPFlagSyn == 0 {
		return false // of a new connection, which another worker has
	}
	stamp, _, stamped := timestamps(s.tcp)
	switch {
	case flags&header.TCPFlagRst != 0:
		return true // ignored: it might be an old one (RFC 1337)
	case flags&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagFin) == header.TCPFlagSyn:
		if w.reopens(s) {
			l.timeWait.kill(w)
			return false
		}
	case flags&header.TCPFlagSyn == 0 && s.end() == s.tcp.SequenceNumber() && beyond < timeWaitWindow && !w.older(stamp, stamped):
		return true // an ACK in the window needs no answer
	}
	now := millis(l.stack.Now())
	l.stats.TimeWaitSegments++
	if w.acked != 0 && now-w.acked < millis(timeWaitACK) {
		return true
	}
	w.acked = max(now, 1)
	if flags&header.TCPFlagFin != 0 && beyond == 1<<32-1-uint32(len(s.payload)) {
		defer l.restartTimeWait(w) // RFC 9293 3.10.7.4, eighth check
	}
	l.ackTimeWait(s, w, stamp, stamped, now)
	return true
}

// ackTimeWait answers s with the connection's last acknowledgment. Called under mu.
func (l *link) ackTimeWait(s *segment, w *waiting, stamp uint32, stamped bool, now uint32) {
	var options []byte
	if w.stamped && stamped {
		o := [timestampBytes]byte{header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionTS, header.TCPOptionTSLength}
		binary.BigEndian.PutUint32(o[4:], w.stamp+now-w.stampAt)
		binary.BigEndian.PutUint32(o[8:], stamp)
		options = o[:]
	}
	l.reply(s, &header.TCPFields{SeqNum: w.sendNxt, AckNum: w.recvNxt, Flags: header.TCPFlagAck, WindowSize: timeWaitWindow}, options)
}

// flowKey names the flow of s as its answers do.
func (s *segment) flowKey() flowKey { return flowKeyOf(&s.id) }

// end is the sequence number behind s, its FIN included.
func (s *segment) end() uint32 {
	n := s.tcp.SequenceNumber() + uint32(len(s.payload))
	if s.tcp.Flags()&header.TCPFlagFin != 0 {
		n++
	}
	return n
}

// timestamps reads the option of RFC 7323 where every stack puts it behind the
// handshake: alone, behind two NOPs.
func timestamps(t header.TCP) (value, echo uint32, ok bool) {
	const options = header.TCPMinimumSize
	if len(t) < options+12 || t[options+2] != header.TCPOptionTS || t[options+3] != header.TCPOptionTSLength {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(t[options+4:]), binary.BigEndian.Uint32(t[options+8:]), true
}
