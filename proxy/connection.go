package proxy

import (
	"net/netip"
	"time"

	"ringroad/stack"
)

// ConnectionState is what a client connection is about.
type ConnectionState string

// The states, in the order of a request. Request and response may overlap: a response
// that has begun counts.
const (
	StateIdle    ConnectionState = "idle"    // awaits a request
	StateHeader  ConnectionState = "header"  // awaits its PROXY protocol header
	StateHead    ConnectionState = "head"    // receives the head of a request
	StateAnswer  ConnectionState = "answer"  // gets an answer of our own
	StateConnect ConnectionState = "connect" // awaits a connection to a backend
	StateSend    ConnectionState = "send"    // its request goes to the backend
	StateWait    ConnectionState = "wait"    // all of it went; awaits the first byte of the response
	StateRelay   ConnectionState = "relay"   // gets the response
	StateTunnel  ConnectionState = "tunnel"
	StateClosing ConnectionState = "closing" // everything is written; awaits the client's end
)

// Connection is a client connection with all that belongs to it at one moment. No
// field and no body is in it, and of the target of the request only the path: queries
// carry secrets.
type Connection struct {
	Worker int    `json:"worker"` // set by whoever knows it
	Number uint64 `json:"number"` // in the order in which the worker's process accepted

	Client   netip.AddrPort  `json:"client"`   // as a PROXY protocol header named it, if one did
	Listener netip.AddrPort  `json:"listener"` // as configured
	State    ConnectionState `json:"state"`
	InState  time.Duration   `json:"in_state_ns"` // for how long
	Age      time.Duration   `json:"age_ns"`      // since it was accepted
	Requests int             `json:"requests"`    // begun
	Held     int             `json:"held_bytes"`  // read and not yet written, in buffers of the proxy

	TCP     stack.Info         `json:"tcp"`     // to the client
	Request *RequestUnderWay   `json:"request"` // nil: none, or its head is incomplete
	Backend *BackendConnection `json:"backend"` // nil: none
}

// RequestUnderWay is a request that is not answered in full.
type RequestUnderWay struct {
	Method        string        `json:"method"`
	Host          string        `json:"host"`
	Path          string        `json:"path"` // without the query, shortened; odd bytes as \xHH
	Age           time.Duration `json:"age_ns"`
	Status        int           `json:"status"` // 0: no response yet
	Attempts      int           `json:"attempts"`
	RequestBytes  uint64        `json:"request_bytes"`  // received of it
	ResponseBytes uint64        `json:"response_bytes"` // written to the client
}

// BackendConnection is the connection that serves a request.
type BackendConnection struct {
	Upstream string         `json:"upstream"`
	Server   netip.AddrPort `json:"server"`
	Pooled   bool           `json:"pooled"`   // it had served before
	Requests int            `json:"requests"` // begun on it
	TCP      stack.Info     `json:"tcp"`
}

// maxPathBytes is how much of a path is shown.
const maxPathBytes = 128

// survey fills c with what can be told without allocating.
func (s *session) survey(c *Connection, request *RequestUnderWay, backend *BackendConnection) {
	w := s.worker
	since := s.since
	*c = Connection{
		Number: s.number, Client: s.clientEnd(), Listener: s.listener.config.Address, State: StateIdle,
		Age: w.now - s.accepted, Requests: s.requests, Held: s.in.len(), TCP: s.conn.Info(),
	}
	switch s.state {
	case introducing:
		c.State = StateHeader
	case lingering:
		c.State = StateClosing
	}
	if x := s.x; x != nil && (s.state == exchanging || x.req.Started()) {
		c.State, since = x.state()
		c.Held += x.request.out.len() + x.response.out.len() + x.in.len()
		if x.hasHead {
			*request = RequestUnderWay{
				Age: w.now - x.times.begun, Status: x.status, Attempts: x.attempts,
				RequestBytes: x.requestBytes(), ResponseBytes: x.written,
			}
			c.Request = request
		}
		if b := x.backend; b != nil {
			*backend = BackendConnection{Server: b.Server.Addr, Upstream: b.Server.Group.Name, Pooled: x.reused, Requests: b.requests, TCP: b.conn.Info()}
			c.Backend = backend
		}
	}
	c.InState = w.now - since
}

// state is how far the exchange is, and the loop time since when.
func (x *exchange) state() (ConnectionState, time.Duration) {
	t := &x.times
	switch {
	case !x.hasHead && x.session.state != exchanging:
		return StateHead, t.begun
	case x.tunnelled:
		return StateTunnel, t.heard
	case x.hasResp || x.heard && x.backend != nil:
		return StateRelay, t.heard
	case x.began || x.backend == nil:
		return StateAnswer, max(t.head, t.begun)
	case !x.backend.connected:
		return StateConnect, t.attempt
	case x.sent:
		return StateWait, t.sent
	}
	return StateSend, t.connected
}

// describe adds the texts of the request to what survey filled.
func (s *session) describe(r *RequestUnderWay) {
	x := s.x
	head := x.head()
	r.Method = string(x.req.Method.Of(head))
	r.Host = shown(x.req.Host.Of(head))
	path := x.req.Path.Of(head)
	if x.req.Path.Len() == 0 {
		path = nil // of a target that has none, all the rest is in Host
	}
	for i, c := range path {
		if c == '?' {
			path = path[:i]
			break
		}
	}
	r.Path = shown(path)
}

// shown is text from a client that a terminal can be given, shortened.
func shown(text []byte) string {
	more := ""
	if len(text) > maxPathBytes {
		text, more = text[:maxPathBytes], "..."
	}
	return string(appendEscaped(make([]byte, 0, len(text)), text)) + more
}
