package failure

import (
	"errors"
	"net/http"
	"syscall"
	"time"
)

// unknown are the alarms of a worker that gets segments for connections of the one before it: an ACK might be the answer to a cookie.
var unknown = []string{resetsSent, "tcp_syn_cookies_invalid_total"}

// processes are failures of workers.
var processes = []*Scenario{
	{
		Name:      "starvation",
		About:     "the event loop stands still for a while: everything it serves is late, and the lag is counted",
		Moves:     []string{lag},
		Sees:      []Sign{{"status", `serving .* [1-9]\.\d*s$`}},
		Everybody: "the loop that serves them stood still",
		Play: func(s *Stage) error {
			if err := s.pause(1500 * time.Millisecond); err != nil {
				return err
			}
			return s.Broken()
		},
	},
	{
		Name:          "watchdog",
		About:         "the event loop does not come back: the worker is replaced, and only connections of its queues are lost",
		Configuration: "watchdog: 1s\n",
		Queues:        2,
		Moves:         []string{"worker_restarts_total"},
		May:           unknown,
		Sees:          []Sign{{"log", `watchdog: a worker's loop is silent`}, {"log", `the worker serves again`}, {"status", `^1 .* serving +\S+ +1 `}},
		Play:          func(s *Stage) error { return s.loseWorker(syscall.SIGSTOP) },
	},
	{
		Name:   "worker-crash",
		About:  "a worker dies: the connections of its queues are lost and no other, and it is started again at once",
		Queues: 2,
		Moves:  []string{"worker_restarts_total"},
		May:    unknown,
		Sees:   []Sign{{"log", `a worker died: .*killed`}, {"log", `the worker serves again`}, {"status", `^1 .* serving +\S+ +1 `}},
		Play:   func(s *Stage) error { return s.loseWorker(syscall.SIGKILL) },
	},
}

// loseWorker sends the signal to the last worker, which has a connection.
func (s *Stage) loseWorker(signal syscall.Signal) error {
	c, err := s.dial(door)
	if err != nil {
		return err
	}
	if err := c.want(http.StatusOK, hello); err != nil {
		return err
	}
	if err := s.signal(s.scenario.Queues-1, signal); err != nil {
		return err
	}
	if err := s.Ringroad.WaitLine("the worker serves again", patience); err != nil {
		return err
	}
	if err := s.Broken(); err != nil {
		return err
	}
	if err := c.want(http.StatusOK, hello); err == nil {
		return errors.New("a connection of the worker lives on: it was served by another one")
	}
	return nil
}
