package openloop

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Options says what load to make.
type Options struct {
	Server      netip.AddrPort // IPv4
	Request     []byte         // sent as it is
	Connections int
	Rate        float64       // requests a second; 0: a closed loop
	Duration    time.Duration // of sending; answers may come later
	Warm        time.Duration // before that, the same load without being measured
	CloseEach   bool          // each connection is closed after its response, and another one opened
	Once        bool          // each connection is used for one request and then kept idle; Rate and durations mean nothing
	Timeout     time.Duration // for a connection, and for answers after the end
}

// Result is what came of it.
type Result struct {
	Requests uint64        `json:"requests"` // answered with a status of 2xx or 3xx, and due in the measured time
	Errors   uint64        `json:"errors"`   // connections and requests that failed, other answers, and requests without one
	First    string        `json:"first_error,omitempty"`
	Duration time.Duration `json:"duration_ns"` // from the start to the last answer, or to the end of sending when that is later
	P50      float64       `json:"p50_us"`
	P99      float64       `json:"p99_us"`
	P999     float64       `json:"p999_us"`
	Late     float64       `json:"late_p99_us"` // 99 % of the sends were due at most so long before
}

type state int

const (
	closed state = iota
	connecting
	free
	busy // a request is being sent, or waits for its response
)

type connection struct {
	index    int32 // among all
	fd       int
	state    state
	loaded   bool      // a request is under way, or waits until it is connected
	due      time.Time // of the request
	measured bool      // the request is
	sent     int       // bytes of the request
	parse    response
}

// generator belongs to one goroutine.
type generator struct {
	Options
	epoll       int
	connections []connection
	idle        []*connection
	next        uint64 // request that is due next, counted from the start of the warm-up
	busy        int    // requests under way
	buffer      []byte
	latencies   samples
	late        samples
	result      Result
	start, warm time.Time // of sending, of measuring
	end         time.Time // of sending
	opened      int       // Once: connections that were begun
}

// inProgress bounds how many connections Once opens at a time.
const inProgress = 16

// Run makes the load and returns when the last answer has come, or none comes any more. It calls held, if not nil, when all
// connections of Once are idle, and returns when that returns.
func Run(o Options, held func()) (Result, error) {
	if !o.Server.Addr().Is4() || o.Connections < 1 || o.Timeout <= 0 || (!o.Once && o.Duration <= 0) {
		return Result{}, fmt.Errorf("no load can be made with %+v", o)
	}
	runtime.LockOSThread() // the slack of timers is a thread's
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // with the default of 50 us sends are late by as much
	g := &generator{Options: o, buffer: make([]byte, 256<<10)}
	var err error
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return Result{}, fmt.Errorf("make epoll: %w", err)
	}
	defer unix.Close(g.epoll)
	g.connections = make([]connection, o.Connections)
	for i := range g.connections {
		g.connections[i].index = int32(i)
	}
	defer func() {
		for i := range g.connections {
			g.shut(&g.connections[i])
		}
	}()
	if err := g.run(); err != nil {
		return Result{}, err
	}
	if held != nil {
		held()
	}
	return g.summary(), nil
}

func (g *generator) run() error {
	if g.Once {
		return g.runOnce()
	}
	if g.Rate > 0 {
		// All are open before the first request is due.
		for i := range g.connections {
			g.connect(&g.connections[i])
		}
		deadline := time.Now().Add(g.Timeout)
		if err := g.until(deadline, func() bool { return len(g.idle) == g.Connections }); err != nil {
			return err
		}
		if len(g.idle) < g.Connections {
			return fmt.Errorf("%d of %d connections are open after %v: %s", len(g.idle), g.Connections, g.Timeout, g.result.First)
		}
	}
	g.start = time.Now()
	g.warm, g.end = g.start.Add(g.Warm), g.start.Add(g.Warm+g.Duration)
	if g.Rate == 0 {
		for i := range g.connections {
			g.again(&g.connections[i], g.start)
		}
	}
	if err := g.until(g.end, func() bool { return false }); err != nil {
		return err
	}
	// Requests that are due and wait for a connection are still sent.
	err := g.until(g.end.Add(g.Timeout), func() bool { return g.busy == 0 && g.waiting() == 0 })
	g.result.Duration = max(time.Since(g.warm), g.Duration)
	g.fail(uint64(g.busy)+g.waiting(), "no answer")
	return err
}

func (g *generator) runOnce() error {
	deadline := time.Now().Add(g.Timeout)
	done := func() bool {
		for g.opened < g.Connections && g.opened-len(g.idle) < inProgress {
			g.opened++
			g.again(&g.connections[g.opened-1], time.Now())
		}
		return len(g.idle) == g.Connections || g.result.Errors > 0
	}
	if err := g.until(deadline, done); err != nil {
		return err
	}
	if len(g.idle) < g.Connections {
		return fmt.Errorf("%d of %d connections are idle after %v: %s", len(g.idle), g.Connections, time.Since(deadline.Add(-g.Timeout)).Round(time.Millisecond), g.result.First)
	}
	return nil
}

// total is how many requests are sent in all.
func (g *generator) total() uint64 { return uint64(g.Rate * (g.Warm + g.Duration).Seconds()) }

func (g *generator) dueAt(i uint64) time.Time {
	return g.start.Add(time.Duration(float64(i) / g.Rate * 1e9))
}

// waiting is how many requests were due before the end and have not been sent.
func (g *generator) waiting() uint64 {
	if g.Rate == 0 {
		return 0
	}
	return g.total() - g.next
}

