package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"
)

// crew is the shared part of a handover in a test.
type crew struct {
	memory *os.File
	bells  []*os.File
}

func newCrew(t testing.TB, workers, ringBytes int) *crew {
	t.Helper()
	c := &crew{}
	var err error
	c.memory, err = NewHandoverMemory(workers, ringBytes)
	must(t, err)
	t.Cleanup(func() { c.memory.Close() })
	for range workers {
		b, err := NewHandoverBell()
		must(t, err)
		t.Cleanup(func() { b.Close() })
		c.bells = append(c.bells, b)
	}
	return c
}

// join opens the handover as a worker, until the test ends.
func (c *crew) join(t testing.TB, self int) *Handover {
	t.Helper()
	h, err := OpenHandover(HandoverOptions{Memory: c.memory, Bells: c.bells, Self: self})
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h
}

// handedFrame fills b with a frame of varying length that carries a number, and returns it.
func handedFrame(b []byte, number uint32) []byte {
	b = b[:handedLength(number)]
	fillPayload(b, number)
	return b
}

// handedLength varies over odd lengths from 4 to about 1500, with a long frame now and then.
func handedLength(number uint32) int {
	if number%1000 == 999 {
		return 64<<10 + 18
	}
	return 4 + int(number*131%1499)
}

func checkHanded(f Handed, number uint32) error {
	if len(f.Frame) != handedLength(number) {
		return fmt.Errorf("frame %d is %d bytes long, want %d", number, len(f.Frame), handedLength(number))
	}
	return checkPayload(f.Frame, number)
}

func TestHandoverKeepsOrderAndContentRoundTheRing(t *testing.T) {
	c := newCrew(t, 3, 0)
	a, b := c.join(t, 2), c.join(t, 1)
	buf := make([]byte, 128<<10)
	var sent, got uint32
	full := 0
	for got < 30000 {
		// Either side is ahead for a while: the sender fills the ring, the receiver drains it.
		for range 1 + sent*sent%401 {
			if !a.Send(1, int(sent%7), 2, handedFrame(buf, sent)) {
				full++
				break
			}
			sent++
		}
		a.Flush()
		for range 1 + got*got%397 {
			f, ok := b.Receive()
			if !ok {
				if got != sent {
					t.Fatalf("nothing received, %d sent and %d received before", sent, got)
				}
				break
			}
			must(t, checkHanded(f, got))
			if f.Link != int(got%7) || f.Origin != 2 {
				t.Fatalf("frame %d: link %d, origin %d", got, f.Link, f.Origin)
			}
			got++
		}
	}
	if full == 0 || a.stats.Full != uint64(full) || a.stats.Sent != uint64(sent) || a.stats.RingHighWater < 200<<10 || b.stats.Received != uint64(got) || b.stats.Resyncs != 0 {
		t.Errorf("full %d times; statistics %+v, %+v", full, *a.stats, *b.stats)
	}
}

func TestHandoverRefusals(t *testing.T) {
	for _, n := range [][2]int{{0, 0}, {65, 0}, {2, 1000}, {2, 2048}, {2, 1 << 25}} {
		_, err := NewHandoverMemory(n[0], n[1])
		wantError(t, err, ErrOptions)
	}
	c := newCrew(t, 2, 4096)
	for _, o := range []HandoverOptions{
		{Memory: c.memory, Bells: c.bells, Self: 2},
		{Memory: c.memory, Bells: c.bells, Self: -1},
		{Memory: c.memory, Bells: c.bells[:1], Self: 0},
	} {
		_, err := OpenHandover(o)
		wantError(t, err, ErrOptions, "2 workers")
	}
	var junk [handoverHeaderBytes]byte
	binary.NativeEndian.PutUint64(junk[:], 1)
	if _, err := decodeHandoverGeometry(junk[:]); !errors.Is(err, ErrOptions) {
		t.Errorf("error %v", err)
	}
	h := c.join(t, 0)
	for _, to := range []int{-1, 0, 2} {
		if h.Send(to, 0, 0, []byte{1}) {
			t.Errorf("sent to worker %d", to)
		}
	}
	if h.Send(1, 0, 0, make([]byte, 2041)) || !h.Send(1, 0, 0, make([]byte, 2040)) {
		t.Error("the longest frame is not half a ring")
	}
	if h.stats.Refused != 4 {
		t.Errorf("statistics %+v", *h.stats)
	}
}
