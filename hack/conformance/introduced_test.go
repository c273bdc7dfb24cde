package conformance

import (
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"ringroad/proxy"
	"ringroad/proxy/config"
)

// introduction is what a connection to a listener with proxy_protocol begins with, in
// front of a request.
type introduction struct {
	name, raw string
	client    string // the client's address that the backend is told; "": refused
}

const signature2 = "\r\n\r\n\x00\r\nQUIT\n"

// version2 is a PROXY protocol header of version 2: version and command, family and
// transport, and what its length covers (proxy-protocol.txt, section 2.2).
func version2(command, family byte, rest string) string {
	return signature2 + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const (
	ends4 = "\xcb\x00\x71\x07\xc6\x33\x64\x01\x12\x67\x00\x50" // 203.0.113.7:4711 to 198.51.100.1:80
	ends6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x12\x67\x00\x50"
)

// checked is version2 with a CRC-32C of the whole header in a TLV (2.2.3).
func checked(command, family byte, rest string) string {
	raw := version2(command, family, rest+"\x03\x00\x04\x00\x00\x00\x00")
	sum := crc32.Checksum([]byte(raw), crc32.MakeTable(crc32.Castagnoli))
	return raw[:len(raw)-4] + string([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

func introductions() []introduction {
	const real = "10.1.0.2"
	all := []introduction{
		{"v1 TCP4", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\n", "203.0.113.7"},
		{"v1 TCP6", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", "2001:db8::7"},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", real},
		{"v1 UNKNOWN with more", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", real},
		{"v2 TCP4", version2(0x21, 0x11, ends4), "203.0.113.7"},
		{"v2 TCP6", version2(0x21, 0x21, ends6), "2001:db8::7"},
		{"v2 LOCAL", version2(0x20, 0x00, ""), real},
		{"v2 LOCAL with addresses", version2(0x20, 0x11, ends4), real},
		{"v2 with a TLV", version2(0x21, 0x11, ends4+"\x04\x00\x05\r\n\r\nG"), "203.0.113.7"},
		{"v2 with a checksum", checked(0x21, 0x11, ends4), "203.0.113.7"},
		{"v2 with a wrong checksum", version2(0x21, 0x11, ends4+"\x03\x00\x04\x00\x00\x00\x00"), ""},
		{"v2 UDP", version2(0x21, 0x12, ends4), real},
	}
	for _, bad := range []string{
		"", "PROXY\r\n", "PROXY \r\n", "proxy TCP4 203.0.113.7 198.51.100.1 4711 80\r\n", " PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\n", "\r\nPROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\n",
		"PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\n", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 80 \r\n",
		"PROXY  TCP4 203.0.113.7 198.51.100.1 4711 80\r\n", "PROXY TCP4 203.0.113.7  198.51.100.1 4711 80\r\n", "PROXY TCP4\t203.0.113.7 198.51.100.1 4711 80\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 4711\r\n",
		"PROXY TCP4 203.0.113.7 198.51.100.1 4711 80 443\r\n", "PROXY TCP4 203.0.113.07 198.51.100.1 4711 80\r\n", "PROXY TCP4 203.0.113.256 198.51.100.1 4711 80\r\n", "PROXY TCP4 203.0.113 198.51.100.1 4711 80\r\n",
		"PROXY TCP4 2001:db8::7 2001:db8::1 4711 80\r\n", "PROXY TCP6 203.0.113.7 198.51.100.1 4711 80\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 04711 80\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 65536 80\r\n",
		"PROXY TCP4 203.0.113.7 198.51.100.1 -1 80\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\x00\r\n", "PROXY TCP4 203.0.113.7 198.51.100.1 4711 8\x000\r\n", "PROXY UDP4 203.0.113.7 198.51.100.1 4711 80\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n", "PROXY TCP4 " + strings.Repeat("2", 200), "PROXX TCP4 203.0.113.7 198.51.100.1 4711 80\r\n", "X-Forwarded-For: 6.6.6.6\r\n",
		"GET /a HTTP/1.1\r\nHost: PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\n\r\n",
		version2(0x31, 0x11, ends4), version2(0x11, 0x11, ends4), version2(0x22, 0x11, ends4), version2(0x21, 0x41, ends4), version2(0x21, 0x13, ends4), version2(0x21, 0x11, ends4[:11]), version2(0x21, 0x21, ends4),
		version2(0x21, 0x11, ""), version2(0x21, 0x11, ends4+"\x04\x00\x06\r\n\r\nG"), version2(0x21, 0x11, ends4+"\x04"), "\r\n\r\n\x00\r\nQUIT\r\x21\x11\x00\x0c" + ends4, signature2[1:] + "\x21\x11\x00\x0c" + ends4,
	} {
		all = append(all, introduction{name: fmt.Sprintf("%.60q %d", bad, len(bad)), raw: bad})
	}
	return all
}

// TestProxyHeaders: what the PROXY protocol's specification allows, cut at every byte, names
// the client, and the request behind it is the only one that the backend sees. Of a
// connection that begins otherwise nothing reaches the backend, and nobody is answered.
func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) {
		c.Limits.KeepAliveRequests = 0
		c.Listeners[0].ProxyProtocol = true
	})
	w := r.witness()
	bystander, asked := r.dial(), 0
	bystander.send("PROXY TCP4 198.18.0.1 198.51.100.1 1 80\r\n")
	for _, in := range introductions() {
		raw := in.raw + "GET /p HTTP/1.1\r\nHost: a.example\r\n\r\n"
		deliveries := [][]string{{raw}, bytewise(raw)}
		for i := 1; i <= len(in.raw)+1; i++ {
			if in.client == "" && i > 1 && i < len(in.raw)-1 && i != len(in.raw)/2 {
				continue // byte by byte says as much
			}
			deliveries = append(deliveries, []string{raw[:i], raw[i:]})
		}
		for _, pieces := range deliveries {
			how := fmt.Sprintf("%s in %d pieces, the first of %d bytes", in.name, len(pieces), len(pieces[0]))
			mark, before := w.mark(), r.idle(1)
			c := r.dial()
			r.deliver(c, pieces, before.ClientBytesIn)
			if in.client != "" {
				if a := c.final(1)[0]; a.status != 200 {
					t.Errorf("%s: got %d", how, a.status)
				}
			} else {
				c.waitEnd()
				if got, _ := c.received(); len(got) > 0 {
					t.Errorf("%s: got %q", how, got)
				}
			}
			c.close()
			s := r.idle(1)
			whole, _, faults := w.since(mark)
			switch {
			case len(faults) > 0:
				t.Errorf("%s: not conformant: %q", how, faults)
			case in.client == "":
				if w.mark() != mark || s.BackendBytesOut != before.BackendBytesOut || s.ProxyHeadersRefused != before.ProxyHeadersRefused+1 {
					t.Errorf("%s: the backend got %d requests, %d bytes", how, len(whole), s.BackendBytesOut-before.BackendBytesOut)
				}
			case len(whole) != 1 || whole[0].target != "/p" || whole[0].get("X-Forwarded-For") != in.client:
				t.Errorf("%s: the backend got %d requests: %v", how, len(whole), whole)
			}
			if t.Failed() {
				return
			}
		}
		asked++
		bystander.send("GET /other HTTP/1.1\r\nHost: a.example\r\n\r\n")
		if a := bystander.final(asked)[asked-1]; a.status != 200 {
			t.Fatalf("behind %s another client got %d", in.name, a.status)
		}
	}
	whole, _, _ := w.since(witnessed{})
	for _, m := range whole {
		if m.target == "/other" && m.get("X-Forwarded-For") != "198.18.0.1" {
			t.Errorf("the other client became %s", m.get("X-Forwarded-For"))
		}
	}
	bystander.close()
	r.idle(0)
}

// deliver sends pieces, each when the ones before have been read. before is
// ClientBytesIn in front of the first.
func (r *rig) deliver(c *client, pieces []string, before uint64) {
	r.t.Helper()
	for _, p := range pieces {
		if c.hasEnded() {
			return
		}
		c.send(p)
		r.await("the worker has read it", func(s *proxy.Stats) bool {
			return s.ClientBytesIn-before >= c.sent || c.hasEnded()
		})
	}
}
