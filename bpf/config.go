package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// PortRange is a range of TCP ports, both ends included. The zero value is empty.
type PortRange struct{ First, Last uint16 }

func (r PortRange) empty() bool { return r == PortRange{} }

// Config says what is ours. The zero value steers nothing.
type Config struct {
	// Addresses are the interface's own, at most 512. Zones are ignored.
	Addresses []netip.Addr
	// Listeners are what clients connect to, at most 2048. 0.0.0.0 stands for every IPv4 address of Addresses, :: for
	// every IPv6 address and for no IPv4 address. One whose address is not in Addresses is allowed and matches nothing.
	Listeners []netip.AddrPort
	// Backends are what we connect to, at most 8192.
	Backends []netip.AddrPort
	// BackendPorts are the local ports of our connections to Backends.
	BackendPorts PortRange
	// Filter says which sources may send to Listeners; nil: all, without limits.
	Filter *Filter
	// Cookies says how SYNs to Listeners are answered while a worker asks for it.
	Cookies Cookies
}

// Cookies is how the program answers SYNs with SYN cookies.
type Cookies struct {
	Key    CookieKey
	Window uint16 // that the answers announce
	MTU    int    // of the interface, from 576 on
	// Answer has the program answer, until the time of [Steer.AnswerUntil]; otherwise SYNs go to the socket as ever.
	Answer bool
	// Redirect has answers sent by XDP_REDIRECT to the interface that the SYN came from, not by XDP_TX. veth needs that: for
	// XDP_TX it does not wake its other end when that has NAPI by GRO, and its ring is full for good (Linux 6.18).
	Redirect bool
}

func (c *Cookies) settings() (s steerCookieSettings) {
	s.Key[0], s.Key[1] = binary.LittleEndian.Uint64(c.Key[:]), binary.LittleEndian.Uint64(c.Key[8:])
	s.Window, s.Mtu = c.Window, uint16(c.MTU)
	if c.Answer && c.MTU >= minCookieMTU {
		s.Answer = answerTX
		if c.Redirect {
			s.Answer = answerRedirect
		}
	}
	return s
}

// enum answer of src/constants.h.
const (
	answerTX = 1 + iota
	answerRedirect
)

// minCookieMTU is what every IPv4 host takes (RFC 791 3.1); with less there is nothing to announce.
const minCookieMTU = 576

// rules are a Config in the form of the maps.
type rules struct {
	addresses map[steerAddress]struct{}
	listeners map[steerEndpoint]struct{}
	backends  map[steerEndpoint]struct{}
	ports     *steerPortRoles // nil: all zero
	filter    *Filter         // nil: none
}

// Configure replaces what is steered. A flow that both the old and the new configuration claim is redirected at every
// moment. A flow that only the old one claims passes to the kernel afterwards, which resets it: keep a backend in the
// configuration until its connections are closed. On error the old configuration stays in force.
func (s *Steer) Configure(c Config) error {
	next, err := newRules(c)
	if err != nil {
		return fmt.Errorf("configure steering: %w", err)
	}
	for _, limit := range []struct {
		what string
		n    int
		m    *ebpf.Map
	}{
		{"addresses", len(next.addresses), s.maps.Addresses},
		{"listeners", len(next.listeners), s.maps.Listeners},
		{"backends", len(next.backends), s.maps.Backends},
	} {
		// The map holds the old and the new entries for a moment.
		if most := int(limit.m.MaxEntries() / 2); limit.n > most {
			return fmt.Errorf("configure steering: %d %s, at most %d are supported", limit.n, limit.what, most)
		}
	}

	s.configure.Lock()
	defer s.configure.Unlock()
	last := s.installed
	// First what is new, while the port table still decides as before; then the table, in which each port is one byte and
	// changes at once; last what is stale, which the table no longer refers to.
	err = errors.Join(
		insert(s.maps.Addresses, next.addresses, last.addresses),
		insert(s.maps.Listeners, next.listeners, last.listeners),
		insert(s.maps.Backends, next.backends, last.backends),
	)
	settings := c.Cookies.settings()
	err = errors.Join(err, s.maps.Cookies.Put(uint32(0), &settings))
	// A filter must be there before the table says so, and until it says so no more.
	if err == nil && next.filter != nil {
		err = s.setFilter(next.filter)
	}
	if err == nil {
		err = s.maps.Ports.Put(uint32(0), next.ports)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("configure steering: %w", err), s.setFilter(last.filter), s.remove(next, last))
	}
	s.installed = next
	if next.filter == nil {
		err = s.setFilter(nil)
	}
	if err := errors.Join(err, s.remove(last, next)); err != nil {
		return fmt.Errorf("configure steering: %w", err)
	}
	return nil
}

