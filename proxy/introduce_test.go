package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/config"
)

// header2 is a PROXY protocol header of version 2 for TCP, built field by field as
// proxy-protocol.txt, section 2.2, has it.
func header2(from, to netip.AddrPort) string {
	var b bytes.Buffer
	b.WriteString("\r\n\r\n\x00\r\nQUIT\n\x21")
	a, z := from.Addr().AsSlice(), to.Addr().AsSlice()
	family := byte(0x11)
	if len(a) == 16 {
		family = 0x21
	}
	_ = b.WriteByte(family)
	_ = binary.Write(&b, binary.BigEndian, uint16(2*len(a)+4))
	b.Write(a)
	b.Write(z)
	_ = binary.Write(&b, binary.BigEndian, []uint16{from.Port(), to.Port()})
	return b.String()
}

// header1 is one of version 1.
func header1(from, to netip.AddrPort) string {
	family := "TCP4"
	if from.Addr().Is6() {
		family = "TCP6"
	}
	return fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, from.Addr(), to.Addr(), from.Port(), to.Port())
}

func introduced(c *config.Config) {
	for i := range c.Listeners {
		c.Listeners[i].ProxyProtocol = true
	}
}

// seen answers with what the backend was told about the client.
func seen(w http.ResponseWriter, r *http.Request) {
	say(w, r.Header.Get("X-Forwarded-For")+" "+r.Host)
}

var (
	client4 = netip.MustParseAddrPort("203.0.113.7:4711")
	client6 = netip.MustParseAddrPort("[2001:db8::7]:4711")
	target4 = netip.MustParseAddrPort("198.51.100.1:80")
	target6 = netip.MustParseAddrPort("[2001:db8::1]:80")
)

// TestProxyHeaderNamesTheClient: to the backend, in the log, and for every request
// of the connection.
func TestProxyHeaderNamesTheClient(t *testing.T) {
	const real = "10.1.0.2"
	for _, tt := range []struct{ name, header, client, host string }{
		{"v1 IPv4", header1(client4, target4), "203.0.113.7", "198.51.100.1:80"},
		{"v1 IPv6", header1(client6, target6), "2001:db8::7", "[2001:db8::1]:80"},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", real, front},
		{"v2 IPv4", header2(client4, target4), "203.0.113.7", "198.51.100.1:80"},
		{"v2 IPv6", header2(client6, target6), "2001:db8::7", "[2001:db8::1]:80"},
		{"v2 LOCAL", strings.Replace(header2(client4, target4), "\x21\x11", "\x20\x11", 1), real, front},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, introduced)
			r.serve(8080, http.HandlerFunc(seen))
			// In one piece with a request, then byte by byte.
			c := r.dial()
			c.send(tt.header + "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
			c.expect("GET", 200, tt.client+" a")
			c.expect("GET", 200, tt.client+" a")
			// Only the connection begins with a header, no request does.
			c.send(tt.header + "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			c.expect("GET", 400, "")

			received := r.stats().ClientBytesIn
			c = r.dial()
			for i := range len(tt.header) {
				c.send(tt.header[i : i+1])
				r.await("the byte was read", func(s *Stats) bool { return s.ClientBytesIn == received+uint64(i+1) })
			}
			r.await("the buffer is free", func(s *Stats) bool { return s.BuffersInUse == 0 })
			c.send("GET /3 HTTP/1.0\r\n\r\n") // meant for the address that the client connected to
			c.expect("GET", 200, tt.client+" "+tt.host)
			r.stop()
			lines := strings.Split(strings.TrimSuffix(r.access.String(), "\n"), "\n")
			if len(lines) != 4 {
				t.Errorf("%d lines in the log, want 4", len(lines))
			}
			for _, line := range lines {
				if !strings.HasPrefix(line, tt.client+" - - ") {
					t.Errorf("log line %q", line)
				}
			}
			if s := r.worker.stats; s.ProxyHeadersRefused != 0 {
				t.Errorf("%d headers refused", s.ProxyHeadersRefused)
			}
		})
	}
}

// TestConnectionsWithoutProxyHeaderAreCutOff: nothing that they say is taken for a
// request, nor answered.
func TestConnectionsWithoutProxyHeaderAreCutOff(t *testing.T) {
	r := newRig(t, introduced)
	for i, in := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"\r\n" + header1(client4, target4),
		strings.Replace(header2(client4, target4), "\x21\x11", "\x31\x11", 1),
		strings.Replace(header2(client4, target4), "\x00\x0c", "\xff\xff", 1),
		strings.Repeat("P", 5000),
	} {
		c := r.dial()
		say(c.Conn, in)
		if b, err := io.ReadAll(c.in); err == nil || len(b) > 0 || errors.Is(err, net.ErrClosed) {
			t.Errorf("%q: read %q, %v", in, b, err)
		}
		s := r.await("the client is gone", func(s *Stats) bool { return s.ClientsActive == 0 })
		if s.ProxyHeadersRefused != uint64(i+1) || s.Requests != 0 {
			t.Errorf("%q: %d headers refused, want %d; %d requests", in, s.ProxyHeadersRefused, i+1, s.Requests)
		}
	}
	if !strings.Contains(r.log.String(), "no PROXY protocol header") || strings.Count(r.log.String(), "connection refused") > 3 {
		t.Errorf("log of the worker:\n%s", r.log.String())
	}
	if r.access.String() != "" {
		t.Errorf("access log %q", r.access.String())
	}
	// A check that connects and closes is nothing to talk about.
	r.dial().Close()
	if s := r.await("it is gone", func(s *Stats) bool { return s.ClientsClosed == s.ClientsAccepted }); s.ProxyHeadersRefused != 7 {
		t.Errorf("%d headers refused", s.ProxyHeadersRefused)
	}
}

