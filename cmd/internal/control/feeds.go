package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/trace"
)

// Capture starts a capture. What it returns is pcapng, for [capture.Copy]; closing it
// ends the capture without its statistics, StopCapture with them.
func (c *Client) Capture(ctx context.Context, o capture.Options) (io.ReadCloser, error) {
	return c.feed(ctx, "capture", o.Query())
}

// StopCapture ends the capture that is running, whoever began it.
func (c *Client) StopCapture(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "capture", new(result))
}

// Trace starts a trace. What it returns is for [trace.Copy]; closing it ends the trace
// without its summary, StopTrace with it.
func (c *Client) Trace(ctx context.Context, o trace.Options) (io.ReadCloser, error) {
	return c.feed(ctx, "trace", o.Query())
}

// StopTrace ends the trace that is running, whoever began it.
func (c *Client) StopTrace(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "trace", new(result))
}

// feed starts a feed.
func (c *Client) feed(ctx context.Context, name string, query url.Values) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, name, query.Encode())
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, err
	}
	return nil, c.refused(name, resp.Status, b, new(result))
}

// stream is an answer without an end that is known.
type stream struct {
	w http.ResponseWriter
	*http.ResponseController
	began bool
}

var _ feed.Output = (*stream)(nil)

// Write implements feed.Output.
func (s *stream) Write(b []byte) (int, error) {
	s.began = true
	return s.w.Write(b)
}

// feedOf answers with a feed. It ends when the client goes away, or with the server,
// whose context ctx is.
func feedOf[Options any](ctx context.Context, h handler, kind string, parse func(url.Values) (Options, error),
	run func(context.Context, Options, feed.Output) error,
) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := parse(r.URL.Query())
		if err != nil {
			h.reply(w, http.StatusBadRequest, result{Error: err.Error()})
			return
		}
		s := &stream{w: w, ResponseController: http.NewResponseController(w)}
		// The request was read; what is awaited now is the client's end.
		if err := s.SetReadDeadline(time.Time{}); err != nil {
			h.log.Debug("answer a command", "error", err)
		}
		of, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Connection", "close") // it has a deadline by then
		switch err := run(of, o, s); {
		case err == nil:
		case !s.began:
			h.reply(w, http.StatusConflict, result{Error: err.Error()})
		default:
			h.log.Info("the client does not read any more", "command", r.URL.Path, "error", err)
		}
	}
}

// stopFeed ends the feed of a name.
func (h handler) stopFeed(name string, stop func() bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if !stop() {
			h.reply(w, http.StatusNotFound, result{Error: fmt.Sprintf("no %s is running", name)})
			return
		}
		h.reply(w, http.StatusOK, result{})
	}
}
