package proxy

import "ringroad/stack"

// sampleSize is how many client connections, and backend connections in use by them,
// are looked into at a time: some ten microseconds of work ten times a second.
const sampleSize = 64

// sample brings the gauges of Stats up to date that nobody keeps while the loop works.
// Of more sessions than sampleSize others are looked into each time, and their sum
// stands for all. Idle connections to backends hold nothing.
func (w *Worker) sample() {
	s := w.stats
	s.ConnectionsLimit = uint64(w.config.Limits.MaxConnections)
	s.TimersArmed, s.TimersMax = uint64(w.wheel.n), uint64(w.wheel.most)
	var clients, backends stack.Buffered
	n := min(sampleSize, s.ClientsActive)
	next := w.sampled
	for range n {
		if next == &w.sessions {
			next = next.next
		}
		addBuffered(&clients, next.conn)
		if x := next.x; x != nil && x.backend != nil {
			addBuffered(&backends, x.backend.conn)
		}
		next = next.next
	}
	w.sampled = next
	of := func(sum int) uint64 {
		if n == 0 {
			return 0
		}
		return uint64(sum) * s.ClientsActive / n
	}
	s.ClientReceived, s.ClientReceiveRoom = of(clients.Received), of(clients.ReceiveRoom)
	s.ClientSent, s.ClientSendRoom = of(clients.Sent), of(clients.SendRoom)
	s.BackendReceived, s.BackendReceiveRoom = of(backends.Received), of(backends.ReceiveRoom)
	s.BackendSent, s.BackendSendRoom = of(backends.Sent), of(backends.SendRoom)
	s.ClientReceivedMax = max(s.ClientReceivedMax, s.ClientReceived)
	s.ClientSentMax = max(s.ClientSentMax, s.ClientSent)
	s.BackendReceivedMax = max(s.BackendReceivedMax, s.BackendReceived)
	s.BackendSentMax = max(s.BackendSentMax, s.BackendSent)
}

func addBuffered(to *stack.Buffered, c *stack.Conn) {
	b := c.Buffered()
	to.Received += b.Received
	to.ReceiveRoom += b.ReceiveRoom
	to.Sent += b.Sent
	to.SendRoom += b.SendRoom
}
