package lab

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/bpf"
	"ringroad/dataplane"
	"ringroad/hack/lab/faultlink"
	"ringroad/hack/lab/rss"
)

// TestFlowsArriveOnThePredictedQueue looks at the queues of both interfaces of the edge while kernels connect to it.
func TestFlowsArriveOnThePredictedQueue(t *testing.T) {
	relay := faultlink.Options{}
	otherKey := append(rss.Key(nil), rss.DefaultKey...)
	slices.Reverse(otherKey)
	for _, c := range []struct {
		name    string
		options Options
	}{
		{"2 queues", Options{Queues: 2, RSS: rss.DefaultKey}},
		{"4 queues, another key", Options{Queues: 4, RSS: otherKey}},
		{"3 queues, which the table does not divide evenly", Options{Queues: 3, RSS: rss.DefaultKey}},
		{"2 queues, frames relayed", Options{Queues: 2, RSS: rss.DefaultKey, ClientFault: &relay, BackendFault: &relay}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := up(t, c.options)
			nic := dataplane.DefaultRSS(c.options.RSS, c.options.Queues)
			for f, seen := range watchFlows(t, l, 48) {
				want := nic.Queue(f.src, f.dst)
				for queue, frames := range seen.frames {
					if queue != want {
						t.Errorf("%v: %d frames on queue %d, want all on %d", f, frames, queue, want)
					}
				}
			}
		})
	}
}

func TestFlowsSpreadOverQueuesWithoutRSS(t *testing.T) {
	for _, queues := range []int{2, 4} {
		t.Run(fmt.Sprintf("%d queues", queues), func(t *testing.T) {
			l := up(t, Options{Queues: queues})
			flows := map[netip.Addr][]int{} // of each destination: how many used each queue
			for f, seen := range watchFlows(t, l, 48) {
				if flows[f.dst.Addr()] == nil {
					flows[f.dst.Addr()] = make([]int, queues)
				}
				for queue := range seen.frames {
					flows[f.dst.Addr()][queue]++
				}
			}
			for to, count := range flows {
				if slices.Contains(count, 0) {
					t.Errorf("to %v: flows on each queue: %v", to, count)
				}
			}
		})
	}
}

// flow is one direction of a connection.
type flow struct{ src, dst netip.AddrPort }

// sighting is what the edge has seen of a flow.
type sighting struct {
	frames         map[int]int // by queue
	syn, data, fin int         // segments with these
	done           bool
}

// watchFlows lets client and backend open connections to the edge, the given number a family each, and returns what came in. The edge
// acknowledges only the second copy of a SYN and of data, and resets the flow at the second FIN: every flow has retransmissions.
func watchFlows(t *testing.T, l *Lab, connections int) map[flow]*sighting {
	t.Helper()
	var queues []*dataplane.Queue // those of e0, then those of e1
	for _, side := range []struct {
		link string
		from *Namespace
		to   []netip.Addr
	}{
		{EdgeClientLink, l.Client, []netip.Addr{EdgeToClient4, EdgeToClient6}},
		{EdgeBackendLink, l.Backend, []netip.Addr{EdgeToBackend4, EdgeToBackend6}},
	} {
		queues = append(queues, openQueues(t, l, side.link, side.to)...)
		for range connections {
			for _, to := range side.to {
				go sendAndClose(side.from, netip.AddrPortFrom(to, 80))
			}
		}
	}
	total := 2 * 2 * connections
	seen := map[flow]*sighting{}
	done := 0
	for deadline := time.Now().Add(time.Minute); done < total; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d flows are complete, %d have been seen", done, total, len(seen))
		}
		for i, q := range queues {
			n := q.Peek(64)
			for k := range n {
				f, flags, ok := answerFrame(q, q.Frame(k), seen, i%l.options.Queues)
				if !ok {
					t.Fatalf("unexpected frame %x", q.Frame(k))
				}
				if s := seen[f]; flags.Contains(header.TCPFlagRst) && !s.done {
					t.Fatalf("%v reset itself", f)
				} else if !s.done && s.data >= 2 && s.fin >= 2 {
					s.done = true
					done++
				}
			}
			q.Release(n)
			if err := q.Kick(); err != nil {
				t.Fatal(err)
			}
			q.Reap()
		}
	}
	if len(seen) != total {
		t.Errorf("%d flows seen of %d connections", len(seen), total)
	}
	return seen
}

