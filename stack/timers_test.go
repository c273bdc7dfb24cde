package stack_test

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A loop that was held up takes what waits on its rings before timers: what is acknowledged there is not sent again, and what is not is.
func TestTimersLookAtTheInputFirst(t *testing.T) {
	f := newFlooded(t, false)
	f.connect()
	f.talk("a round trip")
	const data = "to be acknowledged"
	f.say(header.TCPFlagAck|header.TCPFlagPsh, data)
	f.raw.seq += uint32(len(data))
	got := f.hear()
	for len(got.Payload()) == 0 {
		got = f.hear()
	}
	var sent uint64
	f.l.do(func() {
		for range 1000 { // more than a turn takes
			f.l.InjectFromClient(rawSegment{from: 6001, to: 81, seq: 1, flags: header.TCPFlagSyn, window: 1000}.frame())
		}
		f.raw.ack += uint32(len(data))
		f.say(header.TCPFlagAck, "")
		time.Sleep(time.Second) // how long the loop is held up, above any time-out so far
		sent = f.l.Stack.TCPStats().Retransmits
	})
	f.settle()
	if again := f.tcp().Retransmits - sent; again != 0 {
		t.Errorf("%d segments were sent again that were acknowledged", again)
	}
	f.say(header.TCPFlagAck|header.TCPFlagPsh, "to be lost")
	f.l.eventually("what was lost is sent again", func() bool { return f.l.Stack.TCPStats().Retransmits > sent })
}
