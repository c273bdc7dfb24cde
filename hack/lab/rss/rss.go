package rss

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

// Key is a Toeplitz key, at least minKeyBytes long.
type Key []byte

// minKeyBytes is the longest input and the 32 bits of the hash.
const minKeyBytes = 36 + 4

// DefaultKey is the one that the published verification vectors of RSS are made with.
var DefaultKey = Key{
	0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
	0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
}

// String returns the key as ethtool and ringroad's rss.key write it: bytes in hexadecimal with colons between.
func (k Key) String() string {
	parts := make([]string, len(k))
	for i, b := range k {
		parts[i] = fmt.Sprintf("%02x", b)
	}
	return strings.Join(parts, ":")
}

// Attach attaches the program to the egress of an interface of the calling thread's namespace, for a NIC of the given number of
// queues at the other end whose table is entry % queues. Closing detaches it.
func Attach(ifindex int, key Key, queues int) (io.Closer, error) {
	nic, err := newNIC(key, queues)
	if err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, err
	}
	var o rssObjects
	if err := loadRssObjects(&o, nil); err != nil {
		return nil, fmt.Errorf("load RSS program: %w", err)
	}
	defer o.Close() // once attached the link keeps the program
	if err := o.Nics.Put(uint32(0), nic); err != nil {
		return nil, fmt.Errorf("set key of RSS: %w", err)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: o.RingroadRss, Attach: ebpf.AttachTCXEgress})
	if err != nil {
		return nil, fmt.Errorf("attach RSS program (Linux 6.6 is needed): %w", err)
	}
	return l, nil
}

func newNIC(key Key, queues int) (*rssNic, error) {
	if len(key) < minKeyBytes {
		return nil, fmt.Errorf("RSS key of %d bytes: at least %d are needed", len(key), minKeyBytes)
	}
	if queues < 1 {
		return nil, errors.New("RSS over no queue")
	}
	nic := new(rssNic)
	for i := range nic.Contribution {
		for b := range nic.Contribution[i] {
			nic.Contribution[i][b] = contribution(key, i, byte(b))
		}
	}
	for i := range nic.Table {
		nic.Table[i] = uint32(i % queues)
	}
	return nic, nil
}

// contribution is what byte b at place i of the input adds to the hash: for each bit that is set, the 32 bits of the key from there on.
func contribution(key Key, i int, b byte) (sum uint32) {
	window := uint64(binary.BigEndian.Uint32(key[i:]))<<8 | uint64(key[i+4])
	for bit := range 8 {
		if b&(0x80>>bit) != 0 {
			sum ^= uint32(window >> (8 - bit))
		}
	}
	return sum
}