// openQueues attaches the steering program to an interface of the edge, for port 80 of its addresses, and opens all its queues.
func openQueues(t *testing.T, l *Lab, link string, addresses []netip.Addr) (queues []*dataplane.Queue) {
	t.Helper()
	err := l.Edge.Do(func() error {
		in, err := dataplane.OpenInterface(dataplane.InterfaceOptions{Name: link, Mode: dataplane.ModeNative})
		if err != nil {
			return err
		}
		t.Cleanup(func() { in.Close() })
		for i := range l.options.Queues {
			q, err := in.OpenQueue(dataplane.QueueOptions{Queue: i, RingEntries: 1024})
			if err != nil {
				return err
			}
			t.Cleanup(func() { q.Close() })
			queues = append(queues, q)
		}
		return in.Steer(bpf.Config{Addresses: addresses, Listeners: []netip.AddrPort{
			netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("[::]:80"),
		}})
	})
	if err != nil {
		t.Fatal(err)
	}
	return queues
}

// sendAndClose leaves what it sent to the kernel. It fails only when the test has failed: the edge answers sooner or later.
func sendAndClose(from *Namespace, to netip.AddrPort) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return
	}
	_, _ = io.WriteString(c, "some data")
	c.Close()
}

// answerFrame notes a segment and answers it, in a frame of the same queue.
func answerFrame(q *dataplane.Queue, frame []byte, seen map[flow]*sighting, queue int) (f flow, flags header.TCPFlags, ok bool) {
	var tcp header.TCP
	var src, dst tcpip.Address
	payload := 0
	switch packet := frame[header.EthernetMinimumSize:]; header.IPVersion(packet) {
	case header.IPv4Version:
		ip := header.IPv4(packet)
		src, dst, tcp = ip.SourceAddress(), ip.DestinationAddress(), header.TCP(packet[ip.HeaderLength():ip.TotalLength()])
	case header.IPv6Version:
		ip := header.IPv6(packet)
		src, dst, tcp = ip.SourceAddress(), ip.DestinationAddress(), header.TCP(packet[header.IPv6MinimumSize:][:ip.PayloadLength()])
	default:
		return flow{}, 0, false
	}
	payload = len(tcp) - int(tcp.DataOffset())
	f = flow{addrPort(src, tcp.SourcePort()), addrPort(dst, tcp.DestinationPort())}
	s := seen[f]
	if s == nil {
		s = &sighting{frames: map[int]int{}}
		seen[f] = s
	}
	s.frames[queue]++
	flags = tcp.Flags()
	answer := header.TCPFields{SrcPort: tcp.DestinationPort(), DstPort: tcp.SourcePort(), DataOffset: header.TCPMinimumSize,
		AckNum: tcp.SequenceNumber() + 1, WindowSize: 1 << 15}
	if flags.Contains(header.TCPFlagSyn) {
		s.syn++
	}
	if payload > 0 {
		s.data++
	}
	if flags.Contains(header.TCPFlagFin) {
		s.fin++
	}
	switch {
	case flags.Contains(header.TCPFlagSyn) && s.syn >= 2:
		answer.Flags = header.TCPFlagSyn | header.TCPFlagAck
	case flags.Contains(header.TCPFlagFin) && s.data >= 2 && s.fin >= 2:
		answer.Flags, answer.SeqNum = header.TCPFlagRst, tcp.AckNumber()
	case payload > 0 && s.data >= 2:
		answer.Flags, answer.SeqNum, answer.AckNum = header.TCPFlagAck, tcp.AckNumber(), tcp.SequenceNumber()+uint32(payload)
	default:
		return f, flags, true
	}
	return f, flags, sendAnswer(q, frame, dst, src, &answer)
}

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(addr, port)
}

// sendAnswer puts a segment without payload on the queue, back to where a frame came from.
func sendAnswer(q *dataplane.Queue, to []byte, src, dst tcpip.Address, fields *header.TCPFields) bool {
	tx, b, ok := q.Reserve()
	if !ok {
		return false
	}
	copy(b, to[6:12])
	copy(b[6:], to[:6])
	copy(b[12:14], to[12:14])
	packet, headerBytes := b[header.EthernetMinimumSize:], header.IPv6MinimumSize
	if src.Len() == 4 {
		headerBytes = header.IPv4MinimumSize
		ip := header.IPv4(packet)
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(headerBytes + header.TCPMinimumSize), TTL: 64,
			Protocol: uint8(header.TCPProtocolNumber), SrcAddr: src, DstAddr: dst})
		ip.SetChecksum(^ip.CalculateChecksum())
	} else {
		header.IPv6(packet).Encode(&header.IPv6Fields{PayloadLength: header.TCPMinimumSize, HopLimit: 64,
			TransportProtocol: header.TCPProtocolNumber, SrcAddr: src, DstAddr: dst})
	}
	tcp := header.TCP(packet[headerBytes:][:header.TCPMinimumSize])
	tcp.Encode(fields)
	tcp.SetChecksum(^tcp.CalculateChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, header.TCPMinimumSize)))
	q.Submit(tx, header.EthernetMinimumSize+headerBytes+header.TCPMinimumSize)
	return true
}
