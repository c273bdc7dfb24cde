package proxy

import (
	"log/slog"
	"net/netip"

	"ringroad/proxy/config"
	"ringroad/proxy/proxyproto"
)

// introduce reads the PROXY protocol header that the connection must begin with,
// within timeouts.client_header. It reports false when more must come first, and
// when the session ended. Nobody is answered here: whoever does not send the
// header does not speak to us.
func (s *session) introduce() bool {
	for {
		if s.in.len() > 0 {
			h, n, err := proxyproto.Parse(s.in.pending())
			if err != nil {
				s.stranger(err)
				return false
			}
			if n > 0 {
				s.client, s.target = h.Source, h.Destination
				s.in.take(n, 0)
				s.state = awaiting
				s.reading.disarm() // the request has the whole time again
				return s.join()
			}
		}
		if !s.readable || !s.fetch() {
			return false
		}
	}
}

// stranger ends a session that did not begin as it had to.
func (s *session) stranger(err error) {
	w := s.worker
	w.stats.ProxyHeadersRefused++
	if l := &w.logged[Client]; w.now >= l.next {
		l.next = w.now + logPeriod
		w.log.Warn("connection refused: listener has proxy_protocol on",
			slog.String("client", s.conn.RemoteAddr().String()),
			slog.String("listener", s.listener.config.Address.String()),
			slog.Int("suppressed", l.suppressed), slog.Any("error", err))
		l.suppressed = 0
	} else {
		l.suppressed++
	}
	s.abandon()
}

// clientEnd is the client's address and port: those that a PROXY protocol header
// named, otherwise those of the connection.
func (s *session) clientEnd() netip.AddrPort {
	if s.client.IsValid() {
		return s.client
	}
	return s.conn.RemoteAddr()
}

// ourEnd is the address and port that the client connected to, in the same way.
func (s *session) ourEnd() netip.AddrPort {
	if s.target.IsValid() {
		return s.target
	}
	return s.conn.LocalAddr()
}

// appendProxyHeader appends the PROXY protocol header for a connection of the
// client to a backend, if there is to be one.
func (s *session) appendProxyHeader(dst []byte, v config.ProxyProtocol) []byte {
	switch v {
	case config.ProxyV1:
		return proxyproto.AppendV1(dst, s.clientEnd(), s.ourEnd())
	case config.ProxyV2:
		return proxyproto.AppendV2(dst, s.clientEnd(), s.ourEnd())
	}
	return dst
}
