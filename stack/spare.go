package stack

import (
	"math/bits"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A segment with data, its packet, and the view that is in it come from four pools of netstack and go back there, with
// counted references to three of them. Nearly all that the short ways make end on the loop, where they began, with nobody
// else referring to them: these are kept whole for the next data of about their size (BenchmarkAnswer: 860 ns without,
// 740 with it).

const (
	// spareClasses are the sizes of memory that segments are kept with: 64 bytes, and twice as much in each class, up to
	// 2048, which holds what an Ethernet frame does.
	spareClasses = 6
	// spareSegments is how many are kept of a class: what is taken and comes back in a turn or two.
	spareSegments = 64
)

// packetWith is a packet that holds v.
func packetWith(v *buffer.View) *netstack.PacketBuffer {
	return netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
}

// segmentWith is a new segment with one reference, and with p.
func segmentWith(p *netstack.PacketBuffer) *netSegment {
	s := newNetSegment()
	s.pkt, s.dataMemSize = p, p.MemSize()
	return s
}

// spares are free packets, by the class of the memory of their views, and free segments. Loop only.
type spares struct {
	packets  [spareClasses][]*netstack.PacketBuffer
	segments []*netSegment
}

// spareClass is the class of so many bytes, spareClasses or more when there is none.
func spareClass(size int) int { return max(bits.Len(uint(size-1))-6, 0) }

// take is a new segment with one reference, whose packet holds a copy of data, which is not empty.
func (p *spares) take(data []byte) *netSegment {
	packet := p.packet(data)
	last := len(p.segments) - 1
	if last < 0 {
		return segmentWith(packet)
	}
	s := p.segments[last]
	p.segments = p.segments[:last]
	*s = netSegment{segmentRefs: 1, pkt: packet, dataMemSize: packet.MemSize()}
	return s
}

// packet is a new packet with one reference and a copy of data, which is not empty.
func (p *spares) packet(data []byte) *netstack.PacketBuffer {
	class := spareClass(len(data))
	if class >= spareClasses || len(p.packets[class]) == 0 {
		return packetWith(viewWith(data))
	}
	last := len(p.packets[class]) - 1
	packet := p.packets[class][last]
	p.packets[class] = p.packets[class][:last]
	list, _ := packet.AsViewList()
	v := list.Front()
	v.Reset()
	_, _ = v.Write(data) // cannot fail
	setPacketSize(packet, len(data))
	return packet
}

// free gives up a reference to s, and keeps it if that was the only one to all that it consists of.
func (p *spares) free(s *netSegment) {
	if atomic.LoadInt64(&s.segmentRefs) != 1 || !p.keep(s.pkt) {
		decRef(s)
		return
	}
	disown(s)
	s.pkt = nil
	if len(p.segments) < spareSegments {
		p.segments = append(p.segments, s)
	}
}

// freePacket is free for a packet.
func (p *spares) freePacket(packet *netstack.PacketBuffer) {
	if !p.keep(packet) {
		packet.DecRef()
	}
}

// keep keeps a packet that is as packetWith makes it, but for its data: of what netstack received or wrote headers into, the
// protocol is known. So nothing of it has to be cleared.
func (p *spares) keep(packet *netstack.PacketBuffer) bool {
	if packet.ReadRefs() != 1 || packet.NetworkProtocolNumber != 0 || packet.TransportProtocolNumber != 0 {
		return false
	}
	list, _ := packet.AsViewList()
	v := list.Front()
	if v == nil || v.Next() != nil || sharesChunk(v) {
		return false
	}
	class := spareClass(v.Capacity())
	if class >= spareClasses || v.Capacity() != 64<<class || len(p.packets[class]) == spareSegments {
		return false
	}
	p.packets[class] = append(p.packets[class], packet)
	return true
}
