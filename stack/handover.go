package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/dataplane"
)

// With several workers a frame may come in on the queue of one that does not
// have its connection: a NIC hashes a flow to a queue that nobody chose, veth
// moves it when the peer's kernel sends something again, ICMP errors come from
// routers. Such a frame is handed over to the worker that has the connection.
// A worker that answered it instead would reset a connection of another.
//
// Backend flows: the worker is computed from our port (PortBlock). The frame
// goes there at once, and that worker's word is final.
//
// Client flows: only the worker that took the SYN knows the connection. A SYN
// belongs to whoever receives it. Any other segment that finds no connection,
// but at most a listener, and is not remembered in TIME_WAIT, goes round: to the
// next worker, which either has its connection or passes it on, and so back to
// its origin, the worker on whose queue it came in. That one knows then that
// nobody has the connection, and answers as netstack does: with RST, or, because
// it is the worker that sent the SYN-ACK, by checking the SYN cookie. A segment
// is answered at most once, whatever the order of events.
//
// A handshake under way claims only what acknowledges its SYN-ACK: a SYN that
// was sent again may have started a second one at another worker, and that one
// must not reset the connection of the first. It ends when its retries do.
// TIME_WAIT claims only what is not beyond the old connection, because a new one
// with its ports may live at another worker.
//
// ICMP errors go by the flow that they quote: to the worker of a backend flow;
// round for a client flow, and if nobody has it they are dropped.
//
// Whatever takes netstack's stock way (IP options, fragments) is judged when
// netstack is about to hand it to TCP: reassembled, without options. It is
// handed over as one plain packet, which may be larger than the MTU.
//
// A frame that cannot be sent, because the ring is full, is lost and counted:
// TCP sends it again.

// Handover carries frames between workers. [dataplane.Handover] is the real
// one. The loop alone calls it.
type Handover interface {
	// Send copies the frame for worker to. False: it does not fit.
	Send(to, link, origin int, frame []byte) bool
	// Receive returns the next frame for this worker, valid until the next
	// call.
	Receive() (dataplane.Handed, bool)
	// Flush publishes what was sent and wakes who sleeps.
	Flush()
	// Park announces that the loop is about to sleep, Unpark that it is awake.
	// Park is false when frames are waiting.
	Park() bool
	Unpark()
}

var _ Handover = (*dataplane.Handover)(nil)

// HandoverStats are the counters of handing over, written by the loop alone.
type HandoverStats struct {
	Owner     uint64 `name:"handed_owner" unit:"frames" kind:"counter" help:"Frames of backend flows handed to the worker that has the port."`
	Walk      uint64 `name:"handed_walk" unit:"frames" kind:"counter" help:"Frames of client flows without a connection here, passed on to the next worker."`
	ICMP      uint64 `name:"handed_icmp" unit:"frames" kind:"counter" help:"ICMP errors that quote a flow of another worker, handed over or passed on."`
	Full      uint64 `name:"handed_full" unit:"frames" kind:"counter" help:"Frames for other workers that were lost because they did not fit the ring."`
	Received  uint64 `name:"handed_received" unit:"frames" kind:"counter" help:"Frames that other workers handed over."`
	WalkEnded uint64 `name:"walk_ended" unit:"frames" kind:"counter" help:"Frames that came back because no worker has their connection, answered or dropped here."`
	Invalid   uint64 `name:"handed_invalid" unit:"frames" kind:"counter" help:"Received frames that no worker should have handed over, dropped."`
}

// PortBlock is the part of the backend ports first to last that belongs to a
// worker. All parts are equally large; what remains is unused.
func PortBlock(first, last uint16, worker, workers int) (uint16, uint16) {
	size := (int(last) - int(first) + 1) / workers
	from := int(first) + worker*size
	return uint16(from), uint16(from + size - 1)
}

const (
	// fromQueue is the origin of a frame from a queue of our own.
	fromQueue = -1
	// nobody owns a port that is no backend port.
	nobody = -1
	// maxHandedBytes is the largest frame handed over: a full IPv6 packet.
	maxHandedBytes = etherBytes + header.IPv6MinimumSize + 65535
)

// peers is what a stack knows of the other workers; a stack alone has none. All
// but the handshakes belong to the loop.
type peers struct {
	handover Handover
	self     int
	count    int

	first, block uint16 // ports [first+w*block, first+(w+1)*block) are worker w's

	sent  bool // something since the last flush
	to    int  // worker that was sent something last
	stats HandoverStats
}

func newPeers(c *Config) *peers {
	if c.Handover == nil || c.Workers < 2 {
		return nil
	}
	p := &peers{handover: c.Handover, self: c.Worker, count: c.Workers}
	from, to := PortBlock(c.FirstPort, c.LastPort, 0, c.Workers)
	p.first, p.block = from, to-from+1
	return p
}

// owner is the worker that has backend flows of this port.
func (p *peers) owner(port uint16) int {
	// A port below the first wraps around to beyond the last.
	if w := int((port - p.first) / p.block); w < p.count {
		return w
	}
	return nobody
}

// send hands a frame over and counts it.
func (p *peers) send(to int, l *link, origin int, frame []byte, count *uint64) {
	if !p.handover.Send(to, int(l.id)-1, origin, frame) {
		p.stats.Full++
		return
	}
	p.sent, p.to = true, to
	*count++
}

// flush publishes what was sent in this turn.
func (p *peers) flush() {
	if p.sent {
		p.sent = false
		p.handover.Flush()
	}
}

