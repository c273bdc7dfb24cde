package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"ringroad/cmd/internal/trace"
	"ringroad/proxy"
)

// Connections are client connections of all workers, with what belongs to each.
type Connections struct {
	Time        time.Time           `json:"time"`
	Workers     []Surveyed          `json:"workers"`
	Connections []*proxy.Connection `json:"connections"` // in the order asked for, no more than wanted
}

// Surveyed is what one worker told.
type Surveyed struct {
	Worker   int    `json:"worker"`
	Open     int    `json:"open"`            // client connections
	Matching int    `json:"matching"`        // of them, those that were asked for
	Turns    int    `json:"turns"`           // of its loop that it took to look at all
	Error    string `json:"error,omitempty"` // why it told nothing
}

// DefaultLimit is how many connections are shown unless a query says otherwise.
const DefaultLimit = 20

// ParseConnections reads a query: client, an address or a network; sort; limit.
func ParseConnections(v url.Values) (q proxy.Query, err error) {
	q = proxy.Query{Order: proxy.ByRequest, Limit: DefaultLimit}
	for name := range v {
		value := v.Get(name)
		var wrong error
		switch name {
		case "client":
			q.Client, wrong = trace.ParseClient(value)
		case "sort":
			q.Order = proxy.Order(value)
		case "limit":
			q.Limit, wrong = strconv.Atoi(value)
		default:
			wrong = errors.New("there is no such parameter")
		}
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, wrong))
		}
	}
	if err == nil {
		err = q.Check()
	}
	return q, err
}

// Connections asks for connections.
func (c *Client) Connections(ctx context.Context, q proxy.Query) (Connections, error) {
	v := url.Values{"sort": {string(q.Order)}, "limit": {strconv.Itoa(q.Limit)}}
	if q.Client.IsValid() {
		v.Set("client", q.Client.String())
	}
	var found Connections
	err := c.ask(ctx, http.MethodGet, "connections", v.Encode(), &found)
	return found, err
}

// surveysAtATime bounds the memory and time that workers spend on queries.
const surveysAtATime = 2

func (h handler) connections() http.HandlerFunc {
	free := make(chan struct{}, surveysAtATime)
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := ParseConnections(r.URL.Query())
		if err != nil {
			h.reply(w, http.StatusBadRequest, result{Error: err.Error()})
			return
		}
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
		case <-r.Context().Done():
			return
		}
		read(h, w, func() (Connections, error) { return h.master.Connections(q) })
	}
}
