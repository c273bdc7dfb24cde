package proxy

import (
	"io"
	"time"

	"ringroad/stack"
)

// peer is a connection to a client or a backend together with what the poller has
// said about it. The poller reports changes only, so the flags remember.
type peer struct {
	conn     *stack.Conn
	stats    *Stats
	full     *uint64 // counts writes that the send buffer did not take
	readable bool    // Read may return something else than ErrWouldBlock
	writable bool    // Write may take something
	eof      bool    // the other side has sent FIN, and all before it was read
	broken   bool    // the poller reported Hangup or Error

	reading timer // the wait for something to read, and every other wait of the connection
	writing timer // the wait for room in the send buffer
}

// note remembers what an event says.
func (p *peer) note(e stack.Events) {
	const trouble = stack.Hangup | stack.Error
	if e&trouble != 0 {
		p.broken = true
	}
	if e&(stack.Readable|trouble) != 0 {
		p.readable = !p.eof
	}
	if e&(stack.Writable|trouble) != 0 {
		p.writable = true
	}
}

// read fills b with what has come. n == 0 comes with an error, and then there is
// nothing to read until the next event. When the bytes are the last that have
// come, readable says so, which saves a call.
func (p *peer) read(b []byte) (int, error) {
	n, err := p.conn.Read(b)
	p.stats.Reads++
	if n == 0 {
		p.stats.ReadsEmpty++
	}
	if err != nil {
		p.readable = false
		if err == io.EOF {
			p.eof = true
		}
		if n > 0 {
			err = nil
		}
	}
	return n, err
}

// write sends what b holds, as far as there is room.
func (p *peer) write(b *buffer) (int, error) {
	n, err := p.conn.Write(b.pending())
	p.stats.Writes++
	b.take(n, 0)
	if err != nil {
		p.writable = false
		if err == stack.ErrWouldBlock {
			*p.full++
			err = nil
		}
	}
	return n, err
}

// move hands on at most so many of the bytes that have come to dst, behind what b holds, without a copy; 0: it could not.
func (p *peer) move(dst *peer, b *buffer, most int) (read, written int) {
	n, err := p.conn.MoveTo(dst.conn, b.pending(), most)
	if n > 0 {
		p.stats.Reads++
		dst.stats.Writes++
		written = b.len() + n
		b.take(b.len(), 0)
	}
	switch err {
	case stack.ErrWouldBlock:
		p.readable = false
	case stack.ErrFull:
		dst.writable = false
		*dst.full++
	}
	return n, written
}

// wait keeps t armed for kind as long as the wait is on, from the last progress.
func (w *Worker) wait(t *timer, kind wait, on, progress bool) {
	w.waitFor(w.timeouts[kind], t, kind, on, progress)
}

// wait is Worker.wait with the timeouts of the route.
func (x *exchange) wait(t *timer, kind wait, on, progress bool) {
	x.session.worker.waitFor(x.limit(kind), t, kind, on, progress)
}

// limit is how long a wait of the exchange may take.
func (x *exchange) limit(kind wait) time.Duration {
	if x.route != nil {
		return x.route.timeouts[kind]
	}
	return x.session.worker.timeouts[kind]
}

func (w *Worker) waitFor(limit time.Duration, t *timer, kind wait, on, progress bool) {
	switch {
	case !on:
		t.disarm()
	case progress || !t.armed(kind):
		w.wheel.arm(t, kind, w.now+limit)
	}
}
