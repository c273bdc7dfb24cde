//go:build segments

package segments

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	quiet    = 350 * time.Millisecond // without a segment: no answer follows. More than the kernel's delayed ACK of 40 to 200 ms
	patience = 3 * time.Second        // for what has to come

	fin, syn, rst, psh, ack, urg = header.TCPFlagFin, header.TCPFlagSyn, header.TCPFlagRst, header.TCPFlagPsh, header.TCPFlagAck, header.TCPFlagUrg
)

// peer is one end of a connection that the test plays.
type peer struct {
	w             *wire
	local, remote netip.AddrPort
	in            chan packet

	isn, next uint32 // of ours: the initial sequence number, and the next
	irs, want uint32 // of the server's: the same
	window    uint16
	stamps    bool // the connection has timestamps
	stamp     uint32
	echo      uint32 // the server's last timestamp
	keepEcho  bool   // echo is that of SYN and ACK: the kernel ends a handshake with no other
	options   []byte // of our SYN
	got       []byte // data of the server, in order

	far uint32 // behind what came of the server; 0: nothing has
}

// segment is what differs from the next proper segment of a peer.
type segment struct {
	flags    header.TCPFlags
	seq, ack int // offsets
	data     string
	options  []byte // besides a timestamp
	window   int    // -1: zero; 0: the peer's

	noStamp   bool
	stampBack uint32
	urgent    uint16
	offset    byte // of the header, in words; 0: right
	spoil     func(tcp []byte)
	corrupt   bool // the checksum

	src, dst netip.Addr                       // where they are others
	wrap     func(p *peer, tcp []byte) []byte // the IP packet; nil: a plain one
}

// tcp is the segment's bytes.
func (p *peer) tcp(s segment) []byte {
	options := s.options
	if p.stamps && !s.noStamp {
		options = binary.BigEndian.AppendUint32(append(append([]byte(nil), options...), 1, 1, 8, 10), p.stamp-s.stampBack)
		options = binary.BigEndian.AppendUint32(options, p.echo)
	}
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	window := p.window
	if s.window > 0 {
		window = uint16(s.window)
	} else if s.window < 0 {
		window = 0
	}
	b := make([]byte, header.TCPMinimumSize, header.TCPMinimumSize+len(options)+len(s.data))
	header.TCP(b).Encode(&header.TCPFields{
		SrcPort: p.local.Port(), DstPort: p.remote.Port(), SeqNum: p.next + uint32(s.seq), AckNum: p.want + uint32(s.ack),
		DataOffset: byte(header.TCPMinimumSize + len(options)), Flags: s.flags, WindowSize: window, UrgentPointer: s.urgent,
	})
	if s.flags&ack == 0 {
		binary.BigEndian.PutUint32(b[8:], uint32(s.ack))
	}
	b = append(append(b, options...), s.data...)
	if s.offset != 0 {
		b[12] = s.offset << 4
	}
	if s.spoil != nil {
		s.spoil(b)
	}
	src, dst := s.addresses(p)
	sumTCP(src, dst, b)
	if s.corrupt {
		b[17] ^= 1
	}
	return b
}

func (s *segment) addresses(p *peer) (src, dst netip.Addr) {
	src, dst = p.local.Addr(), p.remote.Addr()
	if s.src.IsValid() {
		src = s.src
	}
	if s.dst.IsValid() {
		dst = s.dst
	}
	return src, dst
}

// say sends segments as they are; the peer's numbers stay.
func (p *peer) say(list ...segment) {
	for _, s := range list {
		p.stamp++
		b := p.tcp(s)
		if s.wrap != nil {
			if f := s.wrap(p, b); f != nil {
				p.w.send(f)
			}
			continue
		}
		src, dst := s.addresses(p)
		p.w.send(ip(src, dst, 6, b, nil, 0))
	}
}

// hear returns the next segment of the server; ok is false when there is none for so long.
func (p *peer) hear(limit time.Duration) (s packet, ok bool) {
	select {
	case s := <-p.in:
		if o := header.ParseTCPOptions(s.tcp[header.TCPMinimumSize:]); o.TS && !p.keepEcho {
			p.echo = o.TSVal
		}
		return s, true
	case <-time.After(limit):
		return s, false
	}
}

// note reports whether a segment brings data, SYN or FIN that came before. FIN may have come with the last data.
func (p *peer) note(s *packet) (again bool) {
	flags, end := s.tcp.Flags(), s.tcp.SequenceNumber()+uint32(len(s.data))
	if flags&syn != 0 {
		end++
	}
	if flags&fin != 0 {
		end++
	}
	if end == s.tcp.SequenceNumber() {
		return false
	}
	again = p.far != 0 && int32(end-p.far) <= 0
	if !again {
		p.far = end
	}
	return again
}

