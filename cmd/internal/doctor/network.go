package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringroad/dataplane"
	"ringroad/proxy/config"
)

const (
	// neighbourTimeout bounds the wait for neighbours: the kernel asks three times, a
	// second apart.
	neighbourTimeout = 3 * time.Second
	// connectTimeout bounds the wait for a backend's SYN-ACK, and connectsAtOnce how
	// many are asked together.
	connectTimeout = 2 * time.Second
	connectsAtOnce = 16
)

func (r *Report) network(ctx context.Context, c *config.Config, nics []nic, running *instance) {
	ports := Ports(c)
	*r = append(*r, ports...)
	if ports.Count(Warning) == 0 {
		r.ok("ports", "", "listeners and backend_ports (%d-%d) are clear of the kernel's sockets and ephemeral ports", c.BackendPorts.First, c.BackendPorts.Last)
	}
	r.listeners(c, nics)
	if running == nil {
		r.admin(c)
	}
	r.backends(c, reach(ctx, c, nics))
	r.ok("firewall", "", "steered frames pass by nftables, conntrack and rp_filter: rules there neither protect nor hinder listeners and backends")
}

// LocalBackends refuses backends to which no frame can lead: those on this host,
// which the kernel reaches by its loopback.
func LocalBackends(c *config.Config) error {
	own, err := hostAddresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, u := range c.Upstreams {
		for _, s := range u.Servers {
			if where, local := localTo(own, s.Addr()); local {
				errs = append(errs, fmt.Errorf("backend %s of upstream %s %s; %s", s, u.Name, localText(c, where), localRemedy))
			}
		}
	}
	return errors.Join(errs...)
}

const localRemedy = "run the backend on another host or in a network namespace of its own, or proxy to it by the kernel"

func localText(c *config.Config, where string) string {
	return fmt.Sprintf("is an address of this host (%s): frames to it never pass %s", where, strings.Join(c.Interfaces, " or "))
}

// hostAddresses are all addresses of this network namespace, each with its
// interface.
func hostAddresses() (map[netip.Addr]string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	own := map[netip.Addr]string{}
	for k := range interfaces {
		for _, a := range addressesOf(&interfaces[k]) {
			own[a] = interfaces[k].Name
		}
	}
	return own, nil
}

func localTo(own map[netip.Addr]string, a netip.Addr) (where string, local bool) {
	if a.IsLoopback() {
		return "lo", true
	}
	where, local = own[a]
	return where, local
}

// Ports tells of ports that the kernel uses too.
func Ports(c *config.Config) (r Report) {
	for _, k := range kernelListeners() {
		for _, l := range c.Listeners {
			if l.Address.Port() == k.Port() && overlap(l.Address.Addr(), k.Addr()) {
				r.add(Warning, "kernel socket", l.Address.String(),
					fmt.Sprintf("a socket of the kernel listens on the same port (%s): frames from these interfaces no longer reach it", k),
					fmt.Sprintf("ss -ltnp sport = :%d shows its owner", k.Port()))
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		var kernel config.PortRange
		if _, err := fmt.Sscan(string(b), &kernel.First, &kernel.Last); err == nil {
			r.ephemeral(c.BackendPorts, kernel)
		}
	}
	return r
}

// ephemeral compares the ports of connections to backends with those that the
// kernel gives to its own.
func (r *Report) ephemeral(ours, kernel config.PortRange) {
	if ours.First > kernel.Last || kernel.First > ours.Last {
		return
	}
	// The kernel keeps what is larger: its ports below ours or those above.
	remedy := "backend_ports"
	below, above := int(ours.First)-int(kernel.First), int(kernel.Last)-int(ours.Last)
	switch {
	case below > 1 && below >= above:
		remedy = fmt.Sprintf("sysctl -w net.ipv4.ip_local_port_range='%d %d', or backend_ports", kernel.First, ours.First-1)
	case above > 1:
		remedy = fmt.Sprintf("sysctl -w net.ipv4.ip_local_port_range='%d %d', or backend_ports", ours.Last+1, kernel.Last)
	}
	r.add(Warning, "ephemeral ports", "", fmt.Sprintf("backend_ports %d-%d overlap the kernel's ephemeral ports %d-%d: a connection of the kernel to a backend from such a port fails",
		ours.First, ours.Last, kernel.First, kernel.Last), remedy)
}

// kernelListeners are the TCP sockets of the kernel that listen in this network
// namespace.
func kernelListeners() (all []netip.AddrPort) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			continue // the kernel is built without inet_diag
		}
		for _, s := range sockets {
			if s.State == netlink.TCP_LISTEN {
				ip, _ := netip.AddrFromSlice(s.ID.Source)
				all = append(all, netip.AddrPortFrom(ip.Unmap(), s.ID.SourcePort))
			}
		}
	}
	return all
}

// overlap reports whether a listener on a hides a kernel socket on k.
func overlap(a, k netip.Addr) bool {
	switch {
	case a == k:
		return true
	case a.Is4() != k.Is4():
		// [::] of the kernel takes IPv4 too unless it is IPv6 only.
		return k.IsUnspecified() && k.Is6()
	default:
		return a.IsUnspecified() || k.IsUnspecified()
	}
}

// listeners looks for each address on the interfaces.
func (r *Report) listeners(c *config.Config, nics []nic) {
	for i := range c.Listeners {
		l := c.Listeners[i].Address
		var by []string
		for _, n := range nics {
			for _, a := range n.addresses {
				if a == l.Addr() || l.Addr().IsUnspecified() && a.Is4() == l.Addr().Is4() && !a.IsLinkLocalUnicast() {
					by = append(by, n.name)
					break
				}
			}
		}
		if len(by) > 0 {
			r.ok("listener", l.String(), "reached by %s", strings.Join(by, ", "))
			continue
		}
		severity, missing, address := Problem, "the address", l.Addr().String()
		if l.Addr().IsUnspecified() {
			severity, missing, address = Warning, "an address of its family", "ADDRESS"
		}
		names := strings.Join(c.Interfaces, " or ")
		r.add(severity, "listener", l.String(), fmt.Sprintf("%s is not on %s: nobody reaches it", missing, names), fmt.Sprintf("ip address add %s/PREFIX dev %s", address, names))
	}
}

