package stack_test

import (
	"slices"
	"sync"
	"testing"

	"ringroad/stack"
)

// recorder keeps what it is shown, frames in the order of a direction.
type recorder struct {
	mu       sync.Mutex
	sent     []string
	received []string
}

func (r *recorder) Received(_, _ int, frame []byte, _ stack.Fate) { r.note(&r.received, frame) }
func (r *recorder) Handed(_, _ int, frame []byte, _ stack.Fate)   { r.note(&r.received, frame) }
func (r *recorder) Sent(_ int, frame []byte)                      { r.note(&r.sent, frame) }

func (r *recorder) note(list *[]string, frame []byte) {
	r.mu.Lock()
	*list = append(*list, string(frame))
	r.mu.Unlock()
}

func (r *recorder) counts() (received, sent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.received), len(r.sent)
}

// withoutChecksums are the frames sent but for the checksum of TCP behind an IPv4
// header, which the device completes.
func (r *recorder) withoutChecksums() []string {
	const checksum = 14 + 20 + 16
	var frames []string
	for _, f := range r.sent {
		frames = append(frames, f[:checksum]+f[checksum+2:])
	}
	return frames
}

func TestTapShowsWhatTheWiresCarry(t *testing.T) {
	l := start(t, nil, serveEcho)
	l.listen("10.1.0.1:80")
	tap, wires := &recorder{}, &recorder{}
	l.LoseFromClient(func(f []byte) bool { wires.note(&wires.received, f); return true })
	l.LoseToClient(func(f []byte) bool { wires.note(&wires.sent, f); return true })
	l.do(func() { l.Stack.SetTap(tap) })
	for _, size := range []int{0, 1, 100_000} {
		c, err := l.Client.Dial("10.1.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, payload(size))
		c.Close()
	}
	l.eventually("the tap is shown all frames", func() bool {
		received, sent := wires.counts()
		shown, left := tap.counts()
		return received == shown && sent == left
	})
	l.do(func() {
		if l.Stack.LinkStats(1).FinsMerged == 0 {
			t.Error("no FIN was merged into a frame that had been submitted")
		}
		l.Stack.SetTap(nil)
		if !slices.Equal(tap.received, wires.received) {
			t.Errorf("received: the tap shows %d frames, the wire %d, or others", len(tap.received), len(wires.received))
		}
		if !slices.Equal(tap.withoutChecksums(), wires.withoutChecksums()) {
			t.Errorf("sent: the tap shows %d frames, the wire %d, or others", len(tap.sent), len(wires.sent))
		}
	})
	before, _ := tap.counts()
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, nil)
	c.Close()
	l.do(func() {
		if n, _ := tap.counts(); n != before {
			t.Error("a tap that was taken off is shown frames")
		}
	})
}
