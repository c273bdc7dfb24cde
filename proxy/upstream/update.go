package upstream

import (
	"iter"
	"slices"
	"time"

	"ringroad/proxy/config"
)

// Continues tells whether g can become what c describes by [Group.Update].
// Connections that begin with another PROXY protocol header, or with none, are of
// no use to the new group, nor to the exchanges that still go on.
func (g *Group) Continues(c *config.Upstream) bool {
	return g.Name == c.Name && (g.ProxyProtocol == c.ProxyProtocol || !g.Private() && !private(c.ProxyProtocol))
}

// Update makes g what c describes. A server whose address stays keeps its idle
// connections, as far as there is still room, and what is known about it. The
// others are removed: no exchange that begins gets one of them, and Put keeps none
// of their connections. until is the loop time at which the caller cuts off what
// is left of those. What has no place any more comes to evict, no longer idle.
func (g *Group) Update(c *config.Upstream, until time.Duration, evict func(*Conn)) {
	old, turn := g.Servers, g.turn
	g.Servers, g.turn = make([]*Server, len(c.Servers)), 0
	for i, addr := range c.Servers {
		k := slices.IndexFunc(old, func(s *Server) bool { return s.Addr == addr })
		if k < 0 {
			g.Servers[i] = &Server{Addr: addr, Group: g, index: i, idle: pool{max: c.KeepAlive}}
			continue
		}
		s := old[k]
		s.index = i
		s.resize(c.KeepAlive, evict)
		g.Servers[i] = s
	}
	for _, s := range old {
		if !slices.Contains(g.Servers, s) {
			s.remove(until, evict)
		}
	}
	// The turn is that of the server that had it, or of the next that is left.
	for n := range old {
		if s := old[(turn+n)%len(old)]; !s.Removed() {
			g.turn = s.index
			break
		}
	}
	g.IdleTimeout, g.KeepAliveRequests, g.ProxyProtocol = c.KeepAliveTimeout, c.KeepAliveRequests, c.ProxyProtocol
}

// Remove removes all servers of g, as Update does. Exchanges that know g may go
// on with them.
func (g *Group) Remove(until time.Duration, evict func(*Conn)) {
	for _, s := range g.Servers {
		s.remove(until, evict)
	}
}

func (s *Server) remove(until time.Duration, evict func(*Conn)) {
	s.Until = until
	s.resize(0, evict)
}

// Removed tells that s is in no configuration any more.
func (s *Server) Removed() bool { return s.Until != 0 }

// resize lets the pool hold most connections.
func (s *Server) resize(most int, evict func(*Conn)) {
	s.idle.max = most
	for s.idle.n > most {
		evict(s.TakeOldest())
	}
}

// Idle are the idle connections, the one used last first. The loop may not change
// the pool.
func (s *Server) Idle() iter.Seq[*Conn] {
	return func(yield func(*Conn) bool) {
		for c := s.idle.newest; c != nil && yield(c); c = c.older {
		}
	}
}