// admin looks whether the endpoint's address is free.
func (r *Report) admin(c *config.Config) {
	a := c.Admin.TCP
	if !a.IsValid() || a.Port() == 0 {
		return
	}
	for _, k := range kernelListeners() {
		if k.Port() == a.Port() && overlap(a.Addr(), k.Addr()) {
			severity := Problem
			if c.Admin == config.DefaultAdmin {
				severity = Warning // it runs without
			}
			r.add(severity, "admin", a.String(), fmt.Sprintf("another program listens on %s", k), fmt.Sprintf("admin: ADDRESS:PORT or off (ss -ltnp sport = :%d shows the owner)", k.Port()))
			return
		}
	}
}

// way is how a backend can be reached.
type way struct {
	local     string           // the interface of this host that has the address; "": none
	route     *dataplane.Route // nil: none leads by our interfaces
	by        string           // the interface
	neighbour netip.Addr       // next hop
	resolved  bool             // the next hop has answered
	connect   error            // of a connection by the kernel; nil: it was accepted
}

// reach finds out how each backend can be reached, by its address.
func reach(ctx context.Context, c *config.Config, nics []nic) map[netip.AddrPort]*way {
	ways := map[netip.AddrPort]*way{}
	own, _ := hostAddresses()
	for i := range c.Upstreams {
		for _, s := range c.Upstreams[i].Servers {
			w := &way{}
			w.local, _ = localTo(own, s.Addr())
			ways[s] = w
		}
	}
	names := map[int]string{}
	var indices []int
	for _, n := range nics {
		if n.Inspection != nil && n.Up {
			names[n.Link.Index] = n.name
			indices = append(indices, n.Link.Index)
		}
	}
	if len(indices) == 0 || len(ways) == 0 {
		return ways
	}
	table, err := dataplane.NewNeighbours(indices...)
	if err != nil {
		return ways
	}
	defer table.Close()
	routes := table.Routes()
	for s, w := range ways {
		for k := range routes {
			if r := &routes[k]; r.Prefix.Contains(s.Addr()) {
				w.route, w.by, w.neighbour = r, names[r.IfIndex], s.Addr()
				if r.Gateway.IsValid() {
					w.neighbour = r.Gateway
				}
				break
			}
		}
	}
	resolve(ctx, table, ways)
	connect(ctx, ways)
	return ways
}

// resolve waits until the kernel knows every next hop, or until it must have given
// up.
func resolve(ctx context.Context, table *dataplane.Neighbours, ways map[netip.AddrPort]*way) {
	deadline := time.NewTimer(neighbourTimeout)
	defer deadline.Stop()
	again := time.NewTicker(neighbourTimeout / 3)
	defer again.Stop()
	for {
		waiting := false
		for _, w := range ways {
			if w.route == nil || w.resolved {
				continue
			}
			if _, w.resolved = table.Lookup(w.route.IfIndex, w.neighbour); !w.resolved {
				table.Provoke(w.route.IfIndex, w.neighbour)
				waiting = true
			}
		}
		if !waiting {
			return
		}
		select {
		case <-table.Changed():
		case <-again.C:
		case <-deadline.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// connect tries each backend whose next hop answers with a connection of the
// kernel, which is closed at once.
func connect(ctx context.Context, ways map[netip.AddrPort]*way) {
	var all sync.WaitGroup
	slots := make(chan struct{}, connectsAtOnce)
	for s, w := range ways {
		if !w.resolved {
			continue
		}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, "tcp", s.String())
			if w.connect = err; err == nil {
				conn.Close() //nolint:errcheck // nothing was sent
			}
		})
	}
	all.Wait()
}

func (r *Report) backends(c *config.Config, ways map[netip.AddrPort]*way) {
	names := strings.Join(c.Interfaces, ", ")
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		// One of several that does not answer is what a pool is for.
		silent := Problem
		for _, s := range u.Servers {
			if w := ways[s]; w.resolved && w.connect == nil {
				silent = Warning
			}
		}
		for _, s := range u.Servers {
			switch w := ways[s]; {
			case w.local != "":
				r.add(Problem, "backend", s.String(), "it "+localText(c, w.local), localRemedy)
			case w.route == nil:
				r.add(Problem, "backend", s.String(), fmt.Sprintf("no route leads to it by %s: requests for upstream %s are answered 502", names, u.Name),
					fmt.Sprintf("interfaces, with the one it is reached by (ip route get %s), or ip route add", s.Addr()))
			case !w.resolved:
				r.add(Problem, "backend", s.String(), fmt.Sprintf("the next hop %s on %s answers no ARP or ND: requests for upstream %s are answered 502", w.neighbour, w.by, u.Name),
					fmt.Sprintf("ip neigh show dev %s; ping %s", w.by, w.neighbour))
			case w.connect != nil:
				reason := w.connect.Error()
				if op := (*net.OpError)(nil); errors.As(w.connect, &op) {
					reason = op.Err.Error() // the addresses are known
				}
				r.add(silent, "backend", s.String(), fmt.Sprintf("by %s, a connection fails: %s", w.by, reason), "start the server of upstream "+u.Name+", or its firewall")
			default:
				r.ok("backend", s.String(), "by %s, next hop %s, answers", w.by, w.neighbour)
			}
		}
	}
}
