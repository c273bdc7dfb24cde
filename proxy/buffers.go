package proxy

// Sizes of the two kinds of buffers.
const (
	// headBytes holds nearly every head together with a small body: one read.
	headBytes = 16 << 10
	// relayBytes is what is moved at once: as much as one segment given to
	// netstack may carry.
	relayBytes = 64 << 10
	// Free buffers beyond these are left to the garbage collector, so that a
	// burst does not stay in memory: 4 MiB of each kind.
	freeHeads  = 256
	freeRelays = 64
)

// buffer is a window b[r:w] of bytes that were read and not yet written. The zero
// buffer holds no memory. It has one owner; taken and given back by its worker.
type buffer struct {
	b    []byte
	r, w int
}

func (b *buffer) pending() []byte { return b.b[b.r:b.w] }
func (b *buffer) len() int        { return b.w - b.r }
func (b *buffer) room() int       { return len(b.b) - b.w }

// take consumes n pending bytes. An empty buffer starts again at floor, the first
// byte that may be overwritten.
func (b *buffer) take(n, floor int) {
	if b.r += n; b.r == b.w {
		b.r, b.w = floor, floor
	}
}

// buffers keeps the free buffers of a worker, last in first out, so that a small
// set of them stays in the cache. Buffers are as long as their capacity.
type buffers struct {
	heads, relays [][]byte
	largeBytes    int // of a relay buffer: relayBytes, or more where a head of the permitted size needs it
	inUse         *uint64
}

// newBuffers prepares for heads of at most maxHead bytes.
func newBuffers(maxHead int, inUse *uint64) *buffers {
	// A grown head keeps room behind it for the body bytes that came with it.
	return &buffers{largeBytes: max(relayBytes, maxHead+headBytes), inUse: inUse}
}

// resize prepares for heads of at most maxHead bytes from now on.
func (p *buffers) resize(maxHead int) {
	if n := max(relayBytes, maxHead+headBytes); n != p.largeBytes {
		p.largeBytes = n
		clear(p.relays)
		p.relays = p.relays[:0]
	}
}

// head gives b a buffer for a head.
func (p *buffers) head(b *buffer) {
	if n := len(p.heads); n > 0 {
		b.b = p.heads[n-1]
		p.heads = p.heads[:n-1]
	} else {
		b.b = make([]byte, headBytes)
	}
	b.r, b.w = 0, 0
	*p.inUse++
}

// relay gives b a buffer for bodies.
func (p *buffers) relay(b *buffer) {
	if n := len(p.relays); n > 0 {
		b.b = p.relays[n-1]
		p.relays = p.relays[:n-1]
	} else {
		b.b = make([]byte, p.largeBytes)
	}
	b.r, b.w = 0, 0
	*p.inUse++
}

// grow replaces a head buffer by a relay buffer with the same bytes at the same
// places: also those that are no longer pending, which a retry may go back to. used
// is what of b is in use; a relay buffer that is full holds a head that began under
// larger limits, and doubles.
func (p *buffers) grow(b *buffer, used int) {
	if len(b.b) >= p.largeBytes {
		if len(b.b)-used < minRoom {
			b.b = append(b.b, make([]byte, len(b.b))...)
			b.b = b.b[:cap(b.b)]
		}
		return
	}
	old := *b
	p.relay(b)
	copy(b.b, old.b)
	b.r, b.w = old.r, old.w
	p.drop(&old)
}

// drop gives the memory of b back; b is empty afterwards. A buffer that append
// replaced by a larger one is left to the garbage collector.
func (p *buffers) drop(b *buffer) {
	if b.b == nil {
		return
	}
	*p.inUse--
	switch {
	case len(b.b) == headBytes && len(p.heads) < freeHeads:
		p.heads = append(p.heads, b.b)
	case len(b.b) == p.largeBytes && len(p.relays) < freeRelays:
		p.relays = append(p.relays, b.b)
	}
	*b = buffer{}
}

// grew takes over p, which is what b held with something appended. p may have
// outgrown the memory of b.
func (b *buffer) grew(p []byte) {
	b.w = len(p)
	b.b = p[:cap(p)]
}
