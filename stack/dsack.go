package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A sender that is told which data came twice knows that it sent again for nothing: the
// kernel's takes its window back (tcp_try_undo_dsack), waits longer for what may only be
// late (tcp_rack_update_reo_wnd), and sees that a probe of the tail was not needed
// (tcp_process_tlp_ack). netstack acknowledges such data, but does not tell; so its next
// pure ACK is given the block that does (RFC 2883 4).

// noteTwice remembers what of n bytes at number, which are about to be queued for e, came
// before. intact is asked only if some did.
func (l *link) noteTwice(e netstack.TransportEndpoint, number seqnum.Value, n int, intact func() bool) {
	ep, ok := e.(*tcp.Endpoint)
	if !ok || n == 0 {
		return
	}
	ep.LockUser()
	twice := header.SACKBlock{}
	if c, ok := connectionOf(ep); ok && ep.SACKPermitted {
		twice = c.receive.held(header.SACKBlock{Start: number, End: number.Add(seqnum.Size(n))}, sackOf(ep))
	}
	ep.UnlockUser()
	if twice == (header.SACKBlock{}) || !intact() {
		return
	}
	key := flowKeyOf(&ep.ID)
	l.mu.Lock()
	l.flows.slots[l.flows.get(&key, hashOf(ep), l.stack.Now())].twice = twice
	l.mu.Unlock()
}

// held is the part of b that r has, in order or in one of the blocks of what is not.
func (r *receiver) held(b header.SACKBlock, blocks *tcp.SACKInfo) header.SACKBlock {
	next := r.state.RcvNxt
	if b.Start.LessThan(next) {
		if next.LessThan(b.End) {
			b.End = next
		}
		return b
	}
	for _, h := range blocks.Blocks[:blocks.NumBlocks] {
		part := b
		if part.Start.LessThan(h.Start) {
			part.Start = h.Start
		}
		if h.End.LessThan(part.End) {
			part.End = h.End
		}
		if part.Start.LessThan(part.End) {
			return part
		}
	}
	return header.SACKBlock{}
}

// reportTwice puts the block before those of a pure ACK of netstack's, in a frame whose
// packet is behind it, and returns the length of the packet. Of the others those stay that
// there is room for.
func reportTwice(packet []byte, n int, twice header.SACKBlock) int {
	const blockBytes, optionBytes = 8, 4 // with two NOPs before the option
	ip := ipBytes(packet)
	t := header.TCP(packet[ip:])
	at := header.TCPMinimumSize
	if n-ip > at && t[at+2] == header.TCPOptionTS {
		at += timestampBytes
	}
	others := max(n-ip-at-optionBytes, 0)
	others = min(others, (header.TCPHeaderMaximumSize-at-optionBytes)/blockBytes*blockBytes-blockBytes)
	option := t[at:]
	copy(option[optionBytes+blockBytes:][:others], option[optionBytes:])
	option[0], option[1], option[2], option[3] = header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionSACK, byte(2+blockBytes+others)
	binary.BigEndian.PutUint32(option[optionBytes:], uint32(twice.Start))
	binary.BigEndian.PutUint32(option[optionBytes+4:], uint32(twice.End))
	size := at + optionBytes + blockBytes + others
	t.SetDataOffset(uint8(size))
	putLength(packet[:ip+size])
	return ip + size
}
