package master

import (
	"context"
	"errors"
	"os"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/worker"
)

// Capture implements control.Master.
func (c commands) Capture(ctx context.Context, o capture.Options, out feed.Output) error {
	o.Version = c.m.Version
	var s *capture.Session
	err := c.runFeed(func() (f *feeding, err error) {
		links := make([]capture.Link, len(c.m.interfaces))
		for k, i := range c.m.interfaces {
			links[k] = capture.Link{Name: i.Name(), MAC: i.Link().MAC}
		}
		if s, err = capture.New(o, links, len(c.m.children)); err != nil {
			return nil, err
		}
		return &feeding{
			name: "capture", kind: worker.MessageCapture, stop: s.Stop, about: []any{"filter", o.Filter},
			on: func(index int) (worker.Message, *os.File) {
				return worker.Message{Kind: worker.MessageCapture, Capture: s.Order()}, s.File(index)
			},
		}, nil
	}, func(off func()) error { return s.Run(ctx, out, off) })
	if s != nil {
		err = errors.Join(err, s.Close())
	}
	return err
}

// StopCapture implements control.Master.
func (c commands) StopCapture() bool { return c.stopFeed(worker.MessageCapture) }
