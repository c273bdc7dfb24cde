//go:build segments

package segments

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// story is a case that is no table entry.
type story struct {
	name string
	rule string
	tell func(p *peer) string
}

func setup(p *peer, st *state) string {
	if err := st.setup(p); err != nil {
		return "cannot begin: " + err.Error()
	}
	return ""
}

// answer says how a request was answered.
func (p *peer) answer() string {
	_, err := p.readUntil(patience, func() bool { return strings.Contains(string(p.got), "\r\n\r\n") })
	line, _, _ := strings.Cut(string(p.got), "\r\n")
	if err != nil {
		return line + " " + err.Error()
	}
	return line
}

// burst sends a segment fifty times in a fifth of a second and counts the answers.
func burst(s segment) func(p *peer) string {
	return func(p *peer) string {
		if o := setup(p, established); o != "" {
			return o
		}
		for range 50 {
			p.say(s)
			time.Sleep(4 * time.Millisecond)
		}
		n := 0
		for {
			if _, ok := p.hear(quiet); !ok {
				break
			}
			n++
		}
		o := fmt.Sprint(n, " answers")
		if n >= 1 && n <= 3 {
			o = "one answer"
		} else if n >= 40 {
			o = "many answers"
		}
		if err := established.lives(p); err != nil {
			return o + "; then " + err.Error()
		}
		return o + "; lives"
	}
}

// overlap sends data out of order, and then what overlaps it.
func overlap(list ...segment) func(p *peer) string {
	return func(p *peer) string {
		if o := setup(p, established); o != "" {
			return o
		}
		p.got = nil
		p.say(list...)
		return p.answer()
	}
}

const badRequest = "GET /y HTTP/1.1\r\nHost: x\r\n\r\n"

