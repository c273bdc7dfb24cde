package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
)

// TestRequestReachesTheBackendAsItShould looks at what a backend gets.
func TestRequestReachesTheBackendAsItShould(t *testing.T) {
	start(t, bothFamilies)
	families(t, func(t *testing.T, _, goServer string) {
		r := request(t, http.MethodPost, "http://"+goServer+"/request?a=%20b&c", strings.NewReader("body"))
		r.Host = "www.example.org:8000"
		r.Header = http.Header{
			"X-Kept": {"1", "2"}, "Connection": {"x-hop"}, "X-Hop": {"gone"}, "Keep-Alive": {"timeout=5"},
			"X-Forwarded-For": {"192.0.2.7"}, "User-Agent": {"e2e"},
		}
		_, answer := fetch(t, httpClient(t, shared), r)
		var got backend.Request
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
		client := lab.Client4
		if strings.HasPrefix(goServer, "[") {
			client = lab.Client6
		}
		if got.Method != "POST" || got.Target != "/request?a=%20b&c" || got.Proto != "HTTP/1.1" || got.Host != "www.example.org:8000" || got.Length != 4 {
			t.Errorf("the backend got %+v", got)
		}
		for name, want := range map[string]string{
			"X-Kept": "1|2", "X-Hop": "", "Keep-Alive": "", "X-Forwarded-For": "192.0.2.7, " + client.String(),
			"X-Forwarded-Proto": "http", "X-Forwarded-Host": "www.example.org:8000", "Via": "", "User-Agent": "e2e",
		} {
			if v := strings.Join(got.Header.Values(name), "|"); v != want {
				t.Errorf("%s: %q, want %q", name, v, want)
			}
		}
	})
}

func TestBackendConnectionsAreReused(t *testing.T) {
	start(t, bothFamilies)
	// A new client connection each time, one backend connection for all of them.
	seen := map[string]bool{}
	for range 10 {
		resp, _ := get(t, httpClient(t, shared), "http://"+go4+"/empty")
		seen[resp.Header.Get("X-Backend-Connection")] = true
	}
	if len(seen) != 1 {
		t.Errorf("ten requests in turn came over %d connections", len(seen))
	}
}

func TestResponsesWithoutBody(t *testing.T) {
	start(t, bothFamilies)
	c := httpClient(t, shared)
	for _, status := range []int{200, 204, 304} {
		resp, body := get(t, c, fmt.Sprintf("http://%s/status/%d", go4, status))
		if resp.StatusCode != status || body != "" {
			t.Errorf("%d: got %s, %q", status, resp.Status, body)
		}
	}
	resp, body := fetch(t, c, request(t, http.MethodHead, "http://"+go4+"/bytes/5000", nil))
	if resp.StatusCode != 200 || resp.ContentLength != 5000 || body != "" {
		t.Errorf("HEAD: got %s, length %d, %q", resp.Status, resp.ContentLength, body)
	}
	// The connection is still in step.
	if resp, body := get(t, c, "http://"+go4+"/"); resp.StatusCode != 200 || body != hello {
		t.Errorf("afterwards: %s, %q", resp.Status, body)
	}
}

func TestTrailersPass(t *testing.T) {
	start(t, bothFamilies)
	resp, body := get(t, httpClient(t, shared), "http://"+go4+"/trailer")
	if body != "body with a trailer\n" || resp.Trailer.Get("X-Sum") != "55555555" {
		t.Errorf("body %q, trailer %v", body, resp.Trailer)
	}
}

// TestPipelinedRequestsAreAnsweredInOrder sends several requests in one segment and one request in many.
func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	start(t, bothFamilies)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := shared.Client.Dial(ctx, "tcp", go4)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const n = 20
	var requests strings.Builder
	for i := range n {
		fmt.Fprintf(&requests, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%4d", i)
	}
	go func() {
		half := requests.Len() / 2
		_, _ = io.WriteString(c, requests.String()[:half])
		for _, b := range []byte(requests.String()[half:]) {
			_, _ = c.Write([]byte{b})
		}
	}()
	in := bufio.NewReader(c)
	for i := range n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("response %d: %v", i, err)
		}
		b, err := io.ReadAll(resp.Body)
		if want := fmt.Sprintf("%4d", i); err != nil || string(b) != want {
			t.Fatalf("response %d: %q, %v", i, b, err)
		}
	}
}

