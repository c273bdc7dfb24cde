package stack

import (
	"crypto/rand"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/bpf"
)

// The SYN queue holds the handshakes that clients began, as the kernel's request_socks: a SYN to a listener is answered
// here, straight into a TX frame, and netstack gets an endpoint when the ACK comes that ends the handshake. netstack makes
// the endpoint for the SYN already, with a registration, a timer and two packet buffers: 3.2 KB a handshake instead of 0.3.
//
// In SYN-RECEIVED a segment is judged as RFC 9293 3.10.7.4 and RFC 5961 have it, and as tcp_check_req does in the kernel
// where these leave it open: a SYN that comes again is answered by the SYN-ACK again, because that was lost.

const (
	// synACKs is how often a SYN-ACK is sent, as netstack does it: after 1 s again, then after twice as long each time, and
	// given up 64 s after the last one (RFC 9293 3.8.3 asks for 3 minutes at least of a SYN only).
	synACKs    = 7
	synACKWait = time.Second
	// unsentWait is how soon a SYN-ACK that could not leave is tried again: for want of a frame, or of a neighbour.
	unsentWait = 5 * time.Millisecond
)

// halfOpen is a handshake in SYN-RECEIVED.
type halfOpen struct {
	id         netstack.TransportEndpointID
	listener   *Listener
	began      time.Duration // loop time
	sent       time.Duration // when the last SYN-ACK left, or was to leave
	iss, irs   uint32
	recent     uint32 // the TSval of the peer; valid iff stamped
	offset     uint32 // of our timestamps
	challenged uint32 // loop time of the last answer to what came again or amiss, ms; 0: none
	prev, next int32  // with as many SYN-ACKs sent; 0: none
	mss        uint16
	link       uint8 // of Stack.links
	scale      int8  // of the peer's window; negative: neither side's is scaled
	synACKs    uint8 // sent
	stamped    bool
	sack       bool
}

// synQueue are the handshakes of all listeners. It belongs to the loop.
type synQueue struct {
	index map[netstack.TransportEndpointID]int32
	slots []halfOpen // the first is none
	free  []int32
	// waits are the handshakes by how many SYN-ACKs they were sent, each a list in the order of sent: all in one list wait
	// equally long.
	waits  [synACKs + 1]struct{ head, tail int32 }
	secret bpf.CookieKey // of sequence numbers and timestamps
}

func (q *synQueue) init() {
	q.index = make(map[netstack.TransportEndpointID]int32)
	q.slots = make([]halfOpen, 1)
	rand.Read(q.secret[:]) //nolint:errcheck // it never fails
}

func (q *synQueue) len() int { return len(q.index) }

// find returns the handshake of id, nil if there is none.
func (q *synQueue) find(id *netstack.TransportEndpointID) *halfOpen {
	if len(q.index) == 0 {
		return nil
	}
	if i, ok := q.index[*id]; ok {
		return &q.slots[i]
	}
	return nil
}

// add makes h, for whose flow there is none, a handshake of the queue. The pointer holds until the next one.
func (q *synQueue) add(h halfOpen) *halfOpen {
	var i int32
	if n := len(q.free); n > 0 {
		i = q.free[n-1]
		q.free = q.free[:n-1]
		q.slots[i] = h
	} else {
		i = int32(len(q.slots))
		q.slots = append(q.slots, h)
	}
	q.index[h.id] = i
	h.listener.handshakes++
	q.enqueue(i)
	return &q.slots[i]
}

// drop forgets h.
func (q *synQueue) drop(h *halfOpen) {
	i := q.index[h.id]
	q.dequeue(i)
	delete(q.index, h.id)
	h.listener.handshakes--
	*h = halfOpen{}
	q.free = append(q.free, i)
}

// dropAll forgets the handshakes of a listener.
func (q *synQueue) dropAll(l *Listener) {
	for i := range q.slots {
		if h := &q.slots[i]; h.listener == l {
			q.drop(h)
		}
	}
}

func (q *synQueue) enqueue(i int32) {
	h := &q.slots[i]
	w := &q.waits[h.synACKs]
	h.prev, h.next = w.tail, 0
	if w.tail != 0 {
		q.slots[w.tail].next = i
	} else {
		w.head = i
	}
	w.tail = i
}

