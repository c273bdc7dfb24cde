package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/feed"
	"ringroad/cmd/internal/trace"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy"
)

const (
	readTimeout  = 5 * time.Second
	headerBytes  = 8 << 10
	closeTimeout = time.Second
)

// Master is what the commands act on. Its methods may be called from any
// goroutine, several at a time.
type Master interface {
	// Reload returns when every worker has the new configuration, or none. The
	// warnings are about what it asks for and cannot have.
	Reload(ctx context.Context) (warnings []string, err error)
	Quit() // ends when the exchanges under way have; returns at once
	Stop() // ends at once; returns before
	Status() (Status, error)
	Stats() (worker.Snapshot, error) // disturbs no worker
	// Connections asks every worker. The query has passed its Check.
	Connections(q proxy.Query) (Connections, error)
	// Capture writes the frames that pass until ctx is done or StopCapture is
	// called. It has written nothing when it could not start.
	Capture(ctx context.Context, o capture.Options, out feed.Output) error
	StopCapture() (running bool)
	// Trace writes the time lines of requests, as Capture does frames.
	Trace(ctx context.Context, o trace.Options, out feed.Output) error
	StopTrace() (running bool)
}

// Server answers commands. Close ends it.
type Server struct {
	http     *http.Server
	listener net.Listener
	cancel   context.CancelFunc
}

// result is what all but /status answer, when it is no feed.
type result struct {
	Warnings []string `json:"warnings,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// Serve answers what comes on a listener, on goroutines of its own. It closes
// the listener.
func Serve(l net.Listener, m Master, log *slog.Logger) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	h := handler{m, log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { read(h, w, m.Status) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { read(h, w, m.Stats) })
	mux.HandleFunc("GET /connections", h.connections())
	mux.HandleFunc("POST /reload", h.reload(ctx))
	mux.HandleFunc("POST /quit", h.end("quit", m.Quit))
	mux.HandleFunc("POST /stop", h.end("stop", m.Stop))
	mux.HandleFunc("GET /capture", feedOf(ctx, h, "application/x-pcapng", capture.ParseQuery, m.Capture))
	mux.HandleFunc("DELETE /capture", h.stopFeed("capture", m.StopCapture))
	mux.HandleFunc("GET /trace", feedOf(ctx, h, "application/x-ndjson", trace.ParseQuery, m.Trace))
	mux.HandleFunc("DELETE /trace", h.stopFeed("trace", m.StopTrace))
	s := &Server{cancel: cancel, listener: l, http: &http.Server{
		Handler: mux, ReadTimeout: readTimeout, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket ended: commands no longer reach this process, signals do", "error", err)
		}
	}()
	return s
}

// Close removes the socket and ends what is under way, after a moment for
// answers that are being written.
func (s *Server) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = s.http.Close()
	}
	// Serve may not have come to know the listener yet.
	if closeErr := s.listener.Close(); !errors.Is(closeErr, net.ErrClosed) {
		err = errors.Join(err, closeErr)
	}
	return err
}

type handler struct {
	master Master
	log    *slog.Logger
}

// read answers with what the master says of itself.
func read[T any](h handler, w http.ResponseWriter, ask func() (T, error)) {
	s, err := ask()
	if err != nil {
		h.reply(w, http.StatusServiceUnavailable, result{Error: err.Error()})
		return
	}
	h.reply(w, http.StatusOK, s)
}

// reload goes on when the client goes away: ctx is the server's.
func (h handler) reload(ctx context.Context) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		warnings, err := h.master.Reload(ctx)
		if err != nil {
			h.reply(w, http.StatusUnprocessableEntity, result{Warnings: warnings, Error: err.Error()})
			return
		}
		h.reply(w, http.StatusOK, result{Warnings: warnings})
	}
}

// end answers before it acts, since the process may be gone right after.
func (h handler) end(name string, act func()) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h.log.Info("asked to end by the control socket", "command", name)
		h.reply(w, http.StatusAccepted, result{})
		if err := http.NewResponseController(w).Flush(); err != nil {
			h.log.Debug("answer a command", "error", err)
		}
		act()
	}
}

func (h handler) reply(w http.ResponseWriter, code int, body any) {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		http.Error(w, fmt.Sprintf("encode the answer: %v", err), http.StatusInternalServerError)
		return
	}
	b = append(b, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b))) // complete once it is flushed
	w.WriteHeader(code)
	if _, err := w.Write(b); err != nil {
		h.log.Debug("answer a command", "error", err)
	}
}
