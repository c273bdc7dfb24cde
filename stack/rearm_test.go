package stack_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

// scripted is a client of which the test writes every segment and reads every
// answer. The client host of the network hears nothing.
type scripted struct {
	l        *loop
	local    netip.AddrPort
	remote   netip.AddrPort
	seq, ack uint32 // its next sequence number, and the stack's first
	heard    int    // bytes of the stack's data that it acknowledged
	echo     uint32 // timestamp of the latest segment heard that was not out of order then
	answers  chan answer
}

// answer is a segment from the stack. Its sequence number counts from the first
// byte of data.
type answer struct {
	seq   int
	bytes int
	flags header.TCPFlags
	stamp uint32
}

const (
	scriptedMSS = 1460
	// packetBytes is the data of a full packet, beside timestamps.
	packetBytes = scriptedMSS - 12
)

// connectScripted opens a connection with selective acknowledgments and timestamps.
func connectScripted(l *loop) *scripted {
	p := &scripted{
		l: l, local: netip.MustParseAddrPort("10.1.0.2:40000"), remote: netip.MustParseAddrPort("10.1.0.1:80"),
		seq: 1000, answers: make(chan answer, 1024),
	}
	var first uint32
	l.LoseToClient(func(frame []byte) bool {
		t := header.TCP(frame[header.EthernetMinimumSize+header.IPv4MinimumSize:])
		if t.Flags()&header.TCPFlagSyn != 0 {
			first = t.SequenceNumber() + 1
			p.ack = first
		}
		p.answers <- answer{int(int32(t.SequenceNumber() - first)), len(t.Payload()), t.Flags(), t.ParsedOptions().TSVal}
		return false
	})
	options := make([]byte, 20)
	header.EncodeMSSOption(scriptedMSS, options)
	header.EncodeSACKPermittedOption(options[4:])
	header.EncodeTSOption(scriptedStamp, 0, options[6:])
	options[16] = header.TCPOptionNOP
	header.EncodeWSOption(4, options[17:])
	p.send(header.TCPFlagSyn, 0, options, nil)
	p.echo = p.next("SYN and ACK", func(a answer) bool { return a.flags == header.TCPFlagSyn|header.TCPFlagAck }).stamp
	p.seq++
	p.acknowledge(0)
	return p
}

// serveScripted is a connection of a scripted client, and what writes so many packets on it.
func serveScripted(t *testing.T, minRTO time.Duration) (p *scripted, conn *stack.Conn, write func(packets int)) {
	accepted := make(chan *stack.Conn, 1)
	l := start(t, func(c *stack.Config) { c.TCP.MinRTO = minRTO }, func(l *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			if c, err := ln.Accept(); err == nil {
				l.Stack.Poller().AddConn(c, 0, c)
				accepted <- c
			}
		}
	})
	l.listen("10.1.0.1:80")
	p = connectScripted(l)
	conn = <-accepted
	return p, conn, func(packets int) {
		l.do(func() {
			if n, err := conn.Write(make([]byte, packets*packetBytes)); err != nil {
				t.Errorf("wrote %d bytes, %v", n, err)
			}
		})
	}
}

// acknowledge acknowledges the first n bytes of the stack's data, and blocks of
// bytes behind them.
func (p *scripted) acknowledge(n int, blocks ...[2]int) {
	p.heard = n
	options := p.stamps()
	if len(blocks) > 0 {
		options = append(options, header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionSACK, byte(2+8*len(blocks)))
		for _, b := range blocks {
			options = binary.BigEndian.AppendUint32(options, p.ack+uint32(b[0]))
			options = binary.BigEndian.AppendUint32(options, p.ack+uint32(b[1]))
		}
	}
	p.send(header.TCPFlagAck, p.ack+uint32(n), options, nil)
}

// say acknowledges the first n bytes with a byte of data, and waits until the
// stack has processed both.
func (p *scripted) say(n int) {
	p.l.t.Helper()
	p.heard = n
	p.send(header.TCPFlagAck|header.TCPFlagPsh, p.ack+uint32(n), p.stamps(), []byte("x"))
	p.seq++
	p.next("an acknowledgment", func(a answer) bool { return a.bytes == 0 && a.flags == header.TCPFlagAck })
}

