package capture

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/net/bpf"

	"ringroad/cmd/internal/feed"
	"ringroad/stack"
)

// hold is how old frames are when they are written: a worker may be interrupted
// between taking the time and writing the frame.
const hold = 10 * time.Millisecond

// flushBytes is how much is written at a time.
const flushBytes = 64 << 10

// Link is an interface of a capture.
type Link struct {
	Name string
	MAC  [6]byte
}

// Session is the master's side of one capture. One goroutine runs it; any may Stop it.
type Session struct {
	*feed.Session
	options Options
	code    []bpf.RawInstruction
	links   []Link
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
	s := &Session{options: o, links: links, heads: make([]head, workers)}
	if code != nil {
		if s.code, err = bpf.Assemble(code); err != nil {
			return nil, fmt.Errorf("start a capture: %w", err)
		}
	}
	s.Session, err = feed.New("ringroad-capture", o.BufferBytes, workers)
	return s, err
}

// Order is what the workers are told.
func (s *Session) Order() *Order {
	return &Order{Program: s.code, SnapLen: s.options.SnapLen, Direction: s.options.Direction, Handed: s.options.Handed, Start: s.Start}
}

// Run writes frames until it is stopped, until ctx is done, or until there are as many
// as asked for; see feed.Session.Follow.
func (s *Session) Run(ctx context.Context, out feed.Output, off func()) error {
	return s.Follow(ctx, source{s}, out, s.options.Duration, off)
}

// source makes pcapng of the frames.
type source struct{ *Session }

// Begin implements feed.Source.
func (s source) Begin(out feed.Output) error {
	s.enc.header(&s.options, s.links)
	return s.flush(out)
}

// Take implements feed.Source.
func (s source) Take(out feed.Output, final bool) (done bool, err error) {
	until := ^uint64(0)
	if !final {
		until = uint64(max(time.Since(s.Start)-hold, 0))
	}
	err = s.write(out, until)
	return s.complete(), err
}

// End implements feed.Source.
func (s source) End(out feed.Output) error {
	end := uint64(time.Since(s.Start))
	for i := range s.links {
		var a, d uint64
		for _, r := range s.Rings {
			a += r.Counter(accepted(i)).Load()
			d += r.Counter(dropped(i)).Load()
		}
		s.enc.statistics(i, s.wall(0), s.wall(end), a, d)
	}
	return s.flush(out)
}

// complete reports whether there are as many frames as asked for.
func (s *Session) complete() bool { return s.options.Count > 0 && s.written >= s.options.Count }

// write writes the frames on the rings that are not younger than until, in the order
// of their times.
func (s *Session) write(out feed.Output, until uint64) error {
	for i := range s.Rings {
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
		s.Rings[first].Take()
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

// peek looks at the oldest frame of a ring.
func (s *Session) peek(i int) {
	h := &s.heads[i]
	for {
		h.frame, h.ok = peek(s.Rings[i], &h.record)
		if !h.ok || int(h.link) < len(s.links) && h.kind >= received && h.kind <= sent && int(h.kept) <= s.options.SnapLen {
			return
		}
		s.Rings[i].Take()
	}
}

func (s *Session) flush(out feed.Output) error {
	_, err := out.Write(s.enc.b)
	s.enc.b = s.enc.b[:0]
	if err == nil {
		err = out.Flush()
	}
	return err
}

// wall is a time of the capture's clock in ns since 1970.
func (s *Session) wall(ns uint64) uint64 { return uint64(s.Start.UnixNano()) + ns }

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
