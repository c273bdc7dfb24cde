package stack_test

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// What a SYN-ACK offers is what the SYN does, and it comes again with the SYN, which ends nothing.
func TestSYNACKAnswersOptions(t *testing.T) {
	mss, sack, scale := []byte{2, 4, 1000 >> 8, 1000 & 0xff}, []byte{1, 1, 4, 2}, []byte{1, 3, 3, 7}
	everyWay(t, func(t *testing.T, p *puppet) {
		for _, c := range []struct {
			options []byte
			stamp   uint32
			want    header.TCPSynOptions
		}{
			{mss, 0, header.TCPSynOptions{WS: -1}},
			{append(mss, sack...), 0, header.TCPSynOptions{WS: -1, SACKPermitted: true}},
			{append(mss, scale...), 77, header.TCPSynOptions{WS: 7, TS: true, TSEcr: 77}},
			{append(append(mss, sack...), scale...), 78, header.TCPSynOptions{WS: 7, TS: true, TSEcr: 78, SACKPermitted: true}},
		} {
			p.raw.from++
			p.stamp = c.stamp
			p.say(header.TCPFlagSyn, "", c.options...)
			first := p.hear()
			p.say(header.TCPFlagSyn, "", c.options...)
			again := p.hear()
			if again.Flags() != header.TCPFlagSyn|header.TCPFlagAck || again.SequenceNumber() != first.SequenceNumber() || again.AckNumber() != p.raw.seq+1 {
				t.Errorf("the same SYN was answered with %v of another number, or another acknowledgment", again.Flags())
			}
			own := uint16(1460)
			if p.raw.v6 {
				own = 1440
			}
			got := header.ParseSynOptions(first.Options(), true)
			if got.TS != c.want.TS || got.TSEcr != c.want.TSEcr || got.SACKPermitted != c.want.SACKPermitted || got.WS < 0 != (c.want.WS < 0) || got.MSS != own {
				t.Errorf("a SYN with %v was answered with %+v", c.options, got)
			}
			p.raw.seq, p.raw.ack = p.raw.seq+1, first.SequenceNumber()+1
			p.say(header.TCPFlagAck|header.TCPFlagPsh, "with the ACK that ends the handshake")
			p.raw.seq += uint32(len("with the ACK that ends the handshake"))
			if got := p.hear(); string(got.Payload()) != "with the ACK that ends the handshake" {
				t.Errorf("%q was echoed", got.Payload())
			} else if _, _, ok := stamps(got); ok != (c.stamp != 0) {
				t.Errorf("timestamps: %v", ok)
			}
			p.say(header.TCPFlagRst|header.TCPFlagAck, "")
		}
	})
}

// stamps are the timestamps of a segment without other options.
func stamps(t header.TCP) (value, echo uint32, ok bool) {
	o := header.ParseTCPOptions(t.Options())
	return o.TSVal, o.TSEcr, o.TS
}

// A reset ends a handshake if its number is the next one, and then only.
func TestResetEndsHandshake(t *testing.T) {
	everyWay(t, func(t *testing.T, p *puppet) {
		level := func() uint64 { _, n := p.l.Stack.Walk(); return n }
		for ack, flags := range map[uint32]header.TCPFlags{0: header.TCPFlagRst, 12345: header.TCPFlagRst | header.TCPFlagAck} {
			p.raw.from++
			p.say(header.TCPFlagSyn, "")
			answer := p.hear()
			syn := p.raw
			p.raw.seq++
			for _, beside := range []uint32{1<<32 - 1, 1 << 20} {
				p.raw.seq += beside
				p.say(header.TCPFlagRst, "")
				p.raw.seq -= beside
			}
			p.raw.seq += 5
			p.say(header.TCPFlagRst, "")
			p.raw.seq, p.raw.ack = p.raw.seq-5, answer.SequenceNumber()+1
			p.wantAnswer("a reset in the window")
			p.l.do(func() {
				if n := level(); n != 1 {
					t.Errorf("%d handshakes, want 1", n)
				}
			})
			p.raw.ack = ack
			p.say(flags, "")
			p.l.eventually("the handshake has ended", func() bool { return level() == 0 })
			p.raw.ack = answer.SequenceNumber() + 1
			p.say(header.TCPFlagAck, "")
			if a := p.hear(); a.Flags()&header.TCPFlagRst == 0 {
				t.Errorf("the ACK of a handshake that was reset is answered with %v", a.Flags())
			}
			p.raw = syn
		}
	})
}
