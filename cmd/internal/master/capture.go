package master

import (
	"context"
	"errors"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/worker"
)

// errCapturing is the answer to a second capture.
var errCapturing = errors.New("another capture is running, and there can be one at a time: `ringroad capture --stop` ends it")

// Capture implements control.Master. The frames are written by the calling
// goroutine: a client that reads slowly is in nobody's way.
func (c commands) Capture(ctx context.Context, o capture.Options, out feed.Output) error {
	o.Version = c.m.Version
	var s *capture.Session
	var err error
	if callErr := c.call(func() { s, err = c.m.startCapture(o) }); callErr != nil {
		return callErr
	}
	if err != nil {
		return err
	}
	err = s.Run(ctx, out, func() {
		c.call(c.m.endCapture) //nolint:errcheck // a master that has ended has no workers
	})
	return errors.Join(err, s.Close())
}

// StopCapture implements control.Master.
func (c commands) StopCapture() (running bool) {
	c.call(func() { //nolint:errcheck // then none is running
		if running = c.m.capture != nil; running {
			c.m.capture.Stop()
		}
	})
	return running
}

// startCapture makes every worker capture. When one does not, none does.
func (m *master) startCapture(o capture.Options) (*capture.Session, error) {
	if m.ending != endNot {
		return nil, errEnding
	}
	if m.capture != nil {
		return nil, errCapturing
	}
	links := make([]capture.Link, len(m.interfaces))
	for k, i := range m.interfaces {
		links[k] = capture.Link{Name: i.Name(), MAC: i.Link().MAC}
	}
	s, err := capture.New(o, links, len(m.children))
	if err != nil {
		return nil, err
	}
	m.capture = s
	for _, c := range m.children {
		if c.state != stateServing && c.state != stateDraining {
			continue // it joins when it serves
		}
		if err := m.join(c); err != nil && !errors.Is(err, errDied) {
			m.endCapture()
			return nil, errors.Join(err, s.Close())
		}
	}
	m.log.Info("a capture began", "filter", o.Filter)
	return s, nil
}

// join makes a worker take part in the capture, if there is one.
func (m *master) join(c *child) error {
	s := m.capture
	if s == nil {
		return nil
	}
	if err := c.ask(worker.Message{Kind: worker.MessageCapture, Capture: s.Order()}, fdOf(s.File(c.index))); err != nil {
		return errDied
	}
	return c.answer()
}

// endCapture makes every worker capture no more.
func (m *master) endCapture() {
	m.capture = nil
	for _, c := range m.children {
		if c.state != stateServing && c.state != stateDraining {
			continue
		}
		err := c.ask(worker.Message{Kind: worker.MessageCapture})
		if err == nil {
			err = c.answer()
		}
		if err != nil {
			m.log.Debug("a worker does not end its part of a capture", "worker", c.index, "error", err)
		}
	}
	m.log.Info("the capture ended")
}
