package proxy

import (
	"bytes"
	"errors"

	"ringroad/proxy/http1"
)

// A tunnel is what an exchange becomes when the backend has agreed to an upgrade
// (101, RFC 9110 7.8) or to CONNECT (2xx, RFC 9110 9.3.6). From then on its two
// flows carry bytes as they come, each until its sender's FIN, which is passed on
// when all before it was written: one direction may end long before the other.
//
// What the client sent behind the head of its request stays unread until the
// backend has answered. Only the answer decides whether it belongs to the tunnel
// or is the next request. After a refused CONNECT it is neither: the connection is
// closed, because clients that do not wait have sent bytes meant for somebody else.

// Reasons to refuse an answer that would make a tunnel.
var (
	errEarlyTunnel = errors.New("backend switched protocols before it had the request")
	errNotAsked    = errors.New("backend switched to a protocol that was not asked for")
)

// mayTunnel tells why the parsed response cannot make a tunnel, nil if it can.
func (x *exchange) mayTunnel() error {
	if !x.sent {
		return errEarlyTunnel
	}
	if !x.resp.Upgrade {
		return nil
	}
	// RFC 9110 7.8: a server must not switch to what the client did not name.
	asked := x.req.UpgradeProtocol.Of(x.head())
	got, _ := http1.Find(x.resp.Fields, x.in.pending(), http1.FieldUpgrade)
	for name := range bytes.SplitSeq(got, []byte(",")) {
		if !names(asked, bytes.Trim(name, " \t")) {
			return errNotAsked
		}
	}
	return nil
}

// names tells whether name is in a comma-separated list, in any case.
func names(list, name []byte) bool {
	for item := range bytes.SplitSeq(list, []byte(",")) {
		if bytes.EqualFold(bytes.Trim(item, " \t"), name) {
			return true
		}
	}
	return false
}

// openTunnel makes the exchange a tunnel. The head of the response is in its out.
func (x *exchange) openTunnel() {
	s, b := x.session, x.backend
	w := s.worker
	x.tunnelled = true
	x.keepAlive = false
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepTunnel})
	}
	// The log wants the head when the tunnel ends; a buffer would be held until
	// then.
	x.kept = bytes.Clone(x.head())
	x.request.flowState = flowState{}
	x.request.body.ResetTunnel()
	s.writing.disarm()
	b.writing.disarm()
	b.reading.disarm()
	w.stats.Tunnels++
	w.stats.TunnelsActive++
}

// passRequest moves what the client sends through the tunnel.
func (x *exchange) passRequest(p *progress) {
	s, b := x.session, x.backend
	read, written := x.pass(&x.request, &s.in, &s.peer, &b.peer, Client, Backend)
	stats := s.worker.stats
	stats.ClientBytesIn += uint64(read)
	stats.BackendBytesOut += uint64(written)
	x.toBackend += uint64(written)
	p.fromClient = p.fromClient || read > 0
	p.toBackend = p.toBackend || written > 0
}

// passResponse moves what the backend sends through the tunnel, the head of its
// response first, and ends the tunnel when both sides have sent FIN.
func (x *exchange) passResponse(p *progress) {
	s, b := x.session, x.backend
	began := x.clock()
	read, written := x.pass(&x.response, &x.in, &b.peer, &s.peer, Backend, Client)
	stats := s.worker.stats
	stats.BackendBytesIn += uint64(read)
	x.fromBackend += uint64(read)
	stats.ClientBytesOut += uint64(written)
	x.written += uint64(written)
	if x.follower != nil && written > 0 {
		// What follows is none of HTTP's.
		x.follower.Step(Step{Kind: StepWritten, Client: true, Conn: s.conn, Began: began, Bytes: written, Left: x.response.out.len()})
		x.finished(true, false)
	}
	p.fromBackend = p.fromBackend || read > 0
	p.toClient = p.toClient || written > 0
	if s.x == x && x.request.closed && x.response.closed {
		x.endTunnel()
	}
}

// pass moves bytes from src to dst: in is what had come before the tunnel began.
// The tunnel has ended when s.x is another one afterwards.
func (x *exchange) pass(f *flow, in *buffer, src, dst *peer, from, to Source) (read, written int) {
	s := x.session
	w := s.worker
	budget := s.budget
	read, handed, _, err := f.fill(w, src, dst, in, 0, false, &s.budget)
	if s.budget <= 0 && budget > 0 {
		w.resume(s)
	}
	if err != nil {
		x.cut(from, err)
		return read, handed
	}
	if in.len() == 0 {
		w.buffers.drop(in)
	}
	if f.out.len() > 0 && dst.writable {
		written, err = dst.write(&f.out)
		written += handed
		if err != nil {
			x.cut(to, err)
			return read, written
		}
	} else {
		written = handed
	}
	if f.out.len() == 0 {
		w.buffers.drop(&f.out)
		if f.complete && !f.closed {
			f.closed = true
			dst.conn.CloseWrite()
		}
	}
	// A reset shows when the peer is read or written, which happens neither when
	// there is no room nor behind its FIN.
	if src.broken {
		if err := src.conn.Err(); err != nil {
			x.cut(from, err)
		}
	}
	return read, written
}

// cut ends the tunnel because one side failed: the other one must not take what
// it got for all.
func (x *exchange) cut(source Source, err error) {
	x.fail(Error{Source: source, Phase: PhaseTunnel, Err: err})
}

// endTunnel ends the tunnel in good order.
func (x *exchange) endTunnel() {
	s := x.session
	x.backend.release(false)
	x.log()
	x.drop()
	s.close()
}

// watchTunnel arms the one timer of the tunnel.
func (x *exchange) watchTunnel(p *progress) {
	s := x.session
	moved := p.fromClient || p.toBackend || p.fromBackend || p.toClient
	s.worker.wait(&s.reading, waitTunnel, true, moved)
}
