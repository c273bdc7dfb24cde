package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// answering is testConfig with cookies.
func answering() Config {
	c := testConfig
	c.Cookies = Cookies{Key: CookieKey{7, 1, 15: 9}, Window: 29184, MTU: 1500, Answer: true}
	return c
}

// flood has the SYNs of queue 0 answered until a time; 0: not.
func flood(t testing.TB, s *Steer, until uint64) {
	t.Helper()
	if err := s.maps.AnswerUntil.Put(uint32(0), until); err != nil {
		t.Fatal(err)
	}
}

const forever = math.MaxUint64

// synWith is a SYN with number 0xfffffffe and options, filled up to a multiple of 4.
func synWith(options []byte, payload string) []byte {
	b := poke(syn(40000, 80), 4, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0)
	for len(options)%4 > 0 {
		options = append(options, 0)
	}
	b[12] = byte(5+len(options)/4) << 4
	return append(append(b, options...), payload...)
}

func monotonicNow(t testing.TB) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// sum16 is the Internet checksum (RFC 1071) of bytes of even length.
func sum16(b []byte) (sum uint16) {
	for ; len(b) > 0; b = b[2:] {
		var carry uint16
		v := binary.BigEndian.Uint16(b)
		if sum += v; sum < v {
			carry = 1
		}
		sum += carry
	}
	return ^sum
}

// synACK is the frame that answers a SYN of synWith from a client, at a time of cookies and for an MSS of its table.
func synACK(c *Cookies, client, own netip.Addr, at uint8, mss uint32) []byte {
	ip := 20
	if own.Is6() {
		ip = 40
	}
	cookie := c.Key.Cookie(&CookieFlow{own.AsSlice(), client.AsSlice(), 80, 40000}, 0xfffffffe, at, mss)
	b := be32(be32(be16(be16(nil, 80), 40000), cookie), 0xffffffff)
	b = be16(append(b, 0x60, 0x12), c.Window)
	b = be16(append(b, 0, 0, 0, 0, 2, 4), uint16(c.MTU-ip-20))
	pseudo := append(append(append(own.AsSlice(), client.AsSlice()...), 0, protoTCP, 0, byte(len(b))), b...)
	binary.BigEndian.PutUint16(b[16:], sum16(pseudo))
	packet := ip6(own, client, protoTCP, b)
	if own.Is4() {
		packet = ip4With(header4{flags: 0x4000}, own, client, protoTCP, b)
		binary.BigEndian.PutUint16(packet[10:], sum16(packet[:20]))
	}
	frame := ethernet(packet)
	copy(frame, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}) // the other way round
	return frame
}

func TestSYNCookies(t *testing.T) {
	timestamp := []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 0}
	mss := func(n uint16) []byte { return be16([]byte{2, 4}, n) }
	syns := []struct {
		name    string
		segment []byte
		padding int
		mss     uint32 // index in the table
	}{
		{"no options", synWith(nil, ""), 0, 0},
		{"no options, padding", synWith(nil, ""), 6, 0},
		{"MSS 0", synWith(mss(0), ""), 0, 0},
		{"MSS 1299", synWith(mss(1299), ""), 0, 0},
		{"MSS 1300", synWith(mss(1300), ""), 0, 1},
		{"MSS 1439", synWith(mss(1439), ""), 0, 1},
		{"MSS 1440", synWith(mss(1440), ""), 0, 2},
		{"MSS 1460", synWith(mss(1460), ""), 0, 3},
		{"MSS 65535", synWith(mss(65535), ""), 0, 3},
		{"options of Linux", synWith(append(append(mss(1460), 4, 2), append(timestamp, 1, 3, 3, 7)...), ""), 0, 3},
		{"MSS last", synWith(append(append(timestamp, 1, 1, 4, 2), mss(1460)...), ""), 0, 3},
		{"seven NOPs first", synWith(append(bytes.Repeat([]byte{1}, 7), mss(1460)...), ""), 0, 3},
		{"40 bytes of NOPs", synWith(bytes.Repeat([]byte{1}, 40), ""), 0, 0},
		{"end before MSS", synWith(append([]byte{0, 0, 0, 0}, mss(1460)...), ""), 0, 0},
		{"MSS of three bytes", synWith([]byte{2, 3, 5, 180}, ""), 0, 0},
		{"MSS cut off", synWith([]byte{1, 2, 4, 5}, "\xb4"), 0, 0},
		{"option without length", synWith([]byte{1, 1, 1, 8}, "\x02"), 0, 0},
		{"option of one byte", synWith(append([]byte{8, 1, 1, 1}, mss(1460)...), ""), 0, 0},
		{"option of 255 bytes", synWith(append([]byte{8, 255, 1, 1}, mss(1460)...), ""), 0, 0},
		{"data", synWith(mss(1460), "GET / HTTP/1.1\r\n\r\n"), 0, 3},
		{"ECN", poke(synWith(mss(1460), ""), 13, 0xc2), 0, 3},
	}
	for _, frags := range []bool{false, true} {
		s := steering(t, frags)
		c := answering()
		configure(t, s, c)
		flood(t, s, forever)
		for _, a := range []struct{ client, own netip.Addr }{{client4, own4}, {client4, second4}, {client6, own6}} {
			for _, x := range syns {
				t.Run(fmt.Sprintf("%s to %v frags=%v", x.name, a.own, frags), func(t *testing.T) {
					frame := ethernet(ip6(a.client, a.own, protoTCP, x.segment))
					if a.own.Is4() {
						frame = ethernet(ip4(a.client, a.own, protoTCP, x.segment))
					}
					frame = append(frame, bytes.Repeat([]byte{0xaa}, x.padding)...)
					from := uint8(monotonicNow(t) / (64 * time.Second))
					v, got := runOut(t, s, frame, 0)
					to := uint8(monotonicNow(t) / (64 * time.Second))
					if v != AnswerSYNCookie {
						t.Fatalf("verdict %v", v)
					}
					if want := synACK(&c.Cookies, a.client, a.own, from, x.mss); !bytes.Equal(got, want) &&
						!bytes.Equal(got, synACK(&c.Cookies, a.client, a.own, to, x.mss)) {
						t.Errorf("answer %x, want %x", got, want)
					}
				})
			}
		}
	}
}

