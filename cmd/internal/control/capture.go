package control

import (
	"context"
	"io"
	"net/http"
	"time"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/feed"
)

// Capture starts a capture. What it returns is pcapng, for [capture.Copy]; closing it
// ends the capture without its statistics, StopCapture with them.
func (c *Client) Capture(ctx context.Context, o capture.Options) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, "capture", o.Query().Encode())
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
	return nil, c.refused("capture", resp.Status, b, new(result))
}

// StopCapture ends the capture that is running, whoever began it.
func (c *Client) StopCapture(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "capture", new(result))
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

// capture ends when the client goes away, or with the server, whose context ctx is.
func (h handler) capture(ctx context.Context) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := capture.ParseQuery(r.URL.Query())
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
		w.Header().Set("Content-Type", "application/x-pcapng")
		w.Header().Set("Connection", "close") // it has a deadline by then
		switch err := h.master.Capture(of, o, s); {
		case err == nil:
		case !s.began:
			h.reply(w, http.StatusConflict, result{Error: err.Error()})
		default:
			h.log.Info("the capture's client does not read any more", "error", err)
		}
	}
}

func (h handler) stopCapture(w http.ResponseWriter, _ *http.Request) {
	if !h.master.StopCapture() {
		h.reply(w, http.StatusNotFound, result{Error: "no capture is running"})
		return
	}
	h.reply(w, http.StatusOK, result{})
}
