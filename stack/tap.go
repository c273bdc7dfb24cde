package stack

// Tap is shown the frames of a stack. The frames are the device's: a tap may
// neither change nor keep them. Sent is called by netstack's processor too, so
// both may interrupt one another.
type Tap interface {
	// Received is shown a frame that came in on the device of a link, both by
	// their place in the configuration, and what became of it.
	Received(link, device int, frame []byte, fate Fate)
	// Handed is shown a frame that worker from received and this one was handed.
	Handed(link, from int, frame []byte, fate Fate)
	// Sent is shown a frame as the device's kick publishes it.
	Sent(link int, frame []byte)
}

// Fate is what became of a received frame: [FateHere], [FateDropped] or a worker's
// number, to which it was handed over.
type Fate int

const (
	FateHere    Fate = -1 // this worker dealt with it
	FateDropped Fate = -2 // malformed, of a foreign VLAN, or it did not fit the ring
)

// SetTap shows all frames to t from now on; nil: to nobody. When it returns the
// previous tap is in use no more.
func (s *Stack) SetTap(t Tap) {
	for _, l := range s.links {
		l.mu.Lock()
		l.tap = t
		l.untapped = nil
		l.mu.Unlock()
	}
}

// deliverTapped is deliver with a tap on. device is the one that the frame came in
// on, unless it was handed over.
func (l *link) deliverTapped(device int, frame []byte) {
	lost := l.lost()
	peers := l.stack.peers
	if peers != nil {
		peers.to = nobody
	}
	l.deliver(frame)
	fate := FateHere
	switch {
	case l.lost() != lost:
		fate = FateDropped
	case peers != nil && peers.to != nobody:
		fate = Fate(peers.to)
	}
	if l.origin != fromQueue {
		l.tap.Handed(int(l.id)-1, l.origin, frame, fate)
	} else {
		l.tap.Received(int(l.id)-1, device, frame, fate)
	}
}

// lost counts the received frames that went nowhere.
func (l *link) lost() uint64 {
	n := l.stats.RXMalformed + l.stats.RXForeignVLAN
	if p := l.stack.peers; p != nil {
		n += p.stats.Full + p.stats.Invalid
	}
	return n
}

// showSent shows what was submitted since the last kick. Only now are these frames
// as they leave: a FIN may have been merged into one.
func (l *link) showSent() {
	for i, frame := range l.untapped {
		l.tap.Sent(int(l.id)-1, frame)
		l.untapped[i] = nil
	}
	l.untapped = l.untapped[:0]
}
