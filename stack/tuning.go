package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Receive buffers grow with the throughput of their connections (ModerateRecvBuf in
// netstack), up to a limit for each. What all peers may send at once by their windows has to
// fit into the frames that receive as well: what does not is dropped, whatever room the
// buffers have. 16 backends that sent 1 MB each so lost four frames a body.
//
// So the connections that bring bodies share what the frames hold, and none lets its buffer
// grow beyond its share. One that has grown stays: a window must not shrink (RFC 9293 3.8.6).
//
// The windows, which are half of the buffers (rcvAdvWndScale in netstack's endpoint.go), so have
// half of the frames. The other half is for those that had grown before others came, and for
// what is no full segment. With windows of all frames 16 backends still lost one or two a body.
//
// Peers further away spread a window over their round trip, while frames receive again within a
// turn or two of the loop. So of theirs only what comes within drained counts.

// drained is how long a frame may wait for a busy loop.
const drained = 4 * time.Millisecond

// sharing counts the connections that bring bodies, a second at a time.
type sharing struct {
	second      time.Duration // which one, since the start
	now, before int           // connections in this one, and in the one before
}

// tune lets the receive buffer of c grow, after n bytes of it were read.
func (c *Conn) tune(n int) {
	ep := c.endpoint.(*tcp.Endpoint)
	share := c.stack.receiveShare(c)
	if ep.SocketOptions().GetReceiveBufferSize() >= share {
		return
	}
	ep.ModerateRecvBuf(n)
	if ep.SocketOptions().GetReceiveBufferSize() > share {
		ep.SocketOptions().SetReceiveBufferSize(share, false)
	}
}

// receiveShare is the receive buffer that c, which brings a body, may have.
func (s *Stack) receiveShare(c *Conn) int64 {
	h := &s.sharing
	if second := s.Now().Truncate(time.Second) + time.Second; second != h.second {
		if h.before = 0; second == h.second+time.Second {
			h.before = h.now
		}
		h.second, h.now = second, 0
	}
	if c.sharing != h.second {
		c.sharing = h.second
		c.windows = max(1, int64(c.roundTrip()/drained))
		h.now++
	}
	share := int64(s.tcp.ReceiveBuffer.Max)
	for _, l := range s.links {
		if l.ReceiveBytes > 0 {
			share = min(share, c.windows*int64(l.ReceiveBytes)/int64(max(h.now, h.before)))
		}
	}
	return share
}

// roundTrip is the smoothed round trip of c (RFC 6298), in whole milliseconds; 0: not known.
func (c *Conn) roundTrip() time.Duration {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	snd, ok := senderOf(ep)
	if !ok {
		return 0
	}
	return snd.rtt.SRTT
}
