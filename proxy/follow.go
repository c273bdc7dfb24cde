package proxy

import (
	"net/netip"
	"time"

	"ringroad/stack"
)

// Hooks follow requests, for a trace. A worker without hooks pays a comparison where it
// would tell them something, and one with hooks little more for requests that are
// skipped while Fine is off. They are called on the loop, and what they are given is
// valid during the call.
type Hooks struct {
	// Accepted is told of a connection taken off the accept queue of l. What it returns
	// is handed back with the requests of the connection.
	Accepted func(l *stack.Listener, c *stack.Conn) any
	// Wanted is asked for each request, when its head is complete or was refused, whether
	// to follow it. target is that of the request; empty: the head was refused.
	Wanted func(client netip.Addr, target []byte) bool
	// Follow begins to follow a request that is wanted; nil: it does not.
	Follow func(*Begun) Follower

	// Skip is how many requests Wanted is not asked about, because they are not wanted
	// whatever they are; the worker counts them off. It may change at any time on the loop.
	Skip uint64
	// Fine makes the worker note what comes before the head of a request is complete, for
	// Begun. It may change at any time on the loop.
	Fine bool
}

// Follower is told the steps of one request.
type Follower interface{ Step(Step) }

// Begun is a request whose head is known.
type Begun struct {
	Conn       *stack.Conn
	Connection any        // what Accepted returned; nil: there were no hooks then
	Client     netip.Addr // as a PROXY protocol header named it, or the peer's
	First      bool       // of its connection

	Method, Target []byte // empty where the head was refused
	Line           []byte // the request line as it came, where the head was refused
	HeadBytes      int
	BodyFollows    bool // not all of the body has come

	// When what: loop times, zero where nothing of the kind happened for this request,
	// as for one that came together with the one before.
	Waking   stack.Waking
	Ran      time.Duration // the session began to run
	Read     time.Duration // bytes of the head were read first
	ReadSize int           // bytes read since then
	Since    time.Duration // the last read before, which belongs to an earlier request
}

// StepKind says what a step is.
type StepKind uint8

// The steps of a request, in the order in which most of them come.
const (
	StepAwake       StepKind = iota // Conn was taken off the ready list, and its session runs: see Conn.Waking
	StepRead                        // Bytes were read from Conn
	StepChosen                      // Server gets the request, over a connection that is Pooled or new
	StepConnection                  // which is Conn: of a new one the SYN was sent
	StepFed                         // the request is complete: nothing more of it comes
	StepBuilt                       // Bytes of a head or a body were put into the buffer to be written
	StepEstablished                 // the handshake with the server is done
	StepWritten                     // Bytes were written to Conn; Left could not be
	StepInterim                     // a 1xx response was parsed: Status
	StepResponse                    // the head of the response was parsed: Status, Bytes
	StepAnswered                    // an answer of the proxy's own was made: Status
	StepFailed                      // Err; Again: another connection is tried
	StepReleased                    // the connection to the server: Kept in the pool, or closed
	StepTunnel                      // the connections carry another protocol from now on
	StepOver                        // the request is over: the connection is Kept, closed with FIN, or Aborted
)

// Step is one of a request's.
type Step struct {
	Kind   StepKind
	Client bool          // it is about the client's connection, not the server's
	Conn   *stack.Conn   // nil: about none
	Began  time.Duration // loop time at which a write began
	Bytes  int
	Left   int
	Status int
	Server netip.AddrPort
	Group  string // upstream of Server
	Pooled bool
	Again  bool
	Kept   bool
	Abort  bool
	Err    error
}

// noted is what a session remembers for hooks.
type noted struct {
	connection any
	waking     stack.Waking
	ran        time.Duration
	read       time.Duration // of the first bytes of the head that is being read; 0: none of its own
	size       int
	since      time.Duration // of the last read that brought bytes
	before     time.Duration // since, as it was when read was set
}

// SetHooks makes h be told from now on; nil: nobody. Requests under way are not
// followed, or no more. It belongs to the loop.
func (w *Worker) SetHooks(h *Hooks) {
	w.hooks = h
	for s := w.sessions.next; s != &w.sessions; s = s.next {
		s.noted, s.noting = nil, false
		if s.x != nil {
			s.x.follower = nil
		}
	}
}

