package upstream

import "net/netip"

// Counts are what the loop counts about a server, for its statistics.
type Counts struct {
	Requests uint64 // sent to it, those that were sent again included
	Failures uint64 // connections that could not be made
	Evicted  uint64 // connections that the pool had no place for
	Open     uint64 // connections at present, idle ones included
}

// ID is that of the server by its names.
func (s *Server) ID() uint64 { return ID(s.Group.Name, s.Addr) }

// IdleMax is how many idle connections the pool keeps.
func (s *Server) IdleMax() int { return s.idle.max }

// ID tells a server of an upstream from all others in the statistics, in every
// process alike: an FNV-1a hash of its names. It is not 0.
func ID(upstream string, addr netip.AddrPort) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(upstream) {
		h = (h ^ uint64(upstream[i])) * prime
	}
	h *= prime // as a byte of zero, which no name has
	for _, c := range addr.Addr().As16() {
		h = (h ^ uint64(c)) * prime
	}
	h = (h ^ uint64(addr.Port()>>8)) * prime
	h = (h ^ uint64(addr.Port()&0xff)) * prime
	return max(h, 1)
}
