package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Features are what a driver says that it can do for XDP and AF_XDP: NETDEV_CMD_DEV_GET of the generic netlink family
// netdev (linux/netdev.h). They can change when a program is attached, and with other settings.
type Features struct {
	Known      bool        // false: the kernel does not tell (Linux 6.3 is needed), and all others are zero
	XDP        XDPFeatures // from Linux 6.3 on
	RXMetadata RXMetadata  // from Linux 6.6 on
	XSK        XSKFeatures // from Linux 6.8 on
	// ZeroCopySegments is the longest chain of descriptors for one frame in zero-copy mode, from Linux 6.6 on; 1: a
	// frame must fit one, 0: no zero-copy, or the kernel does not tell.
	ZeroCopySegments uint32
}

// XDPFeatures is a set of enum netdev_xdp_act.
type XDPFeatures uint64

// The members of XDPFeatures.
const (
	XDPBasic      XDPFeatures = 1 << iota // verdicts other than redirect
	XDPRedirect                           // XDP_REDIRECT
	XDPXmit                               // frames redirected from elsewhere can be sent
	XDPZeroCopy                           // AF_XDP in zero-copy mode
	XDPHWOffload                          // programs that run in the NIC
	XDPFrags                              // received frames of several fragments
	XDPXmitFrags                          // such frames redirected from elsewhere can be sent
	numXDPFeature = iota
)

// RXMetadata is a set of enum netdev_xdp_rx_metadata: what a program may ask of a received frame.
type RXMetadata uint64

// The members of RXMetadata.
const (
	RXTimestamp RXMetadata = 1 << iota
	RXHash
	RXVLANTag
	numRXMetadata = iota
)

// XSKFeatures is a set of enum netdev_xsk_flags: what a descriptor may ask of the NIC, in the metadata before its frame.
type XSKFeatures uint64

// The members of XSKFeatures.
const (
	XSKTXTimestamp XSKFeatures = 1 << iota
	XSKTXChecksum
	XSKTXLaunchTime
	numXSKFeature = iota
)

// The names of the members, as the kernel's netdev.yaml has them.
var (
	xdpFeatureNames = [numXDPFeature]string{"basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg"}
	rxMetadataNames = [numRXMetadata]string{"timestamp", "hash", "vlan-tag"}
	xskFeatureNames = [numXSKFeature]string{"tx-timestamp", "tx-checksum", "tx-launch-time-fifo"}
)

// Names are the members' names as the kernel's documentation has them; one that is newer than this is "bit N".
func (f XDPFeatures) Names() []string { return namesOf(uint64(f), xdpFeatureNames[:]) }

// Names is as [XDPFeatures.Names].
func (f RXMetadata) Names() []string { return namesOf(uint64(f), rxMetadataNames[:]) }

// Names is as [XDPFeatures.Names].
func (f XSKFeatures) Names() []string { return namesOf(uint64(f), xskFeatureNames[:]) }

func namesOf(set uint64, names []string) []string {
	members := []string{} // which JSON has as a list when it is empty
	for bit := range 64 {
		switch {
		case set>>bit&1 == 0:
		case bit < len(names):
			members = append(members, names[bit])
		default:
			members = append(members, fmt.Sprintf("bit %d", bit))
		}
	}
	return members
}

// Native reports whether the driver says that it runs the steering program itself.
func (f Features) Native() bool { return f.Known && f.XDP&XDPBasic != 0 && f.XDP&XDPRedirect != 0 }

// ZeroCopy reports whether the driver says that it has zero-copy mode, as the kernel decides when a socket is bound
// (NETDEV_XDP_ACT_ZC).
func (f Features) ZeroCopy() bool { return f.Native() && f.XDP&XDPZeroCopy != 0 }

// Of the generic netlink family netdev (linux/netdev.h).
const (
	netdevFamily = "netdev"

	netdevDeviceGet      = 1 // NETDEV_CMD_DEV_GET
	netdevAttrIfindex    = 1 // u32
	netdevAttrXDP        = 3 // u64
	netdevAttrZCMaxSegs  = 4 // u32
	netdevAttrRXMetadata = 5 // u64
	netdevAttrXSK        = 6 // u64

	netdevQueueGet     = 10 // NETDEV_CMD_QUEUE_GET
	netdevQueueID      = 1  // u32
	netdevQueueIfindex = 2  // u32
	netdevQueueType    = 3  // u32
	netdevQueueRX      = 0  // NETDEV_QUEUE_TYPE_RX
	netdevQueueXSK     = 7  // nest, there iff a socket is bound
)

