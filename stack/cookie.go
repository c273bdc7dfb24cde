package stack

import (
	"encoding/binary"
	"hash"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/bpf"
)

// SYN cookies are netstack's (accept.go), but for the hash: SipHash with a key that all
// workers and the XDP program share, so that each can judge what another answered. It
// takes a tenth of the time of netstack's SHA-1, whose nonces are a listener's own.

const (
	// cookieStep is the granularity of the time in a cookie.
	cookieStep = 64 * time.Second
	// cookieLead is how far the time by which cookies are judged here is ahead of the
	// system's. A reading of the clock may be as old as a turn is long, and a cookie
	// of XDP would be of the future for it.
	cookieLead = 100 * time.Millisecond
)

// cookieTime is the time in a cookie that is made now.
func (s *Stack) cookieTime() uint8 { return uint8((s.clock.epoch + s.Now()) / cookieStep) }

// cookieFlow is whom a cookie that answers s is for.
func (s *segment) cookieFlow() *bpf.CookieFlow {
	return &bpf.CookieFlow{
		Local: s.id.LocalAddress.AsSlice(), Remote: s.id.RemoteAddress.AsSlice(),
		LocalPort: s.id.LocalPort, RemotePort: s.id.RemotePort,
	}
}

// useCookies has netstack judge and make the cookies of a listener so.
func (s *Stack) useCookies(ep *tcp.Endpoint) { setHasher(ep, &cookieHasher{key: &s.cookies}) }

// cookieHasher is the hash.Hash of netstack's listenContext.cookieHash, which writes to
// it: ports and time, a nonce that says which of the two hashes it is, the local address
// and the remote one. Used under netstack's lock.
type cookieHasher struct {
	key    *bpf.CookieKey
	writes int // since Reset
	flow   bpf.CookieFlow
	memory [2][16]byte // of the addresses
	time   uint8
	which  uint8
}

var _ hash.Hash = (*cookieHasher)(nil)

// Write implements hash.Hash.
func (h *cookieHasher) Write(p []byte) (int, error) {
	switch h.writes {
	case 0:
		h.flow.LocalPort, h.flow.RemotePort = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
		h.time = p[7]
	case 1:
		h.which = p[0]
	case 2:
		h.flow.Local = append(h.memory[0][:0], p...)
	default:
		h.flow.Remote = append(h.memory[1][:0], p...)
	}
	h.writes++
	return len(p), nil
}

// Sum implements hash.Hash.
func (h *cookieHasher) Sum(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, h.key.Hash(&h.flow, h.time, h.which))
}

// Reset implements hash.Hash.
func (h *cookieHasher) Reset() { h.writes = 0 }

// Size implements hash.Hash.
func (h *cookieHasher) Size() int { return 4 }

// BlockSize implements hash.Hash.
func (h *cookieHasher) BlockSize() int { return 8 }
