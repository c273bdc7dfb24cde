package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ringroad/proxy/config"
)

// FuzzExchange throws frames at the worker while a client and a backend are at it: any bytes, and what either side has sent, again or
// changed. Frames that TCP has to refuse must do the exchange no harm, whatever comes the next client must be served, and in the end
// nothing may be left.
func FuzzExchange(f *testing.F) {
	for _, script := range exchangeScripts() {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		r := newRig(t, func(c *config.Config) {
			c.Upstreams = append(c.Upstreams, config.Upstream{Name: "fresh", Balance: config.RoundRobin, KeepAliveTimeout: time.Minute, Servers: c.Upstreams[0].Servers})
			c.Listeners = append(c.Listeners, config.Listener{
				Address: netip.MustParseAddrPort("0.0.0.0:81"), Backlog: 16, Routes: []config.Route{{Upstream: "fresh"}},
			})
		})
		m := newMischief(r, script)
		r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header()["Date"] = nil
			b, _ := io.ReadAll(req.Body)
			_, _ = w.Write(b)
			m.strike()
			_, _ = w.Write(b)
		}))
		if err := m.exchange(); err != nil && !m.harmed() {
			t.Errorf("the exchange failed, and no frame could harm it: %v", err)
		}
		m.strikeAll()
		c, err := r.Client.Dial("10.1.0.1:81")
		if err != nil {
			t.Fatalf("the next client does not get through: %v", err)
		}
		limit(c)
		say(c, "GET / HTTP/1.0\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 200 OK\r\n")) {
			t.Errorf("the next client got %q, %v", b, err)
		}
		c.Close()
		r.stop()
		if client, backend, all := r.FreeFrames(); client != all || backend != all {
			t.Errorf("TX frames free: %d and %d of %d", client, backend, all)
		}
	})
}

// exchangeScripts throw frames of one kind at a time, of all sources and at all times, and then of all kinds.
func exchangeScripts() (scripts [][]byte) {
	var all []byte
	for _, op := range [][]byte{
		{opBytes, 20, 2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0, 0x45, 0, 0, 20, 0, 0},
		{opAgain, 0}, {opAgain, 3}, {opChanged, 1, 1, 46, 1}, {opChanged, 0, 2, 60, 0xff, 47, 0x14},
		{opMended, 0, 1, 47, 4}, {opMended, 1, 1, 47, 1}, {opMended, 0, 1, 38, 0x80}, {opMended, 2, 1, 20, 0x20}, {opMended, 0, 1, 54, 1},
		{opMended, 0, 1, 23, 7}, {opMended, 0, 1, 30, 1}, {opCut, 0, 40}, {opCutMended, 1, 50},
	} {
		var script []byte
		for range phases {
			for source := range byte(4) {
				script = append(append(script, op[0]|source<<3), op[1:]...)
			}
		}
		scripts = append(scripts, script)
		all = append(all, script[:4*len(op)]...)
	}
	return append(scripts, all)
}

// What a script is made of: the low three bits of an op's first byte, above them whose frames it takes.
const (
	opBytes     = iota // length, bytes
	opAgain            // of which frame, counted from the last
	opChanged          // of which frame, number of changes, for each a place and what is xored
	opMended           // as opChanged, with lengths and checksums put right
	opCut              // of which frame, length
	opCutMended        // as opCut
)

const (
	phases = 7  // of an exchange
	maxOps = 64 // of a script
)

// mischief is what is thrown at an exchange.
type mischief struct {
	*rig

	mu     sync.Mutex
	ops    [][]byte
	phases int         // still to come
	heard  [4][][]byte // from the client, from the backend, to the client, to the backend
	known  map[string]bool
	hit    bool     // a frame may have harmed the exchange
	client net.Conn // its deadline is near from then on
}

const (
	clientPort     = 45678 // of the exchange
	harmedPatience = 50 * time.Millisecond
)

func newMischief(r *rig, script []byte) *mischief {
	m := &mischief{rig: r, phases: phases, known: map[string]bool{}}
	for len(script) >= 3 && len(m.ops) < maxOps {
		n := 2
		switch script[0] & 7 {
		case opBytes:
			n = 2 + int(script[1])
		case opChanged, opMended:
			n = 3 + 2*int(script[2]&3)
		case opCut, opCutMended:
			n = 3
		}
		n = min(n, len(script))
		m.ops = append(m.ops, script[:n])
		script = script[n:]
	}
	for i, hear := range []func(func([]byte) bool){r.LoseFromClient, r.LoseFromBackend, r.LoseToClient, r.LoseToBackend} {
		hear(func(frame []byte) bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			frame = bytes.Clone(frame)
			m.heard[i] = append(m.heard[i], frame)
			m.known[string(frame[etherBytes:])] = true
			return true
		})
	}
	return m
}

