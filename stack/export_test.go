package stack

import (
	"fmt"
	"reflect"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/bpf"
)

// RoundTrip is netstack's smoothed round trip time of c, 0 before it is measured.
func (c *Conn) RoundTrip() time.Duration {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	snd, _ := senderOf(ep)
	return snd.rtt.SRTT
}

// ProbeDelay is how long after the last segment was sent the tail of c is probed; 0: it is not.
func (c *Conn) ProbeDelay() time.Duration {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	snd, _ := senderOf(ep)
	if !snd.probe.enabled() {
		return 0
	}
	return snd.probe.target.Sub(snd.state.LastSendTime)
}

// LoseTimers leaves c without the timers of what is not acknowledged.
func (c *Conn) LoseTimers() {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	snd, _ := senderOf(ep)
	snd.resend.disable()
	snd.probe.disable()
}

// SetClock has the stack read its time from the function.
func (s *Stack) SetClock(read func() time.Duration) { s.clock.manual = read }

// Watched is how many connections the stack looks at for a lost timer.
func (s *Stack) Watched() int { return len(s.watched.entries) - s.watched.head }

// Walk counts endpoints and handshakes by looking at each.
func (s *Stack) Walk() (endpoints, handshakes uint64) {
	for i := range s.synQueue.slots {
		if s.synQueue.slots[i].listener != nil {
			handshakes++
		}
	}
	endpoints = uint64(len(s.net.RegisteredEndpoints())) + handshakes
	return endpoints, handshakes
}

// LimitFloods has a flood begin at so many packets a second, until the test ends. No stack
// may run at either time.
func LimitFloods(t interface{ Cleanup(func()) }, perSecond time.Duration) {
	stray, refusal, strange := strayLimit, refusalLimit, strangeLimit
	few := limit{perSecond, perSecond}
	strayLimit, refusalLimit, strangeLimit = few, few, few
	t.Cleanup(func() { strayLimit, refusalLimit, strangeLimit = stray, refusal, strange })
}

// Outrun has every flow remember that it sent so many bytes more, as if it had.
func (s *Stack) Outrun(bytes uint32) {
	for _, l := range s.links {
		for i := range l.flows.slots {
			l.flows.slots[i].resending.sentUpTo += bytes
		}
	}
}

// Suspects reports whether a link takes something for sent again.
func (s *Stack) Suspects() bool {
	for _, l := range s.links {
		if int64(s.Now()) < l.suspect.Load() {
			return true
		}
	}
	return false
}

// IsOpen reports whether the stack has a connection, or one in TIME_WAIT, for this flow. It does not wait
// for a link that is in use, perhaps by the caller: then TIME_WAIT is not looked at.
func (s *Stack) IsOpen(f *bpf.Flow) bool {
	k := flowKey{local: f.Local, remote: f.Remote, ports: uint32(f.LocalPort)<<16 | uint32(f.RemotePort)}
	found := false
	for _, t := range s.tables {
		t.each(func(id *netstack.TransportEndpointID) { found = found || id.RemotePort != 0 && flowKeyOf(id) == k })
	}
	for id := range s.synQueue.index {
		found = found || flowKeyOf(&id) == k
	}
	for _, l := range s.links {
		if l.mu.TryLock() {
			found = found || l.timeWait.find(&k) != nil
			l.mu.Unlock()
		}
	}
	return found
}

// SweepFlows is what the stack does when many connections were opened.
func (s *Stack) SweepFlows() { s.sweepFlows() }

// GoLongWay has netstack handle the segments that c receives, as those of connections that
// send keep-alives.
func (c *Conn) GoLongWay() {
	c.endpoint.(*tcp.Endpoint).SocketOptions().SetKeepAlive(true)
}

// State is what netstack knows of c, without times, what they depend on, and the congestion window.
func (c *Conn) State() string {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	k, _ := connectionOf(ep)
	i, snd, rcv := k.internals(), *k.send, *k.receive.state
	first := snd.SndUna // its own numbers count from what is not acknowledged: they begin anywhere
	return fmt.Sprintln(snd.SndNxt-first, snd.RTTMeasureSeqNum-first, snd.Outstanding, snd.SackedOut, snd.SndWnd, snd.DupAckCount, snd.FastRecovery.Active,
		rcv.RcvNxt, ep.RcvBufUsed, receiveMemory(ep), ep.RecentTS, k.sendBuffer().SndBufUsed,
		k.unacknowledged().head != nil, k.unacknowledged().head == k.unacknowledged().tail, k.nothingWaits(), k.calm(),
		i.rack.FACK-first, i.rack.XmitTime == tcpip.MonotonicTime{} || i.rack.EndSequence == i.rack.FACK, i.rack.XmitTime == tcpip.MonotonicTime{}, i.rack.RTT > 0, *i.minRTT > 0, i.rack.Reord,
		i.rtt.SRTTInited, i.resend.enabled(), i.probe.enabled(), *i.firstResent == tcpip.MonotonicTime{})
}

// GoShortWay undoes GoLongWay.
func (c *Conn) GoShortWay() {
	c.endpoint.(*tcp.Endpoint).SocketOptions().SetKeepAlive(false)
}

// Unacknowledged is how many segments of c are in netstack's list of what is not acknowledged, and how many in its map of
// them.
func (c *Conn) Unacknowledged() (listed, mapped int) {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	k, _ := connectionOf(ep)
	for s := k.firstSegment(); s != nil; s = s.next() {
		listed++
	}
	set := fieldOf(writeListField.Type, "set", reflect.Map)
	return listed, reflect.NewAt(set.Type, unsafe.Add(k.snd, writeListField.Offset+set.Offset)).Elem().Len()
}
