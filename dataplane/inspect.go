package dataplane

import (
	"errors"
	"fmt"
	"net"
	"slices"

	bpflink "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Inspection is what an interface says of itself.
type Inspection struct {
	Link     LinkInfo // Mode is ModeAuto: nothing is attached
	Kind     error    // wraps ErrNotEthernet; nil: Ethernet
	Up       bool     // administratively
	Carrier  bool
	Attached error  // wraps ErrProgramAttached; nil: no XDP program
	Holder   uint32 // id of the bpf_link that holds it; 0: none, or not to be found out

	// Peer is the interface at the other end of a veth, "" when this is none or the peer is in another network namespace.
	Peer string
	// PeerUnqueued says that Peer has no queueing discipline, though that would make its senders wait: in native mode a veth receives
	// through a ring of 256 frames, and what finds it full is lost otherwise (drivers/net/veth.c, veth_xmit).
	PeerUnqueued bool
}

// qdiscHolds is the first kernel all of whose releases have "veth: apply qdisc backpressure on full ptr_ring to reduce TX drops" (6.16) without the
// race that stopped a queue for good (CVE-2025-68232, mended in 6.17.10).
var qdiscHolds = kernelRelease{6, 18}

// Inspect looks at an interface and changes nothing: attaching a program would reset the link of some NICs. Without
// the interface the error wraps [ErrNoInterface] and names those that exist.
func Inspect(name string) (*Inspection, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("inspect interface %s: open netlink: %w", name, err)
	}
	defer handle.Close()
	link, err := handle.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, (&Interface{netlink: handle}).noSuchInterface()
	} else if err != nil {
		return nil, fmt.Errorf("inspect interface %s: %w", name, err)
	}
	a := link.Attrs()
	i := &Inspection{
		Link: linkInfo(a),
		Kind: checkEthernet(a), Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_RUNNING != 0, Attached: checkAttached(a),
	}
	copy(i.Link.MAC[:], a.HardwareAddr)
	if i.Attached != nil {
		i.Holder = holderOf(a.Xdp.ProgId)
	}
	if i.Link.RXQueues, err = countRXQueues(a); err != nil {
		return nil, fmt.Errorf("inspect interface %s: %w", name, err)
	}
	i.Link.Features, _ = ReadFeatures(a.Index) // not to be had is not known
	if i.Link.Driver == "veth" && a.NetNsID < 0 && a.ParentIndex > 0 {
		if peer, err := handle.LinkByIndex(a.ParentIndex); err == nil {
			i.Peer = peer.Attrs().Name
			if qdiscs, err := handle.QdiscList(peer); err == nil && !runningKernel().before(qdiscHolds) {
				i.PeerUnqueued = slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Type() == "noqueue" })
			}
		}
	}
	return i, nil
}

// holderOf finds the link that holds a program to an interface. It needs
// CAP_SYS_ADMIN.
func holderOf(program uint32) uint32 {
	it := new(bpflink.Iterator)
	defer it.Close()
	for it.Next() {
		if info, err := it.Link.Info(); err == nil && info.Type == bpflink.XDPType && uint32(info.Program) == program {
			return uint32(info.ID)
		}
	}
	return 0
}

// linkInfo is what is known of an interface before anything is attached.
func linkInfo(a *netlink.LinkAttrs) LinkInfo {
	l := LinkInfo{Name: a.Name, Driver: driverOf(a.Name), Index: a.Index, MTU: a.MTU}
	l.Frags = policyOf(l.Driver).needsFrags(l.MTU, runningKernel())
	return l
}

// OffersNative reports whether the driver says that it runs the steering program itself, at the link's MTU.
func (l LinkInfo) OffersNative() bool {
	return l.Features.Native() && (!l.Frags || l.Features.XDP&XDPFrags != 0)
}

// OffersZeroCopy reports whether the driver says that it has zero-copy mode, at the link's MTU and with such frames.
func (l LinkInfo) OffersZeroCopy(frameBytes int) bool {
	return l.Features.ZeroCopy() && l.shortOfSegments(frameBytes) == ""
}

// CheckMTU refuses an MTU with [ErrMTU] whose packets do not fit, behind the kernel's headroom, into frames of
// frameBytes, or that is too large for any.
func (l LinkInfo) CheckMTU(frameBytes int) error {
	if err := l.checkMTU(runningKernel()); err != nil {
		return err
	}
	return l.checkFrameBytes(frameBytes)
}

func (l LinkInfo) checkFrameBytes(frameBytes int) error {
	need := l.MTU + linkHeaderBytes
	if l.Frags || need <= frameBytes-frameHeadroomBytes {
		return nil
	}
	return fmt.Errorf("%w: MTU %d needs frames of %d bytes, %d hold %d: use frames of 4096 bytes or lower the MTU",
		ErrMTU, l.MTU, need, frameBytes, frameBytes-frameHeadroomBytes)
}

// FrameBytes is the size of the frames of a queue of the link: that of the options, or the default.
func (z ZeroCopyMode) FrameBytes(l LinkInfo, configured int) int {
	if configured != 0 {
		return configured
	}
	return z.frameBytesFor(l, runningKernel())
}

// Explain says whether a queue of the link would be bound in zero-copy mode, as far as the policy decides, and why.
func (z ZeroCopyMode) Explain(l LinkInfo, frameBytes int) (asks bool, why string) {
	return z.wantsZeroCopy(l, frameBytes, runningKernel())
}
