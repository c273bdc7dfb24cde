package dataplane

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

const tcpChecksumOffset = 16

// sumOf adds 16-bit words in one's complement (RFC 1071).
func sumOf(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

// putSYN writes a SYN from port 80 of the edge to a closed port of the peer into b, n bytes in all. Its checksum is the sum
// of the pseudo-header. It returns where TCP starts.
func (s *station) putSYN(b []byte, v6 bool, port uint16, n int) (start int) {
	clear(b[:n])
	copy(b, s.from[:])
	copy(b[6:], s.edge[:])
	ip, addresses := b[14:n], 12
	if v6 {
		binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IPV6)
		start, addresses = 14+40, 8
		ip[0], ip[6], ip[7] = 6<<4, unix.IPPROTO_TCP, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(n-start))
		copy(ip[8:], edgeIP6(s.i).AsSlice())
		copy(ip[24:], peerIP6(s.i).AsSlice())
	} else {
		binary.BigEndian.PutUint16(b[12:], unix.ETH_P_IP)
		start = 14 + 20
		ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
		binary.BigEndian.PutUint16(ip[2:], uint16(n-14))
		copy(ip[12:], edgeIP(s.i).AsSlice())
		copy(ip[16:], peerIP(s.i).AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sumOf(0, ip[:20])))
	}
	tcp := b[start:n]
	binary.BigEndian.PutUint16(tcp, 80)
	binary.BigEndian.PutUint16(tcp[2:], port)
	tcp[12], tcp[13] = 5<<4, 0x02
	for i := range tcp[20:] {
		tcp[20+i] = byte(i) + byte(port)
	}
	sum := sumOf(unix.IPPROTO_TCP+uint32(len(tcp)), b[14+addresses:start])
	binary.BigEndian.PutUint16(tcp[tcpChecksumOffset:], uint16(sum))
	return start
}

// The peer's kernel answers a SYN to a closed port with a RST if the checksum is right, and not at all if it is not.
func TestChecksumsLeftToTheInterfaceAreRight(t *testing.T) {
	w := newWire(t, 1, 1)
	in, s, index := w.open(0), w.station(0), w.edgeLink(0).Attrs().Index
	for _, device := range []string{"on", "off"} { // the kernel completes them where the device does not
		must(t, WriteSetting(index, SettingTXChecksum, device))
		for _, v6 := range []bool{false, true} {
			q, err := in.OpenQueue(QueueOptions{RingEntries: 64, Frames: 80, TXChecksum: TXChecksumOffload})
			must(t, err)
			must(t, in.SetSocket(0, q.FD()))
			const first, last = 2000, 2100
			for port := uint16(first); port <= last; port++ {
				n := 100 + 2*int(port-first)*7
				f, b, ok := q.Reserve()
				if !ok {
					t.Fatal("no frame is free")
				}
				if start := s.putSYN(b, v6, port, n); port == first {
					q.Submit(f, n) // nobody completes its checksum
				} else {
					q.SubmitPartial(f, n, start, tcpChecksumOffset)
				}
				must(t, q.Kick())
				if l := q.Levels(); l.Sum() != l.Frames {
					t.Fatalf("levels %+v", l)
				}
				if port == first {
					continue
				}
				await(t, "answer to a SYN", func() bool { return q.Peek(1) == 1 })
				answer := q.Frame(0)[start(v6):]
				if got := binary.BigEndian.Uint16(answer); got != port || answer[13]&0x04 == 0 {
					t.Errorf("device %s, IPv6 %t: answer from port %d with flags %#x, want a RST from %d", device, v6, got, answer[13], port)
				}
				q.Release(1)
			}
			if n := q.Stats().TXPartial; n != last-first {
				t.Errorf("%d frames counted whose checksum was left to the interface, of %d", n, last-first)
			}
			wantIdle(t, q)
			must(t, q.Close())
		}
	}
}

func start(v6 bool) int {
	if v6 {
		return 14 + 40
	}
	return 14 + 20
}

func TestWhoCompletesChecksums(t *testing.T) {
	w := newWire(t, 1, 1)
	in, s, index := w.open(0), w.station(0), w.edgeLink(0).Attrs().Index
	kernel := haveTXMetadata
	t.Cleanup(func() { haveTXMetadata = kernel })
	must(t, kernel())
	old := func() error { return errors.New("an old kernel") }

	// check opens a queue, says what it got and sends with it.
	check := func(name string, mode TXChecksumMode, offload bool, why string) {
		t.Helper()
		q, err := in.OpenQueue(QueueOptions{RingEntries: 64, Frames: 80, TXChecksum: mode})
		must(t, err)
		if q.TXChecksum() != offload || q.TXChecksumReason() != why {
			t.Errorf("%s: offload %t: %s; want %t: %s", name, q.TXChecksum(), q.TXChecksumReason(), offload, why)
		}
		for number := range uint32(100) {
			if !s.put(q, number, length(number)) {
				t.Fatalf("%s: no frame is free", name)
			}
			must(t, q.Kick())
		}
		hear(t, s, 100)
		wantIdle(t, q)
		must(t, q.Close())
	}
	check("auto", TXChecksumAuto, true, "veth hands segments on as the kernel's own, to be completed where they leave the machine")
	check("software", TXChecksumSoftware, false, "tx_checksum is software")
	haveTXMetadata = old
	check("auto, old kernel", TXChecksumAuto, false, "an old kernel")
	_, err := in.OpenQueue(QueueOptions{RingEntries: 64, Frames: 80, TXChecksum: TXChecksumOffload})
	wantError(t, err, ErrUnsupported, "checksum offload was demanded", "an old kernel", "tx_checksum")
	haveTXMetadata = kernel
	must(t, WriteSetting(index, SettingTXChecksum, "off"))
	check("auto, turned off", TXChecksumAuto, false, "tx-checksum-ip-generic of rre0 is off: the kernel would complete them in software")

	// Of drivers that are not here.
	for _, c := range []struct {
		name     string
		l        LinkInfo
		mode     TXChecksumMode
		zeroCopy bool
		want     bool
	}{
		{"zero-copy, announced", LinkInfo{Driver: "mlx5_core", Features: Features{XSK: XSKTXChecksum}}, TXChecksumAuto, true, true},
		{"zero-copy, not announced", LinkInfo{Driver: "igb"}, TXChecksumAuto, true, false},
		{"zero-copy, not announced, demanded", LinkInfo{Driver: "igb"}, TXChecksumOffload, true, false},
		{"copies, announced", LinkInfo{Driver: "mlx5_core", Features: Features{XSK: XSKTXChecksum}}, TXChecksumAuto, false, false},
		{"jumbo frames, demanded", LinkInfo{Driver: "veth", Frags: true}, TXChecksumOffload, false, false},
		{"copies, demanded", LinkInfo{Driver: "igb"}, TXChecksumOffload, false, true},
	} {
		if got, why := c.mode.leaves(c.l, c.zeroCopy); got != c.want || why == "" {
			t.Errorf("%s: %t, %q", c.name, got, why)
		}
	}
}
