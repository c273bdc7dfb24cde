package proxy

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"ringroad/proxy/config"
	"ringroad/stack/stacktest"
)

// TestGivenPagesNeedNoFile: a worker that cannot open files serves what its master
// has read.
func TestGivenPagesNeedNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "404.html")
	withPages := func(c *config.Config) {
		c.ErrorPages = []config.ErrorPage{{Status: 404, File: file}, {Status: 500, File: file}}
		c.Listeners[1].ErrorPages = []config.ErrorPage{{Status: 404, File: file}}
		c.Listeners[0].Routes = []config.Route{{Host: "other", Upstream: "app"}}
	}
	c := newConfig(withPages)
	if _, err := ReadPages(c); err == nil {
		t.Error("a page without a file was read")
	}
	if err := os.WriteFile(file, []byte("<p>gone"), 0o600); err != nil {
		t.Fatal(err)
	}
	pages, err := ReadPages(c)
	if want := map[string][]byte{file: []byte("<p>gone")}; err != nil || !reflect.DeepEqual(pages, want) {
		t.Fatalf("read %q, %v", pages, err)
	}
	if none, err := ReadPages(newConfig(nil)); err != nil || none == nil {
		t.Errorf("without pages: %v, %v; want an empty map, so that no file is opened", none, err)
	}
	os.Remove(file) //nolint:errcheck // shows below
	if _, err := New(Options{Config: c, Stack: stacktest.New(t, nil).Stack, Pages: map[string][]byte{}}); err == nil {
		t.Error("a page that nobody read is no error")
	}
	r := newRig(t, nil)
	r.on(func() {
		re, err := r.worker.Prepare(r.variant(withPages), pages)
		if err != nil {
			t.Error(err)
			return
		}
		re.Commit()
	})
	client := r.dial()
	client.send(get("/"))
	if resp, b := client.response("GET"); resp.StatusCode != 404 || b != "<p>gone" || resp.Header.Get("Content-Type") != "text/html" {
		t.Errorf("got %d %q", resp.StatusCode, b)
	}
}
