package stack_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// FuzzFrames throws frames at a listening stack. Whatever comes, the stack
// must neither crash nor keep a TX frame, and must still answer a ping of the
// loop.
func FuzzFrames(f *testing.F) {
	for _, frame := range seedFrames() {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		n := stacktest.New(t, nil)
		ln, err := n.Stack.Listen(netip.MustParseAddrPort("0.0.0.0:80"), 16)
		if err != nil {
			t.Fatal(err)
		}
		n.Stack.Poller().AddListener(ln, ln)
		for range 3 { // a repeated segment meets the state that the first one left
			n.InjectFromClient(frame)
			n.Stack.Turn()
			n.Stack.Poller().Wait(make([]stack.Event, 4))
			n.Stack.Flush()
		}
		if client, backend, all := n.FreeFrames(); client != all || backend != all {
			t.Errorf("TX frames free: %d and %d of %d", client, backend, all)
		}
	})
}

// FuzzHandover throws frames at one of three workers, on a queue or handed over
// by another. Besides what FuzzFrames asks, a frame must not travel for ever, and
// must be answered by at most one.
func FuzzHandover(f *testing.F) {
	for i, frame := range seedFrames() {
		f.Add(frame, uint8(i%3), int8(0), int8(-1))
		f.Add(frame, uint8(i%3), int8(0), int8(i%3))
		f.Add(frame, uint8(i%3), int8(i-1), int8(7))
	}
	f.Fuzz(func(t *testing.T, frame []byte, worker uint8, link, origin int8) {
		n := stacktest.NewWorkers(t, 3, nil)
		for _, s := range n.Stacks {
			ln, err := s.Listen(netip.MustParseAddrPort("0.0.0.0:80"), 16)
			if err != nil {
				t.Fatal(err)
			}
			s.Poller().AddListener(ln, ln)
		}
		w := int(worker % 3)
		if origin < 0 {
			n.InjectAt(int(uint8(link)%2), w, frame)
		} else {
			n.InjectHanded(w, int(link), int(origin), frame)
		}
		for range 4 {
			for i := range n.Stacks {
				s := n.Stacks[(w+i)%3]
				s.Turn()
				s.Poller().Wait(make([]stack.Event, 4))
				s.Flush()
			}
		}
		if waiting := n.HandedWaiting(); waiting != 0 {
			t.Errorf("%d frames are still on their way", waiting)
		}
		var resets uint64
		for _, s := range n.Stacks {
			resets += s.TCPStats().ResetsSent
		}
		if resets > 1 {
			t.Errorf("%d resets were sent", resets)
		}
		if client, backend, all := n.FreeFrames(); client != all || backend != all {
			t.Errorf("TX frames free: %d and %d of %d", client, backend, all)
		}
	})
}

// seedFrames are a SYN, with and without options, of both IP versions, a
// fragment, an ICMP error, and cut and corrupted ones.
func seedFrames() [][]byte {
	ether := func(kind uint16, packet []byte) []byte {
		b := append([]byte{2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2}, byte(kind>>8), byte(kind))
		return append(b, packet...)
	}
	syn := func(options ...byte) []byte {
		t := make([]byte, 20, 20+len(options))
		binary.BigEndian.PutUint16(t[0:], 40000)
		binary.BigEndian.PutUint16(t[2:], 80)
		binary.BigEndian.PutUint32(t[4:], 1000)
		t[12], t[13] = byte(20+len(options))<<2, 2
		binary.BigEndian.PutUint16(t[14:], 65535)
		return append(t, options...)
	}
	v4 := func(flags uint16, proto byte, payload []byte, options ...byte) []byte {
		h := make([]byte, 20, 20+len(options)+len(payload))
		h[0] = byte(4<<4 | (20+len(options))/4)
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(options)+len(payload)))
		binary.BigEndian.PutUint16(h[6:], flags)
		h[8], h[9] = 64, proto
		copy(h[12:], []byte{10, 1, 0, 2})
		copy(h[16:], []byte{10, 1, 0, 1})
		h = append(h, options...)
		var sum uint32
		for i := 0; i < len(h); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(h[i:]))
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
		return append(h, payload...)
	}
	v6 := func(next byte, payload []byte) []byte {
		h := make([]byte, 40)
		h[0], h[6], h[7] = 6<<4, next, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
		copy(h[8:], netip.MustParseAddr("fd00:1::2").AsSlice())
		copy(h[24:], netip.MustParseAddr("fd00:1::1").AsSlice())
		return append(h, payload...)
	}
	plain := ether(0x0800, v4(0x4000, 6, syn(2, 4, 5, 180)))
	quoted := append([]byte{3, 4, 0, 0, 0, 0, 5, 0}, v4(0x4000, 6, syn())...)
	return [][]byte{
		plain, plain[:30], plain[:60],
		ether(0x0800, v4(0, 6, syn(), 1, 1, 1, 0)),
		ether(0x0800, v4(0x2000, 6, syn()[:16])),
		ether(0x0800, v4(0x0002, 6, syn())),
		ether(0x0800, v4(0, 1, quoted)),
		ether(0x86dd, v6(6, syn(2, 4, 5, 160))),
		ether(0x86dd, v6(44, append([]byte{6, 0, 0, 1, 0, 0, 0, 7}, syn()...))),
		ether(0x86dd, v6(0, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, syn()...))),
		ether(0x8100, append([]byte{0, 0, 8, 0}, v4(0, 6, syn())...)),
	}
}