// look makes sure that the session remembers.
func (s *session) look() *noted {
	if s.noted == nil {
		s.noted = new(noted)
	}
	return s.noted
}

// fine tells whether what comes before the head of a request is complete is noted.
func (w *Worker) fine() bool { return w.hooks != nil && w.hooks.Fine }

// heeded tells whether anybody wants to know that the session runs.
func (s *session) heeded() bool {
	return s.worker.hooks != nil && (s.worker.hooks.Fine || s.x != nil && s.x.follower != nil)
}

// awake notes that an event brought the session to run.
func (s *session) awake() {
	if s.x != nil && s.x.follower != nil {
		s.x.follower.Step(Step{Kind: StepAwake, Client: true, Conn: s.conn})
	}
	if s.worker.hooks.Fine {
		m := s.look()
		s.noting = true
		m.waking, m.ran = s.conn.Waking(), s.worker.stack.Elapsed()
	}
}

// noteRead notes a read of n bytes, of a head or of a body, while the worker is fine.
func (s *session) noteRead(n int, head bool) {
	if n == 0 {
		return
	}
	m, now := s.look(), s.worker.stack.Elapsed()
	s.noting = true
	if head {
		if m.read == 0 {
			m.read, m.before, m.size = now, m.since, 0
		}
		m.size += n
	}
	m.since = now
}

// follow asks whether x is to be followed. Its head is complete, or was refused.
func (x *exchange) follow() {
	s := x.session
	w := s.worker
	if w.hooks.Skip > 0 {
		w.hooks.Skip--
	} else {
		client := s.clientEnd().Addr().Unmap()
		var target []byte
		if x.hasHead {
			target = x.req.Target.Of(x.head())
		}
		if w.hooks.Wanted(client, target) {
			x.beginFollowing(client, target)
		}
	}
	if s.noting {
		s.noting = false
		m := s.noted
		m.waking, m.ran, m.read, m.size = stack.Waking{}, 0, 0, 0
	}
}

// beginFollowing follows x, if the hooks do.
func (x *exchange) beginFollowing(client netip.Addr, target []byte) {
	s := x.session
	w := s.worker
	m := s.look()
	b := &w.begun
	*b = Begun{
		Conn: s.conn, Connection: m.connection, Client: client, First: !s.served, Target: target,
		Waking: m.waking, Ran: m.ran, Read: m.read, ReadSize: m.size, Since: m.before,
	}
	if x.hasHead {
		b.Method = x.req.Method.Of(x.head())
		b.HeadBytes, b.BodyFollows = x.req.HeadBytes, !x.request.body.Done()
	} else {
		b.Line = x.requestLine()
	}
	if m.read == 0 {
		b.Waking, b.Ran, b.Since = stack.Waking{}, 0, m.since
	}
	x.follower = w.hooks.Follow(b)
}

// clock is the loop time at this moment; zero: x is not followed.
func (x *exchange) clock() time.Duration {
	if x.follower == nil {
		return 0
	}
	return x.session.worker.stack.Elapsed()
}

// built tells the follower of n bytes put into the buffer for the client, or for the
// server.
func (x *exchange) built(n int, client bool) {
	x.follower.Step(Step{Kind: StepBuilt, Client: client, Bytes: n})
}

// filled tells the follower what flow.fill has done: n bytes were read, from the client
// or from the server, and f.moved was before when it began. What is read straight into the buffer that
// it leaves from is not copied.
func (x *exchange) filled(f *flow, before uint64, n int, client bool) {
	if n > 0 {
		conn := x.session.conn
		if !client {
			conn = x.backend.conn
		}
		x.follower.Step(Step{Kind: StepRead, Client: client, Conn: conn, Bytes: n})
	}
	moved := int(f.moved - before)
	if f.straight() {
		moved -= n
	}
	if moved > 0 {
		x.built(moved, !client)
	}
}

// finished tells a follower that the exchange is over.
func (x *exchange) finished(kept, abort bool) {
	x.follower.Step(Step{Kind: StepOver, Client: true, Conn: x.session.conn, Kept: kept, Abort: abort, Err: x.failure.Err})
	x.follower = nil
}
