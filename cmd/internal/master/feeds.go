package master

import (
	"errors"
	"fmt"
	"os"

	"ringroad/cmd/internal/worker"
)

// feeding is a capture or a trace that is running: what workers are told at its beginning,
// and that stops it.
type feeding struct {
	name string // capture or trace
	kind worker.Kind
	on   func(index int) (worker.Message, *os.File)
	stop func()

	about []any // what the log says of it
}

// startFeed makes every worker take part in a feed. When one does not, none does.
func (m *master) startFeed(f *feeding) error {
	if m.ending != endNot {
		return errEnding
	}
	for _, other := range m.feeds {
		if other.kind == f.kind {
			return fmt.Errorf("another %s is running, and there can be one at a time: `ringroad %s --stop` ends it", f.name, f.name)
		}
	}
	m.feeds = append(m.feeds, f)
	for _, c := range m.children {
		if c.state != stateServing && c.state != stateDraining {
			continue // it joins when it serves
		}
		if err := c.join(f); err != nil && !errors.Is(err, errDied) {
			m.endFeed(f)
			return err
		}
	}
	m.log.Info("a "+f.name+" began", f.about...)
	return nil
}

// join makes a worker take part in a feed.
func (c *child) join(f *feeding) error {
	message, file := f.on(c.index)
	if err := c.ask(message, fdOf(file)); err != nil {
		return errDied
	}
	return c.answer()
}

// joinAll makes a worker that serves from now on take part in all feeds.
func (m *master) joinAll(c *child) {
	for _, f := range m.feeds {
		if err := c.join(f); err != nil {
			m.log.Error("a worker does not take part in the "+f.name, "worker", c.index, "error", err)
		}
	}
}

// endFeed makes no worker take part any more.
func (m *master) endFeed(f *feeding) {
	for i, other := range m.feeds {
		if other == f {
			m.feeds = append(m.feeds[:i], m.feeds[i+1:]...)
			break
		}
	}
	for _, c := range m.children {
		if c.state != stateServing && c.state != stateDraining {
			continue
		}
		err := c.ask(worker.Message{Kind: f.kind})
		if err == nil {
			err = c.answer()
		}
		if err != nil {
			m.log.Debug("a worker does not end its part of a "+f.name, "worker", c.index, "error", err)
		}
	}
	m.log.Info("the " + f.name + " ended")
}

// stopFeed stops the feed of a kind. It reports false when there is none.
func (c commands) stopFeed(kind worker.Kind) (running bool) {
	c.call(func() { //nolint:errcheck // then none is running
		for _, f := range c.m.feeds {
			if f.kind == kind {
				f.stop()
				running = true
			}
		}
	})
	return running
}

// runFeed runs a feed that is prepared on the master's goroutine, and written on
// the calling one: a client that reads slowly is in nobody's way.
func (c commands) runFeed(prepare func() (*feeding, error), run func(off func()) error) error {
	var f *feeding
	var err error
	if callErr := c.call(func() {
		if f, err = prepare(); err == nil {
			err = c.m.startFeed(f)
		}
	}); callErr != nil {
		return callErr
	}
	if err != nil {
		return err
	}
	return run(func() {
		c.call(func() { c.m.endFeed(f) }) //nolint:errcheck // a master that has ended has no workers
	})
}
