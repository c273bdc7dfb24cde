package stack_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// span is a range of sequence numbers, counted from the first byte of data.
type span [2]int

// blocks are those of the one SACK option of a.
func blocks(t *testing.T, a header.TCP, first uint32) (list []span) {
	t.Helper()
	for o := a[header.TCPMinimumSize:a.DataOffset()]; len(o) > 0; {
		switch {
		case o[0] == header.TCPOptionNOP:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) || list != nil:
			t.Fatalf("options % x", []byte(a[header.TCPMinimumSize:a.DataOffset()]))
		case o[0] == header.TCPOptionSACK:
			for b := o[2:o[1]]; len(b) >= 8; b = b[8:] {
				list = append(list, span{int(binary.BigEndian.Uint32(b) - first), int(binary.BigEndian.Uint32(b[4:]) - first)})
			}
		}
		o = o[o[1]:]
	}
	return list
}

// It is reported once, on the ACK that it causes, before the blocks of what came out of
// order (RFC 2883 4).
func TestWhatCameTwiceIsReported(t *testing.T) {
	for name, way := range map[string]struct {
		v6, ipOptions bool
		stamp         uint32
		room          int // for blocks in an ACK
	}{
		"IPv4": {false, false, 1, 3}, "IPv6": {true, false, 1, 3}, "IPv4 with options": {false, true, 1, 3},
		"no timestamps": {false, false, 0, 4},
	} {
		t.Run(name, func(t *testing.T) {
			p := sinkPuppet(t, way.v6, way.ipOptions)
			p.stamp = way.stamp
			p.connect(1, 1, 4, 2) // SACK permitted
			first := p.raw.seq
			for _, c := range []struct {
				what   string
				say    span
				next   int // acknowledged then
				blocks []span
			}{
				{"the first data", span{0, 3000}, 3000, nil},
				{"some of it", span{500, 1000}, 3000, []span{{500, 1000}}},
				{"the same once more", span{500, 1000}, 3000, []span{{500, 1000}}},
				{"the end of it, and new data", span{2500, 3100}, 3100, []span{{2500, 3000}}},
				{"data out of order", span{3200, 3300}, 3100, []span{{3200, 3300}}},
				{"old data before a gap", span{0, 3000}, 3100, []span{{0, 3000}, {3200, 3300}}},
				{"the same out of order", span{3200, 3300}, 3100, []span{{3200, 3300}, {3200, 3300}}},
				{"more behind it", span{3300, 3400}, 3100, []span{{3200, 3400}}},
				{"the end of that, and more", span{3250, 3500}, 3100, []span{{3250, 3400}, {3200, 3500}}},
				{"more than that", span{3150, 3550}, 3100, []span{{3200, 3500}, {3150, 3550}}},
				{"behind a gap", span{3600, 3700}, 3100, []span{{3600, 3700}, {3150, 3550}}},
				{"behind two", span{3800, 3900}, 3100, []span{{3800, 3900}, {3600, 3700}, {3150, 3550}}},
				{"behind three", span{4000, 4100}, 3100, []span{{4000, 4100}, {3800, 3900}, {3600, 3700}, {3150, 3550}}},
				{"one of them again", span{3800, 3900}, 3100, []span{{3800, 3900}, {3800, 3900}, {4000, 4100}, {3600, 3700}}},
				{"the first gap", span{3100, 3150}, 3550, []span{{3800, 3900}, {4000, 4100}, {3600, 3700}}},
			} {
				p.raw.seq = first + uint32(c.say[0])
				p.say(header.TCPFlagAck|header.TCPFlagPsh, strings.Repeat("x", c.say[1]-c.say[0]))
				a := p.hear()
				got, want := blocks(t, a, first), c.blocks[:min(len(c.blocks), way.room)]
				if next := int(a.AckNumber() - first); a.Flags() != header.TCPFlagAck || next != c.next || !slices.Equal(got, want) {
					t.Fatalf("%s was answered with %v, acknowledgment %d, blocks %v; want %d, %v", c.what, a.Flags(), next, got, c.next, want)
				}
			}
		})
	}
}

func TestWhatCameTwiceIsNotReportedToOneWithoutSACK(t *testing.T) {
	p := sinkPuppet(t, false, false)
	p.connect()
	first := p.raw.seq
	p.send(0, 3000)
	p.wantAnswer("the first data")
	p.raw.seq = first
	p.send(0, 3000)
	if b := blocks(t, p.hear(), first); b != nil {
		t.Errorf("blocks %v", b)
	}
}

// A corrupted segment came from nobody knows where.
func TestWhatIsNotIntactIsNotReported(t *testing.T) {
	p := sinkPuppet(t, false, false)
	p.connect(1, 1, 4, 2)
	first := p.raw.seq
	p.send(0, 3000)
	p.wantAnswer("the first data")
	again := p.raw
	again.seq, again.flags, again.data = first, header.TCPFlagAck|header.TCPFlagPsh, "x"
	frame := again.frame()
	frame[len(frame)-1]++
	p.l.InjectFromClient(frame)
	p.raw.seq += 100
	p.send(0, 100)
	if got, want := blocks(t, p.hear(), first), []span{{3100, 3200}}; !slices.Equal(got, want) {
		t.Errorf("blocks %v, want %v", got, want)
	}
}
