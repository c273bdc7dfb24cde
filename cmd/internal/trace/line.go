package trace

import (
	"net/netip"
	"slices"
	"time"

	"ringroad/proxy"
	"ringroad/stack"
)

// keepEvents is the room of a line that is used again.
const keepEvents = 128

// line is a request that is followed. It is guarded by the recorder's lock.
type line struct {
	recorder        *Recorder
	id              uint64
	client, backend stack.Flow
	hasBackend      bool

	clientConn, backendConn *stack.Conn // nil: none, or they are in use no more

	clientAddr, listener netip.AddrPort
	method, target       string
	group                string
	servers              []netip.AddrPort
	errors               []string
	status               int
	tunnel, unfinished   bool
	pooled               bool // the connection to the server

	events  []Event
	leftOut int
	copies  [placeCount]uint64
	tx      []txState // by link
	batch   uint64    // number of the batch of the last frame_received

	parsedAt time.Duration
	fed      bool // nothing more of the request comes
	over     bool
	overAt   time.Duration
	until    time.Duration // when it ends at the latest; valid iff over
	end      uint32        // sequence number behind the response; valid iff endKnown
	endKnown bool
}

// txState is where the frames of a line are, at one link.
type txState struct {
	submitted uint32 // on the TX ring, and not yet kicked
	kicked    uint32 // and not yet completed
	last      uint64 // number of the last one
	kick      int    // index of the event of the kick that is under way; -1: none
}

// add adds an event and returns its index; it is len(events) or more when there is no
// room.
func (l *line) add(e Event) int {
	if len(l.events) >= maxEvents && e.Kind < Interim {
		l.leftOut++
		return maxEvents + 64 // beyond every index
	}
	l.events = append(l.events, e)
	return len(l.events) - 1
}

// last is the last event; nil: it is of another kind, side or link.
func (l *line) last(k Kind, s Side, link uint8) *Event {
	if n := len(l.events); n > 0 {
		if e := &l.events[n-1]; e.Kind == k && e.Side == s && e.Values[0] == uint32(link) {
			return e
		}
	}
	return nil
}

func (l *line) sideOf(f *stack.Flow) Side {
	if *f == l.client {
		return Client
	}
	return Backend
}

// frameReceived adds a frame that came in. Those of a batch make one event.
func (l *line) frameReceived(side Side, s *sighting) {
	l.copies[FrameToPacket] += uint64(s.bytes)
	flags := uint32(s.flags)
	if e := l.last(FrameReceived, side, s.link); e != nil && s.from < 0 && l.batch == s.batch && e.Values[frameQueue] == uint32(s.queue) &&
		e.Values[frameFrom] == 0 && (e.Values[frameFlags]^flags)&^flagPSH == 0 && (e.Values[frameBytes] == 0) == (s.bytes == 0) {
		e.Values[frameFrames]++
		e.Values[frameBytes] += s.bytes
		e.Values[frameFlags] |= flags
		return
	}
	l.batch = s.batch
	e := Event{At: s.at, Kind: FrameReceived, Side: side, Values: [maxValues]uint32{
		frameInterface: uint32(s.link), frameQueue: uint32(s.queue), framePosition: s.index + 1, frameBatch: s.n,
		frameFrames: 1, frameBytes: s.bytes, frameFlags: flags, frameFrom: uint32(s.from + 1), frameWaiting: s.left,
	}}
	if s.from < 0 {
		r := l.recorder
		e.Values[frameSlot] = r.slot(s)
	} else {
		e.Values[frameSlot], e.Values[frameBatch], e.Values[framePosition] = 0, 0, 0
	}
	l.add(e)
}

// slot is that of a frame, plus one; 0: it came from the backlog. The slots of a batch follow one another round the ring.
func (r *Recorder) slot(s *sighting) uint32 {
	if s.slot < 0 {
		return 0
	}
	slot := uint32(s.slot) + s.index
	if n := r.worker.RingEntries; n > 0 {
		slot %= uint32(n)
	}
	return slot + 1
}

// frameSent adds a frame that was put on the TX ring. Those that follow one another
// make one event. e has its time and its side.
func (l *line) frameSent(e Event, s *stack.Segment, number uint64) {
	t := &l.tx[s.Link]
	flags := uint32(s.Flags)
	if s.Merged {
		for i := len(l.events) - 1; i >= 0; i-- {
			if b := &l.events[i]; b.Kind == FrameSent && b.Side == e.Side {
				b.Values[sentFlags] |= flags
				break
			}
		}
		return
	}
	before := l.last(FrameSent, e.Side, uint8(s.Link))
	l.copies[SendToFrame] += uint64(s.Bytes)
	t.submitted++
	t.last = number
	if before != nil && (before.Values[sentFlags]^flags)&^flagPSH == 0 && (before.Values[sentBytes] == 0) == (s.Bytes == 0) {
		before.Values[sentFrames]++
		before.Values[sentBytes] += uint32(s.Bytes)
		before.Values[sentFlags] |= flags
		return
	}
	e.Kind = FrameSent
	e.Values = [maxValues]uint32{uint32(s.Link), 1, uint32(s.Bytes), flags}
	l.add(e)
}

