// Package admin serves the state of a running ringroad over HTTP, on the
// kernel's own stack:
//
//	/healthz   200 while the worker's loop answers, 503 otherwise
//	/status    every counter and gauge as JSON
//
// It only reads. Nothing it does can disturb the loop for longer than taking
// one snapshot between two turns.
package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"ringroad/cmd/internal/worker"
)

const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	headerBytes  = 8 << 10
)

// Source gives a snapshot, or false when the loop does not answer in time.
type Source func() (worker.Snapshot, bool)

// Server is the endpoint. Close ends it.
type Server struct {
	http     *http.Server
	listener net.Listener
}

// Serve listens on addr and answers on goroutines of its own.
func Serve(addr netip.AddrPort, source Source, log *slog.Logger) (*Server, error) {
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("serve the admin endpoint: %w; choose another address with admin, or off", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, ok := source(); !ok {
			http.Error(w, "the worker does not answer", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		s, ok := source()
		if !ok {
			http.Error(w, "the worker does not answer", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(s); err != nil {
			log.Debug("write the status", "error", err)
		}
	})
	s := &Server{listener: l, http: &http.Server{
		Handler: mux, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin endpoint ended", "error", err)
		}
	}()
	return s, nil
}

// Addr is where the endpoint listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close ends the endpoint at once.
func (s *Server) Close() error { return s.http.Close() }