// until serves connections and the clock until a time, or until done.
func (g *generator) until(deadline time.Time, done func() bool) error {
	events := make([]unix.EpollEvent, 256)
	for !done() {
		now := time.Now()
		if !now.Before(deadline) {
			return nil
		}
		wake := deadline
		if g.Rate > 0 && !g.start.IsZero() {
			g.send(now)
			if len(g.idle) > 0 && g.waiting() > 0 {
				if due := g.dueAt(g.next); due.Before(wake) {
					wake = due
				}
			}
		}
		n, err := wait(g.epoll, events, time.Until(wake))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for events: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			g.serve(&g.connections[e.Fd], e.Events)
		}
	}
	return nil
}

// send sends what is due over free connections.
func (g *generator) send(now time.Time) {
	for g.waiting() > 0 && len(g.idle) > 0 {
		due := g.dueAt(g.next)
		if due.After(now) {
			return
		}
		g.next++
		c := g.idle[len(g.idle)-1]
		g.idle = g.idle[:len(g.idle)-1]
		if !due.Before(g.warm) {
			g.late.add(now.Sub(due))
		}
		g.load(c, due)
		g.write(c)
	}
}

// again is the next request of a connection in a closed loop.
func (g *generator) again(c *connection, now time.Time) {
	g.load(c, now)
	if c.state == closed {
		g.connect(c)
		return
	}
	g.write(c)
}

// load gives a connection a request.
func (g *generator) load(c *connection, due time.Time) {
	c.loaded, c.due, c.measured = true, due, !due.Before(g.warm)
	g.busy++
}

// unload takes it away.
func (g *generator) unload(c *connection) {
	if c.loaded {
		c.loaded = false
		g.busy--
	}
}

func (g *generator) connect(c *connection) {
	c.state, c.sent, c.parse = connecting, 0, response{}
	var err error
	if c.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		c.state = closed
		g.lost(c, "open socket: "+err.Error())
		return
	}
	_ = unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	err = unix.Connect(c.fd, &unix.SockaddrInet4{Port: int(g.Server.Port()), Addr: g.Server.Addr().As4()})
	if err == nil || errors.Is(err, unix.EINPROGRESS) {
		err = unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | epollET, Fd: c.index})
	}
	if err != nil {
		g.lost(c, "connect: "+err.Error())
	}
}

// epollET is EPOLLET as the 32 bits that it is.
const epollET = 1 << 31

func (g *generator) serve(c *connection, events uint32) {
	if c.state == connecting && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			g.lost(c, "connect: "+unix.Errno(code).Error())
			return
		}
		if g.Rate > 0 {
			g.rest(c)
			return
		}
		g.write(c)
		return
	}
	if c.state == busy && events&unix.EPOLLOUT != 0 && c.sent < len(g.Request) {
		g.write(c)
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		g.read(c)
	}
}

// rest makes a connection free.
func (g *generator) rest(c *connection) {
	c.state, c.sent, c.parse = free, 0, response{}
	g.idle = append(g.idle, c)
}

func (g *generator) write(c *connection) {
	c.state = busy
	for c.sent < len(g.Request) {
		n, err := unix.Write(c.fd, g.Request[c.sent:])
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			g.lost(c, "write: "+err.Error())
			return
		}
		c.sent += n
	}
}

func (g *generator) read(c *connection) {
	for c.state == busy || c.state == free {
		n, err := unix.Read(c.fd, g.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			g.lost(c, "read: "+err.Error())
		case n == 0:
			g.lost(c, "the server closed a connection")
		case c.state == free:
			g.lost(c, "a response that nobody asked for")
		default:
			done, err := c.parse.take(g.buffer[:n])
			if err != nil {
				g.lost(c, err.Error())
			} else if done {
				g.answered(c)
				return
			}
			if n < len(g.buffer) {
				return // empty, for all that is known; more raises an edge
			}
		}
	}
}

func (g *generator) answered(c *connection) {
	now := time.Now()
	g.unload(c)
	if c.measured {
		g.result.Requests++
		g.latencies.add(now.Sub(c.due))
	}
	switch {
	case c.parse.closes && !g.CloseEach:
		g.fail(1, "the server announced that it closes a connection")
		g.shut(c)
	case g.CloseEach:
		g.shut(c)
	case g.Rate > 0 || g.Once:
		g.rest(c)
		return
	}
	c.sent, c.parse = 0, response{}
	if now.Before(g.end) {
		if g.Rate > 0 {
			g.connect(c)
		} else {
			g.again(c, now)
		}
	}
}

// lost is a connection that broke. Another one takes its place while there is something to send.
func (g *generator) lost(c *connection, why string) {
	g.unload(c)
	for i, f := range g.idle {
		if f == c {
			g.idle = append(g.idle[:i], g.idle[i+1:]...)
			break
		}
	}
	g.fail(1, why)
	g.shut(c)
	if now := time.Now(); now.Before(g.end) && g.result.Errors < tooManyErrors {
		if g.Rate > 0 {
			g.connect(c)
		} else {
			g.again(c, now)
		}
	}
}

// tooManyErrors is where connections are not replaced any more: the result is worth nothing.
const tooManyErrors = 1000

func (g *generator) fail(n uint64, why string) {
	if n == 0 {
		return
	}
	if g.result.First == "" {
		g.result.First = why
	}
	g.result.Errors += n
}

func (g *generator) shut(c *connection) {
	if c.state != closed {
		unix.Close(c.fd) //nolint:errcheck // nothing can be done
		c.state = closed
	}
}

func (g *generator) summary() Result {
	r := g.result
	r.P50, r.P99, r.P999, r.Late = g.latencies.percentile(50), g.latencies.percentile(99), g.latencies.percentile(99.9), g.late.percentile(99)
	return r
}
