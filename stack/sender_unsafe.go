package stack

import (
	"fmt"
	"reflect"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// sender is the sending side of a netstack endpoint, tcp.sender, as far as rearm.go,
// undo.go, congestion.go, probe.go, handshake.go and buffers.go need it. It is guarded by the endpoint's lock.
type sender struct {
	state         *tcp.TCPSenderState
	rtt           *tcp.TCPRTTState
	resend, probe *senderTimer
	writeNext     *unsafe.Pointer
	rack          *tcp.TCPRACKState
	at            unsafe.Pointer
}

// cubicState is tcp.cubicState.
type cubicState struct {
	state  *tcp.TCPCubicState
	events *int // congestion events since the last time-out
}

// cubic returns the congestion control of s, and replaces netstack's by it first; ok is false
// under another one than CUBIC.
func (s *sender) cubic() (c *cubic, ok bool) {
	current := (*congestionControl)(unsafe.Add(s.at, ccField.Offset))
	if c, ok = (*current).(*cubic); ok {
		return c, true
	}
	p := reflect.NewAt(ccField.Type, unsafe.Pointer(current)).Elem().Elem()
	if p.Kind() != reflect.Pointer || p.Type().Elem().Name() != "cubicState" {
		return nil, false
	}
	state, ok := p.Type().Elem().FieldByName("TCPCubicState")
	events, also := p.Type().Elem().FieldByName("numCongestionEvents")
	if !ok || !also || state.Type != reflect.TypeFor[tcp.TCPCubicState]() || events.Type.Kind() != reflect.Int {
		return nil, false
	}
	at := p.UnsafePointer()
	c = &cubic{
		congestionControl: *current,
		cubicState:        cubicState{(*tcp.TCPCubicState)(unsafe.Add(at, state.Offset)), (*int)(unsafe.Add(at, events.Offset))},
		send:              s.state,
		srtt:              &s.rtt.SRTT,
	}
	c.restart()
	*current = c
	return c, true
}

// unsent reports whether there are segments that wait to be sent.
func (s *sender) unsent() bool { return *s.writeNext != nil }

// senderTimer is laid out as tcp.timer; see there for what the fields mean.
type senderTimer struct {
	state       int
	clock       tcpip.Clock
	target      tcpip.MonotonicTime
	clockTarget tcpip.MonotonicTime
	timer       tcpip.Timer
	callback    func()
}

// The states of a timer. One that is orphaned was disabled with the clock's timer running,
// which does nothing then.
const (
	senderTimerDisabled = 1 + iota
	senderTimerEnabled
	senderTimerOrphaned
)

func (t *senderTimer) enabled() bool { return t.state == senderTimerEnabled }

// due is what tcp.timer.checkExpiration says when the clock's timer has run: netstack lets it run on when
// the timer is disabled, or due later.
func (t *senderTimer) due() bool { return t.enabled() && !t.clock.NowMonotonic().Before(t.target) }

// enable is tcp.timer.enable, at now: the clock's timer is let run when it is due earlier.
func (t *senderTimer) enable(now tcpip.MonotonicTime, d time.Duration) {
	t.target = monotonic(sinceStart(now) + d)
	if t.state == senderTimerDisabled || t.target.Before(t.clockTarget) {
		t.clockTarget = t.target
		if t.timer == nil {
			t.timer = t.clock.AfterFunc(d, t.callback)
		} else {
			t.timer.Reset(d)
		}
	}
	t.state = senderTimerEnabled
}

// disable is tcp.timer.disable.
func (t *senderTimer) disable() {
	if t.state != senderTimerDisabled {
		t.state = senderTimerOrphaned
	}
}

// Where the fields are. A netstack that has others makes the program panic at once.
var (
	senderField    = fieldOf(reflect.TypeFor[tcp.Endpoint](), "snd", reflect.Pointer)
	stateField     = fieldOf(senderField.Type.Elem(), "TCPSenderState", reflect.Struct)
	rttField       = fieldOf(senderField.Type.Elem(), "rtt", reflect.Struct)
	rttStateField  = fieldOf(rttField.Type, "TCPRTTState", reflect.Struct)
	resendField    = timerField("resendTimer")
	probeField     = timerField("probeTimer")
	writeNextField = fieldOf(senderField.Type.Elem(), "writeNext", reflect.Pointer)
	rackField      = fieldOf(senderField.Type.Elem(), "rc", reflect.Struct)
	rackStateField = fieldOf(rackField.Type, "TCPRACKState", reflect.Struct)
	ccField        = fieldOf(senderField.Type.Elem(), "cc", reflect.Interface)

	_ = sameMethods(reflect.TypeFor[congestionControl](), ccField.Type)

	handshakeField = fieldOf(reflect.TypeFor[tcp.Endpoint](), "h", reflect.Pointer)
	ackNumField    = fieldOf(handshakeField.Type.Elem(), "ackNum", reflect.Uint32)
	issField       = fieldOf(handshakeField.Type.Elem(), "iss", reflect.Uint32)
	rcvWndField    = fieldOf(handshakeField.Type.Elem(), "rcvWnd", reflect.Uint32)
)

// senderOf returns the sender of ep; ok is false when it has none yet. The caller
// holds the lock of ep.
func senderOf(ep *tcp.Endpoint) (s sender, ok bool) {
	p := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), senderField.Offset))
	if p == nil {
		return sender{}, false
	}
	return sender{
		state:     (*tcp.TCPSenderState)(unsafe.Add(p, stateField.Offset)),
		rtt:       (*tcp.TCPRTTState)(unsafe.Add(p, rttField.Offset+rttStateField.Offset)),
		resend:    (*senderTimer)(unsafe.Add(p, resendField.Offset)),
		probe:     (*senderTimer)(unsafe.Add(p, probeField.Offset)),
		writeNext: (*unsafe.Pointer)(unsafe.Add(p, writeNextField.Offset)),
		rack:      (*tcp.TCPRACKState)(unsafe.Add(p, rackField.Offset+rackStateField.Offset)),
		at:        p,
	}, true
}

