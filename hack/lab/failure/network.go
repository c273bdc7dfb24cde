package failure

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab/backend"
)

// network are failures of rings, queues and links.
var network = []*Scenario{
	{
		Name:  "rx-ring",
		About: "frames come faster than the worker takes them: its rings are full, the kernel drops the rest and counts it, and TCP sends it again",
		// So small that the windows of a few connections overrun them.
		Configuration: "rings: {entries: 64}\n",
		Moves:         []string{"kernel_fill_ring_empty_total", "kernel_rx_dropped_total"},
		May:           []string{lag, "link_tx_backpressure_total", "queue_tx_no_frame_total", "congestions_total", "client_receive_buffer_full_total", "backend_send_buffer_full_total"},
		Shows:         []string{`ring_descriptors{ring="fill"}`, "queue_rx_ring_high_water", "ring_capacity", "tcp_retransmits_total"},
		Sees:          []Sign{{"top", `^fill ring .*!`}},
		Everybody:     "the worker was stopped for a second while frames came",
		Play:          playRings,
	},
	{
		Name:   "syn-queue",
		About:  "handshakes that nobody ends fill the SYN queue: SYN cookies are sent, and clients get in by them",
		Moves:  []string{"tcp_syn_cookies_sent_total"},
		May:    []string{"tcp_failed_attempts_total", "tcp_resets_sent_total", "tcp_resets_received_total"},
		Levels: []Level{{"tcp_syn_queue", backlog}},
		Shows:  []string{"tcp_syn_queue_high_water", "tcp_listen_queue_capacity", "tcp_syn_cookies_received_total"},
		Sees:   []Sign{{"top", `^SYN queue .*!`}},
		Play:   playSYNs,
	},
	{
		Name:      "link-flap",
		About:     "the client's link loses its carrier and gets it back: connections wait and go on",
		Shows:     []string{"clients_active", "tcp_retransmits_total"},
		May:       []string{"queue_kick_link_down_total"},
		Sees:      []Sign{{"status", `no carrier since`}, {"log", `level=WARN msg="an interface lost its carrier.*interface=e0`}},
		Everybody: "no frame comes or goes",
		Play:      playLink,
	},
}

// playRings stops the worker while several clients send large bodies.
func playRings(s *Stage) error {
	const uploads, size = 4, 16 << 20
	sender, err := s.Lab.Client.KernelTCP()
	if err != nil {
		return err
	}
	sum, _, err := backend.Sum(backend.Body("upload", size))
	if err != nil {
		return err
	}
	list, err := s.hold(uploads, door)
	if err != nil {
		return err
	}
	received := s.before["client_received_bytes_total"]
	next := make(chan *client, uploads)
	for _, c := range list {
		next <- c
	}
	all := several(uploads, func() error {
		c := <-next
		if err := c.upload(size); err != nil {
			return err
		}
		status, body, err := c.answer()
		if err != nil || status != http.StatusOK || body != sum {
			return fmt.Errorf("a body of %d bytes arrived as another: %d, %q, %w", int64(size), status, body, err)
		}
		return nil
	})
	if err := s.level("client_received_bytes_total", received+size/4); err != nil {
		return err
	}
	if err := s.pause(time.Second); err != nil {
		return err
	}
	if err := s.Broken(); err != nil {
		return err
	}
	if err := all(); err != nil {
		return err
	}
	now, err := s.Lab.Client.KernelTCP()
	if err != nil {
		return err
	}
	again := now.Moved(sender)["Tcp.RetransSegs"]
	if again == 0 {
		return errors.New("the clients sent nothing again: no frame was lost")
	}
	s.show.say("%d bodies of %d MiB arrived intact; the clients sent %d segments again", uploads, size>>20, again)
	return nil
}

// upload sends a request with a body.
func (c *client) upload(size int64) error {
	if _, err := fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: example.org\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		return err
	}
	_, err := io.Copy(c, backend.Body("upload", size))
	return err
}

// pause stops the last worker for a while.
func (s *Stage) pause(d time.Duration) error {
	pid, err := s.worker(max(s.scenario.Queues, 1) - 1)
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	s.show.say("worker stopped (SIGSTOP) for %v", d)
	time.Sleep(d) // the failure itself
	err = s.look()
	return errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
}

// playSYNs sends SYNs from an address that never answers.
func playSYNs(s *Stage) error {
	const half, seq = 4 * backlog, 1000
	if err := knowStranger(s.Lab); err != nil {
		return err
	}
	if err := sendAsStranger(s.Lab, half, flagSYN, seq); err != nil {
		return err
	}
	if err := s.Broken(); err != nil {
		return err
	}
	if err := s.once(door, http.StatusOK); err != nil {
		return fmt.Errorf("with a full SYN queue: %w", err)
	}
	if err := s.level("tcp_syn_cookies_received_total", s.before["tcp_syn_cookies_received_total"]+1); err != nil {
		return err
	}
	s.show.say("a client of the same listener was answered, let in by a cookie")
	return sendAsStranger(s.Lab, half, flagRST, seq+1)
}

// playLink takes the cable of the client away and puts it back. A connection that was open goes on.
func playLink(s *Stage) error {
	c, err := s.dial(door)
	if err != nil {
		return err
	}
	if err := c.want(http.StatusOK, hello); err != nil {
		return err
	}
	pid, err := s.worker(0)
	if err != nil {
		return err
	}
	link := func(f func(netlink.Link) error) error {
		return s.Lab.Client.Do(func() error {
			l, err := netlink.LinkByName("c0")
			if err != nil {
				return err
			}
			return f(l)
		})
	}
	if err := link(netlink.LinkSetDown); err != nil {
		return err
	}
	if err := s.Ringroad.WaitLine("lost its carrier", patience); err != nil {
		return errors.Join(err, link(netlink.LinkSetUp))
	}
	err = s.Broken()
	if err = errors.Join(err, link(netlink.LinkSetUp)); err != nil {
		return err
	}
	if err := s.Ringroad.WaitLine(`an interface works again" interface=e0 after=`, patience); err != nil {
		return err
	}
	if err := c.want(http.StatusOK, hello); err != nil {
		return fmt.Errorf("a connection from before: %w", err)
	}
	if now, err := s.worker(0); err != nil || now != pid {
		return fmt.Errorf("the worker is process %d, was %d: %w", now, pid, err)
	}
	s.show.say("a connection from before goes on, served by the same process")
	return nil
}
