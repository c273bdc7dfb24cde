package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// TXChecksumMode says who completes the checksums of the segments that are sent: whoever writes them, in software, or
// whoever takes them, who is told where by metadata before the frame (xsk-tx-metadata.rst).
type TXChecksumMode int

const (
	// TXChecksumAuto leaves checksums to the interface where that is known to be sound.
	TXChecksumAuto TXChecksumMode = iota
	// TXChecksumSoftware completes them before a frame is submitted.
	TXChecksumSoftware
	// TXChecksumOffload demands that they are left to the interface: a queue that cannot have it does not open.
	TXChecksumOffload
)

func (c TXChecksumMode) String() string {
	switch c {
	case TXChecksumSoftware:
		return "software"
	case TXChecksumOffload:
		return "offload"
	default:
		return "auto"
	}
}

// txMetadataBytes is how far the data of a frame that is sent lie behind struct xsk_tx_metadata at its start: flags (8
// bytes), csum_start and csum_offset (2 each), padding, launch time. A cache line, so that the data are aligned to one.
//
// The kernel wants as much room before every frame that is sent with such a UMEM, with metadata or without
// (xp_aligned_validate_desc), so that adjacent frames cannot be one packet.
const txMetadataBytes = 64

// haveTXMetadata is a probe: whether the kernel registers a UMEM with metadata. A variable for tests.
var haveTXMetadata = sync.OnceValue(func() error {
	s, err := newUMEM(socketGeometry{frames: 2, frameBytes: defaultFrameBytes, metadata: txMetadataBytes})
	if errors.Is(err, unix.EINVAL) {
		return errors.New("this kernel has no TX metadata, Linux 6.11 is needed")
	} else if err != nil {
		return fmt.Errorf("probe TX metadata: %w", err)
	}
	return s.close()
})

// leaves tells whether the checksums of a queue are left to its interface, and why.
//
// On veth it seems to save a tenth of the CPU for bodies of 64 KiB (221 us for 244; medians of seven pairs on a busy machine,
// of an earlier layout with metadata before every frame): nor does the peer's kernel, whose work is done within the system
// call, verify them.
//
// In zero-copy mode the driver says whether it can. Otherwise the kernel makes a socket buffer with CHECKSUM_PARTIAL of
// the frame (xsk_skb_metadata) and completes it where the device cannot (validate_xmit_skb in __dev_direct_xmit). A veth
// hands it on as it does with the kernel's own segments. Of other drivers it is not known whether they find the headers in
// such a buffer, whose offsets nobody has set.
func (c TXChecksumMode) leaves(l LinkInfo, zeroCopy bool) (offload bool, reason string) {
	announced := l.Features.XSK&XSKTXChecksum != 0
	switch {
	case c == TXChecksumSoftware:
		return false, "tx_checksum is software"
	case l.Frags:
		return false, "packets of several frames have no metadata"
	case zeroCopy && !announced:
		return false, fmt.Sprintf("driver %s does not announce tx-checksum", l.Driver)
	case !zeroCopy && l.Driver != "veth" && c == TXChecksumAuto:
		return false, fmt.Sprintf("in copy mode it is known to be sound on veth only, not with driver %s", l.Driver)
	}
	if err := haveTXMetadata(); err != nil {
		return false, err.Error()
	}
	switch {
	case zeroCopy:
		return true, fmt.Sprintf("driver %s announces tx-checksum", l.Driver)
	case l.Driver != "veth":
		return true, fmt.Sprintf("tx_checksum is offload; driver %s has to make do with the kernel's copies", l.Driver)
	}
	if on, err := ReadSetting(l.Index, SettingTXChecksum); err == nil && on == "off" && c == TXChecksumAuto {
		return false, fmt.Sprintf("%s of %s is off: the kernel would complete them in software", SettingTXChecksum, l.Name)
	}
	return true, "veth hands segments on as the kernel's own, to be completed where they leave the machine"
}

// SubmitPartial is [Queue.Submit] for a frame whose checksum is left to the interface: of the bytes from start on, with
// what is at offset from there, which is where it goes (the sum of the pseudo-header, not inverted).
//
// Preconditions: [Queue.TXChecksum]; start+offset+2 is at most n.
func (q *Queue) SubmitPartial(f TXFrame, n, start, offset int) {
	q.stats.TXPartial++
	m := q.umem[f:][:txMetadataBytes]
	binary.NativeEndian.PutUint64(m, unix.XDP_TXMD_FLAGS_CHECKSUM)
	binary.NativeEndian.PutUint16(m[8:], uint16(start))
	binary.NativeEndian.PutUint16(m[10:], uint16(offset))
	q.submit(f, n, unix.XDP_TX_METADATA)
}

// TXChecksum reports whether checksums may be left to the interface, by [Queue.SubmitPartial].
func (q *Queue) TXChecksum() bool { return q.txChecksum }

// TXChecksumReason tells why they are, or are not.
func (q *Queue) TXChecksumReason() string { return q.txChecksumReason }

// newUMEM makes a socket with a registered UMEM and no rings, which asavie/xdp cannot do with metadata.
func newUMEM(g socketGeometry) (*umemSocket, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	umem, err := mapUMEM(g.frames * g.frameBytes)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	s := &umemSocket{fd: fd, umem: umem, rings: map[int64][]byte{}, metadata: g.metadata}
	s.close = func() error {
		err := errors.Join(unix.Close(fd), unix.Munmap(umem))
		for _, mem := range s.rings {
			err = errors.Join(err, unix.Munmap(mem))
		}
		return err
	}
	if err := registerUMEM(fd, umem, g.frameBytes, g.metadata); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func mapUMEM(size int) ([]byte, error) {
	umem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map the UMEM: %w", err)
	}
	return umem, nil
}

// newMetadataSocket is [newSocket] with a UMEM that has room for metadata.
func newMetadataSocket(ifindex, queue int, g socketGeometry, bindFlags uint16) (*umemSocket, error) {
	s, err := newUMEM(g)
	if err != nil {
		return nil, err
	}
	for _, ring := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, ring, g.entries); err != nil {
			return nil, errors.Join(fmt.Errorf("setsockopt SOL_XDP %d: %w", ring, err), s.close())
		}
	}
	_, sizes, err := ringSizes(s.fd, g.entries)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	for at, bytes := range sizes {
		if s.rings[at], err = unix.Mmap(s.fd, at, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
			delete(s.rings, at)
			return nil, errors.Join(fmt.Errorf("map the ring at offset %#x: %w", at, err), s.close())
		}
	}
	if err := unix.Bind(s.fd, &unix.SockaddrXDP{Flags: bindFlags, Ifindex: uint32(ifindex), QueueID: uint32(queue)}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind: %w", err), s.close())
	}
	return s, nil
}
