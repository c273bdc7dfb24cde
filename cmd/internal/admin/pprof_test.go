package admin

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"ringroad/cmd/internal/worker"
	"ringroad/proxy/config"
)

func TestProfilesOfWorkers(t *testing.T) {
	var asked []worker.Profile
	profile := func(index int, p worker.Profile) (io.ReadCloser, error) {
		if index != 1 {
			return nil, errors.New("worker does not serve")
		}
		asked = append(asked, p)
		if p.Name == "unknown" {
			return io.NopCloser(strings.NewReader("")), nil
		}
		return io.NopCloser(strings.NewReader("bytes of " + p.Name)), nil
	}
	get := func(profile Profiler, path string) (int, string) {
		t.Helper()
		s, err := Serve(Options{
			Addr: config.AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:0")}, Profile: profile, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
			Source: func() (worker.Snapshot, bool) { return full(), true },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil))
		return w.Code, w.Body.String()
	}
	for path, want := range map[string]int{
		"/debug/pprof/worker/1/profile?seconds=7":    200,
		"/debug/pprof/worker/1/heap":                 200,
		"/debug/pprof/worker/1/heap?gc=1":            200,
		"/debug/pprof/worker/1/unknown":              404,
		"/debug/pprof/worker/one/heap":               404,
		"/debug/pprof/worker/2/heap":                 503,
		"/debug/pprof/worker/1/profile?seconds=0":    400,
		"/debug/pprof/worker/1/profile?seconds=9999": 400,
		"/debug/pprof/goroutine?debug=1":             200,
	} {
		asked = nil
		status, body := get(profile, path)
		if status != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
		if strings.Contains(path, "seconds=7") && (len(asked) != 1 || asked[0] != worker.Profile{Name: worker.CPUProfile, Seconds: 7} || body != "bytes of profile") {
			t.Errorf("asked for %v, got %q", asked, body)
		}
		if strings.Contains(path, "1/heap") && (len(asked) != 1 || asked[0].Collect != strings.HasSuffix(path, "gc=1")) {
			t.Errorf("%s: asked for %v", path, asked)
		}
		if status, _ := get(nil, path); status != 404 {
			t.Errorf("%s without pprof: %d", path, status)
		}
	}
}