func TestBadRequestIsRefused(t *testing.T) {
	start(t, bothFamilies)
	for _, bad := range []string{"nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		c, err := shared.Client.Dial(ctx, "tcp", nginx4)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, bad); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c) // to the end: the connection is closed
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
			t.Errorf("%q: answered %q, %v", bad, answer, err)
		}
	}
}

// brokenBackends has upstreams that fail in every way, and short timeouts.
const brokenBackends = `interfaces: [e0, e1]
listeners:
  - {address: "10.1.0.1:80", upstream: refusing}
  - {address: "10.1.0.1:81", upstream: go}
  - {address: "10.1.0.1:82", upstream: absent}
  - {address: "10.1.0.1:83", upstream: half}
upstreams:
  refusing: {servers: ["10.2.0.2:9999"]}
  go: {servers: ["10.2.0.2:8081"]}
  absent: {servers: ["10.2.0.77:8080"]}
  half: {servers: ["10.2.0.2:9999", "10.2.0.2:8080"]}
timeouts: {connect: 1s, backend_read: 1s}
log: {access: off}
`

// TestUnreachableBackendIsAnsweredForNotHungOn wants 502 or 504 within the timeouts that are set.
func TestUnreachableBackendIsAnsweredForNotHungOn(t *testing.T) {
	start(t, brokenBackends)
	for _, c := range []struct {
		name, url string
		status    []int
	}{
		{"refuses", "http://10.1.0.1:80/", []int{502}},
		{"no such host", "http://10.1.0.1:82/", []int{502, 504}},
		{"never answers", "http://10.1.0.1:81/slow?header=30s", []int{504}},
		{"closes before it answers", "http://10.1.0.1:81/close", []int{502}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := httpClient(t, shared)
			client.Timeout = 10 * time.Second
			resp, body := get(t, client, c.url)
			ok := false
			for _, s := range c.status {
				ok = ok || resp.StatusCode == s
			}
			if !ok || body == "" {
				t.Errorf("got %s, %q, want one of %v and a page", resp.Status, body, c.status)
			}
			// The client's connection is worth keeping, and the proxy as a whole unimpressed.
			if resp, body := get(t, client, "http://10.1.0.1:81/"); resp.StatusCode != 200 || body != hello {
				t.Errorf("afterwards: %s, %q", resp.Status, body)
			}
		})
	}
	t.Run("the host comes", func(t *testing.T) {
		address := func(f func(netlink.Link, *netlink.Addr) error) {
			change(t, shared.Backend, "b0", func(l netlink.Link) error {
				return f(l, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 2, 0, 77), Mask: net.CIDRMask(24, 32)}})
			})
		}
		address(netlink.AddrAdd)
		defer address(netlink.AddrDel)
		ln, err := shared.Backend.Listen("tcp", "10.2.0.77:8080")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: backend.Handler("")}
		defer server.Close()
		go server.Serve(ln) //nolint:errcheck // ends when it is closed
		soon(t, shared, "http://10.1.0.1:82/")
	})
	t.Run("the other one answers", func(t *testing.T) {
		for range 10 {
			if resp, body := get(t, httpClient(t, shared), "http://10.1.0.1:83/"); resp.StatusCode != 200 || body != hello {
				t.Errorf("got %s, %q", resp.Status, body)
			}
		}
	})
	t.Run("breaks off", func(t *testing.T) {
		// A response that was cut short must not look whole.
		resp, err := httpClient(t, shared).Do(request(t, http.MethodGet, "http://10.1.0.1:81/close?after=100000", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err == nil || n > 100000 {
			t.Errorf("got %d bytes and %v, want an unexpected end or a reset", n, err)
		}
	})
}

func TestAccessLogIsInCombinedFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	r := start(t, strings.Replace(bothFamilies, "access: off", "access: "+path, 1))
	req := request(t, http.MethodGet, "http://"+nginx4+"/?q=\"1\"", nil)
	req.Header.Set("Referer", "http://example.org/")
	req.Header.Set("User-Agent", "e2e \"quoted\"")
	fetch(t, httpClient(t, shared), req)
	get(t, httpClient(t, shared), "http://"+nginx6+"/nowhere")
	r.Stop(stopLimit)
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mustMatch(t, string(log),
		`(?m)^10\.1\.0\.2 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /\?q=\S+ HTTP/1\.1" 200 12 "http://example\.org/" "e2e \\x22quoted\\x22"$`,
		`(?m)^fd00:1::2 - - \[[^]]+\] "GET /nowhere HTTP/1\.1" 404 \d+ "-" "Go-http-client/1\.1"$`)
}
