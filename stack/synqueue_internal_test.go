package stack

import (
	"slices"
	"testing"
	"time"

	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Each handshake is due when its own last SYN-ACK has waited long enough, whatever becomes of the others.
func TestSYNQueueIsDueInTime(t *testing.T) {
	var q synQueue
	q.init()
	l := new(Listener)
	id := func(port uint16) *netstack.TransportEndpointID {
		return &netstack.TransportEndpointID{RemotePort: port}
	}
	for port := range uint16(4) {
		now := time.Duration(port) * time.Millisecond
		q.noteSYNACK(q.add(halfOpen{id: *id(port), listener: l, sent: now}), now, port != 1) // that of 1 could not leave
	}
	q.drop(q.find(id(2)))
	q.add(halfOpen{id: *id(5), listener: l}) // in the place of 2
	q.drop(q.find(id(5)))
	if q.find(id(2)) != nil || q.find(id(5)) != nil || q.len() != 3 || l.handshakes != 3 || len(q.slots) != 5 {
		t.Fatalf("%d handshakes, %d of the listener, in %d places", q.len(), l.handshakes, len(q.slots))
	}
	var dues []time.Duration
	for q.len() > 0 {
		at, _ := q.next()
		for i := range q.waits {
			if h := &q.slots[q.waits[i].head]; h.listener != nil && h.due() == at {
				if h.id.RemotePort == 0 {
					dues = append(dues, at)
				}
				if h.synACKs == synACKs {
					q.drop(h)
				} else {
					q.noteSYNACK(h, at, true)
				}
				break
			}
		}
	}
	want := []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second, 31 * time.Second, 63 * time.Second, 127 * time.Second}
	if !slices.Equal(dues, want) {
		t.Errorf("due at %v, want %v", dues, want)
	}
	if _, ok := q.next(); ok || l.handshakes != 0 || len(q.free) != 4 {
		t.Errorf("%d handshakes of the listener are left, %d places are free", l.handshakes, len(q.free))
	}
}
