package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/worker"
)

// askTimeout bounds how long the running instance may take to answer.
const askTimeout = 5 * time.Second

// findInstance asks whoever answers on the control socket.
func (r *Report) findInstance(ctx context.Context, socket string) *instance {
	info, err := os.Lstat(socket)
	if errors.Is(err, fs.ErrNotExist) {
		r.ok("instance", "", "none runs (no %s)", socket)
		return nil
	}
	if conn, err := net.DialTimeout("unix", socket, askTimeout); err == nil {
		conn.Close() //nolint:errcheck // it was a question
	} else if errors.Is(err, unix.ECONNREFUSED) && info != nil {
		r.add(Warning, "instance", "", fmt.Sprintf("one was killed or crashed: it left %s, made %s", socket, info.ModTime().Format(time.DateTime)),
			"nothing has to be done: the next run replaces it, and the XDP program went with the process")
		return nil
	}
	i, err := ask(ctx, socket)
	if err != nil {
		r.add(Warning, "instance", "", err.Error(), "ringroad status --control "+socket)
		return nil
	}
	r.ok("instance", "", "process %d is %s, since %s", i.status.PID, i.status.State, i.status.Started.Local().Format(time.DateTime))
	return i
}

func ask(ctx context.Context, socket string) (*instance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("%w within %v", control.ErrSilent, askTimeout))
	defer cancel()
	c, err := control.Dial(socket)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // it was a question
	var i instance
	if i.status, err = c.Status(ctx); err != nil {
		return nil, err
	}
	if i.stats, err = c.Stats(ctx); err != nil {
		return nil, err
	}
	return &i, nil
}

// full is a counter that moves when a buffer is full or something is lost.
type full struct {
	name   string
	count  func(*worker.Snapshot) uint64
	text   string
	remedy string
}

// fulls are in the order in which a request passes the buffers.
var fulls = []full{
	{"drop_no_socket", verdict("drop_no_socket"), "frames came for a queue without a worker", "`ringroad status` shows workers that do not run"},
	{"drop_connection_rate", verdict("drop_connection_rate"), "SYNs were dropped because their source opens connections too fast", "filter.connection_rate: larger, or filter.allow for that source"},
	{"drop_packet_rate", verdict("drop_packet_rate"), "packets were dropped because their source sends too many", "filter.packet_rate: larger, or filter.allow for that source"},
	{"fill_ring_empty", queue(kernel, "fill_ring_empty"), "times the NIC had no frame to receive into: frames may have been lost", "rings.entries: larger, or workers: more"},
	{"rx_ring_full", queue(kernel, "rx_ring_full"), "frames were lost because the RX ring was full", "rings.entries: larger, or workers: more"},
	{"backlog_full", queue(ours, "backlog_full"), "times packets of a crowded RX ring stayed there because the backlog was full", "rings.backlog: larger, or workers: more"},
	{"rx_dropped", tooLarge, "frames were dropped, as when they are larger than a frame of the UMEM", "lower the MTU of the peers, or switch their TSO off"},
	{"rx_oversized", queue(ours, "rx_oversized"), "frames were dropped because they were larger than the MTU", "the same MTU at both ends of the link"},
	{"rx_invalid", queue(ours, "rx_invalid"), "frames were dropped because the driver did not have them", "rings.entries: larger, or zero_copy: off"},
	{"handed_full", of(handover, "handed_full"), "frames for another worker were lost because its ring was full", "`ringroad top` shows the worker that falls behind"},
	{"checksum_errors", of(stackCounters, "checksum_errors"), "segments had a bad checksum and were dropped", "on veth: ethtool -K PEER tx off, or rx_checksum: auto"},
	{"syn_cookies_sent", of(stackCounters, "syn_cookies_sent"), "SYN cookies were sent because the SYN queue was full", "listeners[].backlog: larger"},
	{"answer_syn_cookie", verdict("answer_syn_cookie"), "SYNs were answered with cookies by XDP because the SYN queue was full", "listeners[].backlog: larger"},
	{"syn_dropped", of(stackCounters, "syn_dropped"), "SYNs were dropped because the accept queue was full", "listeners[].backlog: larger, or workers: more"},
	{"ack_dropped", of(stackCounters, "ack_dropped"), "handshakes were dropped because the accept queue was full", "listeners[].backlog: larger, or workers: more"},
	{"accept_pauses", of(proxyCounters, "accept_pauses"), "times accepting paused because all connections were in use", "limits.max_connections: larger"},
	{"tx_no_frame", queue(ours, "tx_no_frame"), "times every TX frame was in use (back-pressure, nothing is lost)", "rings.frames: larger"},
	{"tx_unresolved_dropped", queue(endpoint, "tx_unresolved_dropped"), "packets were dropped because a neighbour did not answer", "ip neigh"},
	{"kick_link_down", queue(ours, "kick_link_down"), "times the link was down when frames were to be sent", "the cable, or who sets the link down"},
	{"log_lines_lost", of(proxyCounters, "log_lines_lost"), "lines of the access log were lost because its disk was too slow", "log.access on another disk, or off"},
}

