package stack

import (
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// SetAddresses makes addresses those of the link with this index. Listeners on an
// unspecified address take the new ones at once. Listeners and connections of one
// that went stay, and work again if it comes back.
func (s *Stack) SetAddresses(index int, addresses []netip.Prefix) error {
	l := s.linkByIndex(index)
	if l == nil {
		return fmt.Errorf("set addresses: no link has index %d", index)
	}
	next := ownAddresses(addresses)
	var errs []error
	for a, bits := range l.addresses {
		if now, stays := next[a]; !stays || now != bits {
			errs = append(errs, s.removeAddress(l, a))
		}
	}
	for a, bits := range next {
		if _, had := l.addresses[a]; !had {
			errs = append(errs, s.addAddress(l, netip.PrefixFrom(a, bits)))
		}
	}
	s.updateRoutes() // their sources are addresses
	return errors.Join(errs...)
}

// ownAddresses are the addresses by which clients and backends reach a link, with
// the lengths of their prefixes. One that is given twice counts once.
func ownAddresses(list []netip.Prefix) map[netip.Addr]int {
	own := make(map[netip.Addr]int, len(list))
	for _, p := range list {
		a := p.Addr().Unmap()
		if a.Is6() && a.IsLinkLocalUnicast() {
			continue // scoped to the link (RFC 4007)
		}
		if _, dup := own[a]; !dup {
			own[a] = p.Bits()
		}
	}
	return own
}

func (s *Stack) addAddress(l *link, p netip.Prefix) error {
	err := s.net.AddProtocolAddress(l.id, tcpip.ProtocolAddress{
		Protocol:          protocolOf(p.Addr()),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()},
	}, netstack.AddressProperties{})
	if err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, l.Name, errorOf(err))
	}
	l.addresses[p.Addr()] = p.Bits()
	return nil
}

func (s *Stack) removeAddress(l *link, a netip.Addr) error {
	delete(l.addresses, a)
	l.lastOwn = tcpip.Address{}
	l.forgetRoutes()
	if err := s.net.RemoveAddress(l.id, addressOf(a)); err != nil {
		return fmt.Errorf("remove address %s from %s: %w", a, l.Name, errorOf(err))
	}
	return nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}
