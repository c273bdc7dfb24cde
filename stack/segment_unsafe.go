package stack

import (
	"fmt"
	"reflect"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// What the short way of established connections (established.go) needs of netstack
// beyond its public API: three structures and some functions. A test names the version
// that the functions were read in.

// netSegment is laid out as tcp.segment; see there for what the fields mean.
//
//nolint:unused // of some fields only the place matters
type netSegment struct {
	segmentEntry   [2]unsafe.Pointer // next, previous
	segmentRefs    int64
	ep             *tcp.Endpoint
	qFlags         uint8
	id             netstack.TransportEndpointID
	pkt            *netstack.PacketBuffer
	sequenceNumber seqnum.Value
	ackNumber      seqnum.Value
	flags          header.TCPFlags
	window         seqnum.Size
	csum           uint16
	csumValid      bool
	parsedOptions  header.TCPOptions
	options        []byte
	hasNewSACKInfo bool
	rcvdTime       tcpip.MonotonicTime
	xmitTime       tcpip.MonotonicTime
	xmitCount      uint32
	acked          bool
	dataMemSize    int
	lost           bool
}

// receiveQueue is tcp.recvQ.
const receiveQueue = 1 << 1

// newNetSegment is a segment from netstack's pool, with one reference.
//
//go:linkname newNetSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newSegment
func newNetSegment() *netSegment

// decRef gives a reference up.
//
//go:linkname decRef gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segment).DecRef
func decRef(s *netSegment)

// handleSegment processes s for ep, whose lock is held.
//
//go:linkname handleSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).handleSegmentLocked
func handleSegment(ep *tcp.Endpoint, s *netSegment) (bool, tcpip.Error)

// sendACK sends an ACK at once, for an endpoint whose lock is held.
//
//go:linkname sendACK gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).sendAck
func sendACK(snd unsafe.Pointer)

// pushBack adds s to a list of what is not acknowledged.
//
//go:linkname pushBack gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*protectedWriteList).PushBack
func pushBack(list unsafe.Pointer, s *netSegment)

// splitSegment leaves size bytes in g, and puts the rest behind it in the list.
//
//go:linkname splitSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).splitSeg
func splitSegment(snd unsafe.Pointer, g *netSegment, size int)

// maybeSend sends at most limit bytes of g, and none from end on.
//
//go:linkname maybeSend gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).maybeSendSegment
func maybeSend(snd unsafe.Pointer, g *netSegment, limit int, end seqnum.Value) bool

// getSendParams is what the next segment acknowledges, and the window it announces, scaled.
//
//go:linkname getSendParams gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*receiver).getSendParams
func getSendParams(rcv unsafe.Pointer) (seqnum.Value, seqnum.Size)

// sendData sends what the windows permit, for an endpoint whose lock is held and to whose list next was added last.
//
//go:linkname sendData gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).sendData
func sendData(ep *tcp.Endpoint, next *netSegment)

// afterSending sets the timers of a sender.
//
//go:linkname afterSending gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).postXmit
func afterSending(snd unsafe.Pointer, dataSent, shouldScheduleProbe bool)

// updateRTO takes a sample of the round-trip time.
//
//go:linkname updateRTO gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).updateRTO
func updateRTO(snd unsafe.Pointer, rtt time.Duration)

// removeFrom takes s off a list of what is not acknowledged.
//
//go:linkname removeFrom gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*protectedWriteList).Remove
func removeFrom(list unsafe.Pointer, s *netSegment)

// newIncomingSegment makes a segment of a packet, with one reference and a clone of the packet.
//
//go:linkname newIncomingSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newIncomingSegment
func newIncomingSegment(id netstack.TransportEndpointID, clock tcpip.Clock, p *netstack.PacketBuffer) (*netSegment, error)

// enqueueSegment queues s for ep, with a reference of its own; false: the queue is full, and s was counted.
//
//go:linkname enqueueSegment gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).enqueueSegment
func enqueueSegment(ep *tcp.Endpoint, s *netSegment) bool

// segmentQueueEmpty reports whether no segment is queued.
//
//go:linkname segmentQueueEmpty gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*segmentQueue).empty
func segmentQueueEmpty(queue unsafe.Pointer) bool

// The four that process what is queued for an endpoint, by its state. They do nothing when it is locked, or in another
// state by then.
//
//go:linkname handleListen gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleListen
func handleListen(ep *tcp.Endpoint)

//go:linkname handleConnecting gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleConnecting
func handleConnecting(ep *tcp.Endpoint)

//go:linkname handleConnected gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleConnected
func handleConnected(ep *tcp.Endpoint)

//go:linkname handleTimeWait gvisor.dev/gvisor/pkg/tcpip/transport/tcp.handleTimeWait
func handleTimeWait(ep *tcp.Endpoint)

// endTimeWait is what the timer of TIME_WAIT does: the end of an endpoint in that state, and of no other.
//
//go:linkname endTimeWait gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).timeWaitTimerExpired
func endTimeWait(ep *tcp.Endpoint)

// endConnection is the end of an endpoint whose lock is held, but for the notification.
//
//go:linkname endConnection gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).transitionToStateCloseLocked
func endConnection(ep *tcp.Endpoint)

// setState sets the state of an endpoint whose lock is held, and counts it.
//
//go:linkname setState gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).setEndpointState
func setState(ep *tcp.Endpoint, state tcp.EndpointState)

// noteDirectionClosed notes that a direction of ep is closed.
//
//go:linkname noteDirectionClosed gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).updateConnDirectionState
func noteDirectionClosed(ep *tcp.Endpoint, direction uint32)

// sendingClosed is tcp.connDirectionStateSndClosed.
const sendingClosed = 2

// notifyProcessor has netstack's goroutine process what is queued for ep.
//
//go:linkname notifyProcessor gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).notifyProcessor
func notifyProcessor(ep *tcp.Endpoint)

// receiver is the receiving side of an endpoint, tcp.receiver, under its lock.
type receiver struct {
	rcv     unsafe.Pointer // tcp.receiver
	state   *tcp.TCPReceiverState
	pending *[]unsafe.Pointer // segments that came out of order
}

// connection is what an endpoint with a sender and a receiver has of both.
type connection struct {
	endpoint *tcp.Endpoint
	snd      unsafe.Pointer // tcp.sender
	send     *tcp.TCPSenderState
	receive  receiver
}

// connectionOf looks into ep, whose lock is held; ok is false when there is no connection.
func connectionOf(ep *tcp.Endpoint) (c connection, ok bool) {
	snd := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), senderField.Offset))
	rcv := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), receiverField.Offset))
	if snd == nil || rcv == nil {
		return c, false
	}
	return connection{
		endpoint: ep,
		snd:      snd,
		send:     (*tcp.TCPSenderState)(unsafe.Add(snd, stateField.Offset)),
		receive: receiver{
			rcv:     rcv,
			state:   (*tcp.TCPReceiverState)(unsafe.Add(rcv, receiverStateField.Offset)),
			pending: (*[]unsafe.Pointer)(unsafe.Add(rcv, pendingSegmentsField.Offset)),
		},
	}, true
}