func verdict(name string) func(*worker.Snapshot) uint64 {
	return func(s *worker.Snapshot) (n uint64) {
		for i := range s.Interfaces {
			n += s.Interfaces[i].Verdicts[name]
		}
		return n
	}
}

func queue(part func(*worker.QueueStats) map[string]uint64, name string) func(*worker.Snapshot) uint64 {
	return func(s *worker.Snapshot) (n uint64) {
		for i := range s.Interfaces {
			for k := range s.Interfaces[i].Queues {
				n += part(&s.Interfaces[i].Queues[k])[name]
			}
		}
		return n
	}
}

// tooLarge is how many frames were dropped that an empty fill ring, which has a line of
// its own, does not account for.
func tooLarge(s *worker.Snapshot) uint64 {
	all, empty := queue(kernel, "rx_dropped")(s), queue(kernel, "fill_ring_empty")(s)
	return max(all, empty) - empty
}

func kernel(q *worker.QueueStats) map[string]uint64   { return q.Kernel }
func ours(q *worker.QueueStats) map[string]uint64     { return q.Ours }
func endpoint(q *worker.QueueStats) map[string]uint64 { return q.Link }

func of(part func(*worker.Snapshot) map[string]uint64, name string) func(*worker.Snapshot) uint64 {
	return func(s *worker.Snapshot) uint64 { return part(s)[name] }
}

func stackCounters(s *worker.Snapshot) map[string]uint64 { return s.Stack }
func proxyCounters(s *worker.Snapshot) map[string]uint64 { return s.Proxy }
func handover(s *worker.Snapshot) map[string]uint64      { return s.Handover }

// instance judges what runs.
func (r *Report) instance(i *instance) {
	if c := i.status.Configuration; c.Error != "" {
		r.add(Warning, "reload", "", fmt.Sprintf("the reload of %s failed, the configuration before is in use", c.Failed.Local().Format(time.DateTime)),
			"ringroad check -c "+c.File+", then ringroad reload")
	}
	for _, w := range i.status.Workers {
		name := fmt.Sprint(w.Index)
		switch {
		case w.State != "serving" && i.status.State == control.StateRunning:
			r.add(Problem, "worker", name, fmt.Sprintf("it is %s: clients on its queues wait", w.State), "the messages of ringroad on standard error, or journalctl -u ringroad")
		case w.Restarts > 0:
			r.add(Warning, "worker", name, fmt.Sprintf("it died %d times, last before %s", w.Restarts, w.Started.Local().Format(time.DateTime)), "the messages of ringroad on standard error, or journalctl -u ringroad")
		default:
			r.ok("worker", name, "process %d, %d clients, %d requests", w.PID, w.Clients, w.Requests)
		}
	}
	before := len(*r)
	for _, f := range fulls {
		if n := f.count(&i.stats); n > 0 {
			r.add(Warning, "buffers", f.name, fmt.Sprintf("%d %s", n, f.text), f.remedy)
		}
	}
	if len(*r) == before {
		r.ok("buffers", "", "none was ever full, nothing was lost")
	}
}