// What is not answered goes its way as without cookies, unchanged.
func TestNoSYNCookies(t *testing.T) {
	plain := synWith([]byte{2, 4, 5, 180}, "")
	from := func(src string) []byte { return toListener(src, plain) }
	ours := ethernet(ip4(client4, own4, protoTCP, plain))
	cases := []struct {
		name  string
		frame []byte
		want  Verdict
	}{
		{"SYN ACK", toListener("192.0.2.7", poke(bytes.Clone(plain), 13, 0x12)), RedirectListener},
		{"SYN RST", toListener("192.0.2.7", poke(bytes.Clone(plain), 13, 0x06)), RedirectListener},
		{"SYN FIN", toListener("192.0.2.7", poke(bytes.Clone(plain), 13, 0x03)), RedirectListener},
		{"ACK", toListener("192.0.2.7", poke(bytes.Clone(plain), 13, 0x10)), RedirectListener},
		{"header shorter than it must be", toListener("192.0.2.7", poke(bytes.Clone(plain), 12, 0x40)), RedirectListener},
		{"header longer than the packet", toListener("192.0.2.7", poke(bytes.Clone(plain), 12, 0x70)), RedirectListener},
		{"header longer than the packet, padding", append(toListener("192.0.2.7", poke(bytes.Clone(plain), 12, 0x70)), 1, 1, 1, 1), RedirectListener},
		{"priority tag", ethernet(ip4(client4, own4, protoTCP, plain), tag{0x8100, 0}), RedirectListener},
		{"IPv4 options", ethernet(ip4With(header4{options: []byte{1, 1, 1, 1}}, client4, own4, protoTCP, plain)), RedirectListener},
		{"destination options", ethernet(ip6(client6, own6, destOpts, extension(protoTCP, 0, plain))), RedirectListener},
		{"first fragment", ethernet(ip4With(header4{id: 9, flags: 0x2000}, client4, own4, protoTCP, plain)), RedirectFragment},
		{"from this network", from("0.1.2.3"), RedirectListener},
		{"from loopback", from("127.1.2.3"), RedirectListener},
		{"from a group", from("224.1.2.3"), RedirectListener},
		{"from everybody", from("255.255.255.255"), RedirectListener},
		{"from the destination", from(own4.String()), RedirectListener},
		{"from ::", from("::"), RedirectListener},
		{"from ::1", from("::1"), RedirectListener},
		{"from an IPv6 group", from("ff02::1"), RedirectListener},
		{"denied", from("198.51.100.7"), DropDenied},
		{"ssh", ethernet(ip4(client4, own4, protoTCP, syn(40000, 22))), PassOtherPort},
		{"backend", ethernet(ip4(backend4, own4, protoTCP, syn(8080, 20000))), RedirectBackend},
	}
	off, small := answering(), answering()
	off.Cookies.Answer, small.Cookies.MTU = false, 500
	redirect := answering()
	redirect.Cookies.Redirect = true
	for _, frags := range []bool{false, true} {
		s := steering(t, frags)
		filter := newFilter(t, FilterConfig{Deny: prefixes("198.51.100.7/32")})
		check := func(name string, frame []byte, linear int, want Verdict) {
			t.Helper()
			if v, out := runOut(t, s, frame, linear); v != want || want != AnswerSYNCookie && !bytes.Equal(out, frame) {
				t.Errorf("%s frags=%v: %v, frame %x of %x; want %v", name, frags, v, out, frame, want)
			}
		}
		c := answering()
		c.Filter = filter
		configure(t, s, c)
		flood(t, s, forever)
		for _, x := range cases {
			check(x.name, x.frame, 0, x.want)
		}
		check("plain", ours, 0, AnswerSYNCookie)
		if frags {
			check("in two buffers", ours, 40, RedirectListener)
		}
		flood(t, s, 0)
		check("no flood", ours, 0, RedirectListener)
		flood(t, s, uint64(monotonicNow(t)))
		check("the flood is over", ours, 0, RedirectListener)
		flood(t, s, uint64(monotonicNow(t)+time.Hour))
		check("it goes on", ours, 0, AnswerSYNCookie)
		for name, c := range map[string]Config{"left to the worker": off, "MTU too small": small, "not configured": testConfig} {
			configure(t, s, c)
			check(name, ours, 0, RedirectListener)
		}
		configure(t, s, redirect)
		if action, err := s.Program().Run(&ebpf.RunOptions{Data: ours}); action != xdpRedirect || err != nil {
			t.Errorf("action %d, %v, instead of sending it back by XDP_REDIRECT", action, err)
		}
	}
}
