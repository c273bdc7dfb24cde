package dataplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/cilium/ebpf"
	bpflink "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringroad/bpf"
)

// InterfaceOptions choose an interface and how to attach to it.
type InterfaceOptions struct {
	Name string
	Mode Mode // default ModeAuto
	// Flows is where workers say which connections are open; nil: nowhere.
	Flows *bpf.Flows
}

// Interface is a network interface with the steering program attached. The program goes away with Close, or with the
// process, however it ends. Its methods may be called from any goroutine, but not at the same time as Close.
type Interface struct {
	link          LinkInfo
	nativeFailure error
	queues        int // that the program can steer to
	steer         *bpf.Steer
	attached      bpflink.Link
	netlink       *netlink.Handle
}

// LinkInfo is what a queue must know of its interface. It can be sent to another process as JSON.
type LinkInfo struct {
	Name, Driver string
	Index, MTU   int
	Mode         Mode // ModeNative or ModeGeneric
	Frags        bool // jumbo frames: the program and the queues take packets in several frames
	RXQueues     int  // in use when the interface was opened
	MAC          [6]byte
	Features     Features // as of the opening, with the program attached
}

// OpenInterface checks the interface, loads the steering program and attaches it; nothing is steered before [Interface.Steer]. The
// errors wrap [ErrPermission], [ErrNoInterface], [ErrInterfaceDown], [ErrNotEthernet], [ErrMTU], [ErrProgramAttached] or [ErrUnsupported].
func OpenInterface(o InterfaceOptions) (*Interface, error) {
	i := &Interface{}
	if err := i.open(o); err != nil {
		return nil, fmt.Errorf("open interface %s: %w", o.Name, errors.Join(err, i.Close()))
	}
	return i, nil
}

func (i *Interface) open(o InterfaceOptions) error {
	err := CheckCapabilities()
	if err != nil {
		return err
	}
	if i.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	nl, err := i.netlink.LinkByName(o.Name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return i.noSuchInterface()
	} else if err != nil {
		return fmt.Errorf("read its state: %w", err)
	}
	if err := checkLink(nl.Attrs()); err != nil {
		return err
	}
	a := nl.Attrs()
	i.link = linkInfo(a)
	if err := i.link.checkMTU(runningKernel()); err != nil {
		return err
	}
	copy(i.link.MAC[:], a.HardwareAddr)
	if i.link.RXQueues, err = countRXQueues(a); err != nil {
		return err
	}
	// Queues that are allocated may come into use (ethtool -L).
	i.queues = max(i.link.RXQueues, a.NumRxQueues)
	if i.steer, err = bpf.Load(bpf.Options{Frags: i.link.Frags, Queues: i.queues, Flows: o.Flows}); err != nil {
		return err
	}
	if err := i.attach(o.Mode); err != nil {
		return err
	}
	i.link.Features, _ = ReadFeatures(a.Index) // not to be had is not known
	return nil
}

// noSuchInterface lists those that exist.
func (i *Interface) noSuchInterface() error {
	links, err := i.netlink.LinkList()
	if err != nil {
		return errors.Join(ErrNoInterface, err)
	}
	var names []string
	for _, l := range links {
		if checkEthernet(l.Attrs()) == nil {
			names = append(names, l.Attrs().Name)
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("%w; this network namespace has no Ethernet interface", ErrNoInterface)
	}
	return fmt.Errorf("%w; there is %s", ErrNoInterface, strings.Join(names, ", "))
}

func checkEthernet(a *netlink.LinkAttrs) error {
	if a.Flags&net.FlagLoopback != 0 {
		return fmt.Errorf("%w: it is the loopback", ErrNotEthernet)
	}
	if a.EncapType != "ether" || len(a.HardwareAddr) != 6 {
		return fmt.Errorf("%w: its link type is %s", ErrNotEthernet, a.EncapType)
	}
	return nil
}

// checkLink refuses what cannot work, and what belongs to others.
func checkLink(a *netlink.LinkAttrs) error {
	if err := checkEthernet(a); err != nil {
		return err
	}
	if a.Flags&net.FlagUp == 0 {
		return fmt.Errorf("%w: ip link set dev %s up", ErrInterfaceDown, a.Name)
	}
	return checkAttached(a)
}

// checkAttached refuses an interface on which there is a program, and names it.
func checkAttached(a *netlink.LinkAttrs) error {
	if a.Xdp == nil || !a.Xdp.Attached {
		return nil
	}
	who := fmt.Sprintf("id %d", a.Xdp.ProgId)
	if p, err := ebpf.NewProgramFromID(ebpf.ProgramID(a.Xdp.ProgId)); err == nil {
		if info, err := p.Info(); err == nil {
			who = fmt.Sprintf("id %d, name %q", a.Xdp.ProgId, info.Name)
		}
		p.Close()
	}
	return fmt.Errorf("%w (%s): stop its owner, or look with `ip link show dev %s` and detach it with `ip link set dev %s xdp off`",
		ErrProgramAttached, who, a.Name, a.Name)
}

// attach tries native mode and then generic mode, as far as wanted allows.
func (i *Interface) attach(wanted Mode) error {
	if wanted != ModeGeneric {
		err := i.attachAs(ModeNative, bpflink.XDPDriverMode)
		if err == nil || errors.Is(err, ErrProgramAttached) || errors.Is(err, unix.EPERM) {
			return err
		}
		if wanted == ModeNative {
			return fmt.Errorf("%w: native mode: driver %s answers: %w%s", ErrUnsupported, i.link.Driver, err, nativeRefusal(i.link))
		}
		i.nativeFailure = fmt.Errorf("attach to driver %s in native mode: %w%s", i.link.Driver, err, nativeRefusal(i.link))
	}
	return i.attachAs(ModeGeneric, bpflink.XDPGenericMode)
}

func (i *Interface) attachAs(m Mode, flags bpflink.XDPAttachFlags) error {
	l, err := bpflink.AttachXDP(bpflink.XDPOptions{Program: i.steer.Program(), Interface: i.link.Index, Flags: flags})
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		// Somebody attached since the check, or to a device above or below this one.
		if nl, lookErr := i.netlink.LinkByIndex(i.link.Index); lookErr == nil {
			if attached := checkAttached(nl.Attrs()); attached != nil {
				return attached
			}
		}
		return fmt.Errorf("%w, to this interface or to the bond above it: %w", ErrProgramAttached, err)
	}
	if err != nil {
		return fmt.Errorf("attach in %v mode: %w", m, err)
	}
	i.attached, i.link.Mode = l, m
	return nil
}

