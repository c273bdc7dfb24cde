package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/cmd/internal/worker"
)

const (
	dialTimeout = 5 * time.Second
	// pollInterval is how often Wait looks whether it was cancelled.
	pollInterval = 100 * time.Millisecond
	maxReply     = 16 << 20
)

// ErrEnded: the master that was there when the client was made is gone.
var ErrEnded = errors.New("ringroad has ended")

// Client speaks to one running master. One goroutine uses it, but that another may
// call StopCapture.
type Client struct {
	path string
	http *http.Client
	pid  int // 0: this PID namespace does not show it
	fd   int // of the process, -1: none
}

// ErrSilent is why whoever waits for an answer gives up: the cause of the context.
var ErrSilent = errors.New("no answer")

func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == fs.ModeSocket
}

// Dial connects to the socket. Its errors say what to do.
func Dial(path string) (*Client, error) {
	if err := checkPath(path, elsewhere); err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s does not exist: is ringroad running? with another --control?", path)
	case errors.Is(err, unix.ECONNREFUSED) && !isSocket(path):
		return nil, fmt.Errorf("%s is no socket: --control wants that of a ringroad that runs", path)
	case errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("nobody answers on %s: ringroad has ended without removing it; the next run replaces it", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: permission denied: run this as the user that ringroad was started by (root), or use --control for another instance", path)
	case errors.Is(err, unix.EAGAIN): // unix_stream_connect
		return nil, fmt.Errorf("nobody accepts on %s, and others wait already: its process is stopped, or hangs", path)
	case err != nil:
		return nil, fmt.Errorf("connect to ringroad: %w", err)
	}
	defer conn.Close()
	c := &Client{path: path, fd: -1}
	if c.pid, err = peer(conn.(*net.UnixConn)); err != nil {
		return nil, fmt.Errorf("ask who answers on %s: %w", path, err)
	}
	if c.pid != 0 {
		// While it is connected the number is still its own.
		if c.fd, err = unix.PidfdOpen(c.pid, 0); err != nil {
			return nil, fmt.Errorf("watch process %d: %w", c.pid, err)
		}
	}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	return c, nil
}

// Close releases what Dial opened.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	if c.fd < 0 {
		return nil
	}
	return unix.Close(c.fd)
}

// Status asks what runs.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.do(ctx, http.MethodGet, "status", &s)
	return s, err
}

// Stats asks for every counter and gauge.
func (c *Client) Stats(ctx context.Context) (worker.Snapshot, error) {
	var s worker.Snapshot
	err := c.do(ctx, http.MethodGet, "stats", &s)
	return s, err
}

// Reload makes the master read its configuration again. The error is the
// master's reason why it stays with the old one.
func (c *Client) Reload(ctx context.Context) (warnings []string, err error) {
	var r result
	err = c.do(ctx, http.MethodPost, "reload", &r)
	return r.Warnings, err
}

// Quit makes the master end when the exchanges under way have. It does not wait
// for that: see Wait.
func (c *Client) Quit(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "quit", new(result))
}

// Stop makes the master end at once.
func (c *Client) Stop(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "stop", new(result))
}

// Wait returns when the master's process has ended.
func (c *Client) Wait(ctx context.Context) error {
	if c.fd < 0 {
		return errors.New("wait for the end of ringroad: its process is in another PID namespace; use --timeout 0s not to wait")
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(pollInterval/time.Millisecond))
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", c.pid, err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("process %d has not ended: %w", c.pid, context.Cause(ctx))
		}
	}
}

// do makes one request and decodes the answer into body.
func (c *Client) do(ctx context.Context, method, command string, body any) error {
	return c.ask(ctx, method, command, "", body)
}

// ask is do with a query.
func (c *Client) ask(ctx context.Context, method, command, query string, body any) error {
	resp, err := c.send(ctx, method, command, query)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("%s: read the answer of ringroad on %s: %w", command, c.path, err)
	}
	if resp.StatusCode/100 == 2 {
		if err := json.Unmarshal(b, body); err != nil {
			return fmt.Errorf("%s: read ringroad's answer: %w", command, err)
		}
		return nil
	}
	refusal, ok := body.(*result) // for its warnings
	if !ok {
		refusal = new(result)
	}
	return c.refused(command, resp.Status, b, refusal)
}

// send makes one request. The answer's body is the caller's to close.
func (c *Client) send(ctx context.Context, method, command, query string) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "ringroad", Path: "/" + command, RawQuery: query}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // the address in it means nothing
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("%s: %w: nobody answers on %s any more", command, ErrEnded, c.path)
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) || errors.Is(context.Cause(ctx), ErrSilent) {
			return nil, fmt.Errorf("%s: ask ringroad on %s: %s is busy, stopped, or another program: %w", command, c.path, c.answering(), err)
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: ask ringroad on %s: %w", command, c.path, err)
		}
		return nil, fmt.Errorf("%s: ask ringroad on %s: %w: unless it ended just now, %s is another program: --control wants the socket of a ringroad that runs",
			command, c.path, err, c.answering())
	}
	return resp, nil
}

// answering names the process that has the socket.
func (c *Client) answering() string {
	if c.pid == 0 {
		return "what answers there" // its process is in another PID namespace
	}
	return fmt.Sprintf("process %d, which answers there,", c.pid)
}

// refused is the error that an answer tells of.
func (c *Client) refused(command, status string, body []byte, r *result) error {
	if err := json.Unmarshal(body, r); err == nil && r.Error != "" {
		return errors.New(r.Error)
	}
	return fmt.Errorf("%s: ringroad answers %s: is it another version, or another program, on %s?", command, status, c.path)
}
