package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/safchain/ethtool"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/restore"
	"ringroad/dataplane"
	"ringroad/proxy/config"
)

// nic is what was found about an interface of the configuration.
type nic struct {
	name string
	err  error // why there is nothing else
	*dataplane.Inspection

	addresses    []netip.Addr
	offloads     map[string]bool // ethtool -k; nil: unknown
	peer         *net.Interface  // Inspection.Peer; nil: none, or unknown
	peerOffloads map[string]bool // of peer
	peerQueues   int             // that peer sends by; 0: unknown
	maxQueues    int             // that the driver could have; 0: unknown
	rss          error           // why nobody knows how flows are placed on queues
	table        dataplane.Indirection
	bound        []int // queues with an AF_XDP socket
	interrupts   []int // CPUs that its interrupts go to, one for each; nil: unknown
}

func inspectAll(c *config.Config) []nic {
	nics := make([]nic, len(c.Interfaces))
	for k, name := range c.Interfaces {
		nics[k] = inspect(name)
	}
	return nics
}

func inspect(name string) nic {
	n := nic{name: name}
	if n.Inspection, n.err = dataplane.Inspect(name); n.err != nil {
		return n
	}
	if i, err := net.InterfaceByName(name); err == nil {
		n.addresses = addressesOf(i)
	}
	_, n.rss = dataplane.ReadRSS(n.Link.Index)
	n.table, _ = dataplane.ReadIndirection(n.Link.Index)              // many have none
	n.bound, _ = dataplane.BoundQueues(n.Link.Index, n.Link.RXQueues) // the kernel may not tell
	if tool, err := ethtool.NewEthtool(); err == nil {
		defer tool.Close()
		n.offloads, _ = tool.Features(name)
		if n.peer, err = net.InterfaceByName(n.Peer); err == nil {
			n.peerOffloads, _ = tool.Features(n.Peer)
			if channels, err := tool.GetChannels(n.Peer); err == nil {
				n.peerQueues = int(channels.CombinedCount + channels.TxCount)
			}
		}
		if channels, err := tool.GetChannels(name); err == nil {
			n.maxQueues = int(channels.MaxCombined + channels.MaxRx)
		}
	}
	n.interrupts = interruptsOf(n.Link)
	return n
}

