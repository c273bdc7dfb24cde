package worker

import (
	"fmt"
	"os"

	"ringroad/cmd/internal/trace"
	"ringroad/dataplane"
)

// newRecorder makes the recorder of the trace that the master asks for; nil: none. It
// may be called beside the loop.
func (w *Worker) newRecorder(o *trace.Order, list []*os.File) (*trace.Recorder, error) {
	if o == nil || len(list) != 1 {
		closeAll(list)
		if o != nil {
			return nil, fmt.Errorf("start a trace: the master sent %d descriptors", len(list))
		}
		return nil, nil
	}
	of := trace.Worker{Index: w.index, Now: w.stack.Elapsed, Times: w.stack.SetTimes, RingEntries: w.ringEntries}
	for i := range w.links {
		of.Queues = append(of.Queues, w.links[i].Queues)
		of.TX = append(of.TX, w.links[i].queues[0].Stats())
	}
	return trace.NewRecorder(o, list[0], of)
}

// setRecorder makes the layers tell another recorder what they see; nil: none. It
// belongs to the loop.
func (w *Worker) setRecorder(r *trace.Recorder) error {
	old := w.recorder
	w.recorder = r
	if r == nil {
		w.eachQueue(func(_, _ int, q *dataplane.Queue) { q.SetHooks(nil) })
		w.stack.SetHooks(nil)
		w.stack.SetTimes(false)
		w.proxy.SetHooks(nil)
	} else {
		w.eachQueue(func(link, device int, q *dataplane.Queue) { q.SetHooks(r.Queue(link, device)) })
		w.stack.SetHooks(r.Stack())
		w.proxy.SetHooks(r.Proxy())
	}
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("end a trace: %w", err)
	}
	return nil
}

func (w *Worker) eachQueue(f func(link, device int, q *dataplane.Queue)) {
	for i := range w.links {
		for k := range w.links[i].queues {
			f(i, k, w.links[i].queues[k].Queue)
		}
	}
}
