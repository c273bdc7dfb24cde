package stack_test

import (
	"slices"
	"sync/atomic"
	"testing"

	"ringroad/stack"
)

// longest keeps the length of the longest frame of a direction.
type longest struct{ atomic.Int64 }

func (n *longest) see(f []byte) bool {
	n.Store(max(n.Load(), int64(len(f))))
	return true
}

const jumboMTU = 9000

func jumbo(c *stack.Config) { c.Links[0].MTU = jumboMTU }

// Jumbo frames come from the device in pieces and leave in one.
func TestJumboFramesCarryBodies(t *testing.T) {
	l := start(t, jumbo, serveEcho)
	l.listen("0.0.0.0:80", "[::]:80")
	for _, addr := range bothVersions {
		var in, out longest
		l.LoseFromClient(in.see)
		l.LoseToClient(out.see)
		for _, size := range []int{0, 1, 3786, 3787, jumboMTU - 52, jumboMTU - 51, 100_000, 2 << 20} {
			c, err := l.Client.Dial(addr)
			if err != nil {
				t.Fatalf("dial %s: %v", addr, err)
			}
			roundTrip(t, c, payload(size))
			c.Close()
		}
		// netstack keeps room for all TCP options in each segment.
		if n := min(in.Load(), out.Load()); n < jumboMTU-40 || max(in.Load(), out.Load()) > jumboMTU+14 {
			t.Errorf("%s: the longest frames have %d bytes in and %d out, the MTU is %d", addr, in.Load(), out.Load(), jumboMTU)
		}
	}
	l.do(func() {
		st := l.Stack.LinkStats(1)
		if st.RXLean == 0 || st.TXSegmented == 0 || st.RXMerged == 0 || st.RXMalformed != 0 {
			t.Errorf("the lean path, merging or segmentation was not used: %+v", st)
		}
		if st.RXFrames > 2*(4<<20)/3840 {
			t.Errorf("%d frames received: pieces are counted as such", st.RXFrames)
		}
		if tcp := l.Stack.TCPStats(); tcp.ChecksumErrors != 0 || tcp.SegmentsInvalid != 0 {
			t.Errorf("bad segments: %+v", tcp)
		}
	})
	if free, _, all := l.FreeFrames(); free != all {
		t.Errorf("%d of %d TX frames are free after the load", free, all)
	}
}

func TestTapShowsJumboFramesWhole(t *testing.T) {
	l := start(t, jumbo, serveEcho)
	l.listen("10.1.0.1:80")
	tap, wires := &recorder{}, &recorder{}
	l.LoseFromClient(func(f []byte) bool { wires.note(&wires.received, f); return true })
	l.LoseToClient(func(f []byte) bool { wires.note(&wires.sent, f); return true })
	l.do(func() { l.Stack.SetTap(tap) })
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, payload(200_000))
	c.Close()
	l.eventually("the tap is shown all frames", func() bool {
		received, sent := wires.counts()
		shown, left := tap.counts()
		return received == shown && sent == left
	})
	l.do(func() {
		l.Stack.SetTap(nil)
		if !slices.Equal(tap.received, wires.received) || !slices.Equal(tap.withoutChecksums(), wires.withoutChecksums()) {
			t.Error("the tap shows other frames than the wires")
		}
	})
}

// The other worker gets whole packets, of plain segments and of what takes the
// stock way.
func TestJumboFramesAreHandedOver(t *testing.T) {
	for name, change := range map[string]func([]byte) [][]byte{
		"plain": func(f []byte) [][]byte { return [][]byte{f} },
		"fragments": func(f []byte) [][]byte {
			if len(f) < 5000 {
				return [][]byte{f}
			}
			return fragments(f, 4096)
		},
	} {
		for _, addr := range bothVersions {
			ws := startWorkersAs(t, 2, 128, func(_ int, c *stack.Config) { jumbo(c) }, serveEcho)
			resets := watchClient(ws[0].Network)
			ws[0].LoseFromClient(func(f []byte) bool {
				resets.see(fromPeer, f)
				if len(frameTCP(f)) < 100 {
					return true
				}
				for _, g := range change(f) {
					ws[0].InjectAt(0, 1, g)
				}
				return false
			})
			c, err := ws[0].Client.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, c, payload(200_000))
			if st := ws[1].handover(); st.Walk < 200_000/jumboMTU || st.WalkEnded != 0 || resets.resets() != 0 {
				t.Errorf("%s, %s: %+v, %d resets", name, addr, st, resets.resets())
			}
			c.Close()
		}
	}
}
