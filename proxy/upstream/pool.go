package upstream

// Conn is the place of a backend connection in a pool, embedded in whatever the
// owner keeps about the connection. The zero value is not idle.
type Conn struct {
	Server *Server // that the connection leads to; set by the owner
	Owner  any     // what embeds this Conn, a pointer

	idle         bool
	newer, older *Conn // neighbours in the pool; valid iff idle
}

// Idle tells whether the connection is in the pool of its server.
func (c *Conn) Idle() bool { return c.idle }

// pool is a list of idle connections, the one used last in front: it is the most
// likely to be alive and warm, and what is not needed ages at the other end.
type pool struct {
	newest, oldest *Conn
	n, max         int
}

// Take returns the idle connection that was used last, no longer idle, nil when
// there is none.
func (s *Server) Take() *Conn {
	c := s.idle.newest
	if c != nil {
		s.Remove(c)
	}
	return c
}

// Put makes c idle. It returns the connection that has no place any more, which
// the caller must close: the one idle for longest, c itself when nothing is kept,
// nil when there was room.
func (s *Server) Put(c *Conn) (evicted *Conn) {
	p := &s.idle
	if p.max == 0 {
		return c
	}
	if p.n == p.max {
		s.Evicted++
		evicted = p.oldest
		s.Remove(evicted)
	}
	c.idle, c.older = true, p.newest
	if p.newest != nil {
		p.newest.newer = c
	} else {
		p.oldest = c
	}
	p.newest = c
	p.n++
	return evicted
}

// Remove takes c, which must be idle, out of the pool.
func (s *Server) Remove(c *Conn) {
	p := &s.idle
	if c.newer != nil {
		c.newer.older = c.older
	} else {
		p.newest = c.older
	}
	if c.older != nil {
		c.older.newer = c.newer
	} else {
		p.oldest = c.newer
	}
	c.idle, c.newer, c.older = false, nil, nil
	p.n--
}

// TakeOldest is Take for the connection that has been idle for longest, to make
// room for another one.
func (s *Server) TakeOldest() *Conn {
	c := s.idle.oldest
	if c != nil {
		s.Remove(c)
	}
	return c
}

// IdleCount is the number of idle connections.
func (s *Server) IdleCount() int { return s.idle.n }