// exchange sends two requests on one connection, the first in pieces.
func (m *mischief) exchange() error {
	c, err := m.Client.DialFrom(clientPort, front)
	if err != nil {
		return err
	}
	defer c.Close()
	limit(c)
	m.mu.Lock()
	m.client = c
	m.mu.Unlock()
	m.strike()
	body := strings.Repeat("0123456789abcdef", 300)
	in := bufio.NewReader(c)
	pieces := [][]string{
		{"POST /a HTTP/1.1\r\nHost: a\r\nContent-Le", "ngth: 4800\r\n\r\n", body[:1000], body[1000:]},
		{"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4800\r\n\r\n" + body},
	}
	for _, request := range pieces {
		for _, piece := range request {
			if _, err := io.WriteString(c, piece); err != nil {
				return err
			}
			m.strike()
		}
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		if r.StatusCode != http.StatusOK || string(got) != body+body {
			return fmt.Errorf("status %d, %d bytes", r.StatusCode, len(got))
		}
	}
	return nil
}

func (m *mischief) harmed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hit
}

// strike throws what is for this moment.
func (m *mischief) strike() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phases == 0 {
		return
	}
	n := (len(m.ops) + m.phases - 1) / m.phases
	for _, op := range m.ops[:n] {
		m.throw(op)
	}
	m.ops, m.phases = m.ops[n:], m.phases-1
}

// strikeAll throws all that is left.
func (m *mischief) strikeAll() {
	for range phases {
		m.strike()
	}
}

func (m *mischief) throw(op []byte) {
	kind, source := op[0]&7, op[0]>>3&3
	frame := bytes.Clone(op[2:])
	if kind != opBytes {
		heard := m.heard[source]
		if len(heard) == 0 {
			return
		}
		frame = bytes.Clone(heard[len(heard)-1-int(op[1])%len(heard)])
		change := op[2:]
		switch kind {
		case opChanged, opMended:
			for change = change[min(1, len(change)):]; len(change) >= 2; change = change[2:] {
				frame[int(change[0])%len(frame)] ^= change[1]
			}
		case opCut, opCutMended:
			if len(change) > 0 {
				frame = frame[:int(change[0])%len(frame)]
			}
		}
		if kind == opMended || kind == opCutMended {
			mend(frame)
		}
	}
	if m.mayHarm(frame) && !m.hit {
		m.hit = true
		_ = m.client.SetDeadline(time.Now().Add(harmedPatience)) // it may wait for what will never come
	}
	m.InjectAt(int(source&1), 0, frame)
}

const etherBytes = 14

// mend puts the lengths and checksums of an IPv4 packet right, as far as there are some.
func mend(frame []byte) {
	if len(frame) < etherBytes+20 {
		return
	}
	ip := frame[etherBytes:]
	header := min(int(ip[0]&15)*4, len(ip))
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^sum(ip[:header], 0))
	if tcp := ip[header:]; len(tcp) >= 20 {
		tcp[16], tcp[17] = 0, 0
		binary.BigEndian.PutUint16(tcp[16:], ^sum(tcp, pseudo(ip, len(tcp))))
	}
}

// sum is the Internet checksum (RFC 1071), not inverted.
func sum(b []byte, s uint32) uint16 {
	for i, v := range b {
		s += uint32(v) << (8 * (1 - i&1))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// pseudo is the sum of a TCP segment's pseudo header (RFC 9293 3.1).
func pseudo(ip []byte, n int) uint32 { return uint32(sum(ip[12:20], uint32(n+6))) }

// mayHarm reports whether TCP may take a frame for one of the exchange's. It errs on that side: its sequence number may be far away.
func (m *mischief) mayHarm(frame []byte) bool {
	kind := 12
	for len(frame) >= kind+6 && (frame[kind] == 0x81 && frame[kind+1] == 0 || frame[kind] == 0x88 && frame[kind+1] == 0xa8) {
		kind += 4
	}
	if len(frame) < kind+2+20 || frame[kind] != 8 || frame[kind+1] != 0 || frame[kind+2]>>4 != 4 {
		return false
	}
	ip := frame[kind+2:]
	header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if header < 20 || total < header || total > len(ip) || sum(ip[:header], 0) != 0xffff {
		return false
	}
	ip = ip[:total]
	from, to := [4]byte(ip[12:16]), [4]byte(ip[16:20])
	client := from == [4]byte{10, 1, 0, 2} && to == [4]byte{10, 1, 0, 1}
	backend := from == [4]byte{10, 2, 0, 2} && to == [4]byte{10, 2, 0, 1}
	payload := ip[header:]
	switch {
	case ip[9] == 1: // an error may quote the exchange, from wherever it comes
		return true
	case ip[9] != 6 || !client && !backend || m.known[string(ip)]:
		return false
	case ip[6]&0x3f|ip[7] != 0: // fragments may be joined
		return true
	case len(payload) < 20 || sum(payload, pseudo(ip, len(payload))) != 0xffff:
		return false
	}
	source, destination := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
	return client && source == clientPort && destination == 80 || backend && source == 8080
}
