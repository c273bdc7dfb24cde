package proxyproto

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

const sig = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"

// v2 builds a header of version 2 from its command, its protocol and its block.
func v2(command, protocol byte, block string) string {
	return sig + string([]byte{command, protocol, byte(len(block) >> 8), byte(len(block))}) + block
}

const (
	inet  = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x1f\x90\x01\xbb" // 192.0.2.1 198.51.100.2 8080 443
	inet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\xff\xff\x00\x00"
)

// summed is a header of version 2 with a checksum extension; flip spoils it.
func summed(flip byte) string {
	b := []byte(v2(0x21, 0x11, inet+"\x04\x00\x01x\x03\x00\x04\x00\x00\x00\x00\x05\x00\x02id"))
	at := prefixBytes + len(inet) + 4 + 3
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	b[len(b)-1] ^= flip
	return string(b)
}

var tests = []struct {
	name     string
	in       string
	version  int
	from, to string // "": none
	err      error
}{
	// Section 2.1, version 1.
	{"TCP4", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", 1, "192.168.0.1:56324", "192.168.0.11:443", nil},
	{"longest TCP4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 1, "255.255.255.255:65535", "255.255.255.255:65535", nil},
	{"TCP6", "PROXY TCP6 2001:db8::1 ::1 0 1\r\n", 1, "[2001:db8::1]:0", "[::1]:1", nil},
	{"longest TCP6", "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff FFFF:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", 1,
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", nil},
	{"mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n", 1, "[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2", nil},
	{"UNKNOWN", "PROXY UNKNOWN\r\n", 1, "", "", nil},
	{"UNKNOWN with more", "PROXY UNKNOWN whatever \x00\xff  this is\r\n", 1, "", "", nil},
	{"longest UNKNOWN", "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n", 1, "", "", nil},
	{"UNKNOWN too long", "PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", 0, "", "", ErrLineTooLong},
	{"no end", "PROXY UNKNOWN " + strings.Repeat("x", 500), 0, "", "", ErrLineTooLong},
	{"UNKNOWN glued", "PROXY UNKNOWNS\r\n", 0, "", "", ErrLine},
	{"bare LF", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", 0, "", "", ErrLine},
	{"bare CR", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx", 0, "", "", ErrLine},
	{"bare LF in UNKNOWN", "PROXY UNKNOWN a\nb\r\n", 0, "", "", ErrLine},
	{"nothing", "PROXY \r\n", 0, "", "", ErrLine},
	{"UDP", "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", 0, "", "", ErrLine},
	{"lower case", "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", 0, "", "", ErrLine},
	{"two spaces", "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", 0, "", "", ErrLine},
	{"space at the end", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", 0, "", "", ErrLine},
	{"tab", "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n", 0, "", "", ErrLine},
	{"four fields", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", 0, "", "", ErrLine},
	{"six fields", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", 0, "", "", ErrLine},
	{"families differ", "PROXY TCP4 1.2.3.4 ::1 1 2\r\n", 0, "", "", ErrLine},
	{"wrong family", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", 0, "", "", ErrLine},
	{"leading zero in an address", "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", 0, "", "", ErrLine},
	{"short address", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", 0, "", "", ErrLine},
	{"zone", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", 0, "", "", ErrLine},
	{"leading zero in a port", "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", 0, "", "", ErrLine},
	{"signed port", "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", 0, "", "", ErrLine},
	{"port too large", "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", 0, "", "", ErrLine},
	{"long port", "PROXY TCP4 1.2.3.4 1.2.3.4 100000 2\r\n", 0, "", "", ErrLine},
	{"empty port", "PROXY TCP4 1.2.3.4 1.2.3.4  2\r\n", 0, "", "", ErrLine},
	{"hex port", "PROXY TCP4 1.2.3.4 1.2.3.4 a 2\r\n", 0, "", "", ErrLine},
	{"a request", "GET / HTTP/1.1\r\n", 0, "", "", ErrNoHeader},
	{"a request like it", "PROXYX / HTTP/1.1\r\n", 0, "", "", ErrNoHeader},
	{"small letters", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", 0, "", "", ErrNoHeader},
	{"space in front", " PROXY UNKNOWN\r\n", 0, "", "", ErrNoHeader},

	// Section 2.2, version 2.
	{"v2 TCP4", v2(0x21, 0x11, inet), 2, "192.0.2.1:8080", "198.51.100.2:443", nil},
	{"v2 TCP6", v2(0x21, 0x21, inet6), 2, "[2001:db8::1]:65535", "[2001:db8::2]:0", nil},
	{"v2 extensions", v2(0x21, 0x11, inet+"\x01\x00\x02h2\x04\x00\x00\xe0\x00\x01x"), 2, "192.0.2.1:8080", "198.51.100.2:443", nil},
	{"v2 checksum", summed(0), 2, "192.0.2.1:8080", "198.51.100.2:443", nil},
	{"v2 wrong checksum", summed(1), 0, "", "", ErrChecksum},
	{"v2 checksum of three bytes", v2(0x21, 0x11, inet+"\x03\x00\x03abc"), 0, "", "", ErrBlock},
	{"v2 longest", v2(0x21, 0x11, inet+"\x04\x0f\xe1"+strings.Repeat("x", 4096-16-12-3)), 2, "192.0.2.1:8080", "198.51.100.2:443", nil},
	{"v2 too long", v2(0x21, 0x11, inet+"\x04\x0f\xe2"+strings.Repeat("x", 4096-16-12-2)), 0, "", "", ErrTooLong},
	{"v2 LOCAL", v2(0x20, 0x00, ""), 2, "", "", nil},
	{"v2 LOCAL with a block", v2(0x20, 0x11, "xyz"), 2, "", "", nil},
	{"v2 UNSPEC", v2(0x21, 0x00, "whatever"), 2, "", "", nil},
	{"v2 family without transport", v2(0x21, 0x10, "x"), 2, "", "", nil},
	{"v2 UDP4", v2(0x21, 0x12, inet), 2, "", "", nil},
	{"v2 UNIX", v2(0x21, 0x31, strings.Repeat("/", 216)), 2, "", "", nil},
	{"v2 short UNIX", v2(0x21, 0x31, strings.Repeat("/", 215)), 0, "", "", ErrBlock},
	{"v2 short TCP4", v2(0x21, 0x11, inet[:11]), 0, "", "", ErrBlock},
	{"v2 short TCP6", v2(0x21, 0x21, inet6[:35]), 0, "", "", ErrBlock},
	{"v2 half an extension", v2(0x21, 0x11, inet+"\x04\x00"), 0, "", "", ErrBlock},
	{"v2 extension beyond the end", v2(0x21, 0x11, inet+"\x04\x00\x02x"), 0, "", "", ErrBlock},
	{"v2 version 1", v2(0x11, 0x11, inet), 0, "", "", ErrVersion},
	{"v2 version 3", v2(0x31, 0x11, inet), 0, "", "", ErrVersion},
	{"v2 command 2", v2(0x22, 0x11, inet), 0, "", "", ErrCommand},
	{"v2 family 4", v2(0x21, 0x41, inet), 0, "", "", ErrProtocol},
	{"v2 transport 3", v2(0x21, 0x13, inet), 0, "", "", ErrProtocol},
	{"v2 damaged signature", strings.Replace(v2(0x21, 0x11, inet), "QUIT", "QUIt", 1), 0, "", "", ErrNoHeader},
}

// TestParse gives every case byte by byte, so that each prefix of it is seen: all
// of them ask for more or say what the whole says.
func TestParse(t *testing.T) {
	const behind = "GET / HTTP/1.1\r\n"
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			whole := tt.in + behind
			for end := range len(whole) + 1 {
				h, n, err := Parse([]byte(whole[:end]))
				if n == 0 && err == nil {
					if end >= len(tt.in) {
						t.Fatalf("all %d bytes are there, and it asks for more", len(tt.in))
					}
					continue
				}
				if !errors.Is(err, tt.err) {
					t.Fatalf("after %d bytes: %v, want %v", end, err, tt.err)
				}
				if tt.err != nil {
					continue
				}
				if end < len(tt.in) || n != len(tt.in) {
					t.Fatalf("after %d bytes: a header of %d bytes, want %d", end, n, len(tt.in))
				}
				want := Header{Version: tt.version}
				if tt.from != "" {
					want.Source, want.Destination = netip.MustParseAddrPort(tt.from), netip.MustParseAddrPort(tt.to)
				}
				if h != want {
					t.Fatalf("got %+v, want %+v", h, want)
				}
			}
		})
	}
}

// TestRefusedAtOnce: a client that speaks HTTP is not waited for.
func TestRefusedAtOnce(t *testing.T) {
	for in, want := range map[string]error{"G": ErrNoHeader, "PG": ErrNoHeader, "\r\nG": ErrNoHeader, sig + "\x11": ErrVersion, sig + "\x21\x99": ErrProtocol, sig + "\x21\x11\xff\xff": ErrTooLong} {
		if _, _, err := Parse([]byte(in)); err != want {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		v1, v2   string
	}{
		{"192.0.2.1:8080", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", v2(0x21, 0x11, inet)},
		{"[2001:db8::1]:65535", "[2001:db8::2]:0", "PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n", v2(0x21, 0x21, inet6)},
		{"[::ffff:192.0.2.1]:8080", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", v2(0x21, 0x11, inet)},
		{"[fe80::1%eth0]:1", "[fe80::2%eth0]:2", "PROXY TCP6 fe80::1 fe80::2 1 2\r\n",
			v2(0x21, 0x21, "\xfe\x80"+strings.Repeat("\x00", 13)+"\x01\xfe\x80"+strings.Repeat("\x00", 13)+"\x02\x00\x01\x00\x02")},
		{"192.0.2.1:1", "[2001:db8::2]:2", "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n",
			v2(0x21, 0x21, strings.Repeat("\x00", 10)+"\xff\xff\xc0\x00\x02\x01"+inet6[16:32]+"\x00\x01\x00\x02")},
		{"", "", "PROXY UNKNOWN\r\n", v2(0x20, 0x00, "")},
	} {
		var from, to netip.AddrPort
		if tt.from != "" {
			from, to = netip.MustParseAddrPort(tt.from), netip.MustParseAddrPort(tt.to)
		}
		if got := string(AppendV1([]byte("x"), from, to)); got != "x"+tt.v1 {
			t.Errorf("version 1 of %s to %s: %q, want %q", tt.from, tt.to, got, tt.v1)
		}
		if got := string(AppendV2([]byte("x"), from, to)); got != "x"+tt.v2 {
			t.Errorf("version 2 of %s to %s: %q, want %q", tt.from, tt.to, got, tt.v2)
		}
	}
}

// FuzzParse: every prefix asks for more until one is answered, that answer stays,
// and what is accepted can be said again.
func FuzzParse(f *testing.F) {
	for _, tt := range tests {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if n < 0 || n > len(b) || n > MaxBytes || n > 0 && err != nil {
			t.Fatalf("n %d, %v", n, err)
		}
		if n == 0 && err == nil && len(b) >= MaxBytes {
			t.Fatal("no answer to the longest header")
		}
		answered := false
		for i := range min(len(b), 300) {
			h1, n1, err1 := Parse(b[:i])
			if answered = answered || n1 > 0 || err1 != nil; answered && (h1 != h || n1 != n || err1 != err) {
				t.Fatalf("after %d bytes %+v %d %v, after all %+v %d %v", i, h1, n1, err1, h, n, err)
			}
		}
		if n == 0 {
			return
		}
		if h.Source.IsValid() != h.Destination.IsValid() {
			t.Fatalf("half an answer: %+v", h)
		}
		for version, again := range [][]byte{AppendV1(nil, h.Source, h.Destination), AppendV2(nil, h.Source, h.Destination)} {
			h2, n2, err := Parse(again)
			if err != nil || n2 != len(again) || h2.Version != version+1 {
				t.Fatalf("%q: %+v %d %v", again, h2, n2, err)
			}
			if h2.Source.Port() != h.Source.Port() || h2.Source.Addr().Unmap() != h.Source.Addr().Unmap() || h2.Destination.Addr().Unmap() != h.Destination.Addr().Unmap() {
				t.Fatalf("%+v became %+v", h, h2)
			}
		}
	})
}
