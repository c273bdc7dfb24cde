package master

import (
	"context"
	"errors"
	"os"

	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/trace"
	"ringroad/cmd/internal/worker"
)

// Trace implements control.Master.
func (c commands) Trace(ctx context.Context, o trace.Options, out feed.Output) error {
	var s *trace.Session
	err := c.runFeed(func() (f *feeding, err error) {
		var names []string
		for _, i := range c.m.interfaces {
			names = append(names, i.Name())
		}
		if s, err = trace.New(o, names, len(c.m.children)); err != nil {
			return nil, err
		}
		return &feeding{
			name: "trace", kind: worker.MessageTrace, stop: s.Stop,
			on: func(index int) (worker.Message, *os.File) {
				return worker.Message{Kind: worker.MessageTrace, Trace: s.Order()}, s.File(index)
			},
		}, nil
	}, func(off func()) error { return s.Run(ctx, out, off) })
	if s != nil {
		err = errors.Join(err, s.Close())
	}
	return err
}

// StopTrace implements control.Master.
func (c commands) StopTrace() bool { return c.stopFeed(worker.MessageTrace) }