// ReadFeatures asks for the features of an interface in the network namespace of the calling thread. Where the kernel
// does not tell them they are not Known, which is no error. The error wraps [ErrNoInterface] where there is none.
func ReadFeatures(ifindex int) (Features, error) {
	f, err := readFeatures(ifindex)
	if err != nil {
		return Features{}, fmt.Errorf("read the XDP features of interface %d: %w", ifindex, err)
	}
	return f, nil
}

func readFeatures(ifindex int) (Features, error) {
	replies, err := askNetdev(netdevDeviceGet, netdevU32(netdevAttrIfindex, ifindex))
	switch {
	case errors.Is(err, ErrUnsupported):
		return Features{}, nil
	case err != nil:
		return Features{}, err
	case len(replies) != 1:
		return Features{}, fmt.Errorf("%d replies", len(replies))
	}
	return decodeFeatures(replies[0])
}

// BoundQueues lists those of the first n receive queues of an interface to which AF_XDP sockets are bound, of whatever
// process. Before Linux 6.14 the kernel tells of none, and of an interface that is down never. The error wraps
// [ErrUnsupported] where it cannot be asked (before 6.7), or [ErrNoInterface].
func BoundQueues(ifindex, n int) (bound []int, err error) {
	for q := range n {
		// Each by itself: a dump's replies lack NLM_F_MULTI, so that the first would count as the last.
		replies, err := askNetdev(netdevQueueGet, netdevU32(netdevQueueID, q), netdevU32(netdevQueueIfindex, ifindex), netdevU32(netdevQueueType, netdevQueueRX))
		if err != nil {
			return nil, fmt.Errorf("read queue %d of interface %d: %w", q, ifindex, err)
		}
		for _, reply := range replies {
			attributes, err := nl.ParseRouteAttr(reply[min(nl.SizeofGenlmsg, len(reply)):])
			if err != nil {
				return nil, fmt.Errorf("read queue %d of interface %d: %w", q, ifindex, err)
			}
			for _, a := range attributes {
				if a.Attr.Type&^unix.NLA_F_NESTED == netdevQueueXSK {
					bound = append(bound, q)
				}
			}
		}
	}
	return bound, nil
}

func netdevU32(attribute, value int) *nl.RtAttr {
	return nl.NewRtAttr(attribute, nl.Uint32Attr(uint32(value)))
}

func askNetdev(command byte, attributes ...*nl.RtAttr) (replies [][]byte, err error) {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w: this kernel has no generic netlink family %s", ErrUnsupported, netdevFamily)
	} else if err != nil {
		return nil, fmt.Errorf("look up generic netlink family %s: %w", netdevFamily, err)
	}
	// The header by hand for the reason that readRSS gives.
	message := []byte{command, 1, 0, 0}
	for _, a := range attributes {
		message = append(message, a.Serialize()...)
	}
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	request.AddRawData(message)
	replies, err = request.Execute(unix.NETLINK_GENERIC, 0)
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("%w (%w)", ErrNoInterface, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return nil, fmt.Errorf("%w by this kernel: %w", ErrUnsupported, err)
	}
	return replies, err
}

func decodeFeatures(reply []byte) (f Features, err error) {
	attributes, err := nl.ParseRouteAttr(reply[min(nl.SizeofGenlmsg, len(reply)):])
	if err != nil {
		return f, fmt.Errorf("parse the reply: %w", err)
	}
	for _, a := range attributes {
		want, known := map[uint16]int{netdevAttrXDP: 8, netdevAttrZCMaxSegs: 4, netdevAttrRXMetadata: 8, netdevAttrXSK: 8}[a.Attr.Type]
		if known && len(a.Value) != want {
			return Features{}, fmt.Errorf("attribute %d of %d bytes, want %d", a.Attr.Type, len(a.Value), want)
		}
		switch a.Attr.Type {
		case netdevAttrXDP:
			f.Known, f.XDP = true, XDPFeatures(binary.NativeEndian.Uint64(a.Value))
		case netdevAttrZCMaxSegs:
			f.ZeroCopySegments = binary.NativeEndian.Uint32(a.Value)
		case netdevAttrRXMetadata:
			f.RXMetadata = RXMetadata(binary.NativeEndian.Uint64(a.Value))
		case netdevAttrXSK:
			f.XSK = XSKFeatures(binary.NativeEndian.Uint64(a.Value))
		}
	}
	if !f.Known {
		return Features{}, fmt.Errorf("%w: no XDP features in the reply", ErrUnsupported)
	}
	return f, nil
}
