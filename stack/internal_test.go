package stack

import (
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestClockFiresInOrderAndOnce(t *testing.T) {
	woken := 0
	c := newClock(func() { woken++ })
	var fired []int
	at := func(d time.Duration, n int) *timer {
		return c.AfterFunc(d, func() { fired = append(fired, n) }).(*timer)
	}
	at(3*time.Hour, 3)
	at(time.Hour, 1)
	two := at(2*time.Hour, 2)
	stopped := at(90*time.Minute, 9)
	if woken != 2 {
		t.Errorf("woken %d times: the first timer and the one that became earliest must wake the loop", woken)
	}
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop must report true once")
	}
	if n := c.run(30 * time.Minute); n != 0 {
		t.Errorf("%d timers fired early", n)
	}
	two.Reset(4 * time.Hour)
	if next, ok := c.next(); !ok || next > c.elapsed()+time.Hour {
		t.Errorf("next is %v, %v", next, ok)
	}
	c.run(24 * time.Hour)
	if !slices.Equal(fired, []int{1, 3, 2}) {
		t.Errorf("fired %v", fired)
	}
	if _, ok := c.next(); ok || two.Stop() {
		t.Error("a fired timer is still queued")
	}
	two.Reset(0)
	if c.run(c.elapsed()+time.Second) != 1 {
		t.Error("a timer cannot be reused")
	}
}

func TestWatchQueueKeepsOrderAndMemory(t *testing.T) {
	var q watchQueue
	conns := make([]*Conn, 10)
	for i := range conns {
		conns[i] = new(Conn)
		q.push(watched{conns[i], time.Duration(i)})
	}
	entries := cap(q.entries)
	for i := range 1000 {
		at, ok := q.next()
		if c := q.pop(); !ok || at != time.Duration(i) || c != conns[i%len(conns)] {
			t.Fatalf("entry %d: due at %v, %v", i, at, ok)
		}
		q.push(watched{conns[i%len(conns)], time.Duration(i + len(conns))})
	}
	// One that is forgotten is passed over, wherever it is by then.
	numbers := make([]uint64, len(conns))
	for i := range 1000 {
		k := i % len(conns)
		q.pop()
		numbers[k] = q.push(watched{conns[k], time.Duration(i)})
	}
	q.forget(numbers[3])
	q.forget(numbers[0])
	q.forget(numbers[1])
	for _, k := range []int{2, 3, 4} {
		want := conns[k]
		if k == 3 {
			want = nil
		}
		if c := q.pop(); c != want {
			t.Errorf("after three were forgotten: %v in place %d", c, k)
		}
	}
	for i := range 5 {
		q.push(watched{conns[i], 0})
	}
	if cap(q.entries) > 2*entries {
		t.Errorf("room for %d entries of %d", cap(q.entries), len(conns))
	}
	for range conns {
		q.pop()
	}
	if _, ok := q.next(); ok || len(q.entries) != 0 {
		t.Error("not empty after all was taken")
	}
}

func TestMonotonicIsWhatNetstackMakes(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Second, 1<<62 + 12345} {
		if got, want := monotonic(d), (tcpip.MonotonicTime{}).Add(d); got != want {
			t.Errorf("%d: %v, want %v", d, got, want)
		}
	}
}

func TestFlowTableForgetsIdleFlowsOnly(t *testing.T) {
	var f flowTable
	f.init()
	key := func(n uint32) *flowKey { return &flowKey{ports: n} }
	idle, holding, busy := f.get(key(1), 1, 0), f.get(key(2), 2, 0), f.get(key(3), 3, 0)
	f.slots[holding].held.active = true
	f.get(key(3), 3, flowIdle)
	f.sweep(flowIdle+1, 3)
	if len(f.index) != 2 {
		t.Fatalf("%d flows are left, want the one that holds an ACK and the busy one", len(f.index))
	}
	generation := f.slots[idle].held.generation
	if got := f.get(key(4), 1, flowIdle); got != idle {
		t.Errorf("slot %d was not reused", idle)
	} else if f.slots[got].known || f.slots[got].held.generation != generation {
		t.Error("the slot's new flow inherited the old one's state, or lost the hold's generation")
	}
	if f.get(key(3), 2, 0) != busy || f.get(key(2), 2, 0) != holding {
		t.Error("a living flow moved")
	}
}

// However fast flows come, those that ended are forgotten as fast.
func TestFlowTableDoesNotOutgrowWhatEnds(t *testing.T) {
	var f flowTable
	f.init()
	const perTurn, turns = 100, 50 // that pass in flowEnded
	for n := range uint32(20 * turns * perTurn) {
		now := time.Duration(n/perTurn) * flowEnded / turns
		f.slots[f.get(&flowKey{ports: n}, n, now)].ended = true
		if n%perTurn == perTurn-1 {
			f.sweep(now, 4)
		}
	}
	if n := len(f.slots); n > 5*turns*perTurn/2 {
		t.Errorf("%d slots for %d flows that ended less than %v ago", n, turns*perTurn, flowEnded)
	}
}

