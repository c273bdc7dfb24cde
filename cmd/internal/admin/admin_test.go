package admin_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"ringroad/cmd/internal/admin"
	"ringroad/cmd/internal/worker"
)

func TestServe(t *testing.T) {
	var stuck atomic.Bool
	source := func() (worker.Snapshot, bool) {
		return worker.Snapshot{Proxy: map[string]uint64{"requests": 7}}, !stuck.Load()
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := admin.Serve(admin.Options{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Source: source, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, body := get("GET", "/healthz"); status != 200 || body != "ok\n" {
		t.Errorf("healthz: %d %q", status, body)
	}
	status, body := get("GET", "/status")
	var got worker.Snapshot
	if err := json.Unmarshal([]byte(body), &got); status != 200 || err != nil || got.Proxy["requests"] != 7 {
		t.Errorf("status: %d %v %q", status, err, body)
	}
	if status, _ := get("POST", "/status"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
	if status, _ := get("GET", "/"); status != http.StatusNotFound {
		t.Errorf("unknown path: %d", status)
	}
	stuck.Store(true)
	for _, path := range []string{"/healthz", "/status"} {
		if status, _ := get("GET", path); status != http.StatusServiceUnavailable {
			t.Errorf("%s of a stuck worker: %d", path, status)
		}
	}
	if _, err := admin.Serve(admin.Options{Addr: netip.MustParseAddrPort(s.Addr().String()), Source: source, Log: log}); err == nil || !strings.Contains(err.Error(), "admin") {
		t.Errorf("address in use: %v", err)
	}
}
