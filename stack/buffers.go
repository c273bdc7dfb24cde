package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Buffered is what the buffers of a connection hold, in bytes.
type Buffered struct {
	Received    int `json:"received_bytes"`     // not yet read
	ReceiveRoom int `json:"receive_room_bytes"` // payload that the receive buffer holds as it has grown
	Sent        int `json:"sent_bytes"`         // not yet acknowledged
	SendRoom    int `json:"send_room_bytes"`    // size of the send buffer
}

// Buffered looks into the buffers of c. It takes the endpoint's lock.
func (c *Conn) Buffered() (b Buffered) {
	if c.closed {
		return b
	}
	ep := c.endpoint.(*tcp.Endpoint)
	c.countWindows()
	if n, err := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil {
		b.Received = n
	}
	// The other half is for what segments cost besides their payload (rcvAdvWndScale in
	// netstack's endpoint.go).
	b.ReceiveRoom = int(ep.SocketOptions().GetReceiveBufferSize()) / 2
	b.SendRoom = int(ep.SocketOptions().GetSendBufferSize())
	ep.LockUser()
	defer ep.UnlockUser()
	if snd, ok := senderOf(ep); ok {
		// A FIN that was acknowledged counts as a byte.
		if n := int32(uint32(c.written) - uint32(snd.state.SndUna-c.first)); c.numbered && n > 0 {
			b.Sent = int(n)
		}
	}
	return b
}

// CountZeroWindows has to count how often the receive buffer of c is full, so that its
// window closes. to is brought up to date by Buffered, Close and Abort.
func (c *Conn) CountZeroWindows(to *uint64) { c.full = to }

// countWindows counts how often the receive buffer has been full since the last call.
func (c *Conn) countWindows() {
	s, ok := c.endpoint.Stats().(*tcp.Stats)
	if !ok || c.full == nil {
		return
	}
	n := s.ReceiveErrors.ZeroRcvWindowState.Value()
	*c.full += n - c.zeroWindows
	c.zeroWindows = n
}