// receiveHanded delivers up to a batch of frames that other workers handed over
// and returns how many came.
func (s *Stack) receiveHanded() (n int) {
	p := s.peers
	for ; n < s.batch; n++ {
		h, ok := p.handover.Receive()
		if !ok {
			break
		}
		p.stats.Received++
		if h.Link < 0 || h.Link >= len(s.links) || h.Origin < 0 || h.Origin >= p.count {
			p.stats.Invalid++
			continue
		}
		l := s.links[h.Link]
		l.origin = h.Origin
		if l.tap != nil {
			l.deliverTapped(0, h.Frame)
		} else {
			l.deliver(h.Frame)
		}
		l.flushFrames()
		l.origin = fromQueue
	}
	if n > 0 {
		for _, l := range s.links {
			l.flushMerges()
		}
	}
	return n
}

// handToOwner deals with the frame of a flow with our given port if it belongs to
// another worker.
func (l *link) handToOwner(port uint16, frame []byte, count *uint64) bool {
	p := l.stack.peers
	to := p.owner(port)
	if to == p.self || to == nobody {
		return false
	}
	if l.origin != fromQueue {
		p.stats.Invalid++ // its sender computes differently
		return true
	}
	p.send(to, l, p.self, frame, count)
	return true
}

// passOn sends a frame of a client flow on its way round. False: it has been
// everywhere.
func (l *link) passOn(frame []byte, count *uint64) bool {
	p := l.stack.peers
	origin := l.origin
	switch origin {
	case p.self:
		p.stats.WalkEnded++
		return false
	case fromQueue:
		origin = p.self
	}
	p.send((p.self+1)%p.count, l, origin, frame, count)
	return true
}

// passStray passes s on if neither the endpoint found for it nor this worker
// have to do with it.
func (l *link) passStray(s *segment, ep netstack.TransportEndpoint) bool {
	const syn, ack = header.TCPFlagSyn, header.TCPFlagAck
	p := l.stack.peers
	if ep != nil && !isListener(ep) || s.tcp.Flags()&(syn|ack) == syn || p.owner(s.id.LocalPort) != nobody {
		return false
	}
	return l.passOn(s.frame, &p.stats.Walk)
}

// handError deals with an ICMP error about a flow of another worker.
func (l *link) handError(number tcpip.NetworkProtocolNumber, packet, frame []byte) bool {
	p := l.stack.peers
	id, ok := quotedFlow(number, packet)
	if !ok || !l.owns(id.LocalAddress) {
		return false
	}
	if l.handToOwner(id.LocalPort, frame, &p.stats.ICMP) {
		return true
	}
	if p.owner(id.LocalPort) == p.self {
		return false
	}
	if ep := l.stack.net.FindTransportEndpoint(number, tcp.ProtocolNumber, id, l.id); ep != nil && !isListener(ep) {
		return false
	}
	l.passOn(frame, &p.stats.ICMP)
	return true
}

// quotedFlow is the flow, as its own segments name it here, of the TCP segment
// that an ICMP error quotes; ok is false for all other packets.
func quotedFlow(number tcpip.NetworkProtocolNumber, packet []byte) (id netstack.TransportEndpointID, ok bool) {
	const icmpBytes, portsBytes = 8, 4
	var quoted, ports []byte
	if number == header.IPv4ProtocolNumber {
		n := ipv4Bytes(packet, header.ICMPv4ProtocolNumber)
		if n == 0 || len(packet) < n+icmpBytes {
			return id, false
		}
		switch header.ICMPv4Type(packet[n]) {
		case header.ICMPv4DstUnreachable, header.ICMPv4SrcQuench, header.ICMPv4TimeExceeded, header.ICMPv4ParamProblem:
		default:
			return id, false
		}
		quoted = packet[n+icmpBytes:]
		if n = ipv4Bytes(quoted, header.TCPProtocolNumber); n == 0 {
			return id, false
		}
		ports = quoted[n:]
		id.LocalAddress = tcpip.AddrFrom4([4]byte(quoted[12:16]))
		id.RemoteAddress = tcpip.AddrFrom4([4]byte(quoted[16:20]))
	} else {
		const n = header.IPv6MinimumSize
		// Types below 128 are errors (RFC 4443 2.1).
		if len(packet) < n+icmpBytes+n || packet[6] != byte(header.ICMPv6ProtocolNumber) || packet[n] >= 128 {
			return id, false
		}
		if quoted = packet[n+icmpBytes:]; quoted[0]>>4 != header.IPv6Version || quoted[6] != byte(header.TCPProtocolNumber) {
			return id, false
		}
		ports = quoted[n:]
		id.LocalAddress = tcpip.AddrFrom16([16]byte(quoted[8:24]))
		id.RemoteAddress = tcpip.AddrFrom16([16]byte(quoted[24:40]))
	}
	if len(ports) < portsBytes {
		return id, false
	}
	id.LocalPort, id.RemotePort = binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:])
	return id, true
}

// ipv4Bytes is the length of packet's header if it is the first fragment, or the
// whole, of an IPv4 packet of the given protocol; 0 if not.
func ipv4Bytes(packet []byte, protocol tcpip.TransportProtocolNumber) int {
	if len(packet) < header.IPv4MinimumSize || packet[0]>>4 != header.IPv4Version ||
		packet[6]&0x1f|packet[7] != 0 || packet[9] != byte(protocol) {
		return 0
	}
	n := int(packet[0]&0xf) * 4
	if n < header.IPv4MinimumSize || n > len(packet) {
		return 0
	}
	return n
}
