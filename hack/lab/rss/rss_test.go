package rss

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// TestPublishedVectors sums up contributions for the verification vectors of Microsoft's "Verifying the RSS Hash Calculation".
func TestPublishedVectors(t *testing.T) {
	nic, err := newNIC(DefaultKey, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		src, dst           string
		addresses, withTCP uint32
	}{
		{"66.9.149.187:2794", "161.142.100.80:1766", 0x323e8fc2, 0x51ccc178},
		{"199.92.111.2:14230", "65.69.140.83:4739", 0xd718262a, 0xc626b0ea},
		{"24.19.198.95:12898", "12.22.207.184:38024", 0xd2d0a5de, 0x5c2b394a},
		{"38.27.205.30:48228", "209.142.163.6:2217", 0x82989176, 0xafc7327f},
		{"153.39.163.191:44251", "202.188.127.2:1303", 0x5d1809c5, 0x10e828a2},
		{"[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x2cc18cd5, 0x40207d3d},
		{"[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0x0f0c461c, 0xdde51bbf},
		{"[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", "[fe80::200:f8ff:fe21:67cf]:38024", 0x4b61e985, 0x02d1feef},
	} {
		src, dst := netip.MustParseAddrPort(c.src), netip.MustParseAddrPort(c.dst)
		input := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
		if got := nic.hash(input); got != c.addresses {
			t.Errorf("%s -> %s: addresses hash to %08x, want %08x", c.src, c.dst, got, c.addresses)
		}
		input = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(input, src.Port()), dst.Port())
		if got := nic.hash(input); got != c.withTCP {
			t.Errorf("%s -> %s: %08x, want %08x", c.src, c.dst, got, c.withTCP)
		}
	}
}

// hash does what the program does.
func (nic *rssNic) hash(input []byte) (h uint32) {
	for i, b := range input {
		h ^= nic.Contribution[i][b]
	}
	return h
}

func TestKeyIsWrittenAsEthtoolDoes(t *testing.T) {
	if got := (Key{0x6d, 0x0a, 0xff}).String(); got != "6d:0a:ff" {
		t.Error(got)
	}
}

func TestWhatCannotWorkIsRefused(t *testing.T) {
	if _, err := newNIC(DefaultKey[:39], 2); err == nil {
		t.Error("a key too short for IPv6 is accepted")
	}
	if _, err := newNIC(DefaultKey, 0); err == nil {
		t.Error("no queues are accepted")
	}
}
