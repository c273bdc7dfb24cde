package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/net/bpf"

	"ringroad/stack"
)

const (
	// interval is how often the rings are looked at.
	interval = 10 * time.Millisecond
	// hold is how old frames are when they are written: a worker may be interrupted
	// between taking the time and writing the frame.
	hold = 10 * time.Millisecond
	// flushBytes is how much is written at a time.
	flushBytes = 64 << 10
	// lastWrite is how long a client may take to read the rest.
	lastWrite = 5 * time.Second
)

// Link is an interface of a capture.
type Link struct {
	Name string
	MAC  [6]byte
}

// Output is where a session writes to.
type Output interface {
	io.Writer
	Flush() error
	SetWriteDeadline(time.Time) error
}

// Session is the master's side of one capture. One goroutine runs it; any may Stop it.
type Session struct {
	options Options
	code    []bpf.RawInstruction
	links   []Link
	rings   []*ring    // of each worker
	files   []*os.File // their memory
	start   time.Time
	stop    chan struct{}
	written uint64
	enc     encoder
	heads   []head
}

// head is the oldest frame of a ring.
type head struct {
	record
	frame []byte // of the ring
	ok    bool
}

// New makes the rings of a capture.
func New(o Options, links []Link, workers int) (*Session, error) {
	o, code, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(links) > MaxLinks {
		return nil, fmt.Errorf("start a capture: %d interfaces are too many", len(links))
	}
	s := &Session{options: o, links: links, start: time.Now(), stop: make(chan struct{}, 1), heads: make([]head, workers)}
	if code != nil {
		if s.code, err = bpf.Assemble(code); err != nil {
			return nil, fmt.Errorf("start a capture: %w", err)
		}
	}
	for range workers {
		r, f, err := newRing(o.BufferBytes)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.rings, s.files = append(s.rings, r), append(s.files, f)
	}
	return s, nil
}

// Order is what the workers are told.
func (s *Session) Order() *Order {
	return &Order{Program: s.code, SnapLen: s.options.SnapLen, Direction: s.options.Direction, Handed: s.options.Handed, Start: s.start}
}

// File is the memory of a worker's ring. It stays the session's.
func (s *Session) File(worker int) *os.File { return s.files[worker] }

// Stop ends Run.
func (s *Session) Stop() {
	select {
	case s.stop <- struct{}{}:
	default:
	}
}

// Run writes frames until Stop, until ctx is done, or until there are as many as
// asked for. It calls off when the workers are to write no more, before it writes
// the last frames and the statistics.
func (s *Session) Run(ctx context.Context, out Output, off func()) (err error) {
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
	s.enc.header(&s.options, s.links)
	if err = s.flush(out); err == nil {
		err = s.follow(ctx, out)
	}
	off()
	if err != nil {
		return err
	}
	if err := s.write(out, ^uint64(0)); err != nil {
		return err
	}
	end := uint64(time.Since(s.start))
	for i := range s.links {
		var accepted, dropped uint64
		for _, r := range s.rings {
			accepted += r.accepted(i).Load()
			dropped += r.dropped(i).Load()
		}
		s.enc.statistics(i, s.wall(0), s.wall(end), accepted, dropped)
	}
	return s.flush(out)
}

// follow writes what comes.
func (s *Session) follow(ctx context.Context, out Output) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var timeout <-chan time.Time
	if s.options.Duration > 0 {
		timeout = time.After(s.options.Duration)
	}
	for !s.complete() {
		select {
		case <-ctx.Done():
			return nil
		case <-timeout:
			return nil
		case <-ticker.C:
		}
		if err := s.write(out, uint64(max(time.Since(s.start)-hold, 0))); err != nil {
			return err
		}
	}
	return nil
}

// complete reports whether there are as many frames as asked for.
func (s *Session) complete() bool { return s.options.Count > 0 && s.written >= s.options.Count }

// write writes the frames on the rings that are not younger than until, in the order
// of their times.
func (s *Session) write(out Output, until uint64) error {
	for i := range s.rings {
		s.peek(i)
	}
	for !s.complete() {
		first := -1
		for i := range s.heads {
			if h := &s.heads[i]; h.ok && h.time <= until && (first < 0 || h.time < s.heads[first].time) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		h := &s.heads[first]
		s.enc.packet(&h.record, s.wall(h.time), h.frame, comment(first, &h.record))
		s.rings[first].take(&h.record)
		s.written++
		s.peek(first)
		if len(s.enc.b) >= flushBytes {
			if err := s.flush(out); err != nil {
				return err
			}
		}
	}
	if len(s.enc.b) == 0 {
		return nil
	}
	return s.flush(out)
}

// peek looks at the oldest frame of a ring. What no worker writes is left out.
func (s *Session) peek(i int) {
	h := &s.heads[i]
	for {
		h.frame, h.ok = s.rings[i].peek(&h.record)
		if !h.ok || int(h.link) < len(s.links) && h.kind <= sent && int(h.kept) <= s.options.SnapLen {
			return
		}
		s.rings[i].take(&h.record)
	}
}

func (s *Session) flush(out Output) error {
	_, err := out.Write(s.enc.b)
	s.enc.b = s.enc.b[:0]
	if err == nil {
		err = out.Flush()
	}
	return err
}

// wall is a time of the capture's clock in ns since 1970.
func (s *Session) wall(ns uint64) uint64 { return uint64(s.start.UnixNano()) + ns }

// comment says what only the worker knows of a frame.
func comment(worker int, r *record) string {
	text := fmt.Sprintf("worker %d", worker)
	if r.kind == handed {
		text += fmt.Sprintf(", handed over by worker %d", r.from)
	}
	switch fate := stack.Fate(r.fate); {
	case r.kind == sent || fate == stack.FateHere:
	case fate == stack.FateDropped:
		text += ", dropped"
	default:
		text += fmt.Sprintf(", handed over to worker %d", fate)
	}
	return text
}

// Close releases the rings.
func (s *Session) Close() error {
	var errs []error
	for i := range s.rings {
		errs = append(errs, s.rings[i].close(), s.files[i].Close())
	}
	s.rings, s.files = nil, nil
	return errors.Join(errs...)
}
