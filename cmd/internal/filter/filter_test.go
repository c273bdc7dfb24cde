package filter

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ringroad/bpf"
	"ringroad/proxy/config"
)

func TestRead(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	c := config.Default().Filter
	c.Deny = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	c.DenyFile = file("# a list\n\n 192.0.2.7 # one address\r\n2001:db8::/32\n198.51.100.0/24\n192.0.2.7/32")
	c.AllowFile = file("10.0.0.0/8")
	c.PacketRate, c.ConnectionRate, c.ConnectionBurst = 1000, 10, 50
	f, err := Read(&c)
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	if !slices.Equal(f.Deny, want) || len(f.Allow) != 1 {
		t.Errorf("deny %v, allow %v", f.Deny, f.Allow)
	}
	if f.Packets != (bpf.Rate{PerSecond: 1000, Burst: 1000}) || f.Connections != (bpf.Rate{PerSecond: 10, Burst: 50}) || f.IPv4Bits != 32 || f.IPv6Bits != 64 {
		t.Errorf("%+v", f)
	}
	for text, want := range map[string]string{
		"10.0.0.0/8\nexample.org": ", line 2: \"example.org\" is not a prefix",
		"10.1.0.0/8":              "10.0.0.0/8 is meant, or 10.1.0.0",
		"::ffff:10.0.0.0/104":     "IPv4 form",
		"fe80::1%eth0":            "not a prefix",
	} {
		c.DenyFile = file(text)
		if _, err := Read(&c); err == nil || !strings.Contains(err.Error(), "filter.deny_file") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if c.DenyFile = "/nowhere"; true {
		if _, err := Read(&c); err == nil {
			t.Error("a file that is not there was read")
		}
	}
	none := config.Default().Filter
	if f, err := Open(&none); f != nil || err != nil {
		t.Errorf("without a filter: %v, %v", f, err)
	}
}
