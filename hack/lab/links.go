package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab/faultlink"
	"ringroad/hack/lab/rss"
)

// end is one end of a veth pair.
type end struct {
	ns        *Namespace
	name      string
	addresses []netip.Prefix
}

// wire joins two hosts: by one veth pair, or, when it shall have faults, by two pairs and a namespace between them.
func (l *Lab) wire(role string, a, b end, fault *faultlink.Options) (*Wire, error) {
	if fault == nil {
		return nil, l.veth(a, b)
	}
	middle, err := l.namespace(role)
	if err != nil {
		return nil, err
	}
	if err := l.veth(a, end{ns: middle, name: "w0"}); err != nil {
		return nil, err
	}
	if err := l.veth(end{ns: middle, name: "w1"}, b); err != nil {
		return nil, err
	}
	w := &Wire{lab: l, middle: middle, edge: "w0"}
	if b.ns == l.Edge {
		w.edge = "w1"
	}
	return w, w.start(*fault)
}

// veth makes a pair, one end in each namespace, and brings both ends up with their addresses.
func (l *Lab) veth(a, b end) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = a.name, l.options.MTU
	attrs.NumTxQueues, attrs.NumRxQueues, attrs.TxQLen = l.options.Queues, l.options.Queues, qdiscFrames
	attrs.Namespace = netlink.NsFd(a.ns.handle)
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerMTU = b.name, uint32(l.options.MTU)
	pair.PeerNumTxQueues, pair.PeerNumRxQueues = uint32(l.options.Queues), uint32(l.options.Queues)
	pair.PeerNamespace = netlink.NsFd(b.ns.handle)
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make veth %s/%s - %s/%s: %w", a.ns.Name, a.name, b.ns.Name, b.name, err)
	}
	for _, e := range []end{a, b} {
		sendsToEdge := e.ns != l.Edge && (a.ns == l.Edge || b.ns == l.Edge)
		if err := e.ns.Do(func() error { return l.bringUp(e, sendsToEdge) }); err != nil {
			return fmt.Errorf("bring up %s/%s: %w", e.ns.Name, e.name, err)
		}
	}
	return nil
}

// bringUp runs inside the namespace of the end.
func (l *Lab) bringUp(e end, sendsToEdge bool) error {
	link, err := netlink.LinkByName(e.name)
	if err != nil {
		return err
	}
	// Without duplicate address detection the link-local address serves at once too.
	if err := setSysctl("ipv6/conf/"+e.name+"/accept_dad", "0"); err != nil {
		return err
	}
	if len(e.addresses) == 0 {
		if err := setSysctl("ipv6/conf/"+e.name+"/disable_ipv6", "1"); err != nil {
			return err
		}
	}
	for _, offload := range l.options.Offloads.turnedOff() {
		if err := setOffload(e.name, offload, false); err != nil {
			return err
		}
	}
	for _, p := range e.addresses {
		address := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			address.Flags = syscall.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("add address %v: %w", p, err)
		}
	}
	if sendsToEdge && !l.options.NoQdisc {
		if err := addQdisc(link, l.options.Queues); err != nil {
			return fmt.Errorf("give %s a queueing discipline: %w", e.name, err)
		}
	}
	if l.options.RSS != nil && sendsToEdge {
		// While it is down: no socket has sent through it yet.
		program, err := rss.Attach(link.Attrs().Index, l.options.RSS, l.options.Queues)
		if err != nil {
			return err
		}
		l.rss = append(l.rss, program)
	}
	return netlink.LinkSetUp(link)
}

// qdiscFrames is what a queueing discipline holds: as much as fq_codel, the usual one, and so more than 5,000 clients say at a time.
const qdiscFrames = 10240

// addQdisc gives an interface what one of hardware has and a veth has not: a FIFO for each queue, which is stopped while the driver has
// no room (drivers/net/veth.c, veth_xmit).
func addQdisc(link netlink.Link, queues int) error {
	if queues > 1 {
		return setQdisc(link, "mq")
	}
	return setQdisc(link, "pfifo_fast")
}

