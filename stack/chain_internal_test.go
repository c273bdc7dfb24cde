package stack

import "testing"

// A sender behind a smaller MTU waits for the ACK of its own second segment.
func TestFullSegmentIsNotThatOfAJumboFrame(t *testing.T) {
	for mtu, want := range map[int]uint32{9000: 1460, 1500: 1460, 1280: 1240} {
		if got := fullSegment(mtu); got != want {
			t.Errorf("MTU %d: %d bytes, want %d", mtu, got, want)
		}
	}
}
