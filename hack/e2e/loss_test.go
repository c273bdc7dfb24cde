package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
	"ringroad/hack/lab/faultlink"
)

// TestBodiesArriveIntactOverLossyWires loses one frame in a hundred in each direction, on the client's side and on the backend's.
func TestBodiesArriveIntactOverLossyWires(t *testing.T) {
	t.Parallel()
	const loss = 0.01
	for _, c := range []struct {
		name    string
		options lab.Options
	}{
		{"client side", lab.Options{ClientFault: &faultlink.Options{Loss: loss, Seed: 1}}},
		{"backend side", lab.Options{BackendFault: &faultlink.Options{Loss: loss, Seed: 2}}},
		{"both sides", lab.Options{ClientFault: &faultlink.Options{Loss: loss, Seed: 3}, BackendFault: &faultlink.Options{Loss: loss, Seed: 4}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := lab.Up(c.options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			})
			r := startIn(t, l, bothFamilies)
			families(t, func(t *testing.T, _, goServer string) { moveBodies(t, httpClient(t, l), "http://"+goServer, mib, 4) })
			if stats(t, r)["stack.retransmits"] == 0 {
				t.Error("nothing had to be sent again: the wire lost nothing")
			}
		})
	}
}

// moveBodies gets and puts bodies of a size several times.
func moveBodies(t *testing.T, c *http.Client, url string, size int64, rounds int) {
	t.Helper()
	body, err := io.ReadAll(backend.Body("bytes", size))
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := backend.Sum(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		for _, query := range []string{"", "?chunked"} {
			resp, got := get(t, c, fmt.Sprintf("%s/bytes/%d%s", url, size, query))
			if resp.StatusCode != 200 || got != string(body) {
				t.Errorf("download %d%s: %s, %d bytes that differ", i+1, query, resp.Status, len(got))
			}
		}
		for _, upload := range []io.Reader{bytes.NewReader(body), io.MultiReader(bytes.NewReader(body))} { // the second goes in chunks
			_, answer := fetch(t, c, request(t, http.MethodPut, url+"/digest", upload))
			var d backend.Digest
			if err := json.Unmarshal([]byte(answer), &d); err != nil || d.SHA256 != want {
				t.Errorf("upload %d: the backend answered %q, %v", i+1, answer, err)
			}
		}
	}
}
