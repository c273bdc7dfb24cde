package admin

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"ringroad/cmd/internal/worker"
)

// Profiler has a worker make a profile, which is read to its end.
type Profiler func(index int, p worker.Profile) (io.ReadCloser, error)

const (
	defaultSeconds = 30 // as net/http/pprof has it
	maxSeconds     = 300
)

// profiles serves the master's profiles where net/http/pprof has them, and those of
// workers below.
func profiles(mux *http.ServeMux, profile Profiler, log *slog.Logger) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/worker/{worker}/{name}", func(w http.ResponseWriter, r *http.Request) {
		index, err := strconv.Atoi(r.PathValue("worker"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		p := worker.Profile{Name: r.PathValue("name")}
		p.Collect = p.Name == "heap" && r.FormValue("gc") == "1" // as net/http/pprof has it
		if p.Name == worker.CPUProfile {
			p.Seconds = defaultSeconds
			if s := r.FormValue("seconds"); s != "" {
				if p.Seconds, err = strconv.Atoi(s); err != nil || p.Seconds < 1 || p.Seconds > maxSeconds {
					http.Error(w, "seconds: want 1 to "+strconv.Itoa(maxSeconds), http.StatusBadRequest)
					return
				}
			}
		}
		in, err := profile(index, p)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer in.Close()
		limit := time.Now().Add(time.Duration(p.Seconds)*time.Second + writeTimeout)
		if err := http.NewResponseController(w).SetWriteDeadline(limit); err != nil {
			log.Debug("extend the time for a profile", "error", err)
		}
		// The status is only known when the first byte has come.
		first := make([]byte, 1)
		if _, err := io.ReadFull(in, first); err != nil {
			http.Error(w, "no such profile, or one is being taken", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if _, err = w.Write(first); err == nil {
			_, err = io.Copy(w, in)
		}
		if err != nil {
			log.Debug("write a profile", "error", err)
			panic(http.ErrAbortHandler) // what has been sent is not all
		}
	})
}
