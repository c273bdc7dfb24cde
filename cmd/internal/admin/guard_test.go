package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"ringroad/cmd/internal/admin"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy/config"
)

// TestPagesOfOthersAreRefused: what a browser may be made to send does not reach the
// endpoint on loopback, whatever user runs it.
func TestPagesOfOthersAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	loopback := config.AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:0")}
	anywhere := config.AdminAddress{TCP: netip.MustParseAddrPort("0.0.0.0:0")}
	socket := config.AdminAddress{Path: path}
	for _, tt := range []struct {
		name    string
		address config.AdminAddress
		method  string
		host    string
		fields  string
		status  int
	}{
		{"address", loopback, "GET", "127.0.0.1:9901", "", 200},
		{"IPv6 address", loopback, "GET", "[::1]:9901", "", 200},
		{"address without port", loopback, "GET", "127.0.0.1", "", 200},
		{"localhost", loopback, "GET", "LOCALHOST:9901", "", 200},
		{"name below localhost", loopback, "GET", "a.localhost", "", 200},
		{"opened by hand", loopback, "GET", "localhost:9901", "Sec-Fetch-Site: none\r\n", 200},
		{"rebound name", loopback, "GET", "evil.example:9901", "", 403},
		{"rebound name, same origin", loopback, "GET", "evil.example", "Sec-Fetch-Site: same-origin\r\n", 403},
		{"name like an address", loopback, "GET", "127.0.0.1.evil.example", "", 403},
		{"name like localhost", loopback, "GET", "localhost.evil.example", "", 403},
		{"image of another site", loopback, "GET", "127.0.0.1:9901", "Sec-Fetch-Site: cross-site\r\n", 403},
		{"page of another port", loopback, "GET", "127.0.0.1:9901", "Sec-Fetch-Site: same-site\r\n", 403},
		{"script of another origin", loopback, "GET", "127.0.0.1:9901", "Origin: http://evil.example\r\n", 403},
		{"sandboxed page", loopback, "GET", "127.0.0.1:9901", "Origin: null\r\n", 403},
		{"form of another site", loopback, "POST", "127.0.0.1:9901", "Origin: http://evil.example\r\nContent-Length: 0\r\n", 403},
		{"preflight", loopback, "OPTIONS", "127.0.0.1:9901", "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n", 403},
		{"own name on another address", anywhere, "GET", "proxy.example:9901", "", 200},
		{"image of another site there", anywhere, "GET", "proxy.example:9901", "Sec-Fetch-Site: cross-site\r\n", 403},
		{"any name by a socket", socket, "GET", "ringroad", "", 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := admin.Serve(admin.Options{
				Addr: tt.address, Log: slog.New(slog.DiscardHandler),
				Source: func() (worker.Snapshot, bool) { return worker.Snapshot{}, true },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c, err := new(net.Dialer).DialContext(context.Background(), s.Addr().Network(), s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := fmt.Fprintf(c, "%s /status HTTP/1.1\r\nHost: %s\r\n%s\r\n", tt.method, tt.host, tt.fields); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.status || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %v, want %d", resp.Status, resp.Header, tt.status)
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: another origin may read the answer", name)
				}
			}
		})
	}
}

// TestNothingCommandsByTheAdminEndpoint: what the control socket does is not to be had
// here, nor are profiles unless the configuration permits them.
func TestNothingCommandsByTheAdminEndpoint(t *testing.T) {
	s, err := admin.Serve(admin.Options{
		Addr: config.AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:0")}, Log: slog.New(slog.DiscardHandler),
		Source: func() (worker.Snapshot, bool) { return worker.Snapshot{}, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, what := range []string{
		"POST /reload", "POST /quit", "POST /stop", "GET /capture", "DELETE /capture", "GET /trace", "DELETE /trace",
		"GET /connections", "GET /stats", "GET /debug/pprof/", "GET /debug/pprof/profile", "GET /debug/pprof/cmdline",
		"GET /debug/pprof/worker/0/heap", "POST /status", "POST /metrics", "DELETE /healthz", "PUT /status",
	} {
		method, path, _ := strings.Cut(what, " ")
		req, err := http.NewRequest(method, "http://"+s.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", what, resp.Status)
		}
	}
}
