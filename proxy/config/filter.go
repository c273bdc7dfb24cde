package config

import (
	"net/netip"
	"strings"
)

// ParsePrefix reads a prefix as a list of the filter has it: an IP address, a slash
// and a number of bits, or an address alone.
func ParsePrefix(text string) (netip.Prefix, error) {
	p, bad := parsePrefix(text)
	if bad != nil {
		return p, bad
	}
	return p, nil
}

func parsePrefix(text string) (netip.Prefix, *misfit) {
	var p netip.Prefix
	a, err := netip.ParseAddr(text)
	if err == nil && a.Zone() == "" {
		p = netip.PrefixFrom(a, a.BitLen())
	} else if p, err = netip.ParsePrefix(text); err != nil {
		return p, misfitf("", "%q is not a prefix: write an IP address, or one with its bits, such as 192.0.2.0/24 or \"2001:db8::/32\"", text)
	}
	switch {
	case p.Addr().Is4In6():
		return p, misfitf("", "%q is of IPv4 addresses in IPv6 form: write it in IPv4 form", text)
	case p != p.Masked():
		return p, misfitf(p.Masked().String(), "%q has address bits behind its prefix: %s is meant, or %s", text, p.Masked(), p.Addr())
	}
	return p, nil
}

// filter finds bursts of limits that are not set.
func (v *checker) filter() {
	f := &v.c.Filter
	for _, b := range []struct {
		key         string
		rate, burst int
	}{{"filter.connection_burst", f.ConnectionRate, f.ConnectionBurst}, {"filter.packet_burst", f.PacketRate, f.PacketBurst}} {
		if b.burst != 0 && b.rate == 0 {
			v.failf(b.key, "", "belongs to %s, which is not set", strings.Replace(b.key, "burst", "rate", 1))
		}
	}
}
