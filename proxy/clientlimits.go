package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"ringroad/proxy/clients"
	"ringroad/proxy/config"
	"ringroad/stack"
)

// clientLimits is what limits.client says.
type clientLimits struct {
	connections            int           // 0: no limit
	interval, tolerance    time.Duration // of clients.Table.Take; 0: no limit
	status                 int
	prefixIPv4, prefixIPv6 int
	on, dryRun             bool
}

func newClientLimits(c *config.ClientLimits) clientLimits {
	l := clientLimits{
		connections: c.Connections, status: c.Status,
		prefixIPv4: c.PrefixIPv4, prefixIPv6: c.PrefixIPv6,
		on: c.On(), dryRun: c.DryRun,
	}
	if c.Requests > 0 {
		burst := c.Burst
		if burst == 0 {
			burst = c.Requests
		}
		l.interval = time.Second / time.Duration(c.Requests)
		l.tolerance = l.interval * time.Duration(burst)
	}
	return l
}

// A request that is told why it is not served costs as much as one that is, and a
// connection of its own when the client asks again: explained of them may be a second,
// and at once.
const explained = 50

// admits tells whether who sends a SYN may have another connection (stack.Listener). It
// keeps away what join would reset; and when many are told why they are not served, what
// would be among them.
func (l *listener) admits(client netip.AddrPort) bool {
	w := l.worker
	c := &w.client
	if c.connections == 0 || c.dryRun || l.config.ProxyProtocol {
		return true
	}
	most := 2 * c.connections
	if w.told > w.stack.Now()+time.Second {
		most = c.connections
	}
	if w.clients.Count(client.Addr(), c.prefixIPv4, c.prefixIPv6) < most {
		return true
	}
	w.stats.LimitedResets++
	w.reportLimited(client, l, errClientConnections)
	return false
}

// join counts a session, whose client is known now, among those of the client. It
// reports false when the client has so many that the session ended.
//
// Up to the limit once more connections are kept until they send a request, which can be
// told why it is not served; what is beyond that is reset, for to answer it would mean
// to hold it until it has read the answer, and a flood would hold all of
// max_connections.
func (s *session) join() bool {
	w := s.worker
	l := &w.client
	if !l.on {
		return true
	}
	s.enter()
	if l.connections == 0 || s.entry == 0 {
		return true
	}
	n := w.clients.Connections(s.entry)
	s.excess = n > l.connections
	if n <= 2*l.connections {
		return true
	}
	w.stats.LimitedResets++
	w.reportLimited(s.clientEnd(), s.listener, errClientConnections)
	if l.dryRun {
		return true
	}
	s.end((*stack.Conn).Abort)
	return false
}

// enter gives the session the entry of its client.
func (s *session) enter() {
	w := s.worker
	s.entry = w.clients.Join(s.clientEnd().Addr(), w.client.prefixIPv4, w.client.prefixIPv6, w.now+w.epoch)
	w.stats.LimitedEvictions, w.stats.LimitedUntracked = w.clients.Evictions, w.clients.Full
}

// leave gives the entry back.
func (s *session) leave() {
	if s.entry != 0 {
		s.worker.clients.Leave(s.entry)
		s.entry = 0
	}
}

// admit tells whether the limits of the client let the request pass; otherwise it is
// answered.
func (x *exchange) admit() bool {
	s := x.session
	w := s.worker
	l := &w.client
	if s.excess {
		s.excess = l.connections > 0 && w.clients.Connections(s.entry) > l.connections
	}
	if s.excess {
		w.stats.LimitedConnections++
		w.reportLimited(s.clientEnd(), s.listener, errClientConnections)
		if !l.dryRun {
			w.told = max(w.told, w.now) + time.Second/explained
			x.keepAlive = false
			x.deny(http.StatusServiceUnavailable, errClientConnections, 0)
			return false
		}
	}
	if l.interval == 0 {
		return true
	}
	wait := w.clients.Take(s.entry, w.now+w.epoch, l.interval, l.tolerance)
	if wait == 0 {
		return true
	}
	w.stats.LimitedRequests++
	w.reportLimited(s.clientEnd(), s.listener, errClientRequests)
	if l.dryRun {
		return true
	}
	x.deny(l.status, errClientRequests, wait)
	return false
}

// deny answers a request that limits do not let pass. wait is how long it takes until
// the next one may; 0: unknown.
func (x *exchange) deny(status int, err error, wait time.Duration) {
	w := x.session.worker
	x.failure = Error{Source: Client, Phase: PhaseHead, Status: status, Err: err}
	w.lines = w.lines[:0]
	if wait > 0 {
		w.lines = append(w.lines, "Retry-After: "...)
		w.lines = appendDecimal(w.lines, uint64((wait+time.Second-1)/time.Second))
		w.lines = append(w.lines, "\r\n"...)
	}
	x.reply(status, nil, true)
}

// reportLimited tells of what was over a limit, one of many a second.
func (w *Worker) reportLimited(client netip.AddrPort, of *listener, err error) {
	l := &w.limited
	if w.now < l.next || !w.log.Enabled(context.Background(), slog.LevelWarn) {
		l.suppressed++
		return
	}
	l.next = w.now + logPeriod
	w.log.Warn("a client is over its limit", slog.String("client", client.String()),
		slog.String("listener", of.config.Address.String()), slog.Bool("dry_run", w.client.dryRun),
		slog.Int("suppressed", l.suppressed), slog.Any("error", err))
	l.suppressed = 0
}

// takeClients goes on with the limits of the settings, after those of before. The
// connections that there are count as well, whatever they were when they came.
func (w *Worker) takeClients(before *clientLimits) {
	l := &w.client
	if l.on && w.clients == nil {
		w.clients = clients.New(w.config.Limits.Client.Entries)
	}
	if l.on == before.on && l.prefixIPv4 == before.prefixIPv4 && l.prefixIPv6 == before.prefixIPv6 {
		return
	}
	for s := w.sessions.next; s != &w.sessions; s = s.next {
		s.leave()
		if s.excess = false; l.on && s.state != introducing {
			s.enter()
		}
	}
}
