package bpf

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// The test-run takes at least an Ethernet header, and without frags at most a page less head room and tail room.
const (
	minFrame      = 14
	maxFrame      = 3000
	maxJumboFrame = 9014
)

// differential runs the same frames through both programs and the reference.
type differential struct {
	plain, frags *Steer
}

func newDifferential(t testing.TB) differential {
	return differential{plain: steering(t, false), frags: steering(t, true)}
}

// compare passes the frames in order. linear bytes of each are in the first buffer for the program for several buffers.
func (d differential) compare(t testing.TB, linear int, frames ...[]byte) {
	t.Helper()
	forget(t, d.plain)
	forget(t, d.frags)
	r := newReference(testConfig)
	for i, f := range frames {
		want := r.verdict(f)
		if v := run(t, d.frags, f, min(max(linear, minFrame), len(f), maxFrame)); v != want {
			t.Errorf("frame %d, %x, %d in the first buffer: %v, reference says %v", i, f, linear, v, want)
		}
		if len(f) > maxFrame {
			continue
		}
		if v := run(t, d.plain, f, 0); v != want {
			t.Errorf("frame %d, %x: %v, reference says %v", i, f, v, want)
		}
	}
}

// FuzzVerdict compares the programs with the reference on two frames in a row, so that fragments can meet.
func FuzzVerdict(f *testing.F) {
	for _, c := range verdictCases() {
		first := c.frame
		if len(c.before) > 0 {
			first = c.before[0]
		}
		f.Add(uint16(len(c.frame)), first, c.frame)
	}
	d := newDifferential(f)
	f.Fuzz(func(t *testing.T, linear uint16, first, second []byte) {
		for _, frame := range [][]byte{first, second} {
			if len(frame) < minFrame || len(frame) > maxJumboFrame {
				return
			}
		}
		d.compare(t, int(linear), first, second)
	})
}

// Mutations of frames that are nearly right find more than random bytes. The seed is fixed: a failure repeats.
func TestMutatedFrames(t *testing.T) {
	d := newDifferential(t)
	cases := verdictCases()
	random := rand.New(rand.NewPCG(1, 2))
	for range 6000 {
		c := cases[random.IntN(len(cases))]
		frames := [][]byte{bytes.Clone(c.frame)}
		if len(c.before) > 0 {
			frames = append(frames, bytes.Clone(c.before[0]))
		}
		other := cases[random.IntN(len(cases))]
		frames = append(frames, bytes.Clone(other.frame))
		for i := range frames {
			for range random.IntN(4) {
				frames[i] = mutate(random, frames[i])
			}
		}
		random.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		d.compare(t, random.IntN(120), frames...)
		if t.Failed() {
			return
		}
	}
}

// mutate changes something that the programs look at more often than not.
func mutate(random *rand.Rand, f []byte) []byte {
	at := minFrame + random.IntN(max(1, min(len(f)-minFrame, 110)))
	if at >= len(f) {
		return f
	}
	switch random.IntN(8) {
	case 0: // cut, the lengths as they were
		return f[:at]
	case 1: // padding
		return append(f, make([]byte, random.IntN(40))...)
	case 2: // cut, with the length of the outer header put right
		f = f[:at]
		if len(f) > 20 {
			header := 14
			if f[14]>>4 == 6 {
				header += 40
				binary.BigEndian.PutUint16(f[18:], uint16(max(0, len(f)-header)))
			} else {
				binary.BigEndian.PutUint16(f[16:], uint16(len(f)-header))
			}
		}
		return f
	case 3: // a header number
		kinds := []byte{hopByHop, protoICMP, protoTCP, protoUDP, routing, fragment, authn, icmpv6, protoNone, destOpts}
		f[at] = kinds[random.IntN(len(kinds))]
	case 4: // an extreme
		f[at] = []byte{0, 1, 0x1f, 0x20, 0x3f, 0x7f, 0x80, 0xff}[random.IntN(8)]
	case 5: // a bit
		f[at] ^= 1 << random.IntN(8)
	case 6: // a tag pushed in
		tagged := append(bytes.Clone(f[:12]), 0x81, 0x00, 0, byte(random.Int()))
		return append(tagged, f[12:]...)
	case 7: // bytes copied from elsewhere in the frame
		from := minFrame + random.IntN(len(f)-minFrame)
		copy(f[at:], bytes.Clone(f[from:min(len(f), from+1+random.IntN(16))]))
	}
	return f
}