// A sender behind a smaller MTU waits for the ACK of its own second segment.
func TestFullSegmentIsNotThatOfAJumboFrame(t *testing.T) {
	for _, c := range []struct {
		mtu     int
		headers int
		full    uint32 // that the peer is known to send
		want    uint32
	}{
		{1500, 40, 0, 1460}, {1500, 52, 0, 1448}, {1500, 72, 0, 1428}, {1280, 40, 0, 1240}, {1500, 52, 1440, 1440},
		{9000, 52, 0, 1448}, {9000, 52, 8948, 1448},
	} {
		l := &link{Link: Link{MTU: c.mtu}}
		if got := l.atOnce(&flow{full: c.full}, c.headers); got != 2*c.want {
			t.Errorf("MTU %d, headers of %d bytes, %d in a full segment: %d bytes, want 2 * %d", c.mtu, c.headers, c.full, got, c.want)
		}
	}
}

// TestMayHold is the table of RFC 9293 3.8.6.3, RFC 5681 4.2 and RFC 2018 4.
func TestMayHold(t *testing.T) {
	const mss = 1460
	for _, c := range []struct {
		name    string
		flags   header.TCPFlags
		ack     uint32
		window  uint16
		options int
		known   bool
		held    uint32 // acknowledgment number of a held ACK, 0: none
		want    bool
	}{
		{"new data", header.TCPFlagAck, 1100, 100, 12, true, 0, true},
		{"new data, no timestamps", header.TCPFlagAck, 1100, 100, 0, true, 0, true},
		{"more new data than the held one", header.TCPFlagAck, 1200, 100, 12, true, 1100, true},
		{"just under two segments", header.TCPFlagAck, 1000 + 2*mss - 1, 100, 12, true, 0, true},
		{"two segments", header.TCPFlagAck, 1000 + 2*mss, 100, 12, true, 0, false},
		{"duplicate", header.TCPFlagAck, 1000, 100, 12, true, 0, false},
		{"repeats the held one", header.TCPFlagAck, 1100, 100, 12, true, 1100, false},
		{"behind", header.TCPFlagAck, 900, 100, 12, true, 0, false},
		{"closed window", header.TCPFlagAck, 1100, 0, 12, true, 0, false},
		{"SACK blocks", header.TCPFlagAck, 1100, 100, 24, true, 0, false},
		{"FIN", header.TCPFlagAck | header.TCPFlagFin, 1100, 100, 12, true, 0, false},
		{"SYN-ACK", header.TCPFlagAck | header.TCPFlagSyn, 1100, 100, 12, true, 0, false},
		{"first of the flow", header.TCPFlagAck, 1100, 100, 12, false, 0, false},
		{"wrap-around", header.TCPFlagAck, 99, 100, 12, true, 0, false},
	} {
		h := header.TCP(make([]byte, header.TCPMinimumSize+c.options))
		h.Encode(&header.TCPFields{AckNum: c.ack, Flags: c.flags, WindowSize: c.window, DataOffset: uint8(len(h))})
		f := flow{known: c.known, lastACK: 1000, held: heldACK{active: c.held != 0, number: c.held}}
		if got := f.mayHold(h, 2*mss); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	h := header.TCP(make([]byte, header.TCPMinimumSize))
	h.Encode(&header.TCPFields{AckNum: 50, Flags: header.TCPFlagAck, WindowSize: 1, DataOffset: header.TCPMinimumSize})
	if f := (flow{known: true, lastACK: 1<<32 - 50}); !f.mayHold(h, 2*mss) {
		t.Error("new data across the wrap of the sequence space")
	}
}

// ACKs wait somewhat longer than answers take, within bounds.
func TestAckDelayFollowsAnswers(t *testing.T) {
	for _, c := range []struct{ option, answers, want time.Duration }{
		{5 * time.Millisecond, 100 * time.Microsecond, 5 * time.Millisecond},
		{5 * time.Millisecond, 4 * time.Millisecond, 8 * time.Millisecond},
		{5 * time.Millisecond, 19 * time.Millisecond, 38 * time.Millisecond},
		{5 * time.Millisecond, 25 * time.Millisecond, 5 * time.Millisecond}, // of no use
		{100 * time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond},
	} {
		l := &link{stack: &Stack{tcp: TCPOptions{AckDelay: c.option}}}
		now := time.Second
		for range 200 {
			f := &flow{held: heldACK{since: now}}
			now += c.answers
			l.stack.now.Store(int64(now))
			l.noteAnswer(f)
			l.noteAnswer(f) // more data of the same answer tells nothing
		}
		if got := l.ackDelay(); (got - c.want).Abs() > 100*time.Microsecond {
			t.Errorf("option %v, answers after %v: holds for %v, want %v", c.option, c.answers, got, c.want)
		}
	}
}
