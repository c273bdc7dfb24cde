package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// flowIdle is how long a flow without output is remembered. Forgetting one that
// holds nothing is always safe: its next pure ACK is sent at once.
const (
	flowIdle = 30 * time.Second
	// flowEnded is the same for a flow that has sent FIN: all it may still send
	// is an ACK.
	flowEnded = time.Second
)

// flowKey names a TCP flow as seen by its sender: addresses of 16 bytes (IPv4
// mapped) and both ports.
type flowKey struct {
	local, remote [16]byte
	ports         uint32
}

// flow is the link's memory of one direction of a connection.
type flow struct {
	// What each message takes is in front, in two lines of the processor's cache.
	key      flowKey
	used     time.Duration // when it last sent
	live     bool          // the slot holds a flow
	known    bool          // lastACK is valid
	dialled  bool          // all that was sent is the SYN of a connection that we open
	ended    bool          // FIN was sent
	peerFIN  bool          // the peer's FIN came first, and is acknowledged
	finCame  bool          // a FIN came that is not
	gap      bool          // what last left told, in SACK blocks, of a gap in what came
	shrunk   bool          // the peer's window ends before the end of what was sent
	closed   bool          // what last left announced no window
	edge     uint32        // where it ends, and the acknowledgment number that came with that; valid iff shrunk
	edgeACK  uint32
	lastACK  uint32 // the acknowledgment number that last left
	full     uint32 // bytes of data in the peer's full segments; 0: not known
	tail     tail
	held     heldACK
	finEnd   uint32 // behind the FIN that came, and its timestamp; valid iff finCame
	finStamp uint32
	waiting  uint32           // where its entry in TIME_WAIT was put
	twice    header.SACKBlock // came twice, and the peer was not told; valid iff not empty

	resending resending
}

// tail is the last frame of data that a flow put on the TX ring. As long as no
// kick has published it, it can still be changed.
type tail struct {
	packet []byte // from the IP header on, in the frame
	count  uint64 // of the link's submitted frames, this one included
}

// flowTable finds flows by key. Slots are reused, so a flow is named by its
// slot and is stable until it is swept.
type flowTable struct {
	index map[flowKey]int32
	// recent finds the slots of busy flows without hashing the key: by the
	// transmit hash, which is random for each connection. Any entry may be
	// stale; the slot's key decides.
	recent [recentFlows]int32
	slots  []flow
	free   []int32
	hand   int // next slot to sweep
	fresh  int // flows that began since the last sweep
}

// recentFlows is the size of the direct-mapped cache: 4 KB.
const recentFlows = 1 << 10

func (t *flowTable) init() { t.index = make(map[flowKey]int32) }

// get returns the slot of key, a fresh one when the flow is new. hash is any
// number that the flow's packets share.
func (t *flowTable) get(key *flowKey, hash uint32, now time.Duration) int32 {
	recent := &t.recent[hash%recentFlows]
	if i := *recent; int(i) < len(t.slots) && t.slots[i].live && t.slots[i].key == *key {
		t.slots[i].used = now
		return i
	}
	if i, ok := t.index[*key]; ok {
		t.slots[i].used = now
		*recent = i
		return i
	}
	var i int32
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		i = int32(len(t.slots))
		t.slots = append(t.slots, flow{})
	}
	t.fresh++
	f := &t.slots[i]
	// The hold's generation outlives the flow, so a stale queue entry cannot
	// name the slot's next tenant.
	generation := f.held.generation
	*f = flow{key: *key, used: now, live: true}
	f.held.generation = generation
	t.index[*key] = i
	*recent = i
	return i
}

// sweep looks at up to n slots, and at two for each flow that began since, and forgets
// the idle ones. Called every turn with a small n it visits all of them well within
// flowIdle; and the table stops growing at twice the flows that are not to be forgotten,
// however fast new ones come.
func (t *flowTable) sweep(now time.Duration, n int) {
	n = min(n+2*t.fresh, len(t.slots))
	t.fresh = 0
	for ; n > 0; n-- {
		if t.hand >= len(t.slots) {
			t.hand = 0
		}
		f := &t.slots[t.hand]
		idle := flowIdle
		if f.ended {
			idle = flowEnded
		}
		if f.live && !f.held.active && now-f.used > idle {
			t.drop(int32(t.hand))
		}
		t.hand++
	}
}

// drop forgets the flow in a slot.
func (t *flowTable) drop(slot int32) {
	f := &t.slots[slot]
	delete(t.index, f.key)
	f.live, f.held.active, f.held.debtor = false, false, nil
	t.free = append(t.free, slot)
}
