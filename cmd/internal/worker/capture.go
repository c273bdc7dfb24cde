package worker

import (
	"errors"
	"fmt"
	"os"

	"ringroad/cmd/internal/capture"
	"ringroad/stack"
)

// newTap makes the tap that the master asks for; nil: none. It may be called beside
// the loop.
func (w *Worker) newTap(o *capture.Order, list []*os.File) (*capture.Tap, error) {
	if o == nil || len(list) != 1 {
		closeAll(list)
		if o != nil {
			return nil, fmt.Errorf("start a capture: the master sent %d descriptors", len(list))
		}
		return nil, nil
	}
	queues := make([][]int, len(w.links))
	for i := range w.links {
		queues[i] = w.links[i].Queues
	}
	return capture.NewTap(o, list[0], queues)
}

// setTap makes the stack show its frames to another tap; nil: to none. It belongs to
// the loop.
func (w *Worker) setTap(t *capture.Tap) error {
	old := w.tap
	w.tap = t
	if t == nil {
		w.stack.SetTap(nil)
	} else {
		w.stack.SetTap(stack.Tap(t))
	}
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil {
		return errors.Join(errors.New("end a capture"), err)
	}
	return nil
}
