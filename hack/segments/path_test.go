//go:build segments

package segments

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
)

// TestPathMTUIsDiscovered has a client and a backend behind routers whose next link takes less than ours: each tells so by ICMP, to
// which ringroad's TCP has to listen and the kernel's must not.
func TestPathMTUIsDiscovered(t *testing.T) {
	const size = 300_000
	for _, r := range []struct {
		n    *lab.Namespace
		link string
	}{{shared.Client, "r8"}, {shared.Backend, "r9"}} {
		err := r.n.Do(func() error {
			l, err := netlink.LinkByName(r.link)
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(l, 1300)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{"10.9.0.2", "fd00:9::2"} {
		ln, err := farBackend.Listen("tcp", net.JoinHostPort(a, "8080"))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sum, n, err := backend.Sum(r.Body)
			if err == nil {
				fmt.Fprint(w, n, " ", sum)
			}
		})}
		go s.Serve(ln) //nolint:errcheck // ends by Close
		t.Cleanup(func() { s.Close() })
	}
	before := kernelTCP(t)
	body, err := io.ReadAll(backend.Body("bytes", size))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"10.1.0.1", "[fd00:1::1]"} {
		if got, err := fetch(farClient, http.MethodGet, fmt.Sprintf("http://%s:81/bytes/%d", a, size), nil); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: the client behind a router got %d bytes (%v), not the %d of the body", a, len(got), err, size)
		}
		port := 82
		if a != "10.1.0.1" {
			port = 83
		}
		want := fmt.Sprintf("%d %x", size, sha256.Sum256(body))
		if got, err := fetch(shared.Client, http.MethodPost, fmt.Sprintf("http://%s:%d/", a, port), body); err != nil || string(got) != want {
			t.Errorf("%s: the backend behind a router got %s (%v), not %s", a, got, err, want)
		}
	}
	if moved := kernelTCP(t).Moved(before); len(moved) != 0 {
		t.Errorf("the kernel's TCP in the edge counted %v", moved)
	}
}

// fetch performs a request from a namespace and returns the body of the response.
func fetch(from *lab.Namespace, method, url string, body []byte) ([]byte, error) {
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return from.Dial(ctx, network, address)
		},
	}}
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	a, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	return io.ReadAll(a.Body)
}
