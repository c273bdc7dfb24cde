// Package feed carries what workers see of their traffic to whoever watches it.
//
// A feed has a ring in shared memory for each worker (ring.go). The worker's loop
// writes records into it; it never waits: what finds no room is counted and lost.
// The master makes the rings, hands each worker its own, takes the records, and
// writes them to a client ([Session]), which may be as slow as it likes.
//
// Nothing wakes the master when records come: it looks every few milliseconds, and
// only while there is a feed.
package feed

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

const (
	// defaultInterval is how often the rings are looked at.
	defaultInterval = 10 * time.Millisecond
	// lastWrite is how long a client may take to read the rest.
	lastWrite = 5 * time.Second
)

// Output is where a session writes to.
type Output interface {
	io.Writer
	Flush() error
	SetWriteDeadline(time.Time) error
}

// Source makes of records what a client reads. The calls come one after another.
type Source interface {
	Begin(out Output) error // before the first record
	// Take writes what has come; done: that is as much as was asked for. The last
	// call is final: no worker writes any more.
	Take(out Output, final bool) (done bool, err error)
	End(out Output) error // behind the last record
}

// Session is the master's side of one feed. One goroutine runs it; any may Stop it.
type Session struct {
	Rings []*Ring // of each worker
	Start time.Time

	Interval time.Duration // how often the rings are looked at
	files    []*os.File    // their memory
	stop     chan struct{}
}

// New makes the rings of a feed, of size bytes each, a power of two.
func New(name string, size, workers int) (*Session, error) {
	s := &Session{Start: time.Now(), Interval: defaultInterval, stop: make(chan struct{}, 1)}
	for range workers {
		r, f, err := NewRing(name, size)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.Rings, s.files = append(s.Rings, r), append(s.files, f)
	}
	return s, nil
}

// File is the memory of a worker's ring. It stays the session's.
func (s *Session) File(worker int) *os.File { return s.files[worker] }

// Stop ends Follow.
func (s *Session) Stop() {
	select {
	case s.stop <- struct{}{}:
	default:
	}
}

// Follow writes what comes until Stop, until ctx is done, until limit has passed (0:
// none), or until the source is done. It calls off when the workers are to write no
// more, before it writes what they have left.
func (s *Session) Follow(ctx context.Context, from Source, out Output, limit time.Duration, off func()) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	defer func() {
		cancel()
		<-ended
	}()
	go func() {
		defer close(ended)
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
		out.SetWriteDeadline(time.Now().Add(lastWrite)) //nolint:errcheck // then the client alone decides how long it takes
	}()
	if err = from.Begin(out); err == nil {
		err = s.follow(ctx, from, out, limit)
	}
	off()
	if err != nil {
		return err
	}
	if _, err := from.Take(out, true); err != nil {
		return err
	}
	return from.End(out)
}

func (s *Session) follow(ctx context.Context, from Source, out Output, limit time.Duration) error {
	ticker := time.NewTicker(s.Interval)
	defer ticker.Stop()
	var timeout <-chan time.Time
	if limit > 0 {
		timeout = time.After(limit)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timeout:
			return nil
		case <-ticker.C:
		}
		if done, err := from.Take(out, false); err != nil || done {
			return err
		}
	}
}

// Close releases the rings.
func (s *Session) Close() error {
	var errs []error
	for i := range s.Rings {
		errs = append(errs, s.Rings[i].Close(), s.files[i].Close())
	}
	s.Rings, s.files = nil, nil
	return errors.Join(errs...)
}
