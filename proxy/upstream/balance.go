package upstream

import (
	"net/netip"
	"time"

	"ringroad/proxy/config"
)

// FailPeriod is how long a server that could not be connected to is passed over
// while its group has others, as nginx's fail_timeout. A shorter one lets a
// silent server delay more requests by the connect timeout.
const FailPeriod = 10 * time.Second

// Group is the servers of one upstream, used in turn.
type Group struct {
	Name        string
	Servers     []*Server
	IdleTimeout time.Duration // of pooled connections; the caller runs the timer

	KeepAliveRequests int                  // a connection is closed after so many requests; 0: no limit
	ProxyProtocol     config.ProxyProtocol // header that each connection begins with

	turn int // index of the server that Pick tries first
}

// Server is one backend address with its idle connections.
type Server struct {
	Addr  netip.AddrPort
	Group *Group
	Until time.Duration // loop time at which what is left of its connections is cut off; 0: not removed
	Counts

	index     int           // in Group.Servers; of a removed one, where it was
	downUntil time.Duration // loop time; 0: never failed since it last worked
	idle      pool
}

// New makes the group that c describes.
func New(c *config.Upstream) *Group {
	g := &Group{
		Name: c.Name, IdleTimeout: c.KeepAliveTimeout, Servers: make([]*Server, len(c.Servers)),
		KeepAliveRequests: c.KeepAliveRequests, ProxyProtocol: c.ProxyProtocol,
	}
	for i, addr := range c.Servers {
		g.Servers[i] = &Server{Addr: addr, Group: g, index: i, idle: pool{max: c.KeepAlive}}
	}
	return g
}

// Private tells that a connection belongs to one client, whom its PROXY protocol
// header names: the backend would take any other client's request for the first
// one's, so none may be given to Put.
func (g *Group) Private() bool {
	return private(g.ProxyProtocol)
}

func private(p config.ProxyProtocol) bool { return p == config.ProxyV1 || p == config.ProxyV2 }

// Pick returns the server whose turn it is at loop time now. Servers that failed
// lately are passed over; when all did, their turn counts as if none had.
func (g *Group) Pick(now time.Duration) *Server {
	s := g.Servers[g.turn]
	if !s.Up(now) {
		if up := g.After(s, now); up != nil {
			s = up
		}
	}
	g.turn = s.index + 1
	if g.turn == len(g.Servers) {
		g.turn = 0
	}
	return s
}

// After returns the next server behind s that has not failed lately, nil when
// there is no other. The turn of Pick stays where it is.
func (g *Group) After(s *Server, now time.Duration) *Server {
	for n := range g.Servers {
		next := g.Servers[(s.index+1+n)%len(g.Servers)]
		if next != s && next.Up(now) {
			return next
		}
	}
	return nil
}

// Up tells whether the server may be chosen at loop time now.
func (s *Server) Up(now time.Duration) bool { return now >= s.downUntil }

// Failed notes that no connection to the server could be made.
func (s *Server) Failed(now time.Duration) {
	s.downUntil = now + FailPeriod
	s.Failures++
}

// Worked notes that a connection to the server was made.
func (s *Server) Worked() { s.downUntil = 0 }
