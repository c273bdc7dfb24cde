package stack

import (
	"gvisor.dev/gvisor/pkg/buffer"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// MoveBytes is the least that MoveTo moves at a time: less may be in memory that is much more, and is soon copied.
const MoveBytes = 4 << 10

// MoveTo hands on what was received to the send buffer of to, behind head, whose bytes are copied: large segments as they are,
// in the memory that they were received in, as splice(2) does with pages. It moves at most the given number of bytes, and what
// there is room for. Bytes that are moved are read and written, and head with them. ErrWouldBlock: nothing is left, as from Read.
// ErrFull: there is no room for more, and a Writable event of to follows. Both may come with bytes; with none, nothing was
// done, head included, and without an error Read and Write are to be called.
func (c *Conn) MoveTo(to *Conn, head []byte, most int) (n int, err error) {
	if c.closed || to.closed || !c.holdsLarge() {
		return 0, nil
	}
	to.begin()
	to.ownTimers()
	n, err = c.moveTo(to, head, most)
	if n == 0 {
		return 0, err
	}
	if !c.stack.tcp.NoAutoTuning {
		c.tune(n)
	}
	c.stack.stats.BytesRead += uint64(n)
	c.read += uint64(n)
	to.stack.stats.BytesWritten += uint64(len(head) + n)
	to.written += uint64(len(head) + n)
	to.stack.watch(to)
	return n, err
}

// holdsLarge reports whether the first segment that was received may be moved.
func (c *Conn) holdsLarge() bool {
	ep := c.endpoint.(*tcp.Endpoint)
	ep.LockUser()
	defer ep.UnlockUser()
	s := receiveQueueOf(ep).head
	return s != nil && s.pkt.Data().Size() >= MoveBytes
}

// moveTo is the part of MoveTo under the locks of both endpoints. Only the loop ever has two.
func (c *Conn) moveTo(to *Conn, head []byte, most int) (n int, err error) {
	src, dst := c.endpoint.(*tcp.Endpoint), to.endpoint.(*tcp.Endpoint)
	src.LockUser()
	defer src.UnlockUser()
	dst.LockUser()
	defer dst.UnlockUser()
	in, ok := connectionOf(src)
	if state := tcp.EndpointState(src.State()); !ok || state != tcp.StateEstablished && state != tcp.StateCloseWait {
		return 0, nil
	}
	out, ok := connectionOf(dst)
	if !ok || tcp.EndpointState(dst.State()) != tcp.StateEstablished || out.sendBuffer().SndClosed {
		return 0, nil
	}
	update := false
	for {
		s := receiveQueueOf(src).head
		if s == nil {
			if c.peerSends() {
				err = ErrWouldBlock
			}
			break
		}
		size, used, limit := s.pkt.Data().Size(), out.sendBuffer().SndBufUsed, int(dst.SocketOptions().GetSendBufferSize())
		k := min(size, most-n)
		if k < MoveBytes {
			break
		}
		k = min(k, limit-used-len(head), buffer.MaxChunkSize-len(head))
		if k < MoveBytes {
			if used >= limit/2 { // see updateSndBufferUsage
				err = ErrFull
			}
			break
		}
		data := s.pkt.Data().ToBuffer() // it shares the memory
		data.Truncate(int64(k))
		if len(head) > 0 {
			b := buffer.MakeWithView(viewWith(head))
			b.Merge(&data)
			data, head = b, nil
		}
		memory := 0
		if k < size {
			s.pkt.Data().TrimFront(k)
		} else {
			memory = popReceived(src, s)
			decRef(s)
		}
		update = noteRead(src, k, memory) || update
		out.queueLong(segmentWith(netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: data})), c.stack.clock.NowMonotonic())
		n += k
	}
	if update {
		sendACK(in.snd)
	}
	return n, err
}
