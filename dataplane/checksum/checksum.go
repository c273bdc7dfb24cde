// Package checksum computes the sums that IP and TCP headers carry the complement of (RFC 1071). A body passes through it
// twice, once to be verified and once to be sent, so that most of it is vector instructions where the processor has them.
package checksum

import (
	"encoding/binary"
	"math/bits"
)

// blockBytes is what sumBlocks sums at a time.
const blockBytes = 64

// Checksum is the ones' complement sum of the 16-bit words of b and of initial, the sum of an even number of bytes before
// it. A last odd byte counts as if a zero followed. Headers carry its complement; over a header that does, it is 0xffff.
func Checksum(b []byte, initial uint16) uint16 {
	// The sum of words in the other byte order is the sum in the other byte order (RFC 1071 2.B).
	sum := uint64(bits.ReverseBytes16(initial))
	if hasBlocks && len(b) >= 2*blockBytes {
		n := len(b) / blockBytes
		sum += sumBlocks(&b[0], n)
		b = b[n*blockBytes:]
	}
	return finish(b, sum)
}

// Copy copies b to the beginning of to, which is as long at least and does not overlap, and is Checksum(b, initial). Bytes are
// read once, and not where they were written: what is there may be long in coming into the cache.
func Copy(to, b []byte, initial uint16) uint16 {
	to = to[:len(b)]
	sum := uint64(bits.ReverseBytes16(initial))
	if hasBlocks && len(b) >= 2*blockBytes {
		n := len(b) / blockBytes
		sum += copyBlocks(&to[0], &b[0], n)
		to, b = to[n*blockBytes:], b[n*blockBytes:]
	}
	copy(to, b)
	return finish(b, sum)
}

// finish adds b to a sum of words in the other byte order, and puts it in order.
func finish(b []byte, sum uint64) uint16 {
	// A carry out of 64 bits counts as 1: 2^64 is 1 modulo 2^16-1. Added to what wrapped around, it does not carry again.
	var carry uint64
	for len(b) >= 32 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[24:]), carry)
		sum += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	sum = sum>>32 + sum&0xffffffff
	if len(b) >= 4 {
		sum += uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		sum += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) > 0 {
		sum += uint64(b[0])
	}
	return bits.ReverseBytes16(Fold(sum))
}

// IPv4Bytes is the length of an IPv4 header without options.
const IPv4Bytes = 20

// IPv4 is Checksum(h[:], 0) of an IPv4 header without options, of which a small request has four.
func IPv4(h *[IPv4Bytes]byte) uint16 {
	return Fold(uint64(binary.BigEndian.Uint32(h[0:])) + uint64(binary.BigEndian.Uint32(h[4:])) + uint64(binary.BigEndian.Uint32(h[8:])) +
		uint64(binary.BigEndian.Uint32(h[12:])) + uint64(binary.BigEndian.Uint32(h[16:])))
}

// Fold is the ones' complement sum of the four 16-bit words of sum.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Combine is the sum of two sums, the first of an even number of bytes.
func Combine(a, b uint16) uint16 {
	sum := uint32(a) + uint32(b)
	return uint16(sum>>16 + sum)
}
