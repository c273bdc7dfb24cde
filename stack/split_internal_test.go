package stack

import (
	"bytes"
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/dataplane"
)

// splitDevice keeps what is submitted.
type splitDevice struct {
	Device
	frames  [][]byte
	partial int
}

func (d *splitDevice) Reserve() (f dataplane.TXFrame, b []byte, ok bool) {
	d.frames = append(d.frames, bytes.Repeat([]byte{0xa5}, 2048)) // as another packet left it
	return f, d.frames[len(d.frames)-1], true
}

func (d *splitDevice) Submit(_ dataplane.TXFrame, n int) {
	d.frames[len(d.frames)-1] = d.frames[len(d.frames)-1][:n]
}

func (d *splitDevice) SubmitPartial(f dataplane.TXFrame, n, _, _ int) {
	d.partial++
	d.Submit(f, n)
}

// What a large segment is split into, whose views may be of any length, is what filling the headers of each frame by
// themselves makes.
func TestSplitSegment(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, leave := range []bool{false, true} {
			for _, views := range [][]int{{2000}, {1, 1447, 1449, 3}, {701, 0, 733, 64, 1, 5000, 129}, {1448, 1448}} {
				t.Run(fmt.Sprint("v6=", v6, " left=", leave, views), func(t *testing.T) {
					testSplit(t, v6, leave, views)
				})
			}
		}
	}
}

func testSplit(t *testing.T, v6, leave bool, views []int) {
	const mss, sequence = 1448, 0xffff_fa00 // it wraps around
	var data []byte
	var payload buffer.Buffer
	for _, n := range views {
		piece := make([]byte, n)
		for i := range piece {
			piece[i] = byte(len(data)*7 + i*13 + i>>8)
		}
		data = append(data, piece...)
		if n > 0 {
			_ = payload.Append(buffer.NewViewWithData(piece))
		}
	}
	const flags = header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagFin
	ip := make([]byte, header.IPv4MinimumSize)
	copy(ip, "\x45\x00\xff\xff\x00\x00\x40\x00\x40\x06\x12\x34\x0a\x01\x00\x01\x0a\x01\x00\x02")
	if v6 {
		ip = make([]byte, header.IPv6MinimumSize)
		copy(ip, "\x60\x00\x00\x00\xff\xff\x06\x40\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xfd\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02")
	}
	segment := header.TCP(make([]byte, header.TCPMinimumSize+timestampBytes))
	copy(segment[header.TCPMinimumSize:], "\x01\x01\x08\x0a\x12\x34\x56\x78\x9a\xbc\xde\xf0")
	segment.Encode(&header.TCPFields{SrcPort: 80, DstPort: 50000, SeqNum: sequence, AckNum: 0x89abcdef, DataOffset: uint8(len(segment)), Flags: flags, WindowSize: 60000, Checksum: 0x4321})

	p := netstack.NewPacketBuffer(netstack.PacketBufferOptions{ReserveHeaderBytes: 100, Payload: payload})
	copy(p.TransportHeader().Push(len(segment)), segment)
	copy(p.NetworkHeader().Push(len(ip)), ip)
	p.TransportProtocolNumber = tcp.ProtocolNumber
	p.GSOOptions = netstack.GSO{Type: netstack.GSOTCPv4, MSS: mss}
	defer p.DecRef()
	d := &splitDevice{}
	l := &link{Link: Link{Device: d, MAC: [6]byte{2, 0, 0, 0, 0, 1}}, leaveChecksums: leave}
	mac := [6]byte{2, 0, 0, 0, 0, 9}
	if o := (outgoing{packet: p}); !l.segment(&o, &mac) || o.sent != len(data) {
		t.Fatalf("%d bytes of %d left", o.sent, len(data))
	}

	for i, offset := 0, 0; offset < len(data); i++ {
		n := min(payloadLimit(p), len(data)-offset)
		want := make([]byte, etherBytes, 2048)
		l.putEthernet(want, &mac, v6)
		want = append(append(append(want, ip...), segment...), data[offset:offset+n]...)
		packet := want[etherBytes:]
		putLength(packet)
		h := header.TCP(packet[len(ip):])
		h.SetSequenceNumber(h.SequenceNumber() + uint32(offset))
		if offset += n; offset < len(data) {
			h.SetFlags(uint8(header.TCPFlagAck))
		}
		l.putChecksum(packet)
		if i == len(d.frames) || !bytes.Equal(d.frames[i], want) {
			t.Fatalf("frame %d is not\n%x\nbut\n%x", i, want, d.frames[i])
		}
		if offset == len(data) && len(d.frames) != i+1 {
			t.Errorf("%d frames, want %d", len(d.frames), i+1)
		}
	}
	if leave != (d.partial > 0) {
		t.Errorf("%d checksums were left to the device", d.partial)
	}
}
