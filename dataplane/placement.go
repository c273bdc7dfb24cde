package dataplane

import (
	"math/bits"
	"math/rand/v2"
	"net/netip"
)

// placementSearch bounds the ports that one search looks at. Each takes about a nanosecond. With the default table a
// worker of 64 finds one in 64 on average, so that a search fails less often than once in 10^27.
const placementSearch = 4096

// Placement chooses the local ports of a worker's connections to backends, so that the NIC delivers the backend's frames
// to a queue of that worker. For one goroutine.
//
// The hash is linear: that of a frame is the exclusive or of what each of its bytes contributes (table). A search adds
// up the addresses and the backend's port once, and then two look-ups a candidate.
type Placement struct {
	table *[maxRSSInput][256]uint32 // by place in the input and value
	ours  []bool                    // by entry of the indirection table: its queue is this worker's; nil: none is
	first uint16
	ports int // in the block
	next  int // offset of the next candidate in the block
}

// NewPlacement prepares for worker of workers, which owns the queues q with q % workers == worker, and the ports first to
// last, both included. A nil r, a table without a queue of this worker and one whose length is no power of two (no NIC
// is known to have one) give a placement that finds nothing.
func NewPlacement(r *RSS, worker, workers int, first, last uint16) *Placement {
	p := &Placement{first: first, ports: int(last) - int(first) + 1}
	if r == nil || p.ports < 1 || bits.OnesCount(uint(len(r.Table))) != 1 {
		return p
	}
	ours, any := make([]bool, len(r.Table)), false
	for i, q := range r.Table {
		ours[i] = int(q)%workers == worker
		any = any || ours[i]
	}
	if !any {
		return p
	}
	p.ours = ours
	p.next = rand.IntN(p.ports) // not where a predecessor that died began
	p.table = new([maxRSSInput][256]uint32)
	for at := range p.table {
		t := &p.table[at]
		for bit := range 8 {
			t[0x80>>bit] = rssKeyBits(r.Key, 8*at+bit)
		}
		for v := 1; v < len(t); v++ {
			t[v] = t[v&(v-1)] ^ t[v&-v] // a value without its lowest bit, and that bit
		}
	}
	return p
}

// Port returns the next port of the block for a connection from local to remote: one for which the frames from remote to
// it arrive on a queue of this worker. Successive calls go round the block, so a port comes again only after all
// others of it that suit. False: none of the next 4096 suits, or none can.
func (p *Placement) Port(local netip.Addr, remote netip.AddrPort) (port uint16, ok bool) {
	from, to := remote.Addr().Unmap(), local.Unmap()
	if p.ours == nil || from.Is4() != to.Is4() {
		return 0, false
	}
	// Input of a frame from the backend: its address, ours, its port, ours.
	base, at := uint32(0), 0
	if from.Is4() {
		a, b := from.As4(), to.As4()
		base, at = p.add(p.add(0, 0, a[:]), 4, b[:]), 8
	} else {
		a, b := from.As16(), to.As16()
		base, at = p.add(p.add(0, 0, a[:]), 16, b[:]), 32
	}
	base ^= p.table[at][remote.Port()>>8] ^ p.table[at+1][remote.Port()&0xff]
	high, low := &p.table[at+2], &p.table[at+3]
	mask := uint32(len(p.ours) - 1)
	for range min(p.ports, placementSearch) {
		port = p.first + uint16(p.next)
		if p.next++; p.next == p.ports {
			p.next = 0
		}
		if p.ours[(base^high[port>>8]^low[port&0xff])&mask] {
			return port, true
		}
	}
	return 0, false
}

// add adds what bytes contribute from a place in the input on.
func (p *Placement) add(hash uint32, at int, b []byte) uint32 {
	for i, v := range b {
		hash ^= p.table[at+i][v]
	}
	return hash
}
