package proxy

import (
	"time"

	"ringroad/stack"
)

// Stats are the counters and gauges of a worker. The loop alone writes them; a
// reader in another goroutine goes through Worker.Post. The tags are their names,
// kinds, units and what they mean.
type Stats struct {
	ClientsAccepted uint64 `name:"clients_accepted" kind:"counter" unit:"connections" help:"client connections accepted"`
	ClientsActive   uint64 `name:"clients_active" kind:"gauge" unit:"connections" help:"client connections open"`
	ClientsClosed   uint64 `name:"clients_closed" kind:"counter" unit:"connections" help:"client connections ended, in any way"`
	ClientsAborted  uint64 `name:"clients_aborted" kind:"counter" unit:"connections" help:"client connections ended with RST, because a response could not be completed"`
	AcceptPauses    uint64 `name:"accept_pauses" kind:"counter" unit:"times" help:"accepting paused because max_connections was reached"`
	AcceptErrors    uint64 `name:"accept_errors" kind:"counter" unit:"errors" help:"connections that could not be accepted"`

	Requests        uint64 `name:"requests" kind:"counter" unit:"requests" help:"request heads received complete"`
	ExchangesActive uint64 `name:"exchanges_active" kind:"gauge" unit:"exchanges" help:"requests begun and not yet answered in full"`
	Responses1xx    uint64 `name:"responses_1xx" kind:"counter" unit:"responses" help:"interim responses passed on, and 101"`
	Responses2xx    uint64 `name:"responses_2xx" kind:"counter" unit:"responses" help:"responses begun with status 200-299"`
	Responses3xx    uint64 `name:"responses_3xx" kind:"counter" unit:"responses" help:"responses begun with status 300-399"`
	Responses4xx    uint64 `name:"responses_4xx" kind:"counter" unit:"responses" help:"responses begun with status 400-499, from backends and our own"`
	Responses5xx    uint64 `name:"responses_5xx" kind:"counter" unit:"responses" help:"responses begun with another status, from backends and our own"`
	Answers         uint64 `name:"answers" kind:"counter" unit:"responses" help:"responses of our own: error pages, redirects, fixed answers"`

	ClientBytesIn   uint64 `name:"client_bytes_in" kind:"counter" unit:"bytes" help:"read from clients, heads included"`
	ClientBytesOut  uint64 `name:"client_bytes_out" kind:"counter" unit:"bytes" help:"written to clients, heads included"`
	BackendBytesIn  uint64 `name:"backend_bytes_in" kind:"counter" unit:"bytes" help:"read from backends, heads included"`
	BackendBytesOut uint64 `name:"backend_bytes_out" kind:"counter" unit:"bytes" help:"written to backends, heads included"`

	Reads      uint64 `name:"reads" kind:"counter" unit:"calls" help:"reads of connections"`
	ReadsEmpty uint64 `name:"reads_empty" kind:"counter" unit:"calls" help:"reads that brought no bytes: nothing was left, the end, or an error"`
	Writes     uint64 `name:"writes" kind:"counter" unit:"calls" help:"writes to connections"`

	BackendConnects uint64 `name:"backend_connects" kind:"counter" unit:"connections" help:"connections to backends begun"`
	BackendRefusals uint64 `name:"backend_refusals" kind:"counter" unit:"connections" help:"connections to backends that could not be made"`
	BackendReuses   uint64 `name:"backend_reuses" kind:"counter" unit:"requests" help:"requests sent on a pooled connection"`
	BackendRetries  uint64 `name:"backend_retries" kind:"counter" unit:"requests" help:"requests sent again, to another server or on a fresh connection"`
	BackendStale    uint64 `name:"backend_stale" kind:"counter" unit:"connections" help:"pooled connections that turned out ended or unclean"`
	BackendsActive  uint64 `name:"backends_active" kind:"gauge" unit:"connections" help:"connections to backends open, idle ones included"`
	BackendsIdle    uint64 `name:"backends_idle" kind:"gauge" unit:"connections" help:"connections to backends in a pool"`

	TimeoutsClientHeader uint64 `name:"timeouts_client_header" kind:"counter" unit:"times" help:"timeouts.client_header expired"`
	TimeoutsClientBody   uint64 `name:"timeouts_client_body" kind:"counter" unit:"times" help:"timeouts.client_body expired"`
	TimeoutsClientSend   uint64 `name:"timeouts_client_send" kind:"counter" unit:"times" help:"timeouts.client_send expired"`
	TimeoutsKeepAlive    uint64 `name:"timeouts_keepalive" kind:"counter" unit:"times" help:"timeouts.keepalive expired"`
	TimeoutsConnect      uint64 `name:"timeouts_connect" kind:"counter" unit:"times" help:"timeouts.connect expired"`
	TimeoutsBackendRead  uint64 `name:"timeouts_backend_read" kind:"counter" unit:"times" help:"timeouts.backend_read expired"`
	TimeoutsBackendSend  uint64 `name:"timeouts_backend_send" kind:"counter" unit:"times" help:"timeouts.backend_send expired"`

	TimeoutsTunnel uint64 `name:"timeouts_tunnel" kind:"counter" unit:"times" help:"timeouts.tunnel expired"`
	Tunnels        uint64 `name:"tunnels" kind:"counter" unit:"tunnels" help:"tunnels opened by an upgrade or CONNECT"`
	TunnelsActive  uint64 `name:"tunnels_active" kind:"gauge" unit:"tunnels" help:"tunnels open"`

	ProxyHeadersRefused uint64 `name:"proxy_headers_refused" kind:"counter" unit:"connections" help:"client connections cut off because they did not begin with a PROXY protocol header"`

	LimitedRequests    uint64 `name:"limited_requests" kind:"counter" unit:"requests" help:"requests over limits.client.requests; with dry_run they passed"`
	LimitedConnections uint64 `name:"limited_connections" kind:"counter" unit:"requests" help:"requests on connections over limits.client.connections; with dry_run they passed"`
	LimitedResets      uint64 `name:"limited_resets" kind:"counter" unit:"connections" help:"client connections beyond twice limits.client.connections, or beyond once while many are answered 503, refused with RST; with dry_run they were let in"`
	LimitedEvictions   uint64 `name:"limited_evictions" kind:"counter" unit:"clients" help:"clients that others replaced in the full table of limits.client while their requests still counted"`
	LimitedUntracked   uint64 `name:"limited_untracked" kind:"counter" unit:"connections" help:"client connections without limits, because the table of limits.client had no room"`

	ErrorsClient   uint64 `name:"errors_client" kind:"counter" unit:"exchanges" help:"exchanges that failed because of the client"`
	ErrorsBackend  uint64 `name:"errors_backend" kind:"counter" unit:"exchanges" help:"attempts that failed because of a backend"`
	ErrorsInternal uint64 `name:"errors_internal" kind:"counter" unit:"exchanges" help:"exchanges that failed because of the proxy itself"`

	BuffersInUse   uint64 `name:"buffers_in_use" kind:"gauge" unit:"buffers" help:"buffers held by sessions and exchanges"`
	Resumptions    uint64 `name:"resumptions" kind:"counter" unit:"times" help:"sessions that used up their budget of a turn, or met congestion, and went on later"`
	Congestions    uint64 `name:"congestions" kind:"counter" unit:"times" help:"reads put off because the stack had no TX frame left"`
	LogLines       uint64 `name:"log_lines" kind:"counter" unit:"lines" help:"lines of the access log"`
	LogLinesLost   uint64 `name:"log_lines_lost" kind:"counter" unit:"lines" help:"lines of the access log lost because its writer fell behind or could not write, as when the disk is full"`
	Reloads        uint64 `name:"reloads" kind:"counter" unit:"reloads" help:"configurations that took the place of another one"`
	Retiring       uint64 `name:"retiring" kind:"gauge" unit:"connections" help:"client connections of removed listeners and connections to removed backends"`
	DrainsCutOff   uint64 `name:"drains_cut_off" kind:"counter" unit:"connections" help:"client connections cut off because timeouts.drain expired, after a drain or a reload"`
	ConnectionsMax uint64 `name:"connections_max" kind:"gauge" unit:"connections" help:"most client and backend connections open at a time"`

	// Levels and capacities of buffers. Those of connections are estimated from a
	// sample (Worker.sample).
	ConnectionsLimit   uint64 `name:"connections_limit" kind:"gauge" unit:"connections" help:"limits.max_connections of the worker"`
	ExchangesMax       uint64 `name:"exchanges_high_water" kind:"gauge" unit:"exchanges" help:"most exchanges active at a time"`
	BackendsIdleMax    uint64 `name:"backends_idle_high_water" kind:"gauge" unit:"connections" help:"most connections to backends in a pool at a time"`
	TimersArmed        uint64 `name:"wheel_timers" kind:"gauge" unit:"timers" help:"timers of connections that wait; there is no limit but that of connections"`
	TimersMax          uint64 `name:"wheel_timers_high_water" kind:"gauge" unit:"timers" help:"most timers of connections that waited at a time"`
	ClientReceived     uint64 `name:"client_receive_buffer_bytes" kind:"gauge" unit:"bytes" help:"received from clients and not yet read"`
	ClientReceivedMax  uint64 `name:"client_receive_buffer_high_water_bytes" kind:"gauge" unit:"bytes" help:"most that was seen received from clients and not yet read"`
	ClientReceiveRoom  uint64 `name:"client_receive_buffer_capacity_bytes" kind:"gauge" unit:"bytes" help:"what the receive buffers of client connections hold"`
	ClientReceiveFull  uint64 `name:"client_receive_buffer_full" kind:"counter" unit:"times" help:"receive buffers of client connections that were full, so that the window closed"`
	ClientSent         uint64 `name:"client_send_buffer_bytes" kind:"gauge" unit:"bytes" help:"written to clients and not yet acknowledged"`
	ClientSentMax      uint64 `name:"client_send_buffer_high_water_bytes" kind:"gauge" unit:"bytes" help:"most that was seen written to clients and not yet acknowledged"`
	ClientSendRoom     uint64 `name:"client_send_buffer_capacity_bytes" kind:"gauge" unit:"bytes" help:"what the send buffers of client connections hold"`
	ClientSendFull     uint64 `name:"client_send_buffer_full" kind:"counter" unit:"times" help:"writes to clients that did not fit the send buffer"`
	BackendReceived    uint64 `name:"backend_receive_buffer_bytes" kind:"gauge" unit:"bytes" help:"received from backends and not yet read"`
	BackendReceivedMax uint64 `name:"backend_receive_buffer_high_water_bytes" kind:"gauge" unit:"bytes" help:"most that was seen received from backends and not yet read"`
	BackendReceiveRoom uint64 `name:"backend_receive_buffer_capacity_bytes" kind:"gauge" unit:"bytes" help:"what the receive buffers of connections to backends in use hold"`
	BackendReceiveFull uint64 `name:"backend_receive_buffer_full" kind:"counter" unit:"times" help:"receive buffers of connections to backends that were full, so that the window closed"`
	BackendSent        uint64 `name:"backend_send_buffer_bytes" kind:"gauge" unit:"bytes" help:"written to backends and not yet acknowledged"`
	BackendSentMax     uint64 `name:"backend_send_buffer_high_water_bytes" kind:"gauge" unit:"bytes" help:"most that was seen written to backends and not yet acknowledged"`
	BackendSendRoom    uint64 `name:"backend_send_buffer_capacity_bytes" kind:"gauge" unit:"bytes" help:"what the send buffers of connections to backends in use hold"`
	BackendSendFull    uint64 `name:"backend_send_buffer_full" kind:"counter" unit:"times" help:"writes to backends that did not fit the send buffer"`

	LoopLag       stack.Histogram `name:"loop_lag" kind:"histogram" unit:"nanoseconds" help:"how late the loop came to a turn that was due, measured several times a second"`
	ConnectTime   stack.Histogram `name:"connect_time" kind:"histogram" unit:"nanoseconds" help:"from the choice of a server to the connection to it; pooled connections do not count"`
	FirstByteTime stack.Histogram `name:"first_byte_time" kind:"histogram" unit:"nanoseconds" help:"from the choice of a server to the first byte of its response"`
	RequestTime   stack.Histogram `name:"request_time" kind:"histogram" unit:"nanoseconds" help:"from the first byte of a request to the last of its response, but for tunnels"`
}

// response counts one response by its class.
func (s *Stats) response(status int) {
	switch status / 100 {
	case 1:
		s.Responses1xx++ // 101
	case 2:
		s.Responses2xx++
	case 3:
		s.Responses3xx++
	case 4:
		s.Responses4xx++
	default:
		s.Responses5xx++
	}
}

// took counts how long the phases of an exchange that ends now took.
func (s *Stats) took(x *exchange, now time.Duration) {
	t := &x.times
	if x.tunnelled {
		return
	}
	s.RequestTime.ObserveTime(now - t.begun)
	if t.connected != 0 && !x.reused {
		s.ConnectTime.ObserveTime(t.connected - t.attempt)
	}
	if t.heard != 0 {
		s.FirstByteTime.ObserveTime(t.heard - t.attempt)
	}
}

// failed counts one failure by its source.
func (s *Stats) failed(source Source) {
	switch source {
	case Client:
		s.ErrorsClient++
	case Backend:
		s.ErrorsBackend++
	case Internal:
		s.ErrorsInternal++
	}
}
