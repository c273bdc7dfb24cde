package failure

import (
	"fmt"
	"slices"
	"strings"

	"ringroad/hack/lab"
	"ringroad/hack/lab/rss"
)

// Scenario is one failure.
type Scenario struct {
	Name  string
	About string // what fails, and what becomes of it: a sentence

	Limits        string // members of limits in the configuration
	Keepalive     int    // idle connections that the pool of the backend behind door keeps
	Configuration string // further lines of it
	Queues        int    // of the links, each with a worker; 0: one. With several the bystander is served by worker 0

	Moves  []string // alarms that move, all of them
	May    []string // alarms that may move with them
	Levels []Level  // that are reached while it lasts
	Shows  []string // further metrics to print
	Sees   []Sign   // what tells a user

	// Everybody says why all connections have to wait while it lasts. "": others are answered meanwhile.
	Everybody string

	// Play brings the failure about, calls Stage.Broken once it is there, takes the cause away and returns when those who suffered
	// have got what they should. It gets no configuration but the above.
	Play func(*Stage) error
}

// Level is a gauge with what it reaches at least.
type Level struct {
	Metric string
	Least  float64
}

// Sign is a line that tells of the failure.
type Sign struct {
	Where   string // "top" and "status" are commands; "log" is what ringroad prints
	Pattern string // of the line, a regular expression
}

// All are the scenarios in the order of a request's way.
func All() []*Scenario { return slices.Concat(network, processes, clients, backends) }

// Find returns the scenario of that name.
func Find(name string) (*Scenario, error) {
	var names []string
	for _, s := range All() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return nil, fmt.Errorf("there is no failure %q: choose one of %s", name, strings.Join(names, ", "))
}

// Lab is what the scenario needs for a lab.
func (s *Scenario) Lab() lab.Options {
	o := lab.Options{Queues: max(s.Queues, 1)}
	if s.Queues > 1 {
		o.RSS = rss.DefaultKey // so that it is known who serves whom
	}
	return o
}

// The listeners, the backend behind door, and where the counters are read.
const (
	beside  = "10.1.0.1:80"
	door    = "10.1.0.1:82"
	behind  = "10.2.0.2:9000"
	admin   = "127.0.0.1:9901" // in the edge
	backlog = 8                // of door
)

func (s *Scenario) configuration() string {
	c := fmt.Sprintf(`interfaces: [e0, e1]
rx_checksum: verify
admin: %s
listeners:
  - {address: %q, upstream: nginx}
  - {address: %q, upstream: behaves, backlog: %d}
upstreams:
  nginx: {servers: ["10.2.0.2:8080"]}
  behaves: {servers: [%q], keepalive: %d}
limits: {keepalive_requests: 0%s}
`, admin, beside, door, backlog, behind, s.Keepalive, join(s.Limits))
	if key := s.Lab().RSS; key != nil {
		c += fmt.Sprintf("rss: {key: %q}\n", key)
	}
	return c + s.Configuration
}

func join(members string) string {
	if members == "" {
		return ""
	}
	return ", " + members
}
