package trace

import (
	"context"
	"encoding/json"
	"time"

	"ringroad/cmd/internal/feed"
)

// bufferBytes is the ring of a worker: some thousand lines.
const bufferBytes = 4 << 20

// interval is how often the rings are looked at: looking more often cost the master more
// than the lines did.
const interval = 50 * time.Millisecond

// Session is the master's side of one trace. One goroutine runs it; any may Stop it.
type Session struct {
	*feed.Session
	options    Options
	interfaces []string
	written    uint64
	text       []byte // of a line, used again
}

// New makes the rings of a trace.
func New(o Options, interfaces []string, workers int) (*Session, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	s := &Session{options: o, interfaces: interfaces}
	var err error
	if s.Session, err = feed.New("ringroad-trace", bufferBytes, workers); err != nil {
		return nil, err
	}
	s.Interval = interval
	return s, nil
}

// Order is what the workers are told.
func (s *Session) Order() *Order { return &Order{Options: s.options, Start: s.Start} }

// Run writes time lines until it is stopped, until ctx is done, or until there are as
// many as asked for; see feed.Session.Follow.
func (s *Session) Run(ctx context.Context, out feed.Output, off func()) error {
	return s.Follow(ctx, source{s}, out, s.options.Duration, off)
}

// Summary is the last line of a trace.
type Summary struct {
	Lines  uint64 `json:"lines"`  // written before
	Lost   uint64 `json:"lost"`   // that found the buffer of their worker full
	Missed uint64 `json:"missed"` // requests that were not followed, since too many were at the time
}

// Began is the first line of a trace: the workers follow requests from now on.
type Began struct {
	Interfaces []string  `json:"interfaces"`
	Start      time.Time `json:"start"`
}

// message is one line of the stream: one of its fields is set.
type message struct {
	Began   *Began          `json:"began,omitempty"`
	Line    json.RawMessage `json:"request,omitempty"`
	Summary *Summary        `json:"summary,omitempty"`
}

// source makes JSON of the time lines.
type source struct{ *Session }

// Begin implements feed.Source.
func (s source) Begin(out feed.Output) error {
	return s.write(out, message{Began: &Began{s.interfaces, s.Start}})
}

// Take implements feed.Source.
func (s source) Take(out feed.Output, final bool) (done bool, err error) {
	before := s.written
	for i, r := range s.Rings {
		for !s.complete() {
			b, ok := r.Peek()
			if !ok {
				break
			}
			l, err := decode(b, s.Start, i, s.interfaces)
			r.Take()
			if err != nil {
				continue // of a worker that died while it wrote, or worse
			}
			s.written++
			if s.text, err = l.appendMessage(s.text[:0]); err != nil {
				return false, err
			}
			if _, err := out.Write(s.text); err != nil {
				return false, err
			}
		}
	}
	if s.written > before {
		err = out.Flush()
	}
	return s.complete(), err
}

// appendMessage appends a line of the stream.
func (l *Line) appendMessage(b []byte) ([]byte, error) {
	b, err := l.appendJSON(append(b, `{"request":`...))
	return append(b, "}\n"...), err
}

// complete reports whether there are as many lines as asked for.
func (s source) complete() bool { return s.options.Next > 0 && s.written >= s.options.Next }

// End implements feed.Source.
func (s source) End(out feed.Output) error {
	sum := Summary{Lines: s.written}
	for _, r := range s.Rings {
		sum.Lost += r.Counter(counterLost).Load()
		sum.Missed += r.Counter(counterMissed).Load()
	}
	return s.write(out, message{Summary: &sum})
}

func (s source) write(out feed.Output, m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := out.Write(append(b, '\n')); err != nil {
		return err
	}
	return out.Flush()
}
