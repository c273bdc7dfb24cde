package stack_test

import (
	"testing"
	"time"

	"ringroad/stack"
)

// A packet that three others overtake is sent again, and the congestion window shrinks.
// When the peer reports that it has the packet twice, the window is as before; when it
// does not, the packet was lost.
func TestWindowIsGivenBackAfterARecoveryFromNoLoss(t *testing.T) {
	for _, c := range []struct {
		name      string
		lost      bool
		threshold uint64 // slow start threshold at the end; 0: none, slow start goes on
	}{{"overtaken", false, 0}, {"lost", true, 7}} {
		t.Run(c.name, func(t *testing.T) {
			accepted := make(chan *stack.Conn, 1)
			slow := func(c *stack.Config) { c.TCP.MinRTO = 2 * time.Second }
			l := start(t, slow, func(l *loop, e stack.Event) {
				if ln, ok := e.Data.(*stack.Listener); ok {
					if c, err := ln.Accept(); err == nil {
						l.Stack.Poller().AddConn(c, 0, c)
						accepted <- c
					}
				}
			})
			l.listen("10.1.0.1:80")
			p := connectScripted(l)
			conn := <-accepted
			write := func(packets int) {
				l.do(func() {
					if n, err := conn.Write(make([]byte, packets*packetBytes)); err != nil {
						t.Errorf("wrote %d bytes, %v", n, err)
					}
				})
			}
			// As in TestTailIsResentWhenTheProbeIsLostToo: a window of 11 packets.
			write(1)
			p.next("the first packet", covers(0))
			p.say(packetBytes)
			const window = 11
			write(window)
			p.next("a full window", covers(window*packetBytes))
			for _, n := range []int{3, 4, 9} {
				p.acknowledge(packetBytes, [2]int{2 * packetBytes, n * packetBytes})
			}
			p.next("the overtaken packet again", covers(packetBytes))
			l.do(func() {
				if i := conn.Info(); i.SlowStartThreshold == 0 || i.SlowStartThreshold >= window {
					t.Errorf("in recovery: %+v", i)
				}
			})
			if c.lost {
				p.acknowledge((window + 1) * packetBytes)
			} else {
				p.acknowledge((window+1)*packetBytes, [2]int{packetBytes, 2 * packetBytes}) // twice: RFC 2883
			}
			l.eventually("all is acknowledged", func() bool { return conn.Info().Sent == 0 })
			undone := uint64(1)
			if c.lost {
				undone = 0
			}
			l.do(func() {
				i := conn.Info()
				if i.SlowStartThreshold != c.threshold || !c.lost && i.CongestionWindow < window || i.Recovery != "" {
					t.Errorf("after the recovery: %+v", i)
				}
				if n := l.Stack.LinkStats(1).RecoveriesUndone; n != undone {
					t.Errorf("%d recoveries undone, want %d", n, undone)
				}
			})
		})
	}
}