func setQdisc(link netlink.Link, kind string) error {
	q := &netlink.GenericQdisc{QdiscType: kind}
	q.LinkIndex, q.Parent = link.Attrs().Index, netlink.HANDLE_ROOT
	return netlink.QdiscReplace(q)
}

// SetQdiscs gives client and backend, on plain wires, their queueing disciplines, or takes them away: where the edge's kernel takes the
// packets, and no XDP program does, nothing ever stops one.
func (l *Lab) SetQdiscs(on bool) error {
	for _, end := range []struct {
		*Namespace
		link string
	}{{l.Client, ClientLink}, {l.Backend, BackendLink}} {
		err := end.Do(func() error {
			link, err := netlink.LinkByName(end.link)
			if err != nil {
				return err
			}
			if on {
				err = addQdisc(link, l.options.Queues)
			} else {
				err = setQdisc(link, "noqueue")
			}
			if err != nil {
				return fmt.Errorf("queueing discipline of %s: %w", end.link, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// defaultRoutes makes the edge the way to everything else.
func (n *Namespace) defaultRoutes(link string, gateways ...netip.Addr) error {
	return n.Do(func() error {
		out, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", link, n.Name, err)
		}
		for _, gateway := range gateways {
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: out.Attrs().Index, Gw: gateway.AsSlice()}); err != nil {
				return fmt.Errorf("add default route via %v in %s: %w", gateway, n.Name, err)
			}
		}
		return nil
	})
}

// tune sets what the kernels of the three hosts do. The edge keeps the default range of ephemeral ports, as a real host would.
func (l *Lab) tune() error {
	all := map[string]string{
		"core/somaxconn":           "8192",
		"ipv4/tcp_max_syn_backlog": "8192",
		"ipv4/tcp_tw_reuse":        "1",
		"ipv4/tcp_no_metrics_save": "1",     // a run must not inherit what the run before measured
		congestionControl:          "cubic", // the machine's default may be bbr, which hides loss
		"ipv6/conf/all/accept_ra":  "0",
	}
	for _, n := range []*Namespace{l.Client, l.Edge, l.Backend} {
		settings := map[string]string{}
		for k, v := range all {
			settings[k] = v
		}
		if n != l.Edge {
			settings["ipv4/ip_local_port_range"] = "10000 65000"
		} else if l.options.Forward {
			settings["ipv4/ip_forward"], settings["ipv6/conf/all/forwarding"] = "1", "1"
		}
		if err := n.SetSysctls(settings); err != nil {
			return err
		}
		if err := n.useCubic(); err != nil {
			return fmt.Errorf("set congestion control in %s: %w", n.Name, err)
		}
	}
	return nil
}

// useCubic has the namespace's routes ask for cubic where the sysctl could not: a machine that allows not everybody to choose it
// keeps its default, which may be bbr, and bbr knows no loss.
func (n *Namespace) useCubic() error {
	return n.Do(func() error {
		if b, err := os.ReadFile("/proc/sys/net/" + congestionControl); err != nil || strings.TrimSpace(string(b)) == "cubic" {
			return err
		}
		routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, r := range routes {
			r.Congctl, r.Flags = "cubic", 0 // flags may say that the link has no carrier yet, which cannot be set
			if err := netlink.RouteReplace(&r); err != nil {
				return fmt.Errorf("replace route to %v: %w", r.Dst, err)
			}
		}
		return nil
	})
}

// congestionControl can be set in a namespace only to what the machine allows everybody (tcp_allowed_congestion_control).
const congestionControl = "ipv4/tcp_congestion_control"

// SetSysctls sets network settings of the namespace, named by their path below /proc/sys/net. One that the kernel does not have is
// left out, and so is a congestion control that it does not allow.
func (n *Namespace) SetSysctls(settings map[string]string) error {
	return n.Do(func() error {
		for name, value := range settings {
			if err := setSysctl(name, value); err != nil {
				return fmt.Errorf("in %s: %w", n.Name, err)
			}
		}
		return nil
	})
}

func setSysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	absent := errors.Is(err, os.ErrNotExist)
	refused := name == congestionControl && errors.Is(err, os.ErrPermission)
	if err != nil && !absent && !refused {
		return fmt.Errorf("set net.%s to %q: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}