// handshake is netstack's tcp.handshake, as far as the guard needs it.
type handshake struct {
	ackNum, iss *seqnum.Value
	rcvWnd      *seqnum.Size
}

// handshakeOf returns the handshake of ep; ok is false when there is none. The caller
// holds the lock of ep.
func handshakeOf(ep *tcp.Endpoint) (h handshake, ok bool) {
	p := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), handshakeField.Offset))
	if p == nil {
		return handshake{}, false
	}
	return handshake{
		ackNum: (*seqnum.Value)(unsafe.Add(p, ackNumField.Offset)),
		iss:    (*seqnum.Value)(unsafe.Add(p, issField.Offset)),
		rcvWnd: (*seqnum.Size)(unsafe.Add(p, rcvWndField.Offset)),
	}, true
}

func fieldOf(t reflect.Type, name string, kind reflect.Kind) reflect.StructField {
	f, ok := t.FieldByName(name)
	if !ok || f.Type.Kind() != kind {
		panic(fmt.Sprintf("netstack's %v has no field %s of kind %v: sender_unsafe.go has to follow", t, name, kind))
	}
	return f
}

// sameMethods panics unless two interfaces have the same methods, so that a value of one is
// one of the other.
func sameMethods(ours, theirs reflect.Type) bool {
	same := ours.NumMethod() == theirs.NumMethod()
	for i := 0; same && i < ours.NumMethod(); i++ {
		same = ours.Method(i).Name == theirs.Method(i).Name && ours.Method(i).Type == theirs.Method(i).Type
	}
	if !same {
		panic(fmt.Sprintf("netstack's %v has other methods than expected: congestion.go has to follow", theirs))
	}
	return true
}

// timerField is a field of the sender that is laid out as senderTimer.
func timerField(name string) reflect.StructField {
	f := fieldOf(senderField.Type.Elem(), name, reflect.Struct)
	want := reflect.TypeFor[senderTimer]()
	same := f.Type.NumField() == want.NumField()
	for i := 0; same && i < want.NumField(); i++ {
		a, b := f.Type.Field(i), want.Field(i)
		same = a.Name == b.Name && a.Offset == b.Offset && a.Type.Kind() == b.Type.Kind() &&
			(a.Type.Kind() == reflect.Int || a.Type == b.Type)
	}
	if !same {
		panic(fmt.Sprintf("netstack's %v has other fields than expected: sender_unsafe.go has to follow", f.Type))
	}
	return f
}
