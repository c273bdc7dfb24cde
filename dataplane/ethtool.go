package dataplane

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of ETHTOOL_MSG_RSS_GET and its reply (linux/ethtool_netlink_generated.h).
const (
	rssAttrHeader    = 1 // nested: unix.ETHTOOL_A_HEADER_*
	rssAttrContext   = 2 // u32
	rssAttrHFunc     = 3 // u32, a bit of ETH_RSS_HASH_*; absent when the driver does not say
	rssAttrIndir     = 4 // array of u32
	rssAttrHKey      = 5 // bytes
	rssAttrInputXfrm = 6 // u32, bits RXH_XFRM_*; absent when zero
)

const (
	rssHashToeplitz = 1 << 0 // ETH_RSS_HASH_TOP
	rssFieldsTCP    = 0xf0   // RXH_IP_SRC, RXH_IP_DST, RXH_L4_B_0_1, RXH_L4_B_2_3

	ethtoolTCP4 = 0x01 // TCP_V4_FLOW
	ethtoolTCP6 = 0x05 // TCP_V6_FLOW

	rssSystemKeyPath = "/proc/sys/net/core/netdev_rss_key"
)

// ReadRSS asks the kernel for the key and the indirection table of an interface's default RSS context, in the network
// namespace of the calling thread. The error wraps [ErrUnsupported] and says why where the queue of a frame cannot be
// predicted: the driver has no RSS (veth) or tells neither table nor key, hashes otherwise than by Toeplitz over
// addresses and ports, or Linux is older than 6.3. Where the driver has a table but does not tell its key, the kernel's
// own is assumed ([RSS.KeyAssumed]).
func ReadRSS(ifindex int) (*RSS, error) {
	r, err := readRSS(ifindex)
	if err != nil {
		return nil, fmt.Errorf("read RSS of interface %d: %w", ifindex, err)
	}
	return r, nil
}

func readRSS(ifindex int) (*RSS, error) {
	family, err := netlink.GenlFamilyGet(unix.ETHTOOL_GENL_NAME)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w: this kernel is built without CONFIG_ETHTOOL_NETLINK", ErrUnsupported)
	} else if err != nil {
		return nil, fmt.Errorf("look up generic netlink family ethtool: %w", err)
	}
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	header := nl.NewRtAttr(rssAttrHeader|unix.NLA_F_NESTED, nil)
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_INDEX, nl.Uint32Attr(uint32(ifindex)))
	// By hand: nl.Genlmsg leaves its two reserved bytes to chance, and the kernel wants zeros.
	request.AddRawData(append([]byte{unix.ETHTOOL_MSG_RSS_GET, unix.ETHTOOL_GENL_VERSION, 0, 0}, header.Serialize()...))
	replies, err := request.Execute(unix.NETLINK_GENERIC, 0)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		// Either the kernel does not know the message, or the driver has no RSS.
		return nil, fmt.Errorf("%w: the driver has no RSS, or Linux is older than 6.3 (%w)", ErrUnsupported, err)
	case errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("%w (%w)", ErrNoInterface, err)
	case err != nil:
		return nil, err
	case len(replies) != 1:
		return nil, fmt.Errorf("%d replies", len(replies))
	}
	r, err := decodeRSS(replies[0], systemRSSKey)
	if err != nil {
		return nil, err
	}
	return r, checkHashFields(ifindex)
}

