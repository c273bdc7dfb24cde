// Package filter reads the lists of a configuration's filter and loads them.
package filter

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"ringroad/bpf"
	"ringroad/proxy/config"
)

// Open reads the files that c names and loads all lists into the kernel. It takes some
// three seconds for a million prefixes. The filter is nil when c refuses nothing.
func Open(c *config.Filter) (*bpf.Filter, error) {
	f, err := Read(c)
	if err != nil {
		return nil, err
	}
	if len(f.Allow)+len(f.Deny) == 0 && c.ConnectionRate == 0 && c.PacketRate == 0 {
		return nil, nil
	}
	return bpf.NewFilter(f)
}

// Read is the filter of c with what is in its files.
func Read(c *config.Filter) (f bpf.FilterConfig, err error) {
	f = bpf.FilterConfig{
		Connections: rate(c.ConnectionRate, c.ConnectionBurst), Packets: rate(c.PacketRate, c.PacketBurst),
		IPv4Bits: c.IPv4Prefix, IPv6Bits: c.IPv6Prefix,
	}
	if f.Allow, err = readList(c.Allow, "filter.allow_file", c.AllowFile); err != nil {
		return f, err
	}
	f.Deny, err = readList(c.Deny, "filter.deny_file", c.DenyFile)
	return f, err
}

func rate(perSecond, burst int) bpf.Rate {
	if burst == 0 {
		burst = perSecond
	}
	return bpf.Rate{PerSecond: perSecond, Burst: burst}
}

// readList returns list with the prefixes of a file, each once. They are in order,
// because the kernel takes them twice as fast so.
func readList(list []netip.Prefix, key, name string) ([]netip.Prefix, error) {
	list = slices.Clone(list)
	if name != "" {
		var err error
		if list, err = appendFile(list, name); err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return slices.Compact(list), nil
}

func appendFile(list []netip.Prefix, name string) ([]netip.Prefix, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := config.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		list = append(list, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}
