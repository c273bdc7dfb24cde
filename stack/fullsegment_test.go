package stack_test

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A full segment leaves no room for SACK blocks; one that carries them has as much less data.
func TestSACKBlocksTakeTheirRoomFromTheData(t *testing.T) {
	p, _, write := serveScripted(t, time.Minute)
	write(1)
	if a := p.next("the first packet", covers(0)); a.bytes != packetBytes {
		t.Errorf("a full packet has %d bytes of data, want %d", a.bytes, packetBytes)
	}
	p.say(packetBytes)
	p.seq++ // what comes next is out of order
	p.send(header.TCPFlagAck, p.ack+packetBytes, p.stamps(), []byte("y"))
	p.next("an acknowledgment with a block", func(a answer) bool { return a.bytes == 0 })
	const block = 12 // aligned
	sent := packetBytes
	for _, packets := range []int{1, 3} {
		write(packets)
		for end := sent + packets*packetBytes; sent < end; {
			a := p.next("the next packet", covers(sent))
			if want := min(packetBytes-block, end-sent); a.seq != sent || a.bytes != want {
				t.Fatalf("at %d of %d bytes the packet has %d from %d on, want %d", sent, end, a.bytes, a.seq, want)
			}
			sent += a.bytes
		}
	}
}
