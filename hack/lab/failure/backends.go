package failure

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// alarms that a backend's failure moves: its attempt, and the answer of our own.
const (
	backendErrors  = `exchange_errors_total{source="backend"}`
	internalErrors = `exchange_errors_total{source="internal"}`
	answers5xx     = `responses_total{class="5xx"}`
	resetsSent     = "tcp_resets_sent_total"
	ended          = "tcp_established_resets_total" // connections, by a reset of either side
)

// backends are failures of backends, and of the way to them.
var backends = []*Scenario{
	{
		Name:  "backend-refuses",
		About: "no server listens at the backend: the client is answered 502",
		Moves: []string{"backend_refusals_total", "upstream_server_connect_failures_total", "tcp_resets_received_total", backendErrors, answers5xx},
		Shows: []string{"upstream_server_up"},
		Sees:  []Sign{{"top", `^backends busy .*!`}, {"log", `connection refused`}},
		Play: func(s *Stage) error {
			s.backend.close()
			return s.answered(http.StatusBadGateway)
		},
	},
	{
		Name:  "backend-resets",
		About: "the backend cuts the connection off before it has answered: the client is answered 502",
		Moves: []string{ended, "tcp_resets_received_total", backendErrors, answers5xx},
		Sees:  []Sign{{"log", `connection reset by peer`}},
		Play: func(s *Stage) error {
			s.backend.set(resets)
			return s.answered(http.StatusBadGateway)
		},
	},
	{
		Name:          "backend-stalls",
		About:         "the backend does not answer: timeouts.backend_read ends the wait, and the client is answered 504",
		Configuration: "timeouts: {backend_read: 1s}\n",
		Moves:         []string{`timeouts_total{timeout="backend_read"}`, backendErrors, answers5xx, resetsSent, ended},
		Sees:          []Sign{{"log", `timeouts.backend_read`}},
		Play: func(s *Stage) error {
			until := make(chan struct{})
			defer close(until)
			s.backend.set(waits(until))
			return s.answered(http.StatusGatewayTimeout)
		},
	},
	{
		Name:  "backend-truncates",
		About: "the backend closes in the middle of its answer: so does the proxy, so that the half never looks like the whole",
		Moves: []string{"clients_aborted_total", backendErrors, resetsSent, ended},
		Sees:  []Sign{{"log", `connection closed before the end of the message`}},
		Play: func(s *Stage) error {
			s.backend.set(truncates)
			c, err := s.dial(door)
			if err != nil {
				return err
			}
			if status, body, err := c.ask(); err == nil {
				return fmt.Errorf("answered %d, %q, as if that were all", status, body)
			}
			return s.Broken()
		},
	},
	{
		Name:      "backend-closes",
		About:     "the backend closes a connection from the pool as the next request arrives: the request is sent again on a fresh one, and the client notices nothing",
		Keepalive: 16,
		Moves:     []string{"backend_retries_total", "backend_stale_total", backendErrors},
		May:       []string{resetsSent, ended}, // what reaches a connection that both sides gave up
		Shows:     []string{"backends_idle", "upstream_server_connections_idle"},
		Play: func(s *Stage) error {
			s.backend.close() // the connection that the first request left in the pool
			if err := s.backend.open(); err != nil {
				return err
			}
			s.backend.set(closesBeforeSecond)
			c, err := s.dial(door)
			if err != nil {
				return err
			}
			for range 4 {
				if err := c.want(http.StatusOK, hello); err != nil {
					return err
				}
			}
			return s.Broken()
		},
	},
	{
		Name:          "backend-ports",
		About:         "every local port toward the backend is in use: the client is answered 503, and the next one is served when a port is free",
		Configuration: "backend_ports: 20000-20003\n",
		Moves:         []string{internalErrors, answers5xx, "backend_refusals_total", "tcp_failed_attempts_total"},
		May:           []string{resetsSent}, // where a port is used again while the backend has not forgotten its last connection
		Shows:         []string{"backends_active"},
		Sees:          []Sign{{"log", `no local port left`}},
		Play: func(s *Stage) error {
			const ports = 4
			until := make(chan struct{})
			s.backend.set(waits(until))
			list, err := s.hold(ports, door)
			if err != nil {
				close(until)
				return err
			}
			for _, c := range list {
				if _, e := io.WriteString(c, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"); e != nil {
					err = errors.Join(err, e)
				}
			}
			err = errors.Join(err, s.level("backends_active", s.before["backends_active"]+ports))
			err = errors.Join(err, s.answered(http.StatusServiceUnavailable))
			close(until)
			for _, c := range list {
				status, body, e := c.answer()
				if e != nil || status != http.StatusOK {
					err = errors.Join(err, fmt.Errorf("answered %d, %q, %w", status, body, e))
				}
			}
			return err
		},
	},
}

// answered asks once, and the answer is to have that status.
func (s *Stage) answered(status int) error {
	if err := s.once(door, status); err != nil {
		return err
	}
	s.show.say("the client was answered %d %s", status, http.StatusText(status))
	return s.Broken()
}