func (q *synQueue) dequeue(i int32) {
	h := &q.slots[i]
	w := &q.waits[h.synACKs]
	if h.prev != 0 {
		q.slots[h.prev].next = h.next
	} else {
		w.head = h.next
	}
	if h.next != 0 {
		q.slots[h.next].prev = h.prev
	} else {
		w.tail = h.prev
	}
}

// noteSYNACK is told of an attempt to send h its SYN-ACK.
func (q *synQueue) noteSYNACK(h *halfOpen, now time.Duration, left bool) {
	i := q.index[h.id]
	q.dequeue(i)
	h.sent = now
	if left {
		h.synACKs++
	}
	q.enqueue(i)
}

// due is when a handshake is to be looked at that was sent so many SYN-ACKs.
func (h *halfOpen) due() time.Duration {
	if h.synACKs == 0 {
		return h.sent + unsentWait
	}
	return h.sent + synACKWait<<(h.synACKs-1)
}

// next is when the first handshake is due; ok is false when there is none.
func (q *synQueue) next() (at time.Duration, ok bool) {
	for i := range q.waits {
		if head := q.waits[i].head; head != 0 {
			if due := q.slots[head].due(); !ok || due < at {
				at, ok = due, true
			}
		}
	}
	return at, ok
}

// tendHandshakes sends SYN-ACKs again that are due, and gives handshakes up.
func (s *Stack) tendHandshakes(now time.Duration) {
	q := &s.synQueue
	if q.len() == 0 {
		return
	}
	for sent := range q.waits {
		for q.waits[sent].head != 0 {
			h := &q.slots[q.waits[sent].head]
			if h.due() > now {
				break
			}
			if sent == synACKs || sent == 0 && now-h.began > unresolvedWait {
				s.fail(h)
				continue
			}
			left := s.links[h.link].sendSYNACK(h)
			q.noteSYNACK(h, now, left)
			if !left {
				break // nor would the others
			}
		}
	}
}

// fail ends a handshake that leads to no connection.
func (s *Stack) fail(h *halfOpen) {
	s.net.Stats().TCP.FailedConnectionAttempts.Increment()
	s.synQueue.drop(h)
}

// initialNumber is the initial sequence number of a connection, by RFC 6528: a clock of 64 ns, and a hash of the flow that
// nobody else can make.
func (s *Stack) initialNumber(flow *bpf.CookieFlow) uint32 {
	return s.synQueue.secret.Hash(flow, 0, bpf.CookieOuter) + uint32(sinceStart(s.clock.NowMonotonic())>>6)
}

// timestampOffset is what is added to the timestamps of a connection: of all of one host the same (RFC 7323 5.4).
func (s *Stack) timestampOffset(flow *bpf.CookieFlow) uint32 {
	hosts := bpf.CookieFlow{Local: flow.Local, Remote: flow.Remote}
	return s.synQueue.secret.Hash(&hosts, 0, bpf.CookieInner)
}

// openingScale is the scale of the window that a handshake offers, as netstack's rcvWndScaleForHandshake.
func (s *Stack) openingScale() int {
	if s.tcp.NoAutoTuning {
		return tcp.FindWndScale(seqnum.Size(s.tcp.ReceiveBuffer.Default))
	}
	return tcp.FindWndScale(seqnum.Size(s.tcp.ReceiveBuffer.Max))
}

// openingWindow is the window that a handshake offers to a peer whose segments are as large as ours, as netstack's
// initialReceiveWindow.
func (s *Stack) openingWindow(mss int) int {
	window, scale := min(s.tcp.ReceiveBuffer.Default/2, 65535, 2*tcp.InitialCwnd*mss), s.openingScale()
	return max(window>>scale<<scale, 1)
}

// ownMSS is the MSS that the link offers to a peer.
func (l *link) ownMSS(peer tcpip.Address) int {
	if peer.BitLen() == header.IPv4AddressSizeBits {
		return l.Link.MTU - header.IPv4MinimumSize - header.TCPMinimumSize
	}
	return l.Link.MTU - header.IPv6MinimumSize - header.TCPMinimumSize
}

