package stack

import (
	"reflect"
	"sync/atomic"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// netstack guards the receive queue, the round-trip time and who is told of data by locks of their own. Its goroutine takes
// these only under the endpoint's lock, and without that one only the loop does, where it reads and asks. So the loop has
// them all when it has the endpoint's. What the short ways need of netstack's functions is done here without them: they were
// half of the 70 atomic operations of a small request, and these a sixth of its time (BenchmarkProxied).

// windowShift is tcp.rcvAdvWndScale: of the memory of a receive buffer half is announced as a window.
const windowShift = 1

// announced is of tcp.receiver what it said of its window last.
type announced struct {
	rcvWnd      seqnum.Size
	rcvWUP      seqnum.Value // where it began
	prevBufUsed int          // bytes that were in the receive queue
}

// limitsOfRTO are the limits of the retransmission time-out.
type limitsOfRTO struct{ minRTO, maxRTO time.Duration }

// spaceOf is the window that the receive buffer of ep, of size bytes, has room for: Endpoint.selectWindowLocked.
func spaceOf(ep *tcp.Endpoint, size int) seqnum.Size {
	free := max(size-int(receiveMemory(ep)), 0)
	return seqnum.Size(max(min(free>>windowShift, size>>windowShift-ep.RcvBufUsed), 0))
}

// sendParameters is what the next segment acknowledges, and the window it announces, scaled: receiver.getSendParams.
func (c *connection) sendParameters() (next seqnum.Value, window seqnum.Size) {
	ep, r := c.endpoint, c.receive.state
	a := (*announced)(unsafe.Add(c.receive.rcv, announcedField.Offset))
	end, offered := a.rcvWUP.Add(a.rcvWnd), spaceOf(ep, int(ep.SocketOptions().GetReceiveBufferSize()))
	if end.LessThan(r.RcvNxt) || r.RcvNxt.Size(end)>>r.RcvWndScale == 0 || offered>>r.RcvWndScale == 0 {
		return getSendParams(c.receive.rcv) // which counts windows that are closed
	}
	used := ep.RcvBufUsed
	grows := int(c.send.MaxSentAck.Size(r.RcvNxt)) >= tcp.SegOverheadSize || used <= a.prevBufUsed
	if edge := r.RcvNxt.Add(offered); grows && end.LessThan(edge) {
		r.RcvAcc = edge
	} else {
		offered = r.RcvNxt.Size(end)
	}
	window = min(offered>>r.RcvWndScale, 1<<16-1)
	if offered>>r.RcvWndScale > window {
		offered = window << r.RcvWndScale
	}
	*a = announced{offered, r.RcvNxt, used}
	return r.RcvNxt, window
}

// opens reports whether the peer should be told that the window is open again, when size bytes of the memory of ep were given
// back: Endpoint.windowCrossedACKThresholdLocked.
func opens(ep *tcp.Endpoint, size int) bool {
	all := int(ep.SocketOptions().GetReceiveBufferSize())
	now := int(spaceOf(ep, all))
	enough := min(int(*(*uint16)(unsafe.Add(unsafe.Pointer(ep), offeredMSSField.Offset))), all/2>>windowShift)
	return max(now-size, 0) < enough && now >= enough
}

// queueReceived puts s, with size bytes of data, into the receive queue with the caller's reference to it, and tells who reads: setOwner and
// Endpoint.readyToRead. If its data went to the segment before it, s belongs to no endpoint and is still the caller's.
func (c *connection) queueReceived(s *netSegment, size int) {
	ep := c.endpoint
	ep.RcvBufUsed += size
	if list := receiveQueueOf(ep); list.head == list.tail || !coalesce(list.tail, s, size) {
		own(s, ep)
		list.pushBack(s)
	}
	if r := reusableOf(ep); r != nil && r.conn != nil && r.conn.notifier != nil {
		if !r.conn.gone {
			r.conn.poller.mark(&r.conn.source, Readable)
		}
		return
	}
	waiterQueueOf(ep).Notify(waiter.ReadableEvents)
}

const (
	// joinBytes is the most data of a segment that is joined to the one before, and joinedBytes of both.
	joinBytes   = 512
	joinedBytes = 4 << 10
)

// coalesce puts s, with size bytes of data, into t, the last segment of the receive queue, where it takes its data and not some 600 bytes
// more: else small segments that nobody reads, but within the window, would fill the memory long before the window is closed, be
// dropped, and come again by time-outs of the peer (tcp_try_coalesce in the kernel). It reports false when one is too large; s stays the
// caller's.
func coalesce(t, s *netSegment, size int) bool {
	have := t.pkt.Data().Size()
	if size > joinBytes || have+size > joinedBytes {
		return false
	}
	list, _ := t.pkt.AsViewList()
	if last := list.Back(); sharesChunk(last) || last.AvailableSize() < size {
		data, ok := t.pkt.Data().PullUp(have)
		if !ok {
			return false
		}
		v := newView(joinedBytes)
		_, _ = v.Write(data) // cannot fail
		joined := packetWith(v)
		t.pkt.DecRef()
		t.pkt = joined
	}
	t.pkt.Data().AppendView(s.pkt.Data().AsRange().ToView())
	ep := t.ep
	disown(t)
	t.dataMemSize = t.pkt.MemSize()
	own(t, ep)
	return true
}

// own makes the memory of s, which nobody else has, count for ep: segment.setOwner.
func own(s *netSegment, ep *tcp.Endpoint) {
	s.ep, s.qFlags = ep, receiveQueue
	*receivedMemory(ep) += int32(int(unsafe.Sizeof(*s)) + s.dataMemSize)
}

// disown undoes it for a segment in no queue any more, as segment.DecRef does.
func disown(s *netSegment) {
	if s.ep != nil && s.qFlags == receiveQueue {
		*receivedMemory(s.ep) -= int32(int(unsafe.Sizeof(*s)) + s.dataMemSize)
	}
	s.ep = nil
}

// receivedMemory is what received segments take of the memory of ep, whose lock is held.
func receivedMemory(ep *tcp.Endpoint) *int32 {
	return (*int32)(unsafe.Add(unsafe.Pointer(ep), receiveMemoryField.Offset))
}

// receiveMemory is the same for everybody.
func receiveMemory(ep *tcp.Endpoint) int64 { return int64(atomic.LoadInt32(receivedMemory(ep))) }

// popReceived removes the first segment of the receive queue, s, and returns the memory that goes with its reference.
func popReceived(ep *tcp.Endpoint, s *netSegment) (memory int) {
	list := receiveQueueOf(ep)
	if list.head = s.next(); list.head == nil {
		list.tail = nil
	} else {
		list.head.segmentEntry[1] = nil
	}
	s.segmentEntry = [2]unsafe.Pointer{}
	return int(unsafe.Sizeof(*s)) + s.dataMemSize
}

// noteRead notes that n bytes were read of what ep has received, and memory was given back. It reports whether the peer
// should be told that the window is open again.
func noteRead(ep *tcp.Endpoint, n, memory int) (update bool) {
	ep.RcvBufUsed -= n
	return opens(ep, memory)
}

// noteReceived is told that data came at the time, up to RCV.NXT: receiver.updateRTT.
func (c *connection) noteReceived(at tcpip.MonotonicTime) {
	p, r := &c.endpoint.RcvAutoParams, c.receive.state
	if p.RTTMeasureTime != (tcpip.MonotonicTime{}) {
		if r.RcvNxt.LessThan(p.RTTMeasureSeqNumber) {
			return
		}
		if took := sinceStart(at) - sinceStart(p.RTTMeasureTime); p.RTT == 0 || took < p.RTT {
			p.RTT = took
		}
	}
	p.RTTMeasureTime = at
	p.RTTMeasureSeqNumber = r.RcvNxt.Add((*announced)(unsafe.Add(c.receive.rcv, announcedField.Offset)).rcvWnd)
}

// noteRTT takes a sample of the round-trip time: sender.updateRTO, where that expects one sample in a round trip (RFC 7323
// appendix G), with whole numbers.
func (c *connection) noteRTT(took time.Duration) {
	snd, s := c.send, (*tcp.TCPRTTState)(unsafe.Add(c.snd, rttField.Offset+rttStateField.Offset))
	if took < 0 || !s.SRTTInited || !c.endpoint.SendTSOk || snd.Outstanding < 1 || snd.Outstanding > 2 {
		updateRTO(c.snd, took)
		return
	}
	limits := (*limitsOfRTO)(unsafe.Add(c.snd, minRTOField.Offset))
	s.RTTVar = (3*s.RTTVar + (s.SRTT - took).Abs()) / 4
	s.SRTT = max((7*s.SRTT+took)/8, tcp.MinSRTT)
	snd.RTO = min(max(s.SRTT+4*s.RTTVar, limits.minRTO), limits.maxRTO)
	snd.RTTState = *s
}

var (
	announcedField = fieldOf(receiverField.Type.Elem(), "rcvWnd", reflect.TypeFor[seqnum.Size]().Kind())
	_              = inRow(receiverField.Type.Elem(), reflect.TypeFor[announced]())
	minRTOField    = fieldOf(senderField.Type.Elem(), "minRTO", reflect.Int64)
	_              = inRow(senderField.Type.Elem(), reflect.TypeFor[limitsOfRTO]())
)

// inRow panics unless theirs has the fields of ours in a row, laid out as in ours.
func inRow(theirs, ours reflect.Type) bool {
	first := fieldOf(theirs, ours.Field(0).Name, ours.Field(0).Type.Kind())
	for i := range ours.NumField() {
		f := fieldOf(theirs, ours.Field(i).Name, ours.Field(i).Type.Kind())
		if f.Offset-first.Offset != ours.Field(i).Offset {
			panic("netstack's " + theirs.String() + " has other fields than expected: unlocked_unsafe.go has to follow")
		}
	}
	return true
}
