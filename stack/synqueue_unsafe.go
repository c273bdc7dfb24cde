package stack

import (
	"container/list"
	"reflect"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/sync"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// What makes an endpoint of a handshake in the SYN queue: what netstack's listener does for a SYN cookie that came back
// (handleListenSegment in accept.go), with all that a cookie does not remember.

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
	retransmitTimer     *byte
}

// createConnecting makes an endpoint for the flow of s, as a listener with that context does. It is locked.
//
//go:linkname createConnecting gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*listenContext).createConnectingEndpoint
func createConnecting(context unsafe.Pointer, s *netSegment, options header.TCPSynOptions, queue *waiter.Queue) (*tcp.Endpoint, tcpip.Error)

// inheritOptions gives ep what is inherited from its listener, both locked.
//
//go:linkname inheritOptions gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).propagateInheritableOptionsLocked
func inheritOptions(listener, ep *tcp.Endpoint)

// reserveTuple reserves the ports of ep; false: they are in use.
//
//go:linkname reserveTuple gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).reserveTupleLocked
func reserveTuple(ep *tcp.Endpoint) bool

// becomeEstablished makes the endpoint of h, which is locked, a connection: s ends the handshake.
//
//go:linkname becomeEstablished gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*handshake).transitionToStateEstablishedLocked
func becomeEstablished(h *netHandshake, s *netSegment)

// open makes the connection of h, which s ends with the options, and puts it on the accept queue of its listener. nil:
// netstack has no place for it.
func (l *link) open(h *halfOpen, s *segment, options header.TCPOptions) *tcp.Endpoint {
	listener := h.listener.endpoint.(*tcp.Endpoint)
	headers := *s
	headers.packet = s.packet[:s.ipBytes+len(s.tcp)]
	n := segmentWith(l.packetOf(&headers))
	n.fill(&s.id, s.tcp, false)
	n.rcvdTime = l.stack.clock.NowMonotonic()
	defer decRef(n)
	n.parsedOptions = options
	syn := header.TCPSynOptions{MSS: h.mss, WS: int(h.scale), TS: h.stamped, TSVal: h.recent, SACKPermitted: h.sack}
	listener.LockUser()
	ep, err := createConnecting(listenContextOf(listener), n, syn, new(waiter.Queue))
	if err != nil {
		listener.UnlockUser()
		return nil
	}
	inheritOptions(listener, ep)
	listener.UnlockUser()
	if !l.register(ep, s.number) {
		ep.ResumeWork()
		ep.Close()
		return nil
	}
	at := unsafe.Pointer(ep)
	*(*bool)(unsafe.Add(at, registeredField.Offset)) = true
	*(*bool)(unsafe.Add(at, connectNotifiedField.Offset)) = true
	*(*uint32)(unsafe.Pointer(&ep.TSOffset)) = h.offset
	own := l.ownMSS(s.id.RemoteAddress)
	o := &l.stack.opening
	*o = netHandshake{
		ep: ep, iss: seqnum.Value(h.iss), ackNum: seqnum.Value(h.irs + 1),
		rcvWnd: seqnum.Size(l.stack.openingWindow(own)), rcvWndScale: l.stack.openingScale(),
		sndWnd: n.window << max(h.scale, 0), sndWndScale: int(h.scale), mss: h.mss,
		startTime: l.stack.clock.monotonic(h.sent), sampleRTTWithTSOnly: h.synACKs != 1,
	}
	becomeEstablished(o, n)
	o.ep = nil
	ep.ResumeWork()
	l.stack.net.Stats().TCP.PassiveConnectionOpenings.Increment()
	pushAccepted(listener, ep)
	h.listener.queue.Notify(waiter.ReadableEvents)
	return ep
}

// register reserves the ports of ep, which is locked, and has segments of its flow find it.
func (l *link) register(ep *tcp.Endpoint, number tcpip.NetworkProtocolNumber) bool {
	at := unsafe.Pointer(ep)
	return reserveTuple(ep) && l.stack.net.RegisterTransportEndpoint([]tcpip.NetworkProtocolNumber{number}, tcp.ProtocolNumber, ep.ID, ep,
		*(*ports.Flags)(unsafe.Add(at, portFlagsField.Offset)), *(*tcpip.NICID)(unsafe.Add(at, deviceField.Offset))) == nil
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
	registeredField      = fieldOf(reflect.TypeFor[tcp.Endpoint](), "isRegistered", reflect.Bool)
	connectNotifiedField = fieldOf(reflect.TypeFor[tcp.Endpoint](), "isConnectNotified", reflect.Bool)
	portFlagsField       = typedField[ports.Flags](reflect.TypeFor[tcp.Endpoint](), "boundPortFlags")
	deviceField          = typedField[tcpip.NICID](reflect.TypeFor[tcp.Endpoint](), "boundBindToDevice")
	_                    = fieldOf(reflect.TypeOf(tcp.Endpoint{}.TSOffset), "milliseconds", reflect.Uint32)
	_                    = sameLayout(reflect.TypeFor[netHandshake](), handshakeField.Type.Elem())
)

var _ [unsafe.Sizeof(tcp.Endpoint{}.TSOffset) - unsafe.Sizeof(uint32(0))]struct{} = [0]struct{}{}