// countIntact counts s, which netstack does not get to see, as received or as damaged: then it is to be dropped.
func (l *link) countIntact(s *segment) bool {
	if !l.intact(s) {
		l.stack.net.Stats().TCP.ChecksumErrors.Increment()
		return false
	}
	l.stack.received.Increment()
	return true
}

// answerSYN begins the handshake of a SYN to a listener. It reports false when netstack has to judge s.
func (l *link) answerSYN(s *segment, ep *tcp.Endpoint) bool {
	listener := l.stack.listenerOf(ep)
	if s.tcp[header.TCPFlagsOffset]&(syn|ack) != syn || listener == nil || l.stack.refuses(ep) {
		return false
	}
	counters := l.stack.net.Stats().TCP
	if !l.countIntact(s) {
		return true
	}
	if acceptQueueFull(ep) {
		counters.ListenOverflowSynDrop.Increment()
		return true
	}
	options := header.ParseSynOptions(s.tcp[header.TCPMinimumSize:], false)
	flow, now := s.cookieFlow(), l.stack.Now()
	h := l.stack.synQueue.add(halfOpen{
		id: s.id, listener: listener, link: uint8(l.id - 1), began: now, sent: now,
		iss: l.stack.initialNumber(flow), irs: s.tcp.SequenceNumber(),
		recent: options.TSVal, stamped: options.TS, mss: options.MSS, scale: int8(options.WS),
		sack: options.SACKPermitted && !l.stack.tcp.NoSACK,
	})
	if h.stamped {
		h.offset = l.stack.timestampOffset(flow)
	}
	key := s.flowKey()
	l.mu.Lock()
	l.forget(&key)
	l.mu.Unlock()
	if l.stack.flows != nil {
		l.stack.flows.mark(&key)
	}
	l.stack.synQueue.noteSYNACK(h, now, l.sendSYNACK(h))
	return true
}

// sendSYNACK sends h its SYN-ACK, with the options in Linux's order. It reports false when that cannot leave now.
func (l *link) sendSYNACK(h *halfOpen) bool {
	own := l.ownMSS(h.id.RemoteAddress)
	var b [header.TCPOptionsMaximumSize]byte
	n := header.EncodeMSSOption(uint32(own), b[:])
	switch {
	case h.stamped && h.sack:
		n += header.EncodeSACKPermittedOption(b[n:])
	case h.stamped:
		n += header.EncodeNOP(b[n:])
		n += header.EncodeNOP(b[n:])
	case h.sack:
		n += header.EncodeNOP(b[n:])
		n += header.EncodeNOP(b[n:])
		n += header.EncodeSACKPermittedOption(b[n:])
	}
	if h.stamped {
		n += header.EncodeTSOption(l.stack.stampOf(h), h.recent, b[n:])
	}
	if h.scale >= 0 {
		n += header.EncodeNOP(b[n:])
		n += header.EncodeWSOption(l.stack.openingScale(), b[n:])
	}
	return l.replyTo(&h.id, &header.TCPFields{
		SeqNum: h.iss, AckNum: h.irs + 1, Flags: header.TCPFlagSyn | header.TCPFlagAck,
		WindowSize: uint16(l.stack.openingWindow(own)),
	}, b[:n])
}

// stampOf is the timestamp of what is sent to h now.
func (s *Stack) stampOf(h *halfOpen) uint32 {
	return h.offset + uint32(sinceStart(s.clock.NowMonotonic()).Milliseconds())
}

// challenge answers a segment of h that is not acceptable by an ACK (RFC 9293 3.10.7.4, first check), at most every 500 ms.
func (l *link) challenge(h *halfOpen) {
	if !h.mayAnswer(l.stack.Now()) {
		return
	}
	var options []byte
	if h.stamped {
		var b [timestampBytes]byte
		n := header.EncodeNOP(b[:])
		n += header.EncodeNOP(b[n:])
		header.EncodeTSOption(l.stack.stampOf(h), h.recent, b[n:])
		options = b[:]
	}
	l.replyTo(&h.id, &header.TCPFields{
		SeqNum: h.iss + 1, AckNum: h.irs + 1, Flags: header.TCPFlagAck, WindowSize: uint16(l.stack.openingWindow(l.ownMSS(h.id.RemoteAddress))),
	}, options)
}