// scriptedStamp is the timestamp of every segment of the peer.
const scriptedStamp = 1

// stamps is the timestamp option of a segment.
func (p *scripted) stamps() []byte {
	b := []byte{header.TCPOptionNOP, header.TCPOptionNOP, 11: 0}
	header.EncodeTSOption(scriptedStamp, p.echo, b[2:])
	return b
}

func (p *scripted) send(flags header.TCPFlags, ack uint32, options, data []byte) {
	frame := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+header.TCPMinimumSize+len(options)+len(data))
	copy(frame, []byte{2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0})
	local, remote := tcpip.AddrFrom4(p.local.Addr().As4()), tcpip.AddrFrom4(p.remote.Addr().As4())
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), Flags: header.IPv4FlagDontFragment, TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
		SrcAddr: local, DstAddr: remote,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	t := header.TCP(ip[header.IPv4MinimumSize:])
	copy(t[header.TCPMinimumSize:], options)
	copy(t[header.TCPMinimumSize+len(options):], data)
	t.Encode(&header.TCPFields{
		SrcPort: p.local.Port(), DstPort: p.remote.Port(), SeqNum: p.seq, AckNum: ack,
		DataOffset: uint8(len(t) - len(data)), Flags: flags, WindowSize: 0xffff,
	})
	t.SetChecksum(^checksum.Checksum(t, header.PseudoHeaderChecksum(header.TCPProtocolNumber, local, remote, uint16(len(t)))))
	p.l.InjectFromClient(frame)
}

// next waits for an answer, passing over others.
func (p *scripted) next(what string, is func(answer) bool) answer {
	p.l.t.Helper()
	limit := time.After(20 * time.Second)
	var others []answer
	for {
		select {
		case a := <-p.answers:
			if a.seq <= p.heard {
				p.echo = a.stamp // RFC 7323 4.3
			}
			if is(a) {
				return a
			}
			others = append(others, a)
		case <-limit:
			p.l.t.Fatalf("the stack never sent %s; it sent %v", what, others)
		}
	}
}

// nextOf waits for answers that match, each one of is, in any order.
func (p *scripted) nextOf(what string, is ...func(answer) bool) {
	p.l.t.Helper()
	p.next(what, func(a answer) bool {
		is = slices.DeleteFunc(is, func(is func(answer) bool) bool { return is(a) })
		return len(is) == 0
	})
}

// covers matches a segment with the byte at offset n of the stack's data.
func covers(n int) func(answer) bool {
	return func(a answer) bool { return a.seq <= n && n < a.seq+a.bytes }
}

// What is lost a second time is sent a third time, by a connection that lives and by one
// that was closed.
func TestTailThatIsLostAgainIsResent(t *testing.T) {
	for _, closed := range []bool{false, true} {
		// The peer has its turn well before a retransmission timeout, also on a
		// machine that is busy.
		p, c, write := serveScripted(t, 2*time.Second)
		l := p.l
		// The first packet makes the round trip known. The congestion window, which it
		// does not fill, stays what it is, and the next write fills it with one large segment.
		write(1)
		p.next("the first packet", covers(0))
		p.say(packetBytes)
		const packets, window = 13, 10
		write(packets - 1)
		if closed {
			l.do(func() {
				c.Read(make([]byte, 1)) //nolint:errcheck // what is left unread makes a reset
				c.Close()
			})
		}
		p.next("a full window", covers(window*packetBytes))
		// The window's first packet is lost, and the rest of the data, which the selective
		// acknowledgments let out.
		for _, n := range []int{3, 4, 9} {
			p.acknowledge(packetBytes, [2]int{2 * packetBytes, n * packetBytes})
		}
		p.nextOf("the lost packet again, and the last", covers(packetBytes), covers(packets*packetBytes-1))
		p.acknowledge((window + 1) * packetBytes)
		p.next("the tail again", covers((window+1)*packetBytes))
		p.next("the tail once more", covers((window+1)*packetBytes))
		p.acknowledge(packets * packetBytes)
		if !closed {
			l.eventually("all is acknowledged", func() bool { return c.Info().Sent == 0 })
		}
		l.do(func() {
			if i := c.Info(); !closed && (i.Retransmits < 3 || i.SlowStartThreshold == 0) {
				t.Errorf("after the losses: %+v", i)
			}
		})
	}
}