var stories = []story{
	{"overlap: what came first differs", "RFC 9293 3.10.7.4", overlap(
		segment{flags: ack, seq: 4, data: badRequest[4:8]}, segment{flags: ack, data: strings.Replace(badRequest, "/y", "/?", 1)})},
	{"overlap: the end came first", "RFC 9293 3.10.7.4", overlap(
		segment{flags: ack, seq: 10, data: request[10:]}, segment{flags: ack, data: request[:15]})},
	{"overlap: three segments", "RFC 9293 3.10.7.4", overlap(
		segment{flags: ack, seq: 20, data: request[20:]}, segment{flags: ack, seq: 5, data: request[5:25]}, segment{flags: ack, data: request[:8]})},
	{"data sent again with other bytes", "RFC 9293 3.10.7.4", overlap(
		segment{flags: ack, data: request[:10]}, segment{flags: ack, data: "POST /z XX"}, segment{flags: ack, seq: 10, data: request[10:]})},
	{"one byte a segment, backwards", "RFC 9293 3.10.7.4", func(p *peer) string {
		var list []segment
		for i := len(request) - 1; i >= 0; i-- {
			list = append(list, segment{flags: ack, seq: i, data: request[i : i+1]})
		}
		return overlap(list...)(p)
	}},
	{"urgent data", "RFC 9293 3.8.5", overlap(segment{flags: ack | urg | psh, data: request, urgent: 1})},
	{"urgent pointer past the data", "RFC 9293 3.8.5", overlap(segment{flags: ack | urg | psh, data: request, urgent: 1000})},
	{"FIN with data", "RFC 9293 3.10.7.4 eighth", func(p *peer) string {
		return overlap(segment{flags: ack | fin, data: request})(p)
	}},
	{"FIN out of order, then the data", "RFC 9293 3.10.7.4 eighth", func(p *peer) string {
		if o := setup(p, established); o != "" {
			return o
		}
		p.got = nil
		p.say(segment{flags: fin | ack, seq: len(request)}, segment{flags: ack | psh, data: request})
		o := p.answer()
		p.next += uint32(len(request)) + 1
		if err := p.acknowledged(); err != nil {
			return o + "; " + err.Error()
		}
		return o + "; FIN acknowledged"
	}},
	{"FIN with data out of order, then the data", "RFC 9293 3.10.7.4 eighth", func(p *peer) string {
		if o := setup(p, established); o != "" {
			return o
		}
		p.got = nil
		p.say(segment{flags: fin | ack, seq: 10, data: request[10:]}, segment{flags: ack | psh, data: request[:10]})
		o := p.answer()
		p.next += uint32(len(request)) + 1
		if err := p.acknowledged(); err != nil {
			return o + "; " + err.Error()
		}
		return o + "; FIN acknowledged"
	}},
	{"window 0, then open", "RFC 9293 3.8.6.1", func(p *peer) string {
		if o := setup(p, established); o != "" {
			return o
		}
		p.window, p.got = 0, nil
		p.sendData(request)
		probes := 0
		for end := time.Now().Add(2500 * time.Millisecond); ; {
			s, ok := p.hear(time.Until(end))
			if !ok {
				break
			}
			if len(s.data) > 1 {
				return fmt.Sprintf("%d bytes into a closed window", len(s.data))
			}
			if len(s.data) == 1 || s.tcp.SequenceNumber() == p.want-1 {
				probes++
				p.say(segment{flags: ack})
			}
		}
		p.window = 500
		p.say(segment{flags: ack})
		return fmt.Sprintf("probed %v, %s", probes > 0, p.answer())
	}},
	{"window shrinks below what was sent", "RFC 9293 3.8.6", func(p *peer) string {
		if o := setup(p, established); o != "" {
			return o
		}
		p.got = nil
		p.sendData("GET /f/64k HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(50 * time.Millisecond)
		p.say(segment{flags: ack, window: -1})
		p.window = 1
		p.say(segment{flags: ack})
		p.window = 500
		time.Sleep(50 * time.Millisecond)
		p.say(segment{flags: ack})
		_, err := p.readUntil(patience, func() bool { return len(p.got) > 64<<10 })
		return fmt.Sprint(err)
	}},
	{"simultaneous close, data lost", "RFC 9293 3.6", func(p *peer) string {
		if o := setup(p, finWait1); o != "" {
			return o
		}
		p.say(segment{flags: fin | ack, ack: -20})
		p.next++
		o := p.outcome()
		p.want++
		p.say(segment{flags: ack})
		if err := p.finAgain(); err != nil {
			return o + "; " + err.Error()
		}
		return o + "; waits"
	}},
	{"RST in the window, often", "RFC 5961 7", burst(segment{flags: rst, seq: 1})},
	{"SYN, often", "RFC 5961 7", burst(segment{flags: syn})},
	{"SYN with data, often", "RFC 5961 7", burst(segment{flags: syn, data: "x"})},
	{"ACK of unsent data, often", "RFC 5961 7", burst(segment{flags: ack, ack: 1000})},
	{"data with ACK of unsent data, often", "RFC 5961 7", burst(segment{flags: ack, ack: 1000, data: "x"})},
	{"old timestamp, often", "RFC 5961 7", burst(segment{flags: ack, stampBack: 1000})},
	{"ACK behind the window, often", "RFC 5961 7", burst(segment{flags: ack, seq: 1 << 29})},
	{"TIME-WAIT: SYN with a higher number, without timestamps", "RFC 9293 3.6.1", reuse(segment{flags: syn, seq: 1000, noStamp: true})},
	{"TIME-WAIT: SYN with a lower number, without timestamps", "RFC 9293 3.6.1", reuse(segment{flags: syn, seq: -1000, noStamp: true})},
	{"TIME-WAIT: SYN with a lower number and a newer timestamp", "RFC 6191 2", reuse(segment{flags: syn, seq: -1000})},
	{"TIME-WAIT: SYN with a higher number and an older timestamp", "RFC 6191 2", reuse(segment{flags: syn, seq: 1000, stampBack: 1000})},
	{"TIME-WAIT: SYN with a higher number and the same timestamp", "RFC 6191 2", reuse(segment{flags: syn, seq: 1000, stampBack: 1})},
	{"TIME-WAIT: FIN behind a forged FIN", "RFC 9293 3.10.7.4", func(p *peer) string {
		if o := setup(p, finWait2); o != "" {
			return o
		}
		p.say(segment{flags: fin | ack, seq: 1 << 29}, segment{flags: fin, seq: 40})
		if err := p.finAnswered(); err != nil {
			return err.Error()
		}
		time.Sleep(700 * time.Millisecond)
		for len(p.in) > 0 {
			<-p.in
		}
		p.say(segment{flags: fin | ack, seq: -1})
		return p.outcome()
	}},
}

// reuse sends a SYN to a connection in TIME-WAIT.
func reuse(s segment) func(p *peer) string {
	return func(p *peer) string {
		if o := setup(p, timeWait); o != "" {
			return o
		}
		time.Sleep(20 * time.Millisecond)
		for len(p.in) > 0 {
			<-p.in
		}
		s.options = p.options
		p.say(s)
		a, ok := p.hear(quiet)
		switch {
		case !ok:
			return "silence"
		case a.tcp.Flags() == syn|ack:
			return "accepted"
		case a.tcp.Flags() == ack:
			return fmt.Sprintf("ACK%+d", int32(a.tcp.AckNumber()-p.next))
		}
		return a.tcp.Flags().String()
	}
}

// icmpError is an ICMP or ICMPv6 error about what the server sent.
type icmpError struct {
	name       string
	rule       string
	type4      [2]byte // type and code; 0: not with this version
	type6      [2]byte
	mtu        uint32
	seq        int  // of the quoted segment, from the first that is not acknowledged
	otherPort  bool // the quoted segment is of no connection
	short      bool // eight bytes are quoted
	corrupt    bool
	fromServer bool // the source is the server's address
}

var tooBig = icmpError{type4: [2]byte{3, 4}, type6: [2]byte{2, 0}}

func tooBigs(name string, mtu uint32, seq int) icmpError {
	e := tooBig
	e.name, e.mtu, e.seq, e.rule = name, mtu, seq, "RFC 1191, RFC 8201, RFC 5927 7"
	return e
}

var errors4and6 = []icmpError{
	tooBigs("too big, MTU 1400", 1400, 0),
	tooBigs("too big, MTU 1280", 1280, 0),
	tooBigs("too big, MTU 600", 600, 0),
	tooBigs("too big, MTU 68", 68, 0),
	tooBigs("too big, MTU 0", 0, 0),
	tooBigs("too big, MTU 1500", 1500, 0),
	tooBigs("too big, MTU 9000", 9000, 0),
	tooBigs("too big, about acknowledged data", 1300, -100),
	tooBigs("too big, about unsent data", 1300, 1<<20),
	tooBigs("too big, about the window's end", 1300, 1<<29),
	{name: "too big, corrupt", rule: "RFC 792", type4: [2]byte{3, 4}, type6: [2]byte{2, 0}, mtu: 1300, corrupt: true},
	{name: "too big, quoting eight bytes", rule: "RFC 792", type4: [2]byte{3, 4}, mtu: 1300, short: true},
	{name: "port unreachable", rule: "RFC 1122 4.2.3.9, RFC 5927 6", type4: [2]byte{3, 3}, type6: [2]byte{1, 4}},
	{name: "protocol unreachable", rule: "RFC 1122 4.2.3.9, RFC 5927 6", type4: [2]byte{3, 2}, type6: [2]byte{4, 1}},
	{name: "host unreachable", rule: "RFC 1122 4.2.3.9", type4: [2]byte{3, 1}, type6: [2]byte{1, 3}},
	{name: "administratively prohibited", rule: "RFC 1122 4.2.3.9", type4: [2]byte{3, 13}, type6: [2]byte{1, 1}},
	{name: "source quench", rule: "RFC 6633", type4: [2]byte{4, 0}},
	{name: "time exceeded", rule: "RFC 1122 4.2.3.9", type4: [2]byte{11, 0}, type6: [2]byte{3, 0}},
	{name: "parameter problem", rule: "RFC 1122 4.2.3.9", type4: [2]byte{12, 0}, type6: [2]byte{4, 0}},
}

// packet is the error about a segment of the server with n bytes of data.
func (e *icmpError) packet(p *peer, una uint32, n int) []byte {
	src, dst := p.addresses()
	quoted := make([]byte, 20+n)
	from, to := p.remote.Port(), p.local.Port()
	if e.otherPort {
		to++
	}
	binary.BigEndian.PutUint16(quoted, from)
	binary.BigEndian.PutUint16(quoted[2:], to)
	binary.BigEndian.PutUint32(quoted[4:], una+uint32(e.seq))
	binary.BigEndian.PutUint32(quoted[8:], p.next)
	quoted[12], quoted[13] = 0x50, 0x10
	q := ip(dst, src, 6, quoted, nil, 0)
	kind, most := e.type4, 28
	if src.Is6() {
		kind, most = e.type6, 1232
	} else if !e.short {
		most = 548
	}
	q = q[:min(most, len(q))]
	b := append([]byte{kind[0], kind[1], 0, 0, 0, 0, 0, 0}, q...)
	binary.BigEndian.PutUint32(b[4:], e.mtu)
	protocol := byte(1)
	if src.Is4() {
		if kind != [2]byte{3, 4} {
			clear(b[4:8])
		}
		binary.BigEndian.PutUint16(b[2:], ^checksum.Checksum(b, 0))
	} else {
		protocol = 58
		sumUpper(src, dst, b, 58, 2)
	}
	if e.corrupt {
		b[3] ^= 1
	}
	return ip(src, dst, protocol, b, nil, 0)
}

// tell has the server send a body that is not acknowledged, and errors about it.
func (e *icmpError) tell(p *peer) string {
	if o := setup(p, established); o != "" {
		return o
	}
	p.got, p.window = nil, 30 // for 3840 bytes
	p.sendData("GET /f/64k HTTP/1.1\r\nHost: x\r\n\r\n")
	una, n := p.want, 0
	for {
		s, ok := p.hear(100 * time.Millisecond)
		if !ok {
			break
		}
		n = max(n, len(s.data))
	}
	p.w.send(e.packet(p, una, n))
	time.Sleep(50 * time.Millisecond)
	p.window = 500
	// What comes from now on, sent again or not.
	most := 0
	p.say(segment{flags: ack})
	for end := time.Now().Add(patience); len(p.got) < 20000; {
		s, ok := p.hear(time.Until(end))
		if !ok || s.tcp.Flags()&rst != 0 {
			return fmt.Sprintf("then %d bytes; ended after %d bytes", most, len(p.got))
		}
		if most = max(most, len(s.data)); int32(s.tcp.SequenceNumber()-p.want) <= 0 && len(s.data) > 0 {
			if n := int(p.want - s.tcp.SequenceNumber()); n < len(s.data) {
				p.got, p.want = append(p.got, s.data[n:]...), p.want+uint32(len(s.data)-n)
			}
		}
		if len(s.data) > 0 {
			p.say(segment{flags: ack})
		}
	}
	p.say(segment{flags: rst})
	return fmt.Sprintf("then %d bytes", most)
}

// tellHandshake sends an error about the SYN and ACK.
func (e *icmpError) tellHandshake(p *peer) string {
	if o := setup(p, synReceived); o != "" {
		return o
	}
	p.w.send(e.packet(p, p.irs, 0))
	time.Sleep(50 * time.Millisecond)
	if err := synReceived.lives(p); err != nil {
		return err.Error()
	}
	return "lives"
}