// decodeRSS reads a reply; systemKey is asked when there is a table but no key.
func decodeRSS(reply []byte, systemKey func() ([]byte, error)) (*RSS, error) {
	if len(reply) < nl.SizeofGenlmsg || reply[0] != unix.ETHTOOL_MSG_RSS_GET_REPLY {
		return nil, fmt.Errorf("reply % x is no answer to the question", reply)
	}
	if len(reply)%unix.NLA_ALIGNTO != 0 { // the kernel fills every attribute up; ParseRouteAttr relies on it
		return nil, fmt.Errorf("parse the reply: it is cut off after %d bytes", len(reply))
	}
	attributes, err := nl.ParseRouteAttr(reply[nl.SizeofGenlmsg:])
	if err != nil {
		return nil, fmt.Errorf("parse the reply: %w", err)
	}
	r := &RSS{}
	var function, transformation uint32
	for _, a := range attributes {
		switch kind := a.Attr.Type &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER); kind {
		case rssAttrContext, rssAttrHFunc, rssAttrInputXfrm:
			if len(a.Value) != 4 {
				return nil, fmt.Errorf("attribute %d of %d bytes, want 4", kind, len(a.Value))
			}
			switch v := binary.NativeEndian.Uint32(a.Value); kind {
			case rssAttrContext:
				if v != 0 {
					return nil, fmt.Errorf("reply about context %d, want 0", v)
				}
			case rssAttrHFunc:
				function = v
			case rssAttrInputXfrm:
				transformation = v
			}
		case rssAttrIndir:
			if len(a.Value)%4 != 0 {
				return nil, fmt.Errorf("indirection table of %d bytes", len(a.Value))
			}
			for i := 0; i < len(a.Value); i += 4 {
				r.Table = append(r.Table, binary.NativeEndian.Uint32(a.Value[i:]))
			}
		case rssAttrHKey:
			r.Key = append([]byte(nil), a.Value...)
		}
	}
	// A driver that does not say which function it has is taken to have the usual one.
	if function != 0 && function != rssHashToeplitz {
		return nil, fmt.Errorf("%w: hash function %#x, only Toeplitz (%#x) can be predicted: ethtool -X ... hfunc toeplitz", ErrUnsupported, function, rssHashToeplitz)
	}
	if transformation != 0 {
		return nil, fmt.Errorf("%w: the hash is symmetric (input transformation %#x): ethtool -X ... xfrm none", ErrUnsupported, transformation)
	}
	if err := completeRSS(r, systemKey); err != nil {
		return nil, err
	}
	return r, nil
}

// completeRSS checks what a driver told, and adds the key if that is missing.
func completeRSS(r *RSS, systemKey func() ([]byte, error)) (err error) {
	if bits.OnesCount(uint(len(r.Table))) != 1 {
		return fmt.Errorf("%w: an indirection table of %d entries, want a power of two", ErrUnsupported, len(r.Table))
	}
	if len(r.Key) == 0 {
		if r.Key, err = systemKey(); err != nil {
			return fmt.Errorf("%w: the driver does not tell its key, nor is the kernel's known (%w)", ErrUnsupported, err)
		}
		r.KeyAssumed = true
	}
	if len(r.Key) < rssKeyBytes {
		return fmt.Errorf("%w: a key of %d bytes, want %d", ErrUnsupported, len(r.Key), rssKeyBytes)
	}
	return nil
}

// systemRSSKey is the random key that the kernel offers to drivers (netdev_rss_key_fill), as far as it is used.
func systemRSSKey() ([]byte, error) {
	text, err := os.ReadFile(rssSystemKeyPath)
	if err != nil {
		return nil, err
	}
	return parseSystemRSSKey(string(text))
}

func parseSystemRSSKey(text string) ([]byte, error) {
	key, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rssSystemKeyPath, err)
	}
	if len(key) < rssKeyBytes {
		return nil, fmt.Errorf("%s holds %d bytes, want %d", rssSystemKeyPath, len(key), rssKeyBytes)
	}
	key = key[:rssKeyBytes]
	for _, b := range key {
		if b != 0 {
			return key, nil
		}
	}
	return nil, fmt.Errorf("%s is zero: no driver has asked for it", rssSystemKeyPath)
}

// checkHashFields refuses a NIC whose hash of TCP frames leaves the ports out. Drivers that cannot be asked hash by
// both addresses and ports.
func checkHashFields(ifindex int) error {
	i, err := net.InterfaceByIndex(ifindex)
	if err != nil {
		return err
	}
	for _, flow := range []struct {
		name string
		kind uint32
	}{{"tcp4", ethtoolTCP4}, {"tcp6", ethtoolTCP6}} {
		fields, err := ethtoolHashFields(i.Name, flow.kind)
		if err == nil && fields != 0 && fields != rssFieldsTCP {
			return fmt.Errorf("%w: it hashes by the fields %#x, not by addresses and ports (%#x): ethtool -N %s rx-flow-hash %s sdfn",
				ErrUnsupported, fields, rssFieldsTCP, i.Name, flow.name)
		}
	}
	return nil
}