// TestProxyHeaderHasATimeoutOfItsOwn, and leaves one to the request.
func TestProxyHeaderHasATimeoutOfItsOwn(t *testing.T) {
	r := newRig(t, with(introduced, func(c *config.Config) { c.Timeouts.ClientHeader = long }))
	r.serve(8080, http.HandlerFunc(seen))
	sent := 0
	elapse := func(in string) {
		sent += len(in)
		r.await("it was read", func(s *Stats) bool { return s.ClientBytesIn == uint64(sent) && s.ClientsActive == 1 })
		r.elapse(waitClientHeader, long)
	}
	for _, in := range []string{"", "PROXY TCP4"} {
		c := r.dial()
		c.send(in)
		elapse(in)
		if got := c.closed(); got != "" {
			t.Errorf("after %q: %q", in, got)
		}
	}
	c := r.dial()
	in := header1(client4, target4) + "GET / HTTP/1.1\r\n"
	c.send(in)
	elapse(in)
	c.expect("GET", 408, "")
	if s := r.stats(); s.TimeoutsClientHeader != 3 {
		t.Errorf("%d timeouts, want 3", s.TimeoutsClientHeader)
	}
}

// TestRequestBehindAProxyHeaderHasItsWholeTime, however long the header took.
func TestRequestBehindAProxyHeaderHasItsWholeTime(t *testing.T) {
	r := newRig(t, introduced)
	c := r.dial()
	var before, after time.Duration
	r.await("the connection is there", func(s *Stats) bool { return s.ClientsActive == 1 })
	r.on(func() { before = r.worker.sessions.next.reading.at })
	time.Sleep(50 * time.Millisecond) // the slow client
	c.send(header1(client4, target4))
	r.await("the header was read", func(s *Stats) bool { return s.ClientBytesIn > 0 })
	r.on(func() { after = r.worker.sessions.next.reading.at })
	if after-before < 50*time.Millisecond {
		t.Errorf("the timeout is put off by %v", after-before)
	}
}

// TestProxyHeaderToBackend: each connection to the backend begins with a header
// that names the client, and serves nobody else.
func TestProxyHeaderToBackend(t *testing.T) {
	for version, header := range map[config.ProxyProtocol]func(from, to netip.AddrPort) string{config.ProxyV1: header1, config.ProxyV2: header2} {
		t.Run(string(version), func(t *testing.T) {
			r := newRig(t, func(c *config.Config) {
				servers(8081, 8080)(c) // nobody listens on 8081
				c.Upstreams[0].ProxyProtocol = version
				c.Listeners[0].Upgrade = []string{"websocket"}
				c.Listeners = append(c.Listeners, c.Listeners[0])
				c.Listeners[2].Address = netip.MustParseAddrPort("0.0.0.0:81")
				c.Listeners[2].ProxyProtocol = true
			})
			want := make(chan string, 1)
			r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
				begin := <-want
				got := make([]byte, len(begin))
				if _, err := io.ReadFull(in, got); err != nil || string(got) != begin {
					t.Errorf("connection %d begins with %q, want %q", n, got, begin)
					return
				}
				head := readHead(in)
				if strings.HasPrefix(head, "GET /chat ") {
					say(c, switching)
					_, _ = io.Copy(c, in)
					return
				}
				if !strings.HasPrefix(head, "GET / ") || !strings.Contains(head, "\r\nConnection: close\r\n") {
					t.Errorf("head %q", head)
				}
				say(c, ok)
				if rest, _ := io.ReadAll(in); len(rest) > 0 {
					t.Errorf("another request on the connection: %q", rest)
				}
			})
			const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
			addr := func(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }
			c := r.dial()
			for range 3 {
				want <- header(addr(c.LocalAddr()), addr(c.RemoteAddr()))
				c.send(request)
				c.expect("GET", 200, "ok")
			}
			c6, err := r.Client.Dial("[fd00:1::1]:80")
			if err != nil {
				t.Fatal(err)
			}
			defer c6.Close()
			limit(c6)
			want <- header(addr(c6.LocalAddr()), addr(c6.RemoteAddr()))
			six := &raw{c6, bufio.NewReader(c6), t}
			six.send(request)
			six.expect("GET", 200, "ok")
			// What a client was named by is passed on.
			c81, err := r.Client.Dial("10.1.0.1:81")
			if err != nil {
				t.Fatal(err)
			}
			defer c81.Close()
			limit(c81)
			want <- header(client6, target6)
			named := &raw{c81, bufio.NewReader(c81), t}
			named.send(header1(client6, target6) + upgradeRequest)
			named.readHeadOf("101")
			named.send("hello")
			named.read("hello")
			if s := r.stats(); s.BackendReuses != 0 || s.BackendsIdle != 0 || s.BackendRefusals == 0 {
				t.Errorf("%d reuses, %d idle connections, %d refusals", s.BackendReuses, s.BackendsIdle, s.BackendRefusals)
			}
		})
	}
}