// mayAnswer limits answers to what came again or amiss, as tcp_oow_rate_limited in the kernel.
func (h *halfOpen) mayAnswer(now time.Duration) bool {
	at := millis(now)
	if h.challenged != 0 && at-h.challenged < millis(timeWaitACK) {
		return false
	}
	h.challenged = max(at, 1)
	return true
}

// takeHandshake takes a segment of a handshake in the SYN queue. It reports false when it belongs to none, or acknowledges
// what that did not send: it may be of a cookie that was sent before, or of another worker.
func (l *link) takeHandshake(s *segment) bool {
	h := l.stack.synQueue.find(&s.id)
	if h == nil {
		return false
	}
	flags := s.tcp[header.TCPFlagsOffset]
	ahead := s.tcp.SequenceNumber() - (h.irs + 1)
	if exact := flags&rst != 0 && ahead == 0; !exact && flags&ack != 0 && s.tcp.AckNumber() != h.iss+1 {
		if flags&(syn|rst|ack) == ack && l.stack.cookies.Valid(s.cookieFlow(), s.tcp.AckNumber()-1, s.tcp.SequenceNumber()-1, l.stack.cookieTime()) {
			l.stack.synQueue.drop(h) // netstack is about to make the connection
		}
		return false
	}
	counters := l.stack.net.Stats().TCP
	if !l.countIntact(s) {
		return true
	}
	inWindow := ahead < uint32(l.stack.openingWindow(l.ownMSS(s.id.RemoteAddress)))
	switch {
	case flags&rst != 0:
		counters.ResetsReceived.Increment()
		switch {
		case ahead == 0:
			l.stack.fail(h)
		case inWindow: // RFC 5961 3.2
			l.stats.GuardInexactResets++
			l.challenge(h)
		}
	case flags&(syn|ack) == syn && s.tcp.SequenceNumber() == h.irs:
		if h.mayAnswer(l.stack.Now()) && l.sendSYNACK(h) && h.synACKs == 0 {
			l.stack.synQueue.noteSYNACK(h, l.stack.Now(), true)
		}
	case !inWindow:
		l.challenge(h)
	case flags&syn != 0: // another connection: both have to begin anew, as in the kernel
		reset := header.TCPFields{AckNum: s.end() + 1, Flags: header.TCPFlagRst | header.TCPFlagAck}
		if flags&ack != 0 {
			reset.SeqNum = s.tcp.AckNumber()
		}
		l.replyTo(&s.id, &reset, nil)
		counters.ResetsSent.Increment()
		l.stack.fail(h)
	case flags&ack != 0:
		return l.endHandshake(s, h)
	}
	return true
}

// endHandshake makes the connection of h, whose SYN-ACK s acknowledges, and takes s to it if there is more in s.
func (l *link) endHandshake(s *segment, h *halfOpen) bool {
	options := header.ParseTCPOptions(s.tcp[header.TCPMinimumSize:])
	switch {
	case h.stamped && options.TS && int32(options.TSVal-h.recent) < 0: // PAWS, RFC 7323 5.3 R1
		l.stats.GuardOldTimestamps++
		l.challenge(h)
		return true
	case h.stamped && !options.TS, // RFC 7323 3.2
		acceptQueueFull(h.listener.endpoint.(*tcp.Endpoint)): // the peer's next segment ends the handshake, as in the kernel
		l.stack.net.Stats().DroppedPackets.Increment()
		return true
	}
	if h.stamped && s.tcp.SequenceNumber() == h.irs+1 { // RFC 7323 4.3
		h.recent = options.TSVal
	}
	opened := *h
	l.stack.synQueue.drop(h)
	ep := l.open(&opened, s, options)
	if ep == nil {
		l.stack.net.Stats().TCP.FailedConnectionAttempts.Increment()
		return true
	}
	place := l.placeOf(s)
	place[1] = place[0]
	place[0] = ep
	if len(s.payload) > 0 || s.tcp[header.TCPFlagsOffset]&fin != 0 {
		return l.queueSegment(s)
	}
	return true
}
