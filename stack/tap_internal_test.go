package stack

import (
	"testing"

	"ringroad/dataplane"
)

// fates keeps what became of the last frame.
type fates struct {
	fate Fate
	from int
	sent int
}

func (f *fates) Received(_, _ int, _ []byte, fate Fate)  { f.fate, f.from = fate, fromQueue }
func (f *fates) Handed(_, from int, _ []byte, fate Fate) { f.fate, f.from = fate, from }
func (f *fates) Sent(int, []byte)                        { f.sent++ }

func TestTapTellsWhatBecameOfAFrame(t *testing.T) {
	l, _ := idleLink(t)
	tap := &fates{}
	l.stack.SetTap(tap)
	vlan := append(append(ackTo(80)[:12:12], 0x81, 0x00, 0, 7), ackTo(80)[12:]...)
	for _, c := range []struct {
		name   string
		frame  []byte
		origin int
		want   Fate
	}{
		{"of the owner", ackTo(29000), fromQueue, 2},
		{"of nobody here", ackTo(80), fromQueue, 2},
		{"of ours", ackTo(25000), fromQueue, FateHere},
		{"of a foreign VLAN", vlan, fromQueue, FateDropped},
		{"too short", make([]byte, 5), fromQueue, FateDropped},
		{"passed on by another", ackTo(80), 0, 2},
		{"back from its walk", ackTo(80), 1, FateHere},
	} {
		l.origin = c.origin
		l.deliverTapped(0, c.frame)
		if tap.fate != c.want || tap.from != c.origin {
			t.Errorf("%s: fate %d from %d, want %d from %d", c.name, tap.fate, tap.from, c.want, c.origin)
		}
	}
}

func TestTappingDoesNotAllocate(t *testing.T) {
	l, _ := idleLink(t)
	tap := &fates{}
	l.stack.SetTap(tap)
	f := ackTo(29000)
	if n := testing.AllocsPerRun(100, func() { l.deliverTapped(0, f) }); n != 0 {
		t.Errorf("received: %v allocations", n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.submit(dataplane.TXFrame(0), f, len(f))
	l.kick()
	if n := testing.AllocsPerRun(100, func() { l.submit(dataplane.TXFrame(0), f, len(f)); l.kick() }); n != 0 {
		t.Errorf("sent: %v allocations", n)
	}
	if tap.sent != 102 {
		t.Errorf("%d frames were shown, want 102", tap.sent)
	}
}
