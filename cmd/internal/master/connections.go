package master

import (
	"fmt"
	"os"
	"sync"
	"time"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy"
)

// Connections implements control.Master. Workers answer by pipes, so that the master
// waits for none of them.
func (c commands) Connections(q proxy.Query) (control.Connections, error) {
	found := control.Connections{Time: time.Now(), Connections: []*proxy.Connection{}}
	var pipes []*os.File // nil: the worker is not asked
	if err := c.call(func() {
		for _, k := range c.m.children {
			s := control.Surveyed{Worker: k.index}
			pipe, err := k.survey(&q)
			if err != nil {
				s.Error = err.Error()
			}
			found.Workers = append(found.Workers, s)
			pipes = append(pipes, pipe)
		}
	}); err != nil {
		return found, err
	}
	surveys := make([]*proxy.Survey, len(pipes))
	var reading sync.WaitGroup
	for i, p := range pipes {
		if p == nil {
			continue
		}
		reading.Go(func() {
			defer p.Close()
			s := &found.Workers[i]
			v, err := worker.ReadSurvey(p)
			if err != nil {
				s.Error = err.Error()
				return
			}
			s.Open, s.Matching, s.Turns, surveys[i] = v.Open, v.Matching, v.Turns, v
		})
	}
	reading.Wait()
	for i, v := range surveys {
		if v == nil {
			continue
		}
		for _, k := range v.Connections {
			k.Worker = found.Workers[i].Worker
		}
		found.Connections = append(found.Connections, v.Connections...)
	}
	q.Order.Sort(found.Connections)
	found.Connections = found.Connections[:min(len(found.Connections), q.Limit)]
	return found, nil
}

// survey asks a worker for its connections. They come out of the pipe.
func (c *child) survey(q *proxy.Query) (*os.File, error) {
	if c.state != stateServing && c.state != stateDraining {
		return nil, fmt.Errorf("it is %s", c.state)
	}
	pipe, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer theirs.Close()
	if err = pipe.SetReadDeadline(time.Now().Add(replyTimeout)); err == nil {
		err = c.channel.Send(worker.Message{Kind: worker.MessageConnections, Connections: q}, fdOf(theirs))
	}
	if err != nil {
		pipe.Close() //nolint:errcheck // nothing was written
		return nil, err
	}
	return pipe, nil
}