// sendBuffer is the state of the send buffer.
func (c *connection) sendBuffer() *tcp.TCPSndBufState {
	return (*tcp.TCPSndBufState)(unsafe.Add(unsafe.Pointer(c.endpoint), sendQueueField.Offset+sendBufferField.Offset))
}

// closeSending does to ep what its shutdown does, for a FIN that has been sent.
func (c *connection) closeSending() {
	*(*tcpip.ShutdownFlags)(unsafe.Add(unsafe.Pointer(c.endpoint), shutdownField.Offset)) |= tcpip.ShutdownWrite
	*(*bool)(unsafe.Add(c.snd, finSentField.Offset)) = true
	c.sendBuffer().SndClosed, c.send.Closed = true, true
	noteDirectionClosed(c.endpoint, sendingClosed)
	setState(c.endpoint, tcp.StateFinWait1)
}

// nothingWaits reports whether all that was written has been sent.
func (c *connection) nothingWaits() bool {
	return *(*unsafe.Pointer)(unsafe.Add(c.snd, writeNextField.Offset)) == nil
}

// calm reports whether nothing was lost or reordered of late.
func (c *connection) calm() bool { return c.congestion() == tcpip.Open }

func (c *connection) congestion() tcpip.CongestionControlState {
	return *(*tcpip.CongestionControlState)(unsafe.Add(c.snd, congestionField.Offset))
}

