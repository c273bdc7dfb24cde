package proxy

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/upstream"
)

// TestSampledBuffers: a response that the client does not read fills our send buffer,
// then the backend's receive buffer.
func TestSampledBuffers(t *testing.T) {
	r := newRig(t, nil)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readRequest(in)
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	c := r.dial()
	c.send(get("/"))
	var s Stats
	r.until("the buffers are full", func() bool {
		r.on(func() {
			r.worker.sample()
			s = *r.worker.stats
		})
		return s.ClientSendFull > 0 && s.BackendReceiveFull > 0 && s.ClientSent > s.ClientSendRoom/4 && s.BackendReceived > s.BackendReceiveRoom/2
	})
	if s.ClientSentMax < s.ClientSent || s.BackendReceivedMax < s.BackendReceived || s.ConnectionsLimit == 0 || s.ExchangesMax != 1 || s.TimersArmed == 0 {
		t.Errorf("%+v", s)
	}
	r.on(func() {
		var servers [3]ServerStats
		servers[2].ID = 9
		r.worker.ServerStats(servers[:])
		g := r.worker.groups[0]
		if v := servers[0]; v.ID != upstream.ID(g.Name, g.Servers[0].Addr) || v.Up != 1 || v.Open != 1 || v.Idle != 0 || v.Requests != 1 || v.Failures != 0 {
			t.Errorf("server: %+v", v)
		}
		if servers[2] != (ServerStats{}) {
			t.Errorf("what has no server: %+v", servers[2])
		}
	})
	c.Close()
	r.await("it is over", func(s *Stats) bool { return s.ClientsActive == 0 })
	r.on(func() {
		r.worker.sample()
		s = *r.worker.stats
		if r.worker.groups[0].Servers[0].Open != 0 {
			t.Error("a connection is left")
		}
	})
	if s.ClientSent != 0 || s.BackendReceived != 0 {
		t.Errorf("without connections: %+v", s)
	}
}

// TestPhaseTimes: each exchange is in the histogram of whole times, and what had no
// backend, or no new connection, is missing in the others.
func TestPhaseTimes(t *testing.T) {
	r := newRig(t, nil)
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for readRequest(in) != nil {
			say(c, ok)
		}
	})
	c := r.dial()
	for range 3 {
		c.send(get("/"))
		c.expect("GET", 200, "ok")
	}
	c.send(strings.Replace(get("/"), "HTTP/1.1", "HTTP/9.9", 1)) // answered by us
	c.expect("GET", 505, "")
	s := r.await("all are over", func(s *Stats) bool { return s.ExchangesActive == 0 && s.RequestTime.Total() == 4 })
	if s.ConnectTime.Total() != 1 || s.FirstByteTime.Total() != 3 {
		t.Errorf("%d connects, %d first bytes, want 1 and 3", s.ConnectTime.Total(), s.FirstByteTime.Total())
	}
	if s.FirstByteTime.Sum > s.RequestTime.Sum || s.RequestTime.Sum > uint64(patience/time.Nanosecond) {
		t.Errorf("times: %d and %d", s.FirstByteTime.Sum, s.RequestTime.Sum)
	}
}
