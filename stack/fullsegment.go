package stack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The size of full segments. netstack has each segment of a connection with SACK leave room for as many blocks as there
// could be, 1420 bytes of data at an MTU of 1500. Here only timestamps count for the size, 1448 bytes, and a segment that
// does carry blocks is split by the link in smaller ones (RFC 6691 2, tcp_current_mss in the kernel).

// fillSegments has the segments of ep use the room of SACK blocks. Its lock is held, and nothing was written yet.
func fillSegments(ep *tcp.Endpoint, s *sender) {
	n := s.state.MaxPayloadSize + sackRoom(ep)
	s.state.MaxPayloadSize = n
	gsoOf(ep).MSS = uint16(n)
	*scoreboardSMSS(ep) = uint16(n)
}

// sackRoom is what netstack keeps of a segment of ep, whose handshake is done, for SACK blocks: as many as fit into the
// options, aligned (RFC 2018 3), which are three beside timestamps.
func sackRoom(ep *tcp.Endpoint) int {
	switch {
	case !ep.SACKPermitted:
		return 0
	case ep.SendTSOk:
		return 4 + 3*sackBlockBytes
	default:
		return 4 + 4*sackBlockBytes
	}
}

// payloadLimit is how much data of a TCP packet one frame carries.
func payloadLimit(p *netstack.PacketBuffer) int {
	t := p.TransportHeader().Slice()
	options := len(t) - header.TCPMinimumSize
	if options >= timestampBytes && binary.BigEndian.Uint32(t[header.TCPMinimumSize:]) == timestampOption {
		options -= timestampBytes
	}
	return max(int(p.GSOOptions.MSS)-options, 1)
}