// remove deletes the entries of from that are not in keep.
func (s *Steer) remove(from, keep rules) error {
	return errors.Join(
		remove(s.maps.Addresses, from.addresses, keep.addresses),
		remove(s.maps.Listeners, from.listeners, keep.listeners),
		remove(s.maps.Backends, from.backends, keep.backends),
	)
}

func insert[K comparable](m *ebpf.Map, next, last map[K]struct{}) error {
	for key := range next {
		if _, ok := last[key]; ok {
			continue
		}
		if err := m.Put(key, uint8(1)); err != nil {
			return fmt.Errorf("insert into %v: %w", m, err)
		}
	}
	return nil
}

func remove[K comparable](m *ebpf.Map, from, keep map[K]struct{}) error {
	for key := range from {
		if _, ok := keep[key]; ok {
			continue
		}
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete from %v: %w", m, err)
		}
	}
	return nil
}

func newRules(c Config) (rules, error) {
	r := rules{
		addresses: make(map[steerAddress]struct{}, len(c.Addresses)),
		listeners: make(map[steerEndpoint]struct{}, len(c.Listeners)),
		backends:  make(map[steerEndpoint]struct{}, len(c.Backends)),
		ports:     new(steerPortRoles),
	}
	var filter steerPortRole
	if c.Filter.active() {
		r.filter, filter = c.Filter, steerPortRoleROLE_FILTER
	}
	for _, a := range c.Addresses {
		if !unicast(a) {
			return rules{}, fmt.Errorf("address %v: must be a unicast address", a)
		}
		r.addresses[addressKey(a)] = struct{}{}
	}
	for _, l := range c.Listeners {
		switch {
		case l.Port() == 0:
			return rules{}, fmt.Errorf("listener %v: port must not be 0", l)
		case l.Addr().IsUnspecified():
			*r.role(l.Addr(), l.Port()) |= steerPortRoleROLE_LISTEN_ANY | filter
		case unicast(l.Addr()):
			*r.role(l.Addr(), l.Port()) |= steerPortRoleROLE_LISTEN_ONE | filter
			r.listeners[endpointKey(l)] = struct{}{}
		default:
			return rules{}, fmt.Errorf("listener %v: must be a unicast or the unspecified address", l)
		}
	}
	return r, r.addBackends(c.Backends, c.BackendPorts)
}

func (r *rules) addBackends(backends []netip.AddrPort, ports PortRange) error {
	if !ports.empty() && (ports.First == 0 || ports.First > ports.Last) {
		return fmt.Errorf("backend ports %d-%d: must be from 1 to 65535 in ascending order", ports.First, ports.Last)
	}
	var marked [2]bool // families
	for _, b := range backends {
		if b.Port() == 0 || !unicast(b.Addr()) {
			return fmt.Errorf("backend %v: must be a unicast address with a port", b)
		}
		r.backends[endpointKey(b)] = struct{}{}
		if f := family(b.Addr()); !marked[f] && !ports.empty() {
			marked[f] = true
			for port := int(ports.First); port <= int(ports.Last); port++ {
				*r.role(b.Addr(), uint16(port)) |= steerPortRoleROLE_BACKEND
			}
		}
	}
	return nil
}

// role returns the byte of the port table for port, in the family of a.
func (r *rules) role(a netip.Addr, port uint16) *steerPortRole {
	return &r.ports.Role[family(a)<<16|int(port)]
}

func unicast(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// family numbers the halves of the port table.
func family(a netip.Addr) int {
	if a.Unmap().Is4() {
		return 0
	}
	return 1
}

// addressKey returns a in network byte order, IPv4 mapped into IPv6.
func addressKey(a netip.Addr) steerAddress {
	var key steerAddress
	b := a.As16()
	for i := range key.Word {
		key.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return key
}

func endpointKey(e netip.AddrPort) steerEndpoint {
	return steerEndpoint{Address: addressKey(e.Addr()), Port: networkOrder(e.Port())}
}

// networkOrder returns the number whose bytes in memory are v's in network byte order.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