// Step implements proxy.Follower.
func (l *line) Step(s proxy.Step) {
	r := l.recorder
	now := r.now()
	var b stack.Buffered
	if s.Kind == proxy.StepRead || s.Kind == proxy.StepWritten {
		b = s.Conn.Buffered()
	}
	var end uint32
	var known bool
	if s.Kind == proxy.StepOver {
		end, known = s.Conn.WrittenUpTo()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	side := Backend
	if s.Client {
		side = Client
	}
	e := Event{At: now, Side: side}
	v := &e.Values
	switch s.Kind {
	case proxy.StepAwake:
		// Times of an event before the request are not its own.
		if w := s.Conn.Waking(); w.Taken+r.offset >= l.parsedAt {
			r.awake(l, side, w, now)
		}
		return
	case proxy.StepRead:
		e.Kind = Read
		v[moveBytes], v[moveLevel], v[moveCapacity] = uint32(s.Bytes), uint32(b.Received), uint32(b.ReceiveRoom)
		l.copies[ReceiveToHeap] += uint64(s.Bytes)
	case proxy.StepChosen:
		l.group, l.pooled = s.Group, s.Pooled
		l.servers = append(l.servers, s.Server)
		e.Kind = Chosen
		v[chosenServer], v[chosenPooled], v[chosenAttempt] = uint32(len(l.servers)-1), bit(s.Pooled), uint32(len(l.servers))
	case proxy.StepConnection:
		l.setBackend(now, s.Conn)
		return
	case proxy.StepBuilt:
		e.Kind = Built
		v[moveBytes] = uint32(s.Bytes)
		l.copies[HeapToHeap] += uint64(s.Bytes)
	case proxy.StepEstablished:
		e.Kind = Connected
	case proxy.StepWritten:
		e.Kind = Written
		e.At = s.Began + r.offset
		e.Took = now - e.At
		v[moveBytes], v[moveLevel], v[moveCapacity], v[moveLeft] = uint32(s.Bytes), uint32(b.Sent), uint32(b.SendRoom), uint32(s.Left)
		l.copies[HeapToSend] += uint64(s.Bytes)
	case proxy.StepFed:
		l.fed = true
		return
	case proxy.StepInterim:
		e.Kind = Interim
		v[statusStatus] = uint32(s.Status)
	case proxy.StepResponse:
		e.Kind = Response
		v[statusStatus], v[statusBytes] = uint32(s.Status), uint32(s.Bytes)
		l.status = s.Status
	case proxy.StepAnswered:
		e.Kind, e.Side = Answered, Client
		v[statusStatus], v[statusBytes] = uint32(s.Status), uint32(s.Bytes)
		l.status = s.Status
	case proxy.StepFailed:
		e.Kind, e.Side = Failed, NoSide
		l.errors = append(l.errors, s.Err.Error())
		v[failedError], v[failedAgain] = uint32(len(l.errors)-1), bit(s.Again)
	case proxy.StepReleased:
		e.Kind = Released
		v[releasedPooled] = bit(s.Kept)
		l.dropBackend()
	case proxy.StepTunnel:
		e.Kind, e.Side = Tunnel, NoSide
		l.tunnel = true
	case proxy.StepOver:
		l.isOver(now, &s, end, known)
		return
	}
	l.add(e)
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// setBackend makes the line be told of the connection to a server. Of a new one the SYN
// has been sent, unless it waits for a neighbour.
func (l *line) setBackend(now time.Duration, c *stack.Conn) {
	r := l.recorder
	l.dropBackend()
	l.backend, l.hasBackend = c.Flow(), true
	r.watch(l.backend, l)
	c.SetTimes(true)
	l.backendConn = c
	if l.pooled {
		return
	}
	for i := range r.syns {
		if s := &r.syns[i]; s.flow == l.backend && s.at != 0 {
			l.add(Event{At: s.at, Kind: Connecting, Side: Backend})
			l.frameSent(Event{At: s.at, Side: Backend}, &stack.Segment{Link: int(s.link), Flags: flagSYN}, s.number)
			*s = sentSYN{}
			return
		}
	}
	l.add(Event{At: now, Kind: Connecting, Side: Backend})
}

func (l *line) dropBackend() {
	if l.hasBackend {
		l.recorder.unwatch(l.backend, l)
		l.backendConn.SetTimes(false)
		l.hasBackend, l.backendConn = false, nil
	}
}

// isOver takes the end of the exchange. The line waits for the last acknowledgment.
func (l *line) isOver(now time.Duration, s *proxy.Step, end uint32, known bool) {
	l.over, l.overAt, l.fed = true, now, true
	l.untime()
	l.end, l.endKnown = end, known
	l.until = now + ackWait
	e := Event{At: now, Side: Client}
	switch {
	case l.tunnel:
		return
	case s.Abort:
		e.Kind = Aborted
		l.endKnown = false
		l.until = now // of the RST too there is something to be seen
	case s.Kept:
		e.Kind = KeptAlive
	default:
		e.Kind = Closed
		l.end++ // the FIN
	}
	l.add(e)
}

// untime makes the client's connection be timed no more, unless for all are. The
// next request may have begun on it.
func (l *line) untime() {
	if l.clientConn != nil {
		l.clientConn.SetTimes(false)
		l.clientConn = nil
	}
}

// sort puts the events in the order of their times: some are told of later than they
// were.
func (l *line) sort() {
	slices.SortStableFunc(l.events, func(a, b Event) int { return int(a.At - b.At) })
}
