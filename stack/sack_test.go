package stack_test

import (
	"testing"
	"time"

	"ringroad/stack"
)

// A packet that is lost is sent again as soon as the acknowledgment of a later one tells,
// long before a time-out.
func TestLossIsSeenInSelectiveAcknowledgments(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []int // packets of each
		probe  bool  // the tail loss probe is what arrives
		block  [2]int
	}{
		{"of a part of a segment", []int{3}, false, [2]int{2, 3}},
		{"of more than a part", []int{4}, false, [2]int{2, 5}},
		{"of a probe", []int{1, 1}, true, [2]int{2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			accepted := make(chan *stack.Conn, 1)
			slow := func(c *stack.Config) { c.TCP.MinRTO = time.Minute }
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
			write(1)
			p.next("the first packet", covers(0))
			p.say(packetBytes)
			packets := 1
			for _, n := range c.writes {
				write(n)
				packets += n
			}
			p.next("the last packet", covers(packets*packetBytes-1))
			if c.probe {
				p.next("the probe", covers(packets*packetBytes-1))
				// What is acknowledged sooner may be the first transmission.
				sent, trip := time.Duration(0), time.Duration(0)
				l.do(func() { sent, trip = l.Stack.Now(), conn.Info().RTT })
				l.eventually("a round trip is over", func() bool { return l.Stack.Now() > sent+trip })
			}
			p.acknowledge(packetBytes, [2]int{c.block[0] * packetBytes, c.block[1] * packetBytes})
			p.next("the lost packet again", covers(packetBytes))
			p.acknowledge(packets * packetBytes)
			l.eventually("all is acknowledged", func() bool { return conn.Info().Sent == 0 })
			l.do(func() {
				if n := l.Stack.TCPStats().Timeouts; n != 0 {
					t.Errorf("%d time-outs", n)
				}
			})
		})
	}
}
