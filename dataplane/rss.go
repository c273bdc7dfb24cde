package dataplane

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
)

const (
	// rssKeyBytes is the shortest key: that for an IPv6 frame, whose last bit of input needs 32 bits of key.
	rssKeyBytes = maxRSSInput + 4
	// maxRSSInput is two IPv6 addresses and two ports.
	maxRSSInput = 2*16 + 2*2
	// rssTableEntries is the size of the tables that DefaultRSS makes.
	rssTableEntries = 128
)

// RSS is how a NIC chooses the queue of a TCP frame (receive side scaling): the Toeplitz hash of the addresses and ports
// under a secret key chooses an entry of the indirection table. It is not changed once made; any goroutine may use it.
type RSS struct {
	Key   []byte   // at least 40 bytes; more than 40 are not used
	Table []uint32 // indirection table: queues
	// KeyAssumed: the driver has a table but does not tell its key, and Key is the kernel's own, which such a driver is
	// most likely to use. Right for igb before Linux 7.3.
	KeyAssumed bool
}

// DefaultRSS is what a NIC with that key does when nobody changed its table: 128 entries that name the queues in turn
// (the kernel's ethtool_rxfh_indir_default).
func DefaultRSS(key []byte, queues int) *RSS {
	r := &RSS{Key: slices.Clone(key), Table: make([]uint32, rssTableEntries)}
	for i := range r.Table {
		r.Table[i] = uint32(i % queues)
	}
	return r
}

// Equal reports whether both choose the same queue for every frame. A nil RSS equals only another.
func (r *RSS) Equal(o *RSS) bool {
	if r == nil || o == nil {
		return r == o
	}
	return bytes.Equal(r.Key, o.Key) && slices.Equal(r.Table, o.Table)
}

// Hash is the hash of a TCP frame from src to dst, both IPv4 or both IPv6.
func (r *RSS) Hash(src, dst netip.AddrPort) uint32 {
	var input [maxRSSInput]byte
	b := appendAddresses(input[:0], src.Addr(), dst.Addr())
	b = binary.BigEndian.AppendUint16(b, src.Port())
	return toeplitz(r.Key, binary.BigEndian.AppendUint16(b, dst.Port()))
}

// HashAddresses is the hash of a frame whose ports do not count, such as a fragment.
func (r *RSS) HashAddresses(src, dst netip.Addr) uint32 {
	var input [maxRSSInput]byte
	return toeplitz(r.Key, appendAddresses(input[:0], src, dst))
}

func appendAddresses(b []byte, src, dst netip.Addr) []byte {
	for _, a := range [2]netip.Addr{src.Unmap(), dst.Unmap()} {
		if a.Is4() {
			a4 := a.As4()
			b = append(b, a4[:]...)
		} else {
			a16 := a.As16()
			b = append(b, a16[:]...)
		}
	}
	return b
}

// Queue is the queue of a TCP frame from src to dst.
func (r *RSS) Queue(src, dst netip.AddrPort) int {
	return int(r.Table[r.Hash(src, dst)%uint32(len(r.Table))])
}

// toeplitz is the hash function of Microsoft's RSS specification: for each bit of the input that is set, 32 bits of the
// key, from that bit's number on, are added (exclusive or).
func toeplitz(key, input []byte) (hash uint32) {
	for i, b := range input {
		for bit := range 8 {
			if b&(0x80>>bit) != 0 {
				hash ^= rssKeyBits(key, 8*i+bit)
			}
		}
	}
	return hash
}

// rssKeyBits returns 32 bits of the key from bit n on. Behind its end there are zeros.
func rssKeyBits(key []byte, n int) uint32 {
	var window [8]byte
	copy(window[:], key[min(n/8, len(key)):])
	return uint32(binary.BigEndian.Uint64(window[:]) << (n % 8) >> 32)
}