// Close detaches the program. Queues should be closed before.
func (i *Interface) Close() error {
	var errs []error
	if i.attached != nil {
		errs = append(errs, i.attached.Close())
	}
	if i.steer != nil {
		errs = append(errs, i.steer.Close())
	}
	if i.netlink != nil {
		i.netlink.Close()
	}
	i.attached, i.steer, i.netlink = nil, nil, nil
	return errors.Join(errs...)
}

// OpenQueue binds a socket to a queue and has frames steered to it. The errors wrap [ErrPermission], [ErrNoQueue], [ErrQueueBusy],
// [ErrLockedMemory], [ErrMTU], [ErrOptions] or [ErrUnsupported].
func (i *Interface) OpenQueue(o QueueOptions) (*Queue, error) {
	q, err := OpenQueue(i.link, o)
	if err != nil {
		return nil, err
	}
	if err := i.SetSocket(o.Queue, q.fd); err != nil {
		return nil, fmt.Errorf("open %s: %w", q.name, errors.Join(err, q.Close()))
	}
	return q, nil
}

// SetSocket has the frames of a queue steered to the socket fd, which must be bound to that queue, in place of any
// other. The entry does not hold the socket: when its last descriptor is closed, as when a worker dies, the kernel takes
// the entry back and the program counts [bpf.DropNoSocket] until there is another.
func (i *Interface) SetSocket(queue, fd int) error {
	if queue < 0 || queue >= i.queues {
		return fmt.Errorf("steer to queue %d of %s: %w: it has %d, numbered from 0", queue, i.link.Name, ErrNoQueue, i.queues)
	}
	if err := i.steer.SetSocket(uint32(queue), fd); err != nil {
		return fmt.Errorf("steer to queue %d of %s: %w", queue, i.link.Name, err)
	}
	return nil
}

// Steer replaces what is steered to the queues; see [bpf.Steer.Configure].
func (i *Interface) Steer(c bpf.Config) error {
	if err := i.steer.Configure(c); err != nil {
		return fmt.Errorf("steer %s: %w", i.link.Name, err)
	}
	return nil
}

// AnswersFD is the descriptor to give to [OpenAnswers], in this process or another. It belongs to i.
func (i *Interface) AnswersFD() int { return i.steer.AnswerUntil() }

// AnswersByVeth reports whether frames that the program sends back go through veth's own ring, and arrive only if the other end has
// NAPI: an XDP program, or GRO switched on (veth_xdp_xmit). Generic mode sends them as any other.
func (l LinkInfo) AnswersByVeth() bool { return l.Driver == "veth" && l.Mode == ModeNative }

// Counters are the program's verdicts, summed over CPUs.
func (i *Interface) Counters() (bpf.Counters, error) { return i.steer.Counters() }

// Link is what [OpenQueue] must know, as of the opening.
func (i *Interface) Link() LinkInfo { return i.link }

// Name is the interface's name when it was opened.
func (i *Interface) Name() string { return i.link.Name }

// Index is the interface's index.
func (i *Interface) Index() int { return i.link.Index }

// MAC is the interface's Ethernet address when it was opened.
func (i *Interface) MAC() [6]byte { return i.link.MAC }

// MTU is the interface's MTU when it was opened, in bytes without the Ethernet header.
func (i *Interface) MTU() int { return i.link.MTU }

// RXQueues is the number of receive queues in use when the interface was opened.
func (i *Interface) RXQueues() int { return i.link.RXQueues }

// Driver is the name of the interface's driver as ethtool -i shows it.
func (i *Interface) Driver() string { return i.link.Driver }

// Mode is the mode that was really got: ModeNative or ModeGeneric.
func (i *Interface) Mode() Mode { return i.link.Mode }

// NativeFailure is why ModeAuto ended in generic mode, nil if it did not. It should be told to the operator: generic
// mode costs several times as much.
func (i *Interface) NativeFailure() error { return i.nativeFailure }

// Addresses lists the interface's addresses as they are now, with their prefix lengths.
func (i *Interface) Addresses() ([]netip.Prefix, error) {
	addrs, err := i.netlink.AddrList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: i.link.Index}}, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", i.link.Name, err)
	}
	var prefixes []netip.Prefix
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}
