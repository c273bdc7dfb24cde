package dataplane

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// microsoftKey is the key of Microsoft's verification suite.
var microsoftKey = mustHex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// rssVectors are those of "Verifying the RSS Hash Calculation",
// https://learn.microsoft.com/en-us/windows-hardware/drivers/network/verifying-the-rss-hash-calculation.
var rssVectors = []struct {
	destination, source string
	addresses, ports    uint32
}{
	{"161.142.100.80:1766", "66.9.149.187:2794", 0x323e8fc2, 0x51ccc178},
	{"65.69.140.83:4739", "199.92.111.2:14230", 0xd718262a, 0xc626b0ea},
	{"12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0a5de, 0x5c2b394a},
	{"209.142.163.6:2217", "38.27.205.30:48228", 0x82989176, 0xafc7327f},
	{"202.188.127.2:1303", "153.39.163.191:44251", 0x5d1809c5, 0x10e828a2},
	{"[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc18cd5, 0x40207d3d},
	{"[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c461c, 0xdde51bbf},
	{"[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61e985, 0x02d1feef},
}

func TestToeplitzMatchesMicrosoftsVectors(t *testing.T) {
	// A longer key, as i40e and ice have, hashes the same.
	for _, key := range [][]byte{microsoftKey, append(bytes.Clone(microsoftKey), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)} {
		r := DefaultRSS(key, 8)
		for _, v := range rssVectors {
			src, dst := netip.MustParseAddrPort(v.source), netip.MustParseAddrPort(v.destination)
			if got := r.Hash(src, dst); got != v.ports {
				t.Errorf("%v to %v: hash %#x, want %#x", src, dst, got, v.ports)
			}
			if got := r.HashAddresses(src.Addr(), dst.Addr()); got != v.addresses {
				t.Errorf("%v to %v: hash without ports %#x, want %#x", src, dst, got, v.addresses)
			}
			if got, want := r.Queue(src, dst), int(v.ports&127%8); got != want {
				t.Errorf("%v to %v: queue %d, want %d", src, dst, got, want)
			}
			mapped := netip.AddrPortFrom(netip.AddrFrom16(src.Addr().As16()), src.Port())
			if got := r.Hash(mapped, dst); got != v.ports {
				t.Errorf("%v to %v: hash %#x, want %#x", mapped, dst, got, v.ports)
			}
		}
	}
}

func TestRSSEqual(t *testing.T) {
	a := DefaultRSS(microsoftKey, 4)
	other := bytes.Clone(microsoftKey)
	other[39]++
	for _, o := range []*RSS{nil, DefaultRSS(microsoftKey, 2), DefaultRSS(other, 4)} {
		if a.Equal(o) || o.Equal(a) {
			t.Errorf("%v equals %v", a, o)
		}
	}
	if !a.Equal(DefaultRSS(microsoftKey, 4)) || !(*RSS)(nil).Equal(nil) {
		t.Error("not equal to its like")
	}
}

// rssReply encodes an answer to ETHTOOL_MSG_RSS_GET as the kernel's rss_fill_reply does.
func rssReply(attributes ...*nl.RtAttr) []byte {
	header := nl.NewRtAttr(rssAttrHeader|unix.NLA_F_NESTED, nil)
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_INDEX, nl.Uint32Attr(7))
	header.AddRtAttr(unix.ETHTOOL_A_HEADER_DEV_NAME, nl.ZeroTerminated("eth0"))
	b := append([]byte{unix.ETHTOOL_MSG_RSS_GET_REPLY, 1, 0, 0}, header.Serialize()...)
	for _, a := range attributes {
		b = append(b, a.Serialize()...)
	}
	return b
}

func rssAttr32(kind int, values ...uint32) *nl.RtAttr {
	var b []byte
	for _, v := range values {
		b = append(b, nl.Uint32Attr(v)...)
	}
	return nl.NewRtAttr(kind, b)
}

func TestDecodeRSS(t *testing.T) {
	system := func() ([]byte, error) { return parseSystemRSSKey(strings.Repeat("ab:", 51) + "ab\n") }
	none := func() ([]byte, error) { return parseSystemRSSKey(strings.Repeat("00:", 51) + "00\n") }
	table := rssAttr32(rssAttrIndir, 0, 1, 2, 3, 3, 2, 1, 0)
	key := nl.NewRtAttr(rssAttrHKey, microsoftKey)
	toeplitz := rssAttr32(rssAttrHFunc, rssHashToeplitz)
	want := &RSS{Key: microsoftKey, Table: []uint32{0, 1, 2, 3, 3, 2, 1, 0}}

	got, err := decodeRSS(rssReply(toeplitz, table, key), none)
	must(t, err)
	if !got.Equal(want) || got.KeyAssumed {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got, err = decodeRSS(rssReply(rssAttr32(rssAttrContext, 0), key, table, nl.NewRtAttr(99, nil)), none)
	must(t, err)
	if !got.Equal(want) {
		t.Errorf("without hash function: got %+v, want %+v", got, want)
	}
	got, err = decodeRSS(rssReply(toeplitz, table), system)
	must(t, err)
	if want := bytes.Repeat([]byte{0xab}, 40); !got.KeyAssumed || !bytes.Equal(got.Key, want) {
		t.Errorf("without key: got %+v, want the key %x assumed", got, want)
	}

	for name, tc := range map[string]struct {
		attributes []*nl.RtAttr
		tells      string
	}{
		"other function":       {[]*nl.RtAttr{rssAttr32(rssAttrHFunc, 2), table, key}, "hfunc toeplitz"},
		"symmetric":            {[]*nl.RtAttr{toeplitz, table, key, rssAttr32(rssAttrInputXfrm, 1)}, "symmetric"},
		"symmetric by or":      {[]*nl.RtAttr{toeplitz, table, key, rssAttr32(rssAttrInputXfrm, 2)}, "symmetric"},
		"no table":             {[]*nl.RtAttr{toeplitz, key}, "0 entries"},
		"no power of two":      {[]*nl.RtAttr{toeplitz, key, rssAttr32(rssAttrIndir, 0, 1, 2)}, "3 entries"},
		"short key":            {[]*nl.RtAttr{toeplitz, table, nl.NewRtAttr(rssAttrHKey, microsoftKey[:16])}, "16 bytes"},
		"no key anywhere":      {[]*nl.RtAttr{toeplitz, table}, "is zero"},
		"nothing in the reply": {nil, "0 entries"},
	} {
		_, err := decodeRSS(rssReply(tc.attributes...), none)
		t.Run(name, func(t *testing.T) { wantError(t, err, ErrUnsupported, tc.tells) })
	}
}

func TestDecodeRSSBearsNonsense(t *testing.T) {
	whole := rssReply(rssAttr32(rssAttrHFunc, 1), rssAttr32(rssAttrIndir, 0, 1), nl.NewRtAttr(rssAttrHKey, microsoftKey))
	for n := range whole {
		if _, err := decodeRSS(whole[:n], systemRSSKey); err == nil {
			t.Errorf("accepted the first %d bytes of %d", n, len(whole))
		}
	}
	for _, a := range []*nl.RtAttr{
		nl.NewRtAttr(rssAttrHFunc, []byte{1}), nl.NewRtAttr(rssAttrIndir, make([]byte, 6)), rssAttr32(rssAttrContext, 1),
	} {
		if _, err := decodeRSS(rssReply(a), systemRSSKey); err == nil {
			t.Errorf("accepted attribute %d: % x", a.Type, a.Data)
		}
	}
}

func FuzzDecodeRSS(f *testing.F) {
	f.Add(rssReply(rssAttr32(rssAttrHFunc, 1), rssAttr32(rssAttrIndir, 0, 1), nl.NewRtAttr(rssAttrHKey, microsoftKey)))
	f.Fuzz(func(t *testing.T, reply []byte) {
		r, err := decodeRSS(reply, systemRSSKey)
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
	})
}

func TestSystemRSSKey(t *testing.T) {
	for text, tells := range map[string]string{
		"":                                  "0 bytes",
		"aa:bb:cc":                          "3 bytes",
		"xx" + strings.Repeat(":ab", 51):    "netdev_rss_key",
		"00" + strings.Repeat(":00", 51):    "is zero",
		"00" + strings.Repeat(":00", 38):    "39 bytes",
		"0" + strings.Repeat(":00", 51):     "netdev_rss_key",
		strings.Repeat("00:", 40) + "ff:ff": "is zero",
	} {
		if _, err := parseSystemRSSKey(text); err == nil || !strings.Contains(err.Error(), tells) {
			t.Errorf("%q: error %v does not tell %q", text, err, tells)
		}
	}
}

func TestReadRSSOfVeth(t *testing.T) {
	w := newWire(t, 1, 2)
	_, err := ReadRSS(w.edgeLink(0).Attrs().Index)
	wantError(t, err, ErrUnsupported, "no RSS")
	_, err = ReadRSS(1 << 20)
	wantError(t, err, ErrNoInterface)
	must(t, checkHashFields(w.edgeLink(0).Attrs().Index)) // which veth does not tell
}
