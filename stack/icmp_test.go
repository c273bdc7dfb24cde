package stack_test

import (
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// icmp is an ICMP error of the puppet's router about a segment of the stack with this sequence number.
func (p *puppet) icmp(kind4, kind6 [2]byte, mtu, seq uint32) []byte {
	quoted := p.raw
	quoted.from, quoted.to, quoted.seq, quoted.flags = p.raw.to, p.raw.from, seq, header.TCPFlagAck
	quoted.ipOptions, quoted.data, quoted.options = nil, "0123456789", nil
	q := quoted.frame()[14:]
	frame := p.raw
	frame.ipOptions, frame.data, frame.options = nil, "", nil
	f := frame.frame()
	kind, ip := kind4, f[14:34]
	if p.raw.v6 {
		kind, ip = kind6, f[14:54]
		q[7] = 64
		src := append([]byte(nil), q[8:24]...)
		copy(q[8:], q[24:40])
		copy(q[24:], src)
	} else {
		src := append([]byte(nil), q[12:16]...)
		copy(q[12:], q[16:20])
		copy(q[16:], src)
		header.IPv4(q).SetChecksum(0)
		header.IPv4(q).SetChecksum(^header.IPv4(q).CalculateChecksum())
	}
	b := append([]byte{kind[0], kind[1], 0, 0, 0, 0, 0, 0}, q...)
	binary.BigEndian.PutUint32(b[4:], mtu)
	if p.raw.v6 {
		h := header.IPv6(ip)
		h.SetNextHeader(58)
		h.SetPayloadLength(uint16(len(b)))
		sum := checksum.Combine(checksum.Checksum(ip[8:40], 58), uint16(len(b)))
		binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, sum))
	} else {
		h := header.IPv4(ip)
		h[9] = 1
		h.SetTotalLength(uint16(20 + len(b)))
		h.SetChecksum(0)
		h.SetChecksum(^h.CalculateChecksum())
		binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, 0))
	}
	return append(append(append([]byte(nil), f[:14]...), ip...), b...)
}

var tooBig4, tooBig6 = [2]byte{3, 4}, [2]byte{2, 0}

func TestICMPErrorsAreJudged(t *testing.T) {
	everyWay(t, func(t *testing.T, p *puppet) {
		stats := p.l.Stack.LinkStats
		least, ignored := 552, uint64(0) // what an MTU of 68 counts as
		if p.raw.v6 {
			least = 0 // ignored
		}
		p.connect(2, 4, 5, 160)
		// The echo of this is not acknowledged.
		p.say(header.TCPFlagAck|header.TCPFlagPsh, string(payload(1000)))
		p.raw.seq += 1000
		for got := 0; got < 1000; {
			got += len(p.hear().Payload())
		}
		hard4, hard6 := [2]byte{3, 3}, [2]byte{1, 4} // port unreachable
		for i, seq := range []uint32{p.raw.ack - 1, p.raw.ack + 1000, p.raw.ack + 1<<31} {
			p.l.InjectFromClient(p.icmp(tooBig4, tooBig6, 1280, seq))
			p.l.InjectFromClient(p.icmp(hard4, hard6, 0, seq))
			p.l.eventually("forged errors are counted", func() bool { return stats(1).GuardICMPForged == uint64(2*i+2) })
		}
		p.l.InjectFromClient(p.icmp(hard4, hard6, 0, p.raw.ack))
		ignored++
		p.l.eventually("a hard error is ignored", func() bool { return stats(1).GuardICMPIgnored == ignored })
		most := func() (n int) {
			t.Helper()
			for end := p.raw.ack + 1000; p.raw.ack != end; {
				s := p.hear()
				if d := len(s.Payload()); d > 0 && s.SequenceNumber() == p.raw.ack {
					n, p.raw.ack = max(n, d), p.raw.ack+uint32(d)
					p.say(header.TCPFlagAck, "")
				}
			}
			return n
		}
		if n := most(); n != 1000 {
			t.Errorf("segments of up to %d bytes before an error was believed", n)
		}
		p.say(header.TCPFlagAck|header.TCPFlagPsh, string(payload(1000)))
		p.raw.seq += 1000
		for got := 0; got < 1000; {
			got += len(p.hear().Payload())
		}
		p.l.InjectFromClient(p.icmp(tooBig4, tooBig6, 68, p.raw.ack))
		if least == 0 {
			p.l.eventually("an MTU below the least is ignored", func() bool { return stats(1).GuardICMPIgnored == ignored+1 })
			if n := most(); n != 1000 {
				t.Errorf("segments of %d bytes", n)
			}
			return
		}
		p.l.eventually("the path MTU is counted", func() bool { return stats(1).PathMTUs == 1 })
		if n := most(); n > least-40 || n < least-40-40 {
			t.Errorf("segments of up to %d bytes at an MTU of 68", n)
		}
	})
}

// A handshake must not end by an error, whoever began it; but one that we began ends by one that quotes our SYN.
func TestICMPErrorsDoNotEndHandshakes(t *testing.T) {
	everyWay(t, func(t *testing.T, p *puppet) {
		p.say(header.TCPFlagSyn, "")
		a := p.hear()
		p.raw.seq++
		p.l.InjectFromClient(p.icmp([2]byte{3, 3}, [2]byte{1, 4}, 0, a.SequenceNumber()))
		p.l.eventually("ignored", func() bool { return p.l.Stack.LinkStats(1).GuardICMPIgnored == 1 })
		p.raw.ack = a.SequenceNumber() + 1
		p.say(header.TCPFlagAck, "")
		p.talk("hello")
	})
}
