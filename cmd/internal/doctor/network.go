package master

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringroad/proxy/config"
)

// checkBackends refuses backends to which no frame can lead: those on this
// host, which the kernel reaches by its loopback.
func checkBackends(c *config.Config) error {
	own := map[netip.Addr]string{}
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue // removed meanwhile
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					own[ip.Unmap()] = i.Name
				}
			}
		}
	}
	var errs []error
	for _, u := range c.Upstreams {
		for _, s := range u.Servers {
			where, local := own[s.Addr()]
			if s.Addr().IsLoopback() {
				where, local = "lo", true
			}
			if local {
				errs = append(errs, fmt.Errorf("backend %s of upstream %s is an address of this host (%s): frames to it never pass %s; "+
					"run the backend on another host or in a network namespace of its own, or proxy to it by the kernel",
					s, u.Name, where, strings.Join(c.Interfaces, " or ")))
			}
		}
	}
	return errors.Join(errs...)
}

// warnPorts tells of ports that the kernel uses too.
func warnPorts(c *config.Config, log *slog.Logger) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			log.Debug("cannot ask the kernel for its listening sockets", "error", err)
			continue
		}
		for _, s := range sockets {
			if s.State != netlink.TCP_LISTEN {
				continue
			}
			ip, _ := netip.AddrFromSlice(s.ID.Source)
			for _, l := range c.Listeners {
				if l.Address.Port() == s.ID.SourcePort && overlap(l.Address.Addr(), ip.Unmap()) {
					log.Warn("a socket of the kernel listens on the same port: frames from these interfaces no longer reach it",
						"listener", l.Address.String(), "kernel", netip.AddrPortFrom(ip.Unmap(), s.ID.SourcePort).String(),
						"remedy", fmt.Sprintf("ss -ltnp sport = :%d shows its owner", s.ID.SourcePort))
				}
			}
		}
	}
	var first, last uint16
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(b), &first, &last); err == nil && c.BackendPorts.First <= last && first <= c.BackendPorts.Last {
			log.Warn("backend_ports overlap the kernel's ephemeral ports: a connection of the kernel to a backend from such a port fails",
				"backend_ports", fmt.Sprintf("%d-%d", c.BackendPorts.First, c.BackendPorts.Last),
				"kernel", fmt.Sprintf("%d-%d", first, last),
				"remedy", "sysctl net.ipv4.ip_local_port_range, or backend_ports")
		}
	}
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
