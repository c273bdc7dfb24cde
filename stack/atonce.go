package stack

import (
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Segments that do not take the short way go through the queue of their endpoint, whose
// order counts, but do not wait for netstack's goroutine there: the loop does what that
// does. It saves two locks, a hash and a switch of goroutines a segment, and the state is
// up to date for the next segment of the batch: the request behind the ACK that ends the
// handshake takes the short way already, and its ACK rides on the answer.

// queueAtOnce queues the segment in p for ep and has TCP process what is queued. The caller
// keeps its reference to p.
func (l *link) queueAtOnce(ep netstack.TransportEndpoint, id netstack.TransportEndpointID, p *netstack.PacketBuffer) {
	l.stack.queued = true
	e, ok := ep.(*tcp.Endpoint)
	if !ok {
		l.queue.QueuePacket(ep, id, p)
		return
	}
	s, err := newIncomingSegment(id, l.stack.clock, p)
	if err != nil {
		l.queue.QueuePacket(ep, id, p) // counts and drops it
		return
	}
	defer decRef(s)
	if !s.csumValid {
		l.queue.QueuePacket(ep, id, p) // as above
		return
	}
	l.stack.received.Increment()
	if byte(s.flags)&rst != 0 {
		l.stack.net.Stats().TCP.ResetsReceived.Increment()
	}
	if enqueueSegment(e, s) {
		l.processQueued(e)
	}
}

// processQueued has TCP process what is queued for e.
func (l *link) processQueued(e *tcp.Endpoint) {
	switch tcp.EndpointState(e.State()) {
	case tcp.StateListen:
		handleListen(e)
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		handleConnecting(e)
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
		handleConnected(e)
		if tcp.EndpointState(e.State()) == tcp.StateTimeWait && l.waits(&e.ID) {
			endTimeWait(e)
		}
	case tcp.StateTimeWait:
		handleTimeWait(e)
	}
	// What is left, because the goroutine has the lock, or the end of the connection came
	// before it, the goroutine takes.
	if !segmentQueueEmpty(segmentQueueOf(e)) {
		notifyProcessor(e)
	}
}