// keepOpen is tcp_try_keep_open of the kernel: there is no recovery, at most what one may follow from.
func (c *connection) keepOpen() {
	state := tcpip.Open
	if *c.internals().sacked > 0 {
		state = tcpip.Disorder
	}
	*(*tcpip.CongestionControlState)(unsafe.Add(c.snd, congestionField.Offset)) = state
}

// firstSegment is the first of what is not acknowledged, nil when there is nothing.
func (c *connection) firstSegment() *netSegment {
	return c.unacknowledged().head
}

// next is the segment behind s in a list, nil at its end.
func (s *netSegment) next() *netSegment {
	return *(**netSegment)(unsafe.Add(unsafe.Pointer(s), entryField.Offset+nextField.Offset))
}

// pushUnacknowledged adds s to what was written and is not acknowledged.
func (c *connection) pushUnacknowledged(s *netSegment) {
	pushBack(unsafe.Add(c.snd, writeListField.Offset), s)
}

func (c *connection) removeUnacknowledged(s *netSegment) {
	removeFrom(unsafe.Add(c.snd, writeListField.Offset), s)
}

// segmentList is tcp.segmentList.
type segmentList struct{ head, tail *netSegment }

// pushBack adds s, which is in no list.
func (l *segmentList) pushBack(s *netSegment) {
	s.segmentEntry = [2]unsafe.Pointer{nil, unsafe.Pointer(l.tail)}
	if l.tail == nil {
		l.head = s
	} else {
		l.tail.segmentEntry[0] = unsafe.Pointer(s)
	}
	l.tail = s
}

// unacknowledged is the list of what was sent and is to be.
func (c *connection) unacknowledged() *segmentList {
	return (*segmentList)(unsafe.Add(c.snd, writeListField.Offset+listField.Offset))
}

// internals are what advance, armAfterSending and noteArrival need of an endpoint besides.
type internals struct {
	sacked            *seqnum.Size // bytes that were acknowledged selectively
	zeroWindowProbing *bool
	probeOut          *bool // a tail loss probe is not acknowledged
	rack              *tcp.TCPRACKState
	minRTT            *time.Duration
	rtt               *tcp.TCPRTTState
	resend, probe     *senderTimer
	writeNext         **netSegment
	firstResent       *tcpip.MonotonicTime
	lastACK           *tcpip.MonotonicTime
	sack              *tcp.SACKInfo // what is sent in SACK options
}

func (c *connection) internals() internals {
	ep, snd, rack := unsafe.Pointer(c.endpoint), c.snd, unsafe.Add(c.snd, rackField.Offset)
	return internals{
		sacked:            (*seqnum.Size)(unsafe.Add(*(*unsafe.Pointer)(unsafe.Add(ep, scoreboardField.Offset)), sackedField.Offset)),
		zeroWindowProbing: (*bool)(unsafe.Add(snd, zeroWindowProbingField.Offset)),
		probeOut:          (*bool)(unsafe.Add(rack, probeOutField.Offset)),
		rack:              (*tcp.TCPRACKState)(unsafe.Add(rack, rackStateField.Offset)),
		minRTT:            (*time.Duration)(unsafe.Add(rack, minRTTField.Offset)),
		rtt:               (*tcp.TCPRTTState)(unsafe.Add(snd, rttField.Offset+rttStateField.Offset)),
		resend:            (*senderTimer)(unsafe.Add(snd, resendField.Offset)),
		probe:             (*senderTimer)(unsafe.Add(snd, probeField.Offset)),
		writeNext:         (**netSegment)(unsafe.Add(snd, writeNextField.Offset)),
		firstResent:       (*tcpip.MonotonicTime)(unsafe.Add(snd, firstResentField.Offset)),
		lastACK:           (*tcpip.MonotonicTime)(unsafe.Add(c.receive.rcv, lastACKField.Offset)),
		sack:              sackOf(c.endpoint),
	}
}

