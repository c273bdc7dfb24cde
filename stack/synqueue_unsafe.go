package stack

import (
	"container/list"
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

// What makes an endpoint of a handshake in the SYN queue: what netstack's listener does for a SYN cookie that came back
// (createConnectingEndpoint and handleListenSegment in accept.go), with all that a cookie does not remember.

// netHandshake is laid out as tcp.handshake; see there for what the fields mean.
//
//nolint:unused // of some fields only the place matters
type netHandshake struct {
	ep, listenEP        *tcp.Endpoint
	state               int
	active              bool
	flags               header.TCPFlags
	ackNum              seqnum.Value
	iss                 seqnum.Value
	rcvWnd              seqnum.Size
	sndWnd              seqnum.Size
	mss                 uint16
	sndWndScale         int
	rcvWndScale         int
	startTime           tcpip.MonotonicTime
	deferAccept         time.Duration
	acked               bool
	sendSYNOpts         header.TCPSynOptions
	sampleRTTWithTSOnly bool
	retransmitTimer     *backoffTimer
}

// backoffTimer is laid out as tcp.backoffTimer.
//
//nolint:unused // of some fields only the place matters
type backoffTimer struct {
	timeout    time.Duration
	maxTimeout time.Duration
	t          tcpip.Timer
}

// handshakeSynSent and handshakeCompleted are tcp's states of a handshake of those names.
const (
	handshakeSynSent   = 0
	handshakeCompleted = 2
)

// newEndpoint makes an endpoint of a stack and its TCP.
//
//go:linkname newEndpoint gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newEndpoint
func newEndpoint(s *netstack.Stack, protocol unsafe.Pointer, number tcpip.NetworkProtocolNumber, queue *waiter.Queue) *tcp.Endpoint

// The three that give ep what the options of a SYN ask for, and what its route can.
//
//go:linkname enableTimestamps gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).maybeEnableTimestamp
func enableTimestamps(ep *tcp.Endpoint, options header.TCPSynOptions)

//go:linkname enableSACK gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).maybeEnableSACKPermitted
func enableSACK(ep *tcp.Endpoint, options header.TCPSynOptions)

//go:linkname enableGSO gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).initGSO
func enableGSO(ep *tcp.Endpoint)

// inheritOptions gives ep what is inherited from its listener, both locked.
//
//go:linkname inheritOptions gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).propagateInheritableOptionsLocked
func inheritOptions(listener, ep *tcp.Endpoint)

// sendEmptyRaw sends a segment without data, for an endpoint whose lock is held.
//
//go:linkname sendEmptyRaw gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).sendEmptyRaw
func sendEmptyRaw(ep *tcp.Endpoint, flags header.TCPFlags, number, ackNumber seqnum.Value, window seqnum.Size) tcpip.Error

// becomeEstablished makes the endpoint of h, which is locked, a connection: s ends the handshake.
//
//go:linkname becomeEstablished gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*handshake).transitionToStateEstablishedLocked
func becomeEstablished(h *netHandshake, s *netSegment)

// opening is what open needs of a stack, and its scratch memory.
type opening struct {
	protocol  unsafe.Pointer // tcp.protocol
	handshake netHandshake
	last      netSegment

	reusable []*reusable
	pristine reflect.Value // an endpoint as newEndpoint makes it
	dead     *tcp.Endpoint // that of closed connections whose own is used again
}

func (o *opening) init(s *netstack.Stack) {
	o.protocol = reflect.ValueOf(s.TransportProtocolInstance(tcp.ProtocolNumber)).UnsafePointer()
	o.pristine, o.dead = newPristine(s, o.protocol)
}

// effective are the network protocols of an endpoint that has one.
var effective = map[tcpip.NetworkProtocolNumber][]tcpip.NetworkProtocolNumber{
	header.IPv4ProtocolNumber: {header.IPv4ProtocolNumber}, header.IPv6ProtocolNumber: {header.IPv6ProtocolNumber},
}

// open makes the connection of h, which s ends with the options, and puts it on the accept queue of its listener. nil:
// netstack has no place for it.
func (l *link) open(h *halfOpen, s *segment, options header.TCPOptions) *tcp.Endpoint {
	o, listener := &l.stack.opening, h.listener.endpoint.(*tcp.Endpoint)
	route, err := l.routeTo(&s.id, s.number)
	if err != nil {
		return nil
	}
	r := o.endpoint(l.stack, s.number)
	ep := r.endpoint
	ep.StopWork()
	own, at := l.ownMSS(s.id.RemoteAddress), unsafe.Pointer(ep)
	ep.ID = s.id
	*(*tcpip.NICID)(unsafe.Add(at, boundNICField.Offset)) = l.id
	*(**netstack.Route)(unsafe.Add(at, routeField.Offset)) = route
	*(*[]tcpip.NetworkProtocolNumber)(unsafe.Add(at, effectiveField.Offset)) = effective[s.number]
	*(*uint16)(unsafe.Add(at, offeredMSSField.Offset)) = uint16(own)
	*(*uint32)(unsafe.Pointer(&ep.TSOffset)) = h.offset
	offer := header.TCPSynOptions{TS: h.stamped, TSVal: h.recent, SACKPermitted: h.sack}
	enableTimestamps(ep, offer)
	enableSACK(ep, offer)
	enableGSO(ep)
	listener.LockUser()
	inheritOptions(listener, ep)
	listener.UnlockUser()
	if !l.stack.register(r, s.number) {
		ep.ResumeWork()
		ep.Close()
		return nil
	}
	*(*bool)(unsafe.Add(at, connectNotifiedField.Offset)) = true
	o.last = netSegment{rcvdTime: l.stack.clock.NowMonotonic(), parsedOptions: options}
	o.handshake = netHandshake{
		ep: ep, iss: seqnum.Value(h.iss), ackNum: seqnum.Value(h.irs + 1),
		rcvWnd: seqnum.Size(l.stack.openingWindow(own)), rcvWndScale: l.stack.openingScale(),
		sndWnd: seqnum.Size(s.tcp.WindowSize()) << max(h.scale, 0), sndWndScale: int(h.scale), mss: h.mss,
		startTime: l.stack.clock.monotonic(h.sent), sampleRTTWithTSOnly: h.synACKs != 1,
	}
	o.establish(l.stack, r, &o.handshake)
	o.handshake.ep = nil
	ep.ResumeWork()
	l.stats.RXLean++
	l.stack.net.Stats().TCP.PassiveConnectionOpenings.Increment()
	pushAccepted(listener, ep)
	h.listener.queue.Notify(waiter.ReadableEvents)
	return ep
}

// takeSYNACK makes ep a connection, if s is the SYN-ACK that answers its SYN, as netstack's synSentState, and acknowledges it.
// It reports false when netstack has to judge s.
func (l *link) takeSYNACK(s *segment, ep *tcp.Endpoint) bool {
	if s.tcp[header.TCPFlagsOffset] != syn|ack || len(s.payload) > 0 || tcp.EndpointState(ep.State()) != tcp.StateSynSent || !l.intact(s) || !ep.TryLock() {
		return false
	}
	defer ep.ResumeWork()
	r, h := reusableOf(ep), *(**netHandshake)(unsafe.Add(unsafe.Pointer(ep), handshakeField.Offset))
	if r == nil || r.sender == nil || h == nil || h.state != handshakeSynSent || queued(ep) || seqnum.Value(s.tcp.AckNumber()) != h.iss+1 {
		return false
	}
	l.stats.RXLean++
	l.stack.received.Increment()
	options := header.ParseSynOptions(s.tcp[header.TCPMinimumSize:], true)
	enableTimestamps(ep, options)
	enableSACK(ep, options)
	h.state, h.flags, h.ackNum = handshakeCompleted, h.flags|header.TCPFlagAck, seqnum.Value(s.tcp.SequenceNumber()+1)
	h.mss, h.sndWnd, h.sndWndScale = options.MSS, seqnum.Size(s.tcp.WindowSize()), options.WS
	o := &l.stack.opening
	o.last = netSegment{rcvdTime: l.stack.clock.NowMonotonic(), parsedOptions: header.TCPOptions{TS: options.TS, TSVal: options.TSVal, TSEcr: options.TSEcr}}
	o.establish(l.stack, r, h)
	window := h.rcvWnd
	if h.sndWndScale >= 0 {
		window >>= h.rcvWndScale
	}
	_ = sendEmptyRaw(ep, header.TCPFlagAck, h.iss+1, h.ackNum, window) // fails only without a route
	return true
}

// pushAccepted puts ep on the accept queue of a listener.
func pushAccepted(listener, ep *tcp.Endpoint) {
	mu := (*sync.Mutex)(unsafe.Add(unsafe.Pointer(listener), acceptLockField.Offset))
	mu.Lock()
	(*list.List)(unsafe.Add(unsafe.Pointer(listener), acceptQueueField.Offset+acceptedField.Offset)).PushBack(ep)
	mu.Unlock()
}

// Where the fields are. A netstack that has others makes the program panic at once.
var (
	connectNotifiedField = fieldOf(reflect.TypeFor[tcp.Endpoint](), "isConnectNotified", reflect.Bool)
	boundNICField        = typedField[tcpip.NICID](reflect.TypeFor[tcp.Endpoint](), "boundNICID")
	effectiveField       = typedField[[]tcpip.NetworkProtocolNumber](reflect.TypeFor[tcp.Endpoint](), "effectiveNetProtos")
	offeredMSSField      = typedField[uint16](reflect.TypeFor[tcp.Endpoint](), "amss")
	_                    = fieldOf(reflect.TypeOf(tcp.Endpoint{}.TSOffset), "milliseconds", reflect.Uint32)
	_                    = sameLayout(reflect.TypeFor[netHandshake](), handshakeField.Type.Elem())
	_                    = sameLayout(reflect.TypeFor[backoffTimer](), fieldOf(handshakeField.Type.Elem(), "retransmitTimer", reflect.Pointer).Type.Elem())
)

var _ [unsafe.Sizeof(tcp.Endpoint{}.TSOffset) - unsafe.Sizeof(uint32(0))]struct{} = [0]struct{}{}
