package bpf

import "math/bits"

// sip is the state of SipHash (Aumasson and Bernstein, 2012), which hashes words of a message with a key. cookie.h has the
// same in C.
type sip struct{ a, b, c, d uint64 }

func newSIP(k0, k1 uint64) sip {
	return sip{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
}

// add takes in a word in so many rounds.
func (v *sip) add(word uint64, rounds int) {
	v.d ^= word
	for range rounds {
		v.round()
	}
	v.a ^= word
}

// sum ends the hash in so many rounds.
func (v *sip) sum(rounds int) uint64 {
	v.c ^= 0xff
	for range rounds {
		v.round()
	}
	return v.a ^ v.b ^ v.c ^ v.d
}

func (v *sip) round() {
	v.a += v.b
	v.b = bits.RotateLeft64(v.b, 13) ^ v.a
	v.a = bits.RotateLeft64(v.a, 32)
	v.c += v.d
	v.d = bits.RotateLeft64(v.d, 16) ^ v.c
	v.a += v.d
	v.d = bits.RotateLeft64(v.d, 21) ^ v.a
	v.c += v.b
	v.b = bits.RotateLeft64(v.b, 17) ^ v.c
	v.c = bits.RotateLeft64(v.c, 32)
}
