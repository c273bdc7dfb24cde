package bpf

import (
	"encoding/binary"
)

// CookieKey is the secret of SYN cookies, which the program and all workers share: whoever gets the ACK can judge it.
type CookieKey [16]byte

// CookieFlow is whom a cookie is for: addresses of 4 or 16 bytes, both of the same family.
type CookieFlow struct {
	Local, Remote         []byte
	LocalPort, RemotePort uint16
}

// The two hashes that a cookie is made of.
const (
	CookieOuter = 0 // of the flow
	CookieInner = 1 // of the flow and the time
)

// The parts of a cookie, as netstack has them (accept.go): a time and what remembers the MSS, both hidden by hashes.
const (
	cookieDataBits = 24
	cookieDataMask = 1<<cookieDataBits - 1
	// cookieMaxAge is how many steps of the time of 64 s a cookie may be old.
	cookieMaxAge = 2
	cookieValues = 4 // of the MSS
)

// Hash is the first half of the SipHash-2-4 of the flow, with the time of a cookie and which of its hashes it is. src/cookie.h has the
// same in C.
func (k *CookieKey) Hash(f *CookieFlow, time uint8, which uint8) uint32 {
	var message [40]byte
	n := copy(message[:], f.Local)
	n += copy(message[n:], f.Remote)
	binary.BigEndian.PutUint16(message[n:], f.LocalPort)
	binary.BigEndian.PutUint16(message[n+2:], f.RemotePort)
	message[n+4], message[n+5] = time, which
	n += 6
	return uint32(k.sipHash(message[:n]))
}

// Cookie is the initial sequence number that answers a SYN with number seq at a time, and remembers mss, 0 to 3.
func (k *CookieKey) Cookie(f *CookieFlow, seq uint32, time uint8, mss uint32) uint32 {
	return k.Hash(f, 0, CookieOuter) + seq + uint32(time)<<cookieDataBits + (k.Hash(f, time, CookieInner)+mss)&cookieDataMask
}

// Valid reports whether cookie answered a SYN with number seq two to three minutes before now at most.
func (k *CookieKey) Valid(f *CookieFlow, cookie, seq uint32, now uint8) bool {
	v := cookie - k.Hash(f, 0, CookieOuter) - seq
	time := uint8(v >> cookieDataBits)
	return now-time <= cookieMaxAge && (v-k.Hash(f, time, CookieInner))&cookieDataMask < cookieValues
}

// sipHash is SipHash-2-4.
func (k *CookieKey) sipHash(b []byte) uint64 {
	v := newSIP(binary.LittleEndian.Uint64(k[:]), binary.LittleEndian.Uint64(k[8:]))
	last := uint64(len(b)) << 56
	for ; len(b) >= 8; b = b[8:] {
		v.add(binary.LittleEndian.Uint64(b), 2)
	}
	for i, c := range b {
		last |= uint64(c) << (8 * i)
	}
	v.add(last, 2)
	return v.sum(4)
}