// netstack can lose its retransmission timer: what is on its way then must be resent all the same.
func TestLostTimerIsArmedAgain(t *testing.T) {
	p, c, _ := serveScripted(t, 200*time.Millisecond)
	p.l.do(func() {
		if _, err := c.Write(make([]byte, packetBytes)); err != nil {
			t.Error(err)
		}
		c.LoseTimers()
	})
	p.next("the packet", covers(0))
	p.next("the packet again", covers(0))
	p.l.do(func() {
		if n := p.l.Stack.LoopStats().TimersRearmed; n != 1 {
			t.Errorf("%d timers were armed again, want 1", n)
		}
	})
}

// A connection is looked at only as long as it has something to send, closed or
// not.
func TestConnectionsAreWatchedWhileTheyHaveOutput(t *testing.T) {
	l := start(t, nil, serveEcho)
	l.listen("10.1.0.1:80")
	for i := range 100 {
		c, err := l.Client.Dial("10.1.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if i%2 == 0 {
			roundTrip(t, c, payload(5000)) // to the end of the stream: the server closes
			continue
		}
		if _, err := c.Write(payload(5000)); err != nil {
			t.Fatal(err)
		}
	}
	l.eventually("all was watched and acknowledged", func() bool { return l.Stack.LoopStats().BytesWritten == 500_000 && l.Stack.Watched() == 0 })
}

// An answer and its FIN are one frame: no peer acknowledges them sooner than others, and
// nothing is to be sent again after two round trips. When the peer has closed, too, the
// connection is not watched any more.
func TestProbeWaitsForTheDelayedACKOfTheLastSegment(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*stack.Conn)
	}{{"half-closed", (*stack.Conn).CloseWrite}, {"closed", (*stack.Conn).Close}} {
		t.Run(c.name, func(t *testing.T) {
			var conn *stack.Conn
			p := puppetOf(t, false, false, func(l *loop, e stack.Event) {
				if ln, ok := e.Data.(*stack.Listener); ok {
					if c, err := ln.Accept(); err == nil {
						conn = c
					}
				}
			})
			p.stamp = 1
			p.connect(1, 1, 4, 2) // with SACK
			p.l.eventually("accepted", func() bool { return conn != nil })
			p.l.do(func() {
				if _, err := conn.Write([]byte("answer")); err != nil {
					t.Error(err)
				}
				c.end(conn)
				if d := conn.ProbeDelay(); d < 200*time.Millisecond {
					t.Errorf("the tail is probed after %v", d)
				}
			})
			p.raw.ack += uint32(len("answer")) + 1
			p.say(header.TCPFlagFin|header.TCPFlagAck, "")
			p.l.eventually("netstack has forgotten", func() bool { return p.l.Stack.TCPStats().Endpoints == 2 })
			p.l.do(func() {
				conn.Close()
				if n := p.l.Stack.Watched(); c.name == "half-closed" && n != 0 {
					t.Errorf("%d connections are watched", n)
				}
			})
		})
	}
}

// Without RACK there is no tail loss probe, and the retransmission timer waits (RFC 8985 7).
func TestShortSegmentsAreProbedWithRACKOnly(t *testing.T) {
	for _, off := range []bool{false, true} {
		var conn *stack.Conn
		p := puppetWith(t, func(c *stack.Config) { c.TCP.NoRACK = off }, false, false, func(l *loop, e stack.Event) {
			if ln, ok := e.Data.(*stack.Listener); ok {
				conn, _ = ln.Accept()
			}
		})
		p.connect(1, 1, 4, 2) // with SACK
		p.l.eventually("accepted", func() bool { return conn != nil })
		for range 2 {
			p.l.do(func() {
				if _, err := conn.Write([]byte("answer")); err != nil {
					t.Error(err)
				}
				if probed := conn.ProbeDelay() > 0; probed == off {
					t.Errorf("RACK off %v: the tail is probed: %v", off, probed)
				}
			})
			p.raw.ack += uint32(len("answer"))
			p.say(header.TCPFlagAck, "")
			p.l.eventually("acknowledged", func() bool { return conn.Info().Sent == 0 })
		}
	}
}
