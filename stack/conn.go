package stack

import (
	"io"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// tuneBytes is the least a read must return for the receive buffer's
// auto-tuning to be told: requests never fill it, bodies do.
const tuneBytes = 2048

// Conn is one TCP connection. It belongs to the loop; after Close or Abort it
// is dead, and no event of it is delivered any more.
type Conn struct {
	source
	stack         *Stack
	endpoint      tcpip.Endpoint
	queue         *waiter.Queue
	local, remote netip.AddrPort
	failure       error // the connection's fatal error, once known
	closed        bool
	sharing       time.Duration // the second in which it last shared the frames, see tuning.go
	windows       int64         // of its share it may have, valid with sharing
	probed        bool          // ownTimers was called
	zeroWindows   uint64        // counted so far
	full          *uint64       // counts them; nil: nobody wants to know
	first         seqnum.Value  // sequence number of the first byte written; valid iff numbered
	numbered      bool
	read, written uint64 // bytes
	watched       bool   // in the stack's queue of that name
	spot          uint64 // its entry there; valid iff watched
	out           wayOut
}

// Connect begins a connection to remote from one of the stack's own addresses
// and the worker's backend ports, where possible one that the link's Placement
// names. A nil error means that it is in progress: a Writable event
// tells that it is established, Error or Hangup that it failed, and Err why.
// ErrNoRoute: no route over one of the links. ErrNoPort: all local ports toward
// remote are in use.
func (s *Stack) Connect(remote netip.AddrPort) (*Conn, error) {
	place := s.place(remote)
	r, err := s.dial(&place)
	if err != nil {
		s.net.Stats().TCP.FailedConnectionAttempts.Increment()
		return nil, err
	}
	c := &Conn{stack: s, remote: remote, endpoint: r.endpoint, queue: &r.queue}
	c.local = netip.AddrPortFrom(place.ip, r.endpoint.ID.LocalPort)
	r.conn = c
	return c, nil
}

// Established reports whether the handshake is done and the connection lives.
func (c *Conn) Established() bool {
	if c.closed {
		return false
	}
	switch tcp.EndpointState(c.endpoint.State()) {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
		return true
	}
	return false
}

// Read fills p with what the receive buffer holds. ErrWouldBlock: nothing is
// left; it may come together with bytes, when those were the last, and saves the
// call that would only say so. io.EOF, without bytes: the peer sent FIN and all
// is read.
func (c *Conn) Read(p []byte) (int, error) {
	if c.closed {
		return 0, ErrClosed
	}
	if n := c.readShort(p); n > 0 {
		c.stack.stats.BytesRead += uint64(n)
		c.read += uint64(n)
		if n < len(p) && c.peerSends() {
			return n, ErrWouldBlock
		}
		return n, nil
	}
	w := &c.stack.writer
	*w = p
	r, err := c.endpoint.Read(w, tcpip.ReadOptions{})
	*w = nil
	if err != nil {
		return 0, c.fail(errorOf(err))
	}
	if r.Count >= tuneBytes && !c.stack.tcp.NoAutoTuning {
		c.tune(r.Count)
	}
	c.stack.stats.BytesRead += uint64(r.Count)
	c.read += uint64(r.Count)
	if r.Count < len(p) && c.peerSends() {
		return r.Count, ErrWouldBlock
	}
	return r.Count, nil
}

// peerSends reports that no FIN and no reset has come. One that comes from now
// on makes an event of its own, because Read has held the endpoint's lock.
func (c *Conn) peerSends() bool { return peerSends(tcp.EndpointState(c.endpoint.State())) }

// peerSends reports whether data may come to a connection in state.
func peerSends(state tcp.EndpointState) bool {
	switch state {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2:
		return true
	}
	return false
}

// Write queues p in the send buffer, as far as there is room. n < len(p) comes
// with ErrWouldBlock, and a Writable event follows.
func (c *Conn) Write(p []byte) (n int, err error) {
	if c.closed {
		return 0, ErrClosed
	}
	c.begin()
	r := &c.stack.reader
	for n < len(p) {
		if c.writeShort(p[n:]) {
			n = len(p)
			break
		}
		c.ownTimers()
		if k := c.writeLong(p[n:]); k > 0 {
			n += k
			continue
		}
		r.Reset(p[n:])
		k, terr := c.endpoint.Write(r, tcpip.WriteOptions{Atomic: true})
		n += int(k)
		if terr != nil {
			err = c.fail(errorOf(terr))
			break
		}
	}
	r.Reset(nil)
	c.stack.stats.BytesWritten += uint64(n)
	c.written += uint64(n)
	if n > 0 {
		c.stack.watch(c)
	}
	return n, err
}

// begin notes where the first byte written is.
func (c *Conn) begin() {
	if !c.numbered {
		c.first, c.numbered = begin(c.endpoint.(*tcp.Endpoint))
	}
}

func (c *Conn) ownTimers() {
	if !c.probed {
		c.probed = true
		ownTimers(c.endpoint.(*tcp.Endpoint))
	}
}

// fail remembers a fatal error.
func (c *Conn) fail(err error) error {
	if c.failure == nil && err != io.EOF && err != ErrWouldBlock {
		c.failure = err
	}
	return err
}

// Err is the error that ended or refused the connection, nil if none
// (SO_ERROR, but it stays).
func (c *Conn) Err() error {
	if c.failure == nil && !c.closed {
		c.failure = errorOf(c.endpoint.LastError())
	}
	return c.failure
}

// CloseWrite sends FIN after what is queued; reading goes on.
func (c *Conn) CloseWrite() {
	if !c.closed && !c.closeShort() {
		c.endpoint.Shutdown(tcpip.ShutdownWrite) //nolint:errcheck // a connection already ended needs no FIN
		c.stack.delayProbe(c.endpoint.(*tcp.Endpoint))
	}
}

// Delivered reports whether the peer has acknowledged all that was written, and the
// FIN of CloseWrite.
func (c *Conn) Delivered() bool {
	switch tcp.EndpointState(c.endpoint.State()) {
	case tcp.StateFinWait2, tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
		return true
	}
	return false
}

// Close ends both directions: FIN after what is queued, or RST if received
// data was left unread (RFC 2525 2.17). It never blocks. What the peer does not take
// within TCPOptions.FinWait2 is given up.
func (c *Conn) Close() {
	if c.closed {
		return
	}
	c.closed = true
	c.countWindows()
	c.stack.poller.unregister(&c.source)
	delivered := c.Delivered()
	if !delivered {
		// From now on nobody else sees whether the peer takes what is still queued: one
		// that acknowledges behind a closed window could keep it for ever (RFC 9293
		// 3.8.6.1). Linux gives such orphans up, too.
		limit := tcpip.TCPUserTimeoutOption(c.stack.tcp.FinWait2)
		c.endpoint.SetSockOpt(&limit) //nolint:errcheck // never fails
	}
	c.endpoint.Close()
	if !delivered {
		c.stack.delayProbe(c.endpoint.(*tcp.Endpoint))
	}
	c.stack.unwatch(c)
	if r := reusableOf(c.endpoint.(*tcp.Endpoint)); r != nil && r.ended {
		c.stack.release(r)
	}
}

// Abort ends the connection with RST.
func (c *Conn) Abort() {
	if c.closed {
		return
	}
	c.closed = true
	c.countWindows()
	c.stack.poller.unregister(&c.source)
	c.endpoint.Abort()
	c.endpoint.Close()
	c.stack.unwatch(c)
}

// RemoteAddr is the peer's address and port.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is our address and port.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{Addr: addressOf(a.Addr()), Port: a.Port()}
}
