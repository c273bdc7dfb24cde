package stack

import (
	"bytes"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// TestSpareSegmentsAreNobodyElses: memory that a clone of the packet shares, as one that waits for a TX frame does, and a
// segment that a queue refers to are not used again; what is used again has nothing of its last use.
func TestSpareSegmentsAreNobodyElses(t *testing.T) {
	p := new(spares)
	old, next := bytes.Repeat([]byte("o"), 200), bytes.Repeat([]byte("n"), 180) // of one class
	kept := func() (n int) {
		for _, list := range p.packets {
			n += len(list)
		}
		return n
	}

	s := p.take(old)
	clone := s.pkt.Clone()
	p.free(s)
	if kept() != 0 {
		t.Error("a segment was kept whose memory another packet has")
	}
	p.take(next)
	if b, ok := clone.Data().PullUp(len(old)); !ok || !bytes.Equal(b, old) {
		t.Errorf("the packet that was cloned has now %q", b)
	}

	s = p.take(old)
	atomic.AddInt64(&s.segmentRefs, 1)
	if p.free(s); kept() != 0 {
		t.Error("a segment was kept that is referred to")
	}
	s.flags, s.xmitCount, s.lost = header.TCPFlagFin, 3, true
	s.pkt.Data().TrimFront(50)
	if p.free(s); kept() != 1 {
		t.Fatal("a segment was not kept that nobody else has")
	}
	again := p.take(next)
	b, ok := again.pkt.Data().PullUp(len(next))
	if again != s || kept() != 0 || !ok || !bytes.Equal(b, next) || again.pkt.Data().Size() != len(next) {
		t.Errorf("used again, it has %q", b)
	}
	if again.flags != 0 || again.xmitCount != 0 || again.lost || again.dataMemSize != again.pkt.MemSize() || again.pkt.ReadRefs() != 1 {
		t.Errorf("used again, it is %+v", again)
	}

	s = p.take(old)
	s.pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	if p.free(s); kept() != 0 {
		t.Error("a packet was kept that had headers")
	}

	var many []*netSegment
	for range 2 * spareSegments {
		many = append(many, p.take(old))
	}
	for _, s := range many {
		p.free(s)
	}
	if n := kept(); n != spareSegments {
		t.Errorf("%d are kept, %d at most", n, spareSegments)
	}
}
