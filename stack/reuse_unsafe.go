package stack

import (
	"math/rand/v2"
	"reflect"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/sync"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// The endpoint of a connection is 4.7 KB in 43 pieces, which netstack makes for each: more than a quarter of what a
// connection for one request costs is making and collecting them (BenchmarkConnection). One that ended as it should, by the
// short way (ending.go), is kept for the next connection: nothing waits in it then, no timer runs, and when its Conn is
// closed, too, nobody refers to it. What netstack wrote into it is set back to what a new one has.

// maxReusable is how many endpoints are kept: what ends in a turn or two.
const maxReusable = 64

// reusable is an endpoint that can be used again. It is the owner of the endpoint's packets, which is how it is found.
type reusable struct {
	endpoint *tcp.Endpoint
	queue    waiter.Queue
	conn     *Conn // that has the endpoint; nil: not accepted yet
	ended    bool  // by finish

	// Of its last connection; nil: it had none.
	sender, receiver, scoreboard unsafe.Pointer

	handshake *netHandshake               // of an earlier connection that we began; nil: it began none
	place     unsafe.Pointer              // in the table of netstack's endpoints, out of it; nil: it has none
	number    tcpip.NetworkProtocolNumber // of place

	probes *senderTimer // of the sender that probes by packets; nil: none
}

var _ tcpip.PacketOwner = (*reusable)(nil)

// KUID implements tcpip.PacketOwner.
func (*reusable) KUID() uint32 { return 0 }

// KGID implements tcpip.PacketOwner.
func (*reusable) KGID() uint32 { return 0 }

// reusableOf is what ep is part of; nil: netstack made it alone.
func reusableOf(ep *tcp.Endpoint) *reusable {
	r, _ := (*(*tcpip.PacketOwner)(unsafe.Add(unsafe.Pointer(ep), ownerField.Offset))).(*reusable)
	return r
}

// endpoint is a new endpoint of the network protocol.
func (o *opening) endpoint(s *Stack, number tcpip.NetworkProtocolNumber) *reusable {
	if last := len(o.reusable) - 1; last >= 0 {
		r := o.reusable[last]
		o.reusable[last] = nil
		o.reusable = o.reusable[:last]
		r.renew(s, number)
		return r
	}
	r := new(reusable)
	r.endpoint = newEndpoint(s.net, o.protocol, number, &r.queue)
	r.endpoint.SetOwner(r)
	return r
}

// release is told that the connection of r ended by finish and that its Conn is closed.
func (s *Stack) release(r *reusable) {
	c := r.conn
	if c.watched {
		c.watched = false
		s.watched.forget(c.spot)
	}
	c.endpoint, r.conn = s.opening.dead, nil
	if len(s.opening.reusable) < maxReusable && r.free() {
		s.opening.reusable = append(s.opening.reusable, r)
	}
}

// free reports whether nothing refers to the endpoint, or is left in it.
func (r *reusable) free() bool {
	at := unsafe.Pointer(r.endpoint)
	mu := (*sync.Mutex)(unsafe.Add(at, pendingLockField.Offset))
	mu.Lock()
	pending := *(*bool)(unsafe.Add(at, pendingField.Offset)) // for netstack's processor
	mu.Unlock()
	if pending || !r.queue.IsEmpty() || !segmentQueueEmpty(segmentQueueOf(r.endpoint)) || receiveMemory(r.endpoint) != 0 || !r.endpoint.TryLock() {
		return false
	}
	r.endpoint.ResumeWork()
	return true
}

// renew makes the endpoint what newEndpoint makes. Only the functions of its timers, which are called with it, stay.
func (r *reusable) renew(s *Stack, number tcpip.NetworkProtocolNumber) {
	ep, at := r.endpoint, unsafe.Pointer(r.endpoint)
	r.ended = false
	r.sender = *(*unsafe.Pointer)(unsafe.Add(at, senderField.Offset))
	r.receiver = *(*unsafe.Pointer)(unsafe.Add(at, receiverField.Offset))
	r.scoreboard = *(*unsafe.Pointer)(unsafe.Add(at, scoreboardField.Offset))
	if h := *(**netHandshake)(unsafe.Add(at, handshakeField.Offset)); h != nil {
		r.handshake = h
	}
	limited := (*unsafe.Pointer)(unsafe.Add(at, limitedField.Offset))
	alive := &(*senderTimer)(unsafe.Add(at, keepaliveField.Offset+keepaliveTimerField.Offset)).callback
	reader, callback := *limited, *alive
	reflect.NewAt(reflect.TypeFor[tcp.Endpoint](), at).Elem().Set(s.opening.pristine)
	*limited, *alive = reader, callback
	ep.NetProto = number
	ep.SocketOptions().InitHandler(ep, s.net, tcp.GetTCPSendBufferLimits, tcp.GetTCPReceiveBufferLimits)
	*(**waiter.Queue)(unsafe.Add(at, waiterQueueField.Offset)) = &r.queue
	*(**tcp.Endpoint)(unsafe.Add(at, segmentQueueField.Offset+queueEndpointField.Offset)) = ep
	*(*uint32)(unsafe.Add(at, hashField.Offset)) = rand.Uint32()
	ep.SetOwner(r)
}

// stopTimers stops the timers of a sender, whose functions netstack would forget in doing so.
func (c *connection) stopTimers() {
	for _, field := range senderTimers {
		t := (*senderTimer)(unsafe.Add(c.snd, field.Offset))
		if t.timer != nil {
			t.timer.Stop()
			t.timer = nil
		}
	}
}

// establish makes the endpoint of the handshake a connection, as becomeEstablished, with what its last one had.
func (o *opening) establish(s *Stack, r *reusable, h *netHandshake) {
	ep, at := r.endpoint, unsafe.Pointer(r.endpoint)
	if r.sender == nil || r.receiver == nil || r.scoreboard == nil {
		becomeEstablished(h, &o.last)
		return
	}

	// initSender.
	snd, now := r.sender, s.clock.NowMonotonic()
	var functions [len(senderTimers)]func()
	for i, field := range senderTimers {
		functions[i] = (*senderTimer)(unsafe.Add(snd, field.Offset)).callback
	}
	set := (*map[*netSegment]struct{})(unsafe.Add(snd, writeListField.Offset+setField.Offset))
	clear(*set) // of the last connection's lasting segment
	limits := (*retransmissionLimits)(unsafe.Add(snd, limitsField.Offset))
	written, kept := *set, *limits
	reflect.NewAt(senderField.Type.Elem(), snd).Elem().SetZero()
	*set, *limits = written, kept
	state := (*tcp.TCPSenderState)(unsafe.Add(snd, stateField.Offset))
	*state = tcp.TCPSenderState{
		SndWnd: h.sndWnd, SndUna: h.iss + 1, SndNxt: h.iss + 1, RTTMeasureSeqNum: h.iss + 1, LastSendTime: now,
		MaxPayloadSize: int(h.mss) - maxOptionSize(ep), MaxSentAck: h.ackNum,
		FastRecovery: tcp.TCPFastRecoveryState{Last: h.iss, HighRxt: h.iss, RescueRxt: h.iss}, RTO: time.Second,
		SndWndScale: uint8(max(h.sndWndScale, 0)),
	}
	*(**tcp.Endpoint)(unsafe.Add(snd, senderEndpointField.Offset)) = ep
	*(*unsafe.Pointer)(unsafe.Add(at, senderField.Offset)) = snd
	if gso := gsoOf(ep); gso.Type != netstack.GSONone {
		*(*bool)(unsafe.Add(snd, senderGSOField.Offset)) = true
		gso.MSS = uint16(state.MaxPayloadSize)
	}
	*(*congestionControl)(unsafe.Add(snd, ccField.Offset)) = initCongestionControl(snd, *(*tcpip.CongestionControlOption)(unsafe.Add(at, ccNameField.Offset)))
	*(*lossRecovery)(unsafe.Add(snd, recoveryField.Offset)) = initLossRecovery(snd)
	initRACK(unsafe.Add(snd, rackField.Offset), snd, h.iss)
	for i, field := range senderTimers {
		*(*senderTimer)(unsafe.Add(snd, field.Offset)) = senderTimer{state: senderTimerDisabled, clock: s.clock, callback: functions[i]}
	}
	updateMaxPayloadSize(snd, int(routeOf(ep).MTU()), 0)
	board := (*tcp.SACKScoreboard)(r.scoreboard)
	if *(*seqnum.Size)(unsafe.Add(r.scoreboard, sackedField.Offset)) != 0 {
		board.Reset()
	}
	*(*seqnum.Value)(unsafe.Add(r.scoreboard, maxSackedField.Offset)) = h.iss
	*(**tcp.SACKScoreboard)(unsafe.Add(at, scoreboardField.Offset)) = board
	*scoreboardSMSS(ep) = uint16(state.MaxPayloadSize)

	// transitionToStateEstablishedLocked.
	if h.retransmitTimer != nil {
		h.retransmitTimer.t.Stop()
	}
	var rtt time.Duration
	if ep.SendTSOk && o.last.parsedOptions.TSEcr != 0 {
		rtt = ep.TSOffset.Elapsed(o.last.rcvdTime, o.last.parsedOptions.TSEcr)
	}
	if !h.sampleRTTWithTSOnly && rtt == 0 {
		rtt = sinceStart(o.last.rcvdTime) - sinceStart(h.startTime)
	}
	if rtt > 0 {
		updateRTO(snd, rtt)
	}
	scale := uint8(0)
	if h.sndWndScale >= 0 {
		scale = uint8(h.rcvWndScale)
	}
	initReceiver(r.receiver, ep, h, scale, now)
	*(*unsafe.Pointer)(unsafe.Add(at, receiverField.Offset)) = r.receiver
	ep.RcvAutoParams.PrevCopiedBytes = int(h.rcvWnd)
	r.sender, r.receiver, r.scoreboard = nil, nil, nil
	setState(ep, tcp.StateEstablished)
	routeOf(ep).ConfirmReachable()
	r.queue.Notify(waiter.WritableEvents)
}

// initReceiver is newReceiver, in the memory of another one.
func initReceiver(rcv unsafe.Pointer, ep *tcp.Endpoint, h *netHandshake, scale uint8, now tcpip.MonotonicTime) {
	reflect.NewAt(receiverField.Type.Elem(), rcv).Elem().SetZero()
	*(*tcp.TCPReceiverState)(unsafe.Add(rcv, receiverStateField.Offset)) = tcp.TCPReceiverState{RcvNxt: h.ackNum, RcvAcc: h.ackNum.Add(h.rcvWnd), RcvWndScale: scale}
	*(**tcp.Endpoint)(unsafe.Add(rcv, receiverEndpointField.Offset)) = ep
	*(*seqnum.Size)(unsafe.Add(rcv, receiverWindowField.Offset)) = h.rcvWnd
	*(*seqnum.Value)(unsafe.Add(rcv, windowUpdateField.Offset)) = h.ackNum
	*(*tcpip.MonotonicTime)(unsafe.Add(rcv, lastACKField.Offset)) = now
}

// lossRecovery is netstack's interface of that name.
type lossRecovery interface {
	DoRecovery(s *netSegment, fastRetransmit bool)
}

// maxOptionSize is the most that the options of a segment of ep take.
//
//go:linkname maxOptionSize gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).maxOptionSize
func maxOptionSize(ep *tcp.Endpoint) int

//go:linkname initCongestionControl gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).initCongestionControl
func initCongestionControl(snd unsafe.Pointer, name tcpip.CongestionControlOption) congestionControl

//go:linkname initLossRecovery gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).initLossRecovery
func initLossRecovery(snd unsafe.Pointer) lossRecovery

//go:linkname initRACK gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*rackControl).init
func initRACK(rack, snd unsafe.Pointer, iss seqnum.Value)

// updateMaxPayloadSize is told of the MTU of a route.
//
//go:linkname updateMaxPayloadSize gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).updateMaxPayloadSize
func updateMaxPayloadSize(snd unsafe.Pointer, mtu, count int)

// retransmissionLimits are three fields of a sender, the same for all of a stack.
//
//nolint:unused // they are copied together
type retransmissionLimits struct {
	minRTO, maxRTO time.Duration
	maxRetries     uint32
}

// Where the fields are. A netstack that has others makes the program panic at once.
var (
	ownerField            = typedField[tcpip.PacketOwner](reflect.TypeFor[tcp.Endpoint](), "owner")
	ccNameField           = typedField[tcpip.CongestionControlOption](reflect.TypeFor[tcp.Endpoint](), "cc")
	limitedField          = fieldOf(reflect.TypeFor[tcp.Endpoint](), "limRdr", reflect.Pointer)
	pendingField          = fieldOf(reflect.TypeFor[tcp.Endpoint](), "pendingProcessing", reflect.Bool)
	pendingLockField      = lockField[sync.Mutex](reflect.TypeFor[tcp.Endpoint](), "pendingProcessingMu")
	keepaliveField        = fieldOf(reflect.TypeFor[tcp.Endpoint](), "keepalive", reflect.Struct)
	keepaliveTimerField   = fieldOf(keepaliveField.Type, "timer", reflect.Struct)
	queueEndpointField    = typedField[*tcp.Endpoint](segmentQueueField.Type, "ep")
	senderEndpointField   = typedField[*tcp.Endpoint](senderField.Type.Elem(), "ep")
	senderGSOField        = fieldOf(senderField.Type.Elem(), "gso", reflect.Bool)
	recoveryField         = fieldOf(senderField.Type.Elem(), "lr", reflect.Interface)
	setField              = fieldOf(writeListField.Type, "set", reflect.Map) // of *segment to nothing
	limitsField           = typedField[time.Duration](senderField.Type.Elem(), "minRTO")
	maxSackedField        = typedField[seqnum.Value](scoreboardField.Type.Elem(), "maxSACKED")
	receiverEndpointField = typedField[*tcp.Endpoint](receiverField.Type.Elem(), "ep")
	receiverWindowField   = typedField[seqnum.Size](receiverField.Type.Elem(), "rcvWnd")
	windowUpdateField     = typedField[seqnum.Value](receiverField.Type.Elem(), "rcvWUP")
	senderTimers          = [...]reflect.StructField{resendField, timerField("reorderTimer"), probeField, timerField("corkTimer")}
)

// newPristine is an endpoint to copy, and one that has ended.
func newPristine(s *netstack.Stack, protocol unsafe.Pointer) (pristine reflect.Value, dead *tcp.Endpoint) {
	pristine = reflect.ValueOf(newEndpoint(s, protocol, header.IPv4ProtocolNumber, nil)).Elem()
	dead = newEndpoint(s, protocol, header.IPv4ProtocolNumber, new(waiter.Queue))
	dead.Close()
	return pristine, dead
}
