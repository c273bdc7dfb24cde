package stack

import (
	"fmt"
	"math/rand/v2"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

//go:linkname updateReceiverRTT gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*receiver).updateRTT
func updateReceiverRTT(rcv unsafe.Pointer, at tcpip.MonotonicTime)

//go:linkname windowCrossed gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).windowCrossedACKThresholdLocked
func windowCrossed(ep *tcp.Endpoint, read, size int) (crossed, above bool)

// unlockedState is all that the functions of unlocked_unsafe.go read and write.
type unlockedState struct {
	receiver  tcp.TCPReceiverState
	announced announced
	buffer    tcp.TCPRcvBufState
	memory    int32
	sender    tcp.TCPSenderState
	rtt       tcp.TCPRTTState
}

// CompareUnlocked brings c into random states, and in each has the functions of unlocked_unsafe.go and those of netstack do
// the same. It tells of the first difference, and leaves c as it was.
func (c *Conn) CompareUnlocked(random *rand.Rand, times int) error {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	k, _ := connectionOf(ep)
	a := (*announced)(unsafe.Add(k.receive.rcv, announcedField.Offset))
	rtt := (*tcp.TCPRTTState)(unsafe.Add(k.snd, rttField.Offset+rttStateField.Offset))
	state := func() unlockedState {
		return unlockedState{*k.receive.state, *a, ep.TCPRcvBufState, *receivedMemory(ep), *k.send, *rtt}
	}
	set := func(s unlockedState) {
		*k.receive.state, *a, ep.TCPRcvBufState, *receivedMemory(ep), *k.send, *rtt = s.receiver, s.announced, s.buffer, s.memory, s.sender, s.rtt
	}
	size := ep.SocketOptions().GetReceiveBufferSize()
	before, stamped := state(), ep.SendTSOk
	defer func() {
		set(before)
		ep.SendTSOk = stamped
		ep.SocketOptions().SetReceiveBufferSize(size, false)
	}()
	some := func(most int) int { // often little or nothing
		return random.IntN(1 + most>>random.IntN(1+24))
	}
	for i := range times {
		all := 1 + some(8<<20)
		ep.SocketOptions().SetReceiveBufferSize(int64(all), false)
		ep.SendTSOk = random.IntN(4) > 0
		s := before
		s.receiver.RcvNxt = seqnum.Value(random.Uint32())
		s.receiver.RcvAcc = s.receiver.RcvNxt.Add(seqnum.Size(some(1 << 20)))
		s.receiver.RcvWndScale = uint8(random.IntN(15))
		s.announced = announced{seqnum.Size(some(8 << 20)), s.receiver.RcvNxt - seqnum.Value(some(1<<20)), some(1 << 20)}
		s.buffer.RcvBufUsed, s.memory = some(all), int32(some(2*all))
		s.sender.MaxSentAck = s.receiver.RcvNxt - seqnum.Value(some(4096))
		s.sender.Outstanding = some(8)
		s.rtt = tcp.TCPRTTState{SRTT: time.Duration(some(1 << 34)), RTTVar: time.Duration(some(1 << 32)), SRTTInited: random.IntN(8) > 0}
		now := time.Hour
		if random.IntN(4) > 0 {
			s.buffer.RcvAutoParams.RTTMeasureTime = monotonic(now - time.Duration(some(1<<32)))
			s.buffer.RcvAutoParams.RTTMeasureSeqNumber = s.receiver.RcvNxt.Add(seqnum.Size(some(1<<16))) - seqnum.Value(some(1<<16))
			s.buffer.RcvAutoParams.RTT = time.Duration(some(1 << 32))
		}
		freed, took := some(1<<16), time.Duration(some(1<<34)-some(1<<10))
		for name, do := range map[string][2]func() string{
			"the window to announce": {
				func() string { next, window := getSendParams(k.receive.rcv); return fmt.Sprint(next, window) },
				func() string { next, window := k.sendParameters(); return fmt.Sprint(next, window) },
			},
			"whether to tell of the window": {
				func() string { crossed, above := windowCrossed(ep, freed, all); return fmt.Sprint(crossed && above) },
				func() string { return fmt.Sprint(opens(ep, freed)) },
			},
			"the receiver's round-trip time": {
				func() string { updateReceiverRTT(k.receive.rcv, monotonic(now)); return "" },
				func() string { k.noteReceived(monotonic(now)); return "" },
			},
			"the round-trip time": {
				func() string { updateRTO(k.snd, took); return "" },
				func() string { k.noteRTT(took); return "" },
			},
		} {
			set(s)
			want := do[0]()
			left := state()
			set(s)
			got := do[1]()
			if now := state(); got != want || now.rounded() != left.rounded() {
				return fmt.Errorf("state %d, %s: netstack says %q and leaves\n%+v\nwe say %q and leave\n%+v\nof\n%+v", i, name, want, left, got, now, s)
			}
		}
	}
	return nil
}

// rounded is s with times of which netstack, with floating point, may be some nanoseconds off.
func (s unlockedState) rounded() unlockedState {
	for _, d := range []*time.Duration{&s.rtt.SRTT, &s.rtt.RTTVar, &s.sender.RTTState.SRTT, &s.sender.RTTState.RTTVar, &s.sender.RTO} {
		*d = (*d + 500).Truncate(time.Microsecond)
	}
	return s
}
