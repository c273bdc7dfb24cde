package worker

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"ringroad/proxy"
)

// A survey goes to the master by a pipe of its own, as JSON: the survey without its
// connections, then these one by one. A pipe that ends early is that of a worker that
// died.

// survey looks at the connections and writes what it found to the one file of list,
// which it closes.
func (w *Worker) survey(q *proxy.Query, list []*os.File) {
	if q == nil || len(list) != 1 {
		closeAll(list)
		return
	}
	w.proxy.Post(func() {
		w.proxy.Survey(*q, func(v *proxy.Survey) {
			go func() {
				defer closeAll(list)
				writeSurvey(list[0], v) //nolint:errcheck // whoever reads sees that it is cut off
			}()
		})
	})
}

// writeSurvey leaves the processor to the loop, which has the same one, after each
// connection.
func writeSurvey(to io.Writer, v *proxy.Survey) error {
	b := bufio.NewWriterSize(to, 32<<10)
	e := json.NewEncoder(b)
	head := *v
	head.Connections = make([]*proxy.Connection, len(v.Connections)) // their number
	if err := e.Encode(&head); err != nil {
		return err
	}
	for _, c := range v.Connections {
		if err := e.Encode(c); err != nil {
			return err
		}
		runtime.Gosched()
	}
	return b.Flush()
}

// ReadSurvey reads what a worker wrote.
func ReadSurvey(from io.Reader) (*proxy.Survey, error) {
	d := json.NewDecoder(from)
	v := &proxy.Survey{}
	err := d.Decode(v)
	for i := 0; err == nil && i < len(v.Connections); i++ {
		v.Connections[i] = &proxy.Connection{}
		err = d.Decode(v.Connections[i])
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("it ended before it had answered")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errors.New("it did not answer in time")
	case err != nil:
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	return v, nil
}
