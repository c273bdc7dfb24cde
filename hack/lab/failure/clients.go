package failure

import (
	"errors"
	"fmt"
	"net/http"

	"ringroad/hack/lab/backend"
)

// few makes ringroad accept four clients: half of max_connections is for backends. One is the bystander.
const (
	few  = "max_connections: 8"
	room = 3
)

// clients are failures by what clients do.
var clients = []*Scenario{
	{
		Name:   "connections",
		About:  "more clients come than max_connections permits: accepting pauses, the accept queue holds them, and they are served when others leave",
		Limits: few,
		Moves:  []string{"accept_pauses_total"},
		Levels: []Level{{"tcp_accept_queue", 2}},
		Shows:  []string{"clients_active", "connections_limit", "connections_high_water"},
		Sees:   []Sign{{"top", `^clients .*!`}},
		Play:   func(s *Stage) error { return s.crowd(2, 0) },
	},
	{
		Name:   "accept-queue",
		About:  "more clients wait than the accept queue of the listener holds: the rest of the SYNs is dropped, and their kernels try again",
		Limits: few,
		Moves:  []string{"accept_pauses_total", "tcp_syn_dropped_total"},
		May:    []string{"tcp_ack_dropped_total", "tcp_syn_cookies_sent_total", resetsSent},
		Levels: []Level{{"tcp_accept_queue", backlog + 1}}, // netstack takes one more, as Linux does
		Shows:  []string{"tcp_accept_queue_high_water", "tcp_listen_queue_capacity", "tcp_ack_dropped_total", "tcp_segments_dropped_total"},
		Sees:   []Sign{{"top", `^accept queue .*!`}},
		Play:   func(s *Stage) error { return s.crowd(backlog+1, 4) },
	},
	{
		Name:   "client-limit",
		About:  "one client opens more connections than limits.client permits: requests on those are answered 503, what goes beyond twice as many is reset, and its first ones go on",
		Limits: fmt.Sprintf("client: {connections: %d}", room+1), // with the bystander, who has the same address
		Moves:  []string{"limited_connections_total", "limited_resets_total", answers5xx},
		May:    append([]string{ended}, unknown...), // what was on its way to a connection that is reset
		Shows:  []string{"clients_active"},
		Sees:   []Sign{{"log", `a client is over its limit" client=10\.1\.0\.2.*limits.client.connections`}},
		Play:   playClientLimit,
	},
	{
		Name:          "slow-client",
		About:         "a client does not read its answer: the send buffer is full, the backend is slowed down, and timeouts.client_send cuts the client off",
		Configuration: "timeouts: {client_send: 1s}\ntcp: {send_buffer: {max: 1MiB}, receive_buffer: {max: 1MiB}}\nlog: {access: /dev/stdout, format: json}\n",
		Moves:         []string{"client_send_buffer_full_total", "backend_receive_buffer_full_total", `timeouts_total{timeout="client_send"}`, `exchange_errors_total{source="client"}`, "clients_aborted_total"},
		May:           []string{resetsSent, ended, "tcp_resets_received_total"},
		Shows:         []string{"client_send_buffer_high_water_bytes", "backend_receive_buffer_high_water_bytes", "process_heap_bytes"},
		Sees:          []Sign{{"top", `^client send .*!`}, {"log", `"termination":"client".*timeouts.client_send`}},
		Play: func(s *Stage) error {
			const size = 256 << 20
			s.backend.set(floods(size))
			c, err := s.dial(door)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
				return err
			}
			if err := s.Broken(); err != nil {
				return err
			}
			if _, body, err := c.answer(); err == nil || len(body) >= size {
				return fmt.Errorf("the client got %d bytes and thinks that these are all", len(body))
			}
			return nil
		},
	},
	{
		Name:   "receive-buffer",
		About:  "a request's body comes faster than it goes on: the receive buffer is full, its window closes, and the sender waits; nothing is lost",
		Moves:  []string{"client_receive_buffer_full_total", "backend_send_buffer_full_total"},
		Levels: []Level{{"client_receive_buffer_bytes", 64 << 10}, {"backend_send_buffer_bytes", 64 << 10}},
		Shows:  []string{"client_receive_buffer_capacity_bytes", "backend_send_buffer_capacity_bytes"},
		Sees:   []Sign{{"top", `^client recv .*!`}, {"top", `^backend send .*!`}},
		Play:   playUpload,
	},
}

// crowd has as many clients as there is room for; then some that the accept queue has room for, then others. All are served when the first
// ones leave.
func (s *Stage) crowd(queued, others int) error {
	held, err := s.hold(room, door)
	if err != nil {
		return err
	}
	first := several(queued, func() error { return s.once(door, http.StatusOK) })
	err = s.level("tcp_accept_queue", float64(queued))
	second := several(others, func() error { return s.once(door, http.StatusOK) })
	s.show.say("%d clients stay, %d more come", room+1, queued+others)
	if err == nil {
		err = s.Broken()
	}
	for _, c := range held {
		c.Close()
	}
	if err = errors.Join(err, first(), second()); err == nil {
		s.show.say("the first ones left, and all %d were answered", queued+others)
	}
	return err
}

// playClientLimit opens twice as many connections as permitted, and then some.
func playClientLimit(s *Stage) error {
	served, err := s.hold(room, door)
	if err != nil {
		return err
	}
	more, err := s.hold(room+1, door)
	if err != nil {
		return err
	}
	if err := s.level("clients_active", s.before["clients_active"]+2*room+1); err != nil {
		return err
	}
	const flood = 100
	for range flood {
		c, err := s.dial(door)
		if err != nil {
			continue // reset as soon as it was there
		}
		if status, _, err := c.ask(); err == nil {
			return fmt.Errorf("a connection beyond twice the limit was answered %d", status)
		}
		c.Close()
	}
	for _, c := range more {
		if err := c.want(http.StatusServiceUnavailable, ""); err != nil {
			return err
		}
	}
	for _, c := range served {
		if err := c.want(http.StatusOK, hello); err != nil {
			return fmt.Errorf("a connection within the limit: %w", err)
		}
	}
	s.show.say("%d connections were served, %d answered 503, and %d reset", len(served), len(more), flood)
	return s.Broken()
}

// playUpload sends a body to a backend that takes it late.
func playUpload(s *Stage) error {
	const size = 64 << 20
	reads := make(chan struct{})
	s.backend.set(waits(reads))
	c, err := s.dial(door)
	if err != nil {
		return err
	}
	sent := several(1, func() error { return c.upload(size) })
	err = s.Broken()
	close(reads)
	if err = errors.Join(err, sent()); err != nil {
		return err
	}
	want, _, err := backend.Sum(backend.Body("upload", size))
	if err != nil {
		return err
	}
	status, sum, err := c.answer()
	if err != nil || status != http.StatusOK || sum != want {
		return fmt.Errorf("the body arrived as another: %d, %q, %w", status, sum, err)
	}
	s.show.say("the backend reads on, and every byte of %d MiB has arrived", size>>20)
	return nil
}