// sackOf is what came out of order for ep, whose lock is held.
func sackOf(ep *tcp.Endpoint) *tcp.SACKInfo {
	return (*tcp.SACKInfo)(unsafe.Add(unsafe.Pointer(ep), sackField.Offset))
}

// gsoOf is how the segments of ep are split, whose lock is held.
func gsoOf(ep *tcp.Endpoint) *netstack.GSO {
	return (*netstack.GSO)(unsafe.Add(unsafe.Pointer(ep), gsoField.Offset))
}

// scoreboardOf is what was selectively acknowledged of what ep sent.
func scoreboardOf(ep *tcp.Endpoint) *tcp.SACKScoreboard {
	return *(**tcp.SACKScoreboard)(unsafe.Add(unsafe.Pointer(ep), scoreboardField.Offset))
}

// lossDetectionOf is whether ep has RACK find what is lost.
func lossDetectionOf(ep *tcp.Endpoint) *tcpip.TCPRecovery {
	return (*tcpip.TCPRecovery)(unsafe.Add(unsafe.Pointer(ep), lossDetectionField.Offset))
}

// scoreboardSMSS is the size of full segments by which the scoreboard of ep judges what is lost.
func scoreboardSMSS(ep *tcp.Endpoint) *uint16 {
	return (*uint16)(unsafe.Add(*(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), scoreboardField.Offset)), smssField.Offset))
}

// routeOf is the route of ep, nil before it has one.
func routeOf(ep *tcp.Endpoint) *netstack.Route {
	return *(**netstack.Route)(unsafe.Add(unsafe.Pointer(ep), routeField.Offset))
}

// waiterQueueOf is who is told of what happens to ep.
func waiterQueueOf(ep *tcp.Endpoint) *waiter.Queue {
	return *(**waiter.Queue)(unsafe.Add(unsafe.Pointer(ep), waiterQueueField.Offset))
}

// queued reports whether segments wait for netstack's processor. The lock of ep is held,
// and the caller is the one who queues them.
func queued(ep *tcp.Endpoint) bool {
	head := (*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), segmentQueueField.Offset+queueListField.Offset))
	return *head != nil
}

// receiveQueueOf is what ep, whose lock is held, has received and was not read.
func receiveQueueOf(ep *tcp.Endpoint) *segmentList {
	return (*segmentList)(unsafe.Add(unsafe.Pointer(ep), receiveQueueField.Offset))
}

// onlySegment is the segment in the receive queue of ep, whose lock is held; nil if there
// is none, or more than one.
func onlySegment(ep *tcp.Endpoint) *netSegment {
	list := receiveQueueOf(ep)
	if list.head != list.tail {
		return nil
	}
	return list.head
}

// segmentQueueOf is the queue of segments of ep.
func segmentQueueOf(ep *tcp.Endpoint) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(ep), segmentQueueField.Offset)
}

// hashOf is the transmit hash of ep, which never changes.
func hashOf(ep *tcp.Endpoint) uint32 {
	return *(*uint32)(unsafe.Add(unsafe.Pointer(ep), hashField.Offset))
}

