package proxy

import (
	"container/heap"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A survey looks at every client connection and keeps those that come first in some
// order. The loop visits at most surveyVisits of them a turn, in the order in which
// they were accepted, so that one with 50,000 serves as before: a visit takes some 0.3 us
// for each side of the connection (BenchmarkSurvey).
const (
	surveyVisits = 64
	// MaxConnections is how many connections a survey can keep.
	MaxConnections = 1000
)

// Order says which connections come first.
type Order string

// The orders. Between equal ones the connection that was accepted first comes first.
const (
	ByRequest     Order = "request"     // the request that is under way for longest
	ByAge         Order = "age"         // accepted first
	ByRTT         Order = "rtt"         // longest round trip to the client
	ByBuffer      Order = "buffer"      // most bytes in buffers, of both sides and the proxy
	ByRetransmits Order = "retransmits" // most segments sent again, to both sides
)

// Orders are all orders.
var Orders = []Order{ByRequest, ByAge, ByRTT, ByBuffer, ByRetransmits}

// key is what the order compares: the greatest comes first.
func (o Order) key(c *Connection) int64 {
	b := c.Backend
	if b == nil {
		b = &noBackend
	}
	switch o {
	case ByRTT:
		return int64(c.TCP.RTT)
	case ByBuffer:
		return int64(c.Held + c.TCP.Received + c.TCP.Sent + b.TCP.Received + b.TCP.Sent)
	case ByRetransmits:
		return int64(c.TCP.Retransmits + b.TCP.Retransmits)
	case ByRequest:
		switch {
		case c.Request != nil:
			return int64(c.Request.Age)
		case c.State == StateHead:
			return int64(c.InState)
		}
		return -1
	}
	return int64(c.Age)
}

var noBackend BackendConnection // read only

// compare orders two connections, of any workers, as slices.SortFunc wants it.
func (o Order) compare(a, b *Connection) int {
	ka, kb := o.key(a), o.key(b)
	switch {
	case ka > kb || ka == kb && a.Age > b.Age:
		return -1
	case ka < kb || a.Age < b.Age:
		return 1
	case a.Worker != b.Worker:
		return a.Worker - b.Worker
	}
	return int(int64(a.Number) - int64(b.Number))
}

// Sort puts connections into the order.
func (o Order) Sort(list []*Connection) { slices.SortFunc(list, o.compare) }

// Query says which connections are wanted.
type Query struct {
	Client netip.Prefix `json:"client"` // only those of clients in it; not valid: all
	Order  Order        `json:"order"`
	Limit  int          `json:"limit"` // at most so many
}

// Check tells what is wrong with a query.
func (q *Query) Check() error {
	if q.Limit < 1 || q.Limit > MaxConnections {
		return fmt.Errorf("limit: want 1 to %d connections", MaxConnections)
	}
	if !slices.Contains(Orders, q.Order) {
		names := make([]string, len(Orders))
		for i, o := range Orders {
			names[i] = string(o)
		}
		return fmt.Errorf("sort: want %s or %s", strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
	}
	return nil
}

// Survey is what a query found.
type Survey struct {
	Connections []*Connection `json:"connections"` // not yet sorted; each as it was when the loop came to it
	Open        int           `json:"open"`        // connections looked at
	Matching    int           `json:"matching"`    // of them, those that the query wants
	Turns       int           `json:"turns"`       // of the loop that it took
}

// survey is one under way.
type survey struct {
	Query
	Survey
	done func(*Survey)
	next *session // to visit; the head of the list: none is left. nil: it has not begun
	last uint64   // number of the connection accepted last when it began

	// Scratch: a connection that is not kept takes no memory.
	connection Connection
	request    RequestUnderWay
	backend    BackendConnection
}

// Survey looks at the client connections, a part of them in each turn, and calls done
// on the loop with those that come first. Surveys are made one after the other. q must
// pass its Check. It must be called on the loop; when Run returns before, done is not
// called.
func (w *Worker) Survey(q Query, done func(*Survey)) {
	w.surveys = append(w.surveys, &survey{Query: q, done: done})
}

// survey goes on with the first survey.
func (w *Worker) survey() {
	v := w.surveys[0]
	if v.next == nil {
		v.next, v.last = w.sessions.next, w.stats.ClientsAccepted
	}
	v.Turns++
	for range surveyVisits {
		s := v.next
		if s == &w.sessions || s.number > v.last {
			w.surveys = slices.Delete(w.surveys, 0, 1)
			v.done(&v.Survey)
			return
		}
		v.next = s.next
		v.visit(s)
	}
}

// visit takes s into account.
func (v *survey) visit(s *session) {
	v.Open++
	if a := s.clientEnd().Addr().Unmap().WithZone(""); v.Client.IsValid() && !v.Client.Contains(a) {
		return
	}
	v.Matching++
	c := &v.connection
	s.survey(c, &v.request, &v.backend)
	full := len(v.Connections) == v.Limit
	if full && v.Order.compare(c, v.Connections[0]) > 0 {
		return
	}
	k := *c
	if k.Request != nil {
		r := v.request
		s.describe(&r)
		k.Request = &r
	}
	if k.Backend != nil {
		b := v.backend
		k.Backend = &b
	}
	if full {
		v.Connections[0] = &k
		heap.Fix(v, 0)
	} else {
		heap.Push(v, &k)
	}
}

// survey is a heap whose first element is the last in the order.

// Len implements heap.Interface.
func (v *survey) Len() int { return len(v.Connections) }

// Less implements heap.Interface.
func (v *survey) Less(i, k int) bool { return v.Order.compare(v.Connections[i], v.Connections[k]) > 0 }

// Swap implements heap.Interface.
func (v *survey) Swap(i, k int) {
	v.Connections[i], v.Connections[k] = v.Connections[k], v.Connections[i]
}

// Push implements heap.Interface.
func (v *survey) Push(c any) { v.Connections = append(v.Connections, c.(*Connection)) }

// Pop implements heap.Interface.
func (v *survey) Pop() any {
	n := len(v.Connections) - 1
	c := v.Connections[n]
	v.Connections = v.Connections[:n]
	return c
}