// connect makes the handshake.
func (p *peer) connect() error {
	p.say(segment{flags: syn, options: p.options})
	if err := p.synAnswered(); err != nil {
		return err
	}
	p.say(segment{flags: ack})
	return nil
}

// synAnswered waits for the SYN and ACK of the server.
func (p *peer) synAnswered() error {
	for end := time.Now().Add(patience); ; {
		s, ok := p.hear(time.Until(end))
		if !ok {
			return fmt.Errorf("no answer to SYN")
		}
		if s.tcp.Flags()&rst != 0 {
			return fmt.Errorf("SYN answered with RST")
		}
		if s.tcp.Flags() == syn|ack && s.tcp.AckNumber() == p.next+1 {
			p.next++
			p.irs, p.want = s.tcp.SequenceNumber(), s.tcp.SequenceNumber()+1
			p.note(&s)
			return nil
		}
	}
}

// sendData sends data that counts.
func (p *peer) sendData(data string) {
	p.say(segment{flags: ack | psh, data: data})
	p.next += uint32(len(data))
}

// readUntil takes and acknowledges data until done. What is not acknowledged is the server's FIN: it reports that.
func (p *peer) readUntil(limit time.Duration, done func() bool) (finSeen bool, err error) {
	for end := time.Now().Add(limit); !done() && !finSeen; {
		s, ok := p.hear(time.Until(end))
		if !ok {
			return finSeen, fmt.Errorf("silence after %d bytes", len(p.got))
		}
		p.note(&s)
		if s.tcp.Flags()&rst != 0 {
			return finSeen, fmt.Errorf("reset")
		}
		if s.tcp.SequenceNumber() != p.want {
			if len(s.data) > 0 {
				p.say(segment{flags: ack})
			}
			continue
		}
		p.got = append(p.got, s.data...)
		p.want += uint32(len(s.data))
		finSeen = s.tcp.Flags()&fin != 0
		if len(s.data) > 0 {
			p.say(segment{flags: ack})
		}
	}
	return finSeen, nil
}

// get asks for a path and reads the response.
func (p *peer) get(path string) error {
	p.got = nil
	p.sendData("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	_, err := p.readUntil(patience, func() bool { return strings.HasSuffix(string(p.got), "hello world\n") })
	if err == nil && !strings.HasPrefix(string(p.got), "HTTP/1.1 200") {
		err = fmt.Errorf("answered with %.30q", p.got)
	}
	return err
}

// outcome says what comes back until it is quiet: new segments, with their numbers relative to the peer's.
func (p *peer) outcome() string {
	var list []string
	var data int
	acknowledged := 0
	add := func(s string) {
		if len(list) == 0 || list[len(list)-1] != s {
			list = append(list, s)
		}
	}
	for {
		s, ok := p.hear(quiet)
		if !ok {
			break
		}
		flags := s.tcp.Flags()
		seq, number := int(int32(s.tcp.SequenceNumber()-p.want)), int(int32(s.tcp.AckNumber()-p.next))
		again := p.note(&s)
		switch {
		case flags&rst != 0:
			r := "RST seq" + relative(seq, s.tcp.SequenceNumber())
			if flags&ack != 0 {
				r += " ack" + relative(number, s.tcp.AckNumber())
			}
			add(r)
			continue
		case flags&syn != 0:
			add("SYN-ACK ack" + relative(number, s.tcp.AckNumber()))
			continue
		case again && number <= acknowledged:
			continue
		case seq == -1 && len(s.data) == 0 && flags&fin == 0:
			continue // the kernel probes a closed window
		case again, len(s.data) == 0 && flags&fin == 0:
			add(fmt.Sprintf("ACK%+d seq%+d", number, seq))
		default:
			if data += len(s.data); len(s.data) > 0 {
				add(fmt.Sprintf("data ack%+d", number))
			}
			if flags&fin != 0 {
				if n := len(list); n > 0 && list[n-1] == fmt.Sprintf("ACK%+d seq%+d", number, seq) {
					list = list[:n-1] // the server was slower
				}
				add(fmt.Sprintf("FIN ack%+d", number))
			}
		}
		acknowledged = max(acknowledged, number)
	}
	if len(list) == 0 {
		return "silence"
	}
	return strings.Join(list, ", ")
}

// relative is a small offset, or the number itself when it is 0.
func relative(offset int, number uint32) string {
	if number == 0 {
		return "=0"
	}
	if offset > 1<<24 || offset < -1<<24 {
		return "=other"
	}
	return fmt.Sprintf("%+d", offset)
}