// Where the fields are. A netstack that has others makes the program panic at once.
var (
	receiverField          = fieldOf(reflect.TypeFor[tcp.Endpoint](), "rcv", reflect.Pointer)
	receiverStateField     = fieldOf(receiverField.Type.Elem(), "TCPReceiverState", reflect.Struct)
	pendingSegmentsField   = fieldOf(receiverField.Type.Elem(), "pendingRcvdSegments", reflect.Slice)
	segmentQueueField      = fieldOf(reflect.TypeFor[tcp.Endpoint](), "segmentQueue", reflect.Struct)
	queueListField         = fieldOf(segmentQueueField.Type, "list", reflect.Struct)
	_                      = fieldOf(queueListField.Type, "head", reflect.Pointer)
	receiveQueueField      = fieldOf(reflect.TypeFor[tcp.Endpoint](), "rcvQueue", reflect.Struct)
	receiveMemoryField     = fieldOf(reflect.TypeFor[tcp.Endpoint](), "rcvMemUsed", reflect.Struct)
	sendQueueField         = fieldOf(reflect.TypeFor[tcp.Endpoint](), "sndQueueInfo", reflect.Struct)
	sendBufferField        = fieldOf(sendQueueField.Type, "TCPSndBufState", reflect.Struct)
	congestionField        = fieldOf(senderField.Type.Elem(), "state", reflect.TypeFor[tcpip.CongestionControlState]().Kind())
	writeListField         = fieldOf(senderField.Type.Elem(), "writeList", reflect.Struct)
	listField              = fieldOf(writeListField.Type, "writeList", reflect.Struct)
	headField              = fieldOf(listField.Type, "head", reflect.Pointer)
	entryField             = fieldOf(headField.Type.Elem(), "segmentEntry", reflect.Struct)
	nextField              = fieldOf(entryField.Type, "next", reflect.Pointer)
	minRTTField            = fieldOf(rackField.Type, "minRTT", reflect.Int64)
	routeField             = fieldOf(reflect.TypeFor[tcp.Endpoint](), "route", reflect.Pointer)
	hashField              = fieldOf(reflect.TypeFor[tcp.Endpoint](), "txHash", reflect.Uint32)
	scoreboardField        = fieldOf(reflect.TypeFor[tcp.Endpoint](), "scoreboard", reflect.Pointer)
	sackedField            = fieldOf(scoreboardField.Type.Elem(), "sacked", reflect.TypeFor[seqnum.Size]().Kind())
	smssField              = fieldOf(scoreboardField.Type.Elem(), "smss", reflect.Uint16)
	gsoField               = typedField[netstack.GSO](reflect.TypeFor[tcp.Endpoint](), "gso")
	sackField              = typedField[tcp.SACKInfo](reflect.TypeFor[tcp.Endpoint](), "sack")
	zeroWindowProbingField = fieldOf(senderField.Type.Elem(), "zeroWindowProbing", reflect.Bool)
	lossDetectionField     = typedField[tcpip.TCPRecovery](reflect.TypeFor[tcp.Endpoint](), "tcpRecovery")
	firstResentField       = fieldOf(senderField.Type.Elem(), "firstRetransmittedSegXmitTime", reflect.Struct)
	probeOutField          = fieldOf(rackField.Type, "tlpRxtOut", reflect.Bool)
	lastACKField           = fieldOf(receiverField.Type.Elem(), "lastRcvdAckTime", reflect.Struct)
	waiterQueueField       = typedField[*waiter.Queue](reflect.TypeFor[tcp.Endpoint](), "waiterQueue")
	finSentField           = fieldOf(senderField.Type.Elem(), "finSent", reflect.Bool)
	shutdownField          = typedField[tcpip.ShutdownFlags](reflect.TypeFor[tcp.Endpoint](), "shutdownFlags")

	_ = sameLayout(reflect.TypeFor[segmentList](), receiveQueueField.Type)
	_ = sameLayout(reflect.TypeFor[segmentList](), listField.Type)
	_ = sameLayout(reflect.TypeFor[netSegment](), writeNextField.Type.Elem())
)

// sameLayout panics unless ours has the fields of theirs where they are. The
// structures that segments embed only have to be of the same size.
func sameLayout(ours, theirs reflect.Type) bool {
	same := ours.NumField() == theirs.NumField() && ours.Size() == theirs.Size()
	for i := 0; same && i < ours.NumField(); i++ {
		a, b := ours.Field(i), theirs.Field(i)
		same = a.Name == b.Name && a.Offset == b.Offset && a.Type.Size() == b.Type.Size() &&
			(a.Type == b.Type || b.Anonymous || a.Type.Kind() == b.Type.Kind() && (a.Type.Kind() == reflect.Uint8 || a.Type.Kind() == reflect.Int || a.Type.Kind() == reflect.Pointer))
	}
	if !same {
		panic(fmt.Sprintf("netstack's %v has other fields than expected: segment_unsafe.go has to follow", theirs))
	}
	return true
}
