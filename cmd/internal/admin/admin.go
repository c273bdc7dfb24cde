// Package admin serves the state of a running ringroad over HTTP, on the
// kernel's own stack, by TCP or on a unix socket:
//
//	/healthz           200 while all workers serve, 503 otherwise
//	/status            every counter and gauge as JSON
//	/metrics           the same for Prometheus
//	/debug/pprof/...   profiles, if it is permitted
//
// Requests that a browser sends for somebody else's page are refused (guard).
//
// It only reads, from the pages that the workers show: nothing it does can disturb a
// loop.
package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy/config"
)

const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	headerBytes  = 8 << 10
	scrapes      = 4 // at a time
)

// Source gives a snapshot, and false when a worker does not serve. When ringroad is
// about to end, that is the zero one.
type Source func() (worker.Snapshot, bool)

// Server is the endpoint. Close ends it.
type Server struct {
	http     *http.Server
	listener net.Listener
}

// Options say where the endpoint is and where it has things from.
type Options struct {
	Addr    config.AdminAddress
	Source  Source
	Profile Profiler // nil: no profiles
	Log     *slog.Logger
}

// Serve listens and answers on goroutines of its own.
func Serve(o Options) (*Server, error) {
	source, log := o.Source, o.Log
	l, err := listen(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("serve the admin endpoint: %w; choose another address with admin, or off", err)
	}
	if a := o.Addr.TCP.Addr(); a.IsValid() && !a.IsLoopback() {
		log.Warn("the admin endpoint is open to everybody who can reach its address, without a password: "+
			"use a loopback address or unix:PATH, or keep others out", "admin", o.Addr.String(), "profiles", o.Profile != nil)
	}
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	mux := http.NewServeMux()
	registry := prometheus.NewRegistry() // tests check what a pedantic one would at every scrape
	registry.MustRegister(newMetrics(source))
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: errorLog, MaxRequestsInFlight: scrapes,
		DisableCompression: true, // it took more of the processor than anything else of a scrape
	}))
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
	if o.Profile != nil {
		profiles(mux, o.Profile, log)
	}
	s := &Server{listener: l, http: &http.Server{
		Handler: guard(mux, o.Addr, log), ReadTimeout: readTimeout, WriteTimeout: writeTimeout, MaxHeaderBytes: headerBytes,
		ErrorLog: errorLog,
	}}
	go func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the admin endpoint ended", "error", err)
		}
	}()
	return s, nil
}

// socketMode lets the group open the endpoint too: a Prometheus that runs as a user of
// its own can be put into it.
const socketMode = 0o660

func listen(a config.AdminAddress) (net.Listener, error) {
	if a.Path != "" {
		return control.ListenUnix(a.Path, socketMode, "name another one with admin: unix:PATH")
	}
	return net.Listen("tcp", a.TCP.String())
}

// Addr is where the endpoint listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close ends the endpoint at once.
func (s *Server) Close() error { return s.http.Close() }
