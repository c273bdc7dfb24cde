package stack_test

import (
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// TestLastingSegmentsAreWhereNetstackExpectsThem: whoever takes off the list what was acknowledged, and however many messages
// are under way, netstack finds in its map all that is in the list, and besides at most the one that lasts. It panics when
// it does not.
func TestLastingSegmentsAreWhereNetstackExpectsThem(t *testing.T) {
	p, c := accepted(t)
	received := uint64(0)
	p.l.do(func() { received = p.l.Stack.LinkStats(1).RXFrames })
	lasting := 0
	for i := range 24 {
		long, messages := i%3 == 2, 1+i/4%3 // who handles the ACK, and of how many
		p.l.do(func() {
			c.GoShortWay()
			for n := range messages {
				data := fmt.Sprintf("message %d, %d", i, n)
				if _, err := c.Write([]byte(data)); err != nil {
					t.Error(err)
				}
				p.raw.ack += uint32(len(data))
			}
			if listed, mapped := c.Unacknowledged(); listed != messages || mapped != messages {
				t.Errorf("round %d: of %d messages under way %d are in the list and %d in the map", i, messages, listed, mapped)
			}
			if long {
				c.GoLongWay()
			}
		})
		p.say(header.TCPFlagAck, "")
		received++
		p.l.eventually("received", func() bool { return p.l.Stack.LinkStats(1).RXFrames == received })
		p.l.do(func() {
			listed, mapped := c.Unacknowledged()
			if listed != 0 || mapped > 1 || long && mapped != 0 {
				t.Errorf("round %d: when all is acknowledged %d are in the list and %d in the map", i, listed, mapped)
			}
			lasting += mapped
		})
	}
	if lasting == 0 {
		t.Error("no segment lasted")
	}
	p.l.do(func() { c.Close() })
}

// accepted is a client, and its connection.
func accepted(t *testing.T) (*puppet, *stack.Conn) {
	var c *stack.Conn
	p := puppetOf(t, false, false, func(_ *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			c, _ = ln.Accept()
		}
	})
	p.connect()
	p.l.eventually("accepted", func() bool { return c != nil })
	return p, c
}
