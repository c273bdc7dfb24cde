package lab

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"ringroad/hack/lab/faultlink"
)

// Wire is a link with faults between two hosts.
type Wire struct {
	lab    *Lab
	middle *Namespace
	edge   string // the interface that leads to the edge
	relay  *Process
}

// start bridges the two links of the wire's namespace.
func (w *Wire) start(o faultlink.Options) error {
	c, err := w.middle.child("fault", "-edge", w.edge, "-options", o.String())
	if err != nil {
		return err
	}
	if w.relay, err = w.lab.Start("fault link", c); err != nil {
		return err
	}
	return w.relay.WaitLine("ready", 10*time.Second)
}

// Set gives the wire other faults, from their first frame on. What was on its way is lost.
func (w *Wire) Set(o faultlink.Options) error {
	if _, _, err := w.Cut(); err != nil {
		return err
	}
	return w.start(o)
}

// Cut takes the wire away, until Set, and returns what became of the frames of both directions since it was set.
func (w *Wire) Cut() (toEdge, fromEdge faultlink.Counters, err error) {
	if !w.relay.Stop(5 * time.Second) {
		return toEdge, fromEdge, fmt.Errorf("the fault link did not stop; it printed:\n%s", w.relay.Output())
	}
	counters := map[string]faultlink.Counters{}
	_, line, _ := strings.Cut(w.relay.Output(), "ready\n")
	if err := json.Unmarshal([]byte(line), &counters); err != nil {
		return toEdge, fromEdge, fmt.Errorf("the fault link printed %q: %w", w.relay.Output(), err)
	}
	toEdge, fromEdge = counters["w0-w1"], counters["w1-w0"]
	if w.edge == "w0" {
		toEdge, fromEdge = fromEdge, toEdge
	}
	return toEdge, fromEdge, nil
}