func addressesOf(i *net.Interface) (all []netip.Addr) {
	list, err := i.Addrs()
	if err != nil {
		return nil // removed meanwhile
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all
}

// interruptsOf reads which CPU each interrupt of a NIC goes to. Sysfs may show
// another network namespace, in which the name means another interface.
func interruptsOf(l dataplane.LinkInfo) (cpus []int) {
	dir := filepath.Join("/sys/class/net", l.Name)
	if index, err := os.ReadFile(filepath.Join(dir, "ifindex")); err != nil || strings.TrimSpace(string(index)) != strconv.Itoa(l.Index) {
		return nil
	}
	of := "/device/msi_irqs"
	if l.Driver == "virtio_net" {
		of = "/device/../msi_irqs" // between the interface and its PCI device there is one of virtio
	}
	numbers, err := os.ReadDir(dir + of) // device is a link: Join would cut it off before the dots
	if err != nil {
		return nil
	}
	for _, n := range numbers {
		b, err := os.ReadFile(filepath.Join("/proc/irq", n.Name(), "effective_affinity_list"))
		if err != nil {
			continue
		}
		if cpu, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// workersOf is `workers`, as far as the interfaces let it be; 0: none of them is there to say so.
func workersOf(c *config.Config, nics []nic) int {
	if c.Workers != 0 {
		return c.Workers
	}
	n, known := config.MaxWorkers, false
	for _, i := range nics {
		if i.Inspection != nil {
			n, known = min(n, i.Link.RXQueues), true
		}
	}
	if !known {
		return 0
	}
	return n
}

func (r *Report) interfaces(c *config.Config, nics []nic, running *instance) {
	workers := workersOf(c, nics)
	for i := range nics {
		n := &nics[i]
		if n.err != nil {
			remedy := "interfaces (ip -br link)"
			if !errors.Is(n.err, dataplane.ErrNoInterface) {
				remedy = ""
			}
			r.add(Problem, "interface", n.name, n.err.Error(), remedy)
			continue
		}
		if n.Kind != nil {
			r.add(Problem, "interface", n.name, n.Kind.Error(), "interfaces (ip -br link)")
			continue
		}
		r.linkState(n)
		r.program(c, n, running)
		r.ok("features", n.name, "%v", control.NewFeatures(n.Link.Features))
		if len(n.bound) > 0 && !running.serves(n.name) {
			r.add(Problem, "sockets", n.name, fmt.Sprintf("AF_XDP sockets of another program are bound to the queues %v: it cannot have them", n.bound), "end that program (ss --xdp -p shows it)")
		}
		r.queues(n, workers)
		if bytes := frameBytes(c, n); n.Link.CheckMTU(bytes) != nil {
			r.add(Problem, "mtu", n.name, n.Link.CheckMTU(bytes).Error(), fmt.Sprintf("rings.frame_bytes: auto, or ip link set dev %s mtu 1500", n.name))
		} else {
			r.ok("mtu", n.name, "%d, frames of %d bytes", n.Link.MTU, bytes)
		}
		r.offload(n)
		r.checksums(c, n)
		r.otherEnd(c, n)
		r.placement(c, n, workers)
		r.spread(n, workers)
		r.zeroCopy(c, n, running)
		r.interrupts(n)
	}
}

func (r *Report) linkState(n *nic) {
	switch {
	case !n.Up:
		r.add(Problem, "link", n.name, "it is down", fmt.Sprintf("ip link set dev %s up", n.name))
	case !n.Carrier:
		r.add(Problem, "link", n.name, "it has no carrier: the cable, the switch, or the other end of a veth", fmt.Sprintf("ethtool %s", n.name))
	default:
		r.ok("link", n.name, "up, Ethernet, driver %s", n.Link.Driver)
	}
}

// program says in which mode the steering program can be attached.
func (r *Report) program(c *config.Config, n *nic, running *instance) {
	switch {
	case n.Attached != nil && running.serves(n.name):
		r.ok("xdp", n.name, "the program of the running ringroad, process %d, is attached", running.status.PID)
		return
	case n.Attached != nil:
		remedy := fmt.Sprintf("ip link set dev %s xdp off", n.name)
		if n.Holder != 0 {
			remedy = fmt.Sprintf("bpftool link detach id %d", n.Holder) // xdp off does not take it from a link
		}
		r.add(Problem, "xdp", n.name, n.Attached.Error(), remedy)
		return
	}
	none := fmt.Sprintf("driver %s has no native mode", n.Link.Driver)
	if n.Link.Frags {
		none += fmt.Sprintf(" for an MTU of %d", n.Link.MTU)
	}
	switch {
	case c.XDPMode == config.XDPGeneric:
		r.add(Warning, "xdp", n.name, "xdp_mode is generic, which is several times slower than native", "xdp_mode: auto")
	case !n.Link.Features.Known:
		r.ok("xdp", n.name, "whether driver %s has native mode shows when ringroad starts (Linux 6.3 would tell)", n.Link.Driver)
	case n.Link.OffersNative():
		r.ok("xdp", n.name, "driver %s has native mode, no program is attached", n.Link.Driver)
	case c.XDPMode == config.XDPNative:
		r.add(Problem, "xdp", n.name, none+", which xdp_mode demands", "xdp_mode: auto")
	default:
		r.add(Warning, "xdp", n.name, none+": generic mode is several times slower", "another NIC, or for a bond the interfaces below it")
	}
}

func (r *Report) queues(n *nic, workers int) {
	have := n.Link.RXQueues
	switch {
	case workers > have:
		r.add(Problem, "queues", n.name, fmt.Sprintf("workers is %d and it has %d receive queues: each worker needs one of every interface", workers, have),
			fmt.Sprintf("workers: auto, or ethtool -L %s combined %d", n.name, workers))
	case workers < have && have%workers != 0 && n.table == nil: // of a table, spread says more
		r.add(Warning, "queues", n.name, fmt.Sprintf("%d receive queues for %d workers: some serve one more than others", have, workers),
			fmt.Sprintf("ethtool -L %s combined %d", n.name, workers))
	case n.maxQueues > have:
		r.ok("queues", n.name, "%d receive queues, workers %d (the driver could have %d: ethtool -L %s)", have, workers, n.maxQueues, n.name)
	default:
		r.ok("queues", n.name, "%d receive queues, workers %d", have, workers)
	}
}

// breaking are offloads that hand over frames larger than the MTU. Some drivers
// refuse XDP beside them (mlx5), others switch them off when a program comes
// (virtio_net).
var breaking = []struct {
	feature string
	setting dataplane.Setting
}{{"rx-lro", dataplane.SettingLRO}, {"rx-gro-hw", dataplane.SettingGROHW}}

// quiet are drivers that change offloads without taking the link down.
var quiet = []string{"virtio_net"}

func (r *Report) offload(n *nic) {
	if n.offloads == nil {
		return
	}
	var flags []string
	var changes []restore.Change
	for _, b := range breaking {
		if n.offloads[b.feature] {
			flags = append(flags, string(b.setting))
			changes = append(changes, restore.Change{Interface: n.name, Index: n.Link.Index, Setting: b.setting, After: "off"})
		}
	}
	text := fmt.Sprintf("%s merges frames: drivers refuse XDP beside it, or switch it off", strings.Join(flags, ", "))
	switch {
	case len(flags) == 0:
		r.ok("offloads", n.name, "LRO and hardware GRO are off")
	case slices.Contains(quiet, n.Link.Driver):
		r.mendable(Warning, "offloads", n.name, text, changes...)
	default:
		r.add(Warning, "offloads", n.name, text+"; changing it may take the link down for a moment", commands(changes))
	}
}

// checksums is about veth, whose peer may leave the work to a NIC that there is
// not.
func (r *Report) checksums(c *config.Config, n *nic) {
	switch {
	case c.RXChecksum == config.RXChecksumTrust:
		r.add(Warning, "checksums", n.name, "rx_checksum is trust: a corrupted segment is delivered", "rx_checksum: auto")
	case n.Link.Driver != "veth":
	case n.peerOffloads != nil && !n.peerOffloads["tx-checksum-ip-generic"]:
		r.ok("checksums", n.name, "the peer %s fills them in", n.Peer)
	case c.RXChecksum == config.RXChecksumAuto:
		r.ok("checksums", n.name, "rx_checksum is auto: on veth, whose peer may leave them unfilled, those are taken too")
	case n.peerOffloads != nil:
		r.mendable(Problem, "checksums", n.name, fmt.Sprintf("rx_checksum is verify and the peer %s leaves them unfilled: its segments are dropped", n.Peer),
			restore.Change{Interface: n.Peer, Index: n.peer.Index, Setting: dataplane.SettingTXChecksum, After: "off"})
	default:
		r.add(Warning, "checksums", n.name, "rx_checksum is verify, and whether the peer fills them in is not known: it is in another namespace",
			dataplane.SettingTXChecksum.Command("PEER", "off")+", in the namespace of the other end")
	}
}

// otherEnd is about veth too, whose driver takes no program when the other end could
// send what it cannot receive (veth_xdp_set).
func (r *Report) otherEnd(c *config.Config, n *nic) {
	if n.Link.Driver != "veth" || n.peer == nil {
		return
	}
	severity, what := Warning, "generic mode is used, which is several times slower"
	if c.XDPMode == config.XDPNative {
		severity, what = Problem, "xdp_mode demands it"
	}
	switch {
	case n.peerQueues > n.Link.RXQueues:
		r.add(severity, "peer", n.name, fmt.Sprintf("the other end %s sends by %d queues and it receives by %d: it has no native mode so, and %s", n.Peer, n.peerQueues, n.Link.RXQueues, what),
			fmt.Sprintf("ethtool -L %s tx %d", n.Peer, n.Link.RXQueues))
	case n.peer.MTU > n.Link.MTU:
		r.add(Warning, "peer", n.name, fmt.Sprintf("the other end %s has MTU %d and it %d: larger frames are lost", n.Peer, n.peer.MTU, n.Link.MTU),
			fmt.Sprintf("ip link set dev %s mtu %d", n.Peer, n.Link.MTU))
	case n.PeerUnqueued && n.Link.OffersNative() && c.XDPMode != config.XDPGeneric:
		qdisc := "pfifo_fast"
		if n.peerQueues > 1 {
			qdisc = "mq"
		}
		r.add(Warning, "peer", n.name, fmt.Sprintf("the other end %s has no queueing discipline: what it sends while the ring of 256 frames is full is lost", n.Peer),
			fmt.Sprintf("tc qdisc replace dev %s root %s", n.Peer, qdisc))
	default:
		r.ok("peer", n.name, "the other end %s sends by %d queues, MTU %d", n.Peer, n.peerQueues, n.peer.MTU)
	}
}

// spread looks whether the NIC gives every worker the same share of flows.
func (r *Report) spread(n *nic, workers int) {
	have := n.Link.RXQueues
	switch {
	case n.table == nil || workers < 1 || workers > have:
	case n.table.Even(workers) || have%workers == 0 && n.table.Even(have):
		r.ok("spread", n.name, "the RSS table (%v) gives each of %d workers the same share of flows", n.table, workers)
	default:
		r.mendable(Warning, "spread", n.name, fmt.Sprintf("the RSS table (%v) gives %d workers on %d queues different shares of flows", n.table, workers, have),
			restore.Change{Interface: n.name, Index: n.Link.Index, Setting: dataplane.SettingRSS, After: dataplane.EqualRSS(workers)})
	}
}

func (r *Report) placement(c *config.Config, n *nic, workers int) {
	switch key := c.RSS.Key; {
	case workers == 1:
		r.ok("rss", n.name, "one worker: nothing has to be chosen")
	case key.Off:
		r.add(Warning, "rss", n.name, "rss.key is off: replies of backends on another worker's queue are handed over", "rss: {key: auto}")
	case len(key.Bytes) > 0:
		r.ok("rss", n.name, "the configuration knows the key")
	case n.rss != nil:
		r.add(Warning, "rss", n.name, fmt.Sprintf("replies of backends on another worker's queue are handed over, which costs some CPU: %v", n.rss), "rss.key, where the key is known")
	default:
		r.ok("rss", n.name, "key and table can be read: replies of backends come in on the right queue")
	}
}

// zeroCopyModes translates the configuration.
var zeroCopyModes = map[config.ZeroCopy]dataplane.ZeroCopyMode{
	config.ZeroCopyAuto: dataplane.ZeroCopyAuto, config.ZeroCopyOn: dataplane.ZeroCopyOn, config.ZeroCopyOff: dataplane.ZeroCopyOff,
}

// linkOf is the link in the mode that the program will be attached in.
func linkOf(c *config.Config, n *nic) dataplane.LinkInfo {
	l := n.Link
	l.Mode = dataplane.ModeNative
	if c.XDPMode == config.XDPGeneric || n.Link.Features.Known && !n.Link.OffersNative() {
		l.Mode = dataplane.ModeGeneric
	}
	return l
}

func frameBytes(c *config.Config, n *nic) int {
	return zeroCopyModes[c.ZeroCopy].FrameBytes(linkOf(c, n), c.Rings.FrameBytes)
}

func (r *Report) zeroCopy(c *config.Config, n *nic, running *instance) {
	asks, why := zeroCopyModes[c.ZeroCopy].Explain(linkOf(c, n), frameBytes(c, n))
	offers := "the driver offers it"
	switch {
	case !n.Link.Features.Known:
		offers = "whether the driver offers it is not known"
	case !n.Link.OffersZeroCopy(frameBytes(c, n)):
		offers = "the driver does not offer it"
	}
	if running.serves(n.name) {
		for _, i := range running.status.Interfaces {
			if i.Name == n.name {
				r.ok("zero-copy", n.name, "in use: %t: %s", i.ZeroCopy, i.Reason)
			}
		}
		return
	}
	switch {
	case asks && n.Link.Features.Known && !n.Link.OffersZeroCopy(frameBytes(c, n)) && c.ZeroCopy == config.ZeroCopyOn:
		r.add(Problem, "zero-copy", n.name, "zero_copy is on, and driver "+n.Link.Driver+" does not offer it", "zero_copy: auto")
	case asks:
		r.ok("zero-copy", n.name, "asked for: %s; %s", why, offers)
	default:
		r.ok("zero-copy", n.name, "frames are copied: %s; %s", why, offers)
	}
}

func (r *Report) interrupts(n *nic) {
	if len(n.interrupts) == 0 {
		return
	}
	cpus := slices.Compact(slices.Sorted(slices.Values(n.interrupts)))
	if len(cpus) == 1 && n.Link.RXQueues > 1 {
		r.add(Warning, "interrupts", n.name, fmt.Sprintf("all %d go to CPU %d", len(n.interrupts), cpus[0]),
			fmt.Sprintf("echo CPU > /proc/irq/N/smp_affinity_list for each N in /sys/class/net/%s/device/msi_irqs", n.name))
		return
	}
	r.ok("interrupts", n.name, "on CPUs %v", cpus)
}
