package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/cmd/internal/admin"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy/config"
)

func TestServe(t *testing.T) {
	var stuck atomic.Bool
	source := func() (worker.Snapshot, bool) {
		return worker.Snapshot{Proxy: map[string]uint64{"requests": 7}}, !stuck.Load()
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := admin.Serve(admin.Options{Addr: config.AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:0")}, Source: source, Log: log})
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
	if _, err := admin.Serve(admin.Options{Addr: config.AdminAddress{TCP: netip.MustParseAddrPort(s.Addr().String())}, Source: source, Log: log}); err == nil || !strings.Contains(err.Error(), "admin") {
		t.Errorf("address in use: %v", err)
	}
}

// TestUnixSocket: several ask at once by a socket that the group may open, too; one
// that a killed process left is replaced, one in use is not.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	var warned bytes.Buffer
	options := admin.Options{
		Addr: config.AdminAddress{Path: path}, Log: slog.New(slog.NewTextHandler(&warned, nil)),
		Source: func() (worker.Snapshot, bool) { return worker.Snapshot{Time: time.Unix(1, 0)}, true },
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	s, err := admin.Serve(options)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := admin.Serve(options); err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "unix:PATH") {
		t.Errorf("in use: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	var asking sync.WaitGroup
	for range 4 { // so many at a time
		asking.Go(func() {
			resp, err := client.Get("http://ringroad/metrics")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s, %v", resp.Status, err)
			}
		})
	}
	asking.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if warned.Len() != 0 {
		t.Errorf("warned of a unix socket: %s", &warned)
	}
	options.Addr = config.AdminAddress{TCP: netip.MustParseAddrPort("0.0.0.0:0")}
	if s, err = admin.Serve(options); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !strings.Contains(warned.String(), "open to everybody") {
		t.Error("no warning of an endpoint that is open to everybody")
	}
}
