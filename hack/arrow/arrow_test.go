package arrow

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers from the bottom up: a package may import only what stands before its own layer, or its own.
var layers = []string{"bpf", "dataplane", "stack", "proxy", "cmd"}

// outside says which layers may import a module from outside. Tests may import what they like, but for netstack.
var outside = []struct {
	prefix string
	layers []string
}{
	{"gvisor.dev/gvisor", []string{"stack"}},
	{"golang.org/x/sys", []string{"bpf", "dataplane", "cmd"}},
	{"github.com/cilium/ebpf", []string{"bpf", "dataplane", "cmd"}},
	{"github.com/asavie/xdp", []string{"bpf", "dataplane", "cmd"}},
	{"github.com/vishvananda", []string{"bpf", "dataplane", "cmd"}},
}

const module = "ringroad/"

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range list(t) {
		for _, imported := range p.Imports {
			if why := refused(p.ImportPath, imported); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, why)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if !strings.HasPrefix(imported, module) && !strings.HasPrefix(imported, "gvisor.dev/") {
				continue
			}
			if why := refused(p.ImportPath, imported); why != "" {
				t.Errorf("a test of %s imports %s: %s", p.ImportPath, imported, why)
			}
		}
	}
}

// refused says why a package may not import another, or "".
func refused(importer, imported string) string {
	from := layerOf(importer)
	if from == "hack" {
		return ""
	}
	rank := slices.Index(layers, from)
	if rank < 0 {
		return "it belongs to no layer"
	}
	if strings.HasPrefix(imported, module) {
		to := layerOf(imported)
		switch toRank := slices.Index(layers, to); {
		case to == "hack":
			return "nothing imports hack"
		case toRank < 0:
			return "that belongs to no layer"
		case toRank > rank:
			return "the arrow is cmd -> proxy -> stack -> dataplane -> bpf"
		case from == "proxy" && toRank < slices.Index(layers, "stack"):
			return "proxy speaks to stack alone"
		}
	}
	for _, o := range outside {
		if strings.HasPrefix(imported, o.prefix) && !slices.Contains(o.layers, from) {
			return "only " + strings.Join(o.layers, ", ") + " may"
		}
	}
	return ""
}

func layerOf(path string) string {
	// Where the build is guided by a profile, a package has variants: "PATH [MAIN]".
	path, _, _ = strings.Cut(path, " ")
	layer, _, _ := strings.Cut(strings.TrimPrefix(path, module), "/")
	return layer
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		importer, imported string
		allowed            bool
	}{
		{"ringroad/cmd/ringroad", "ringroad/proxy/config", true},
		{"ringroad/cmd/ringroad", "ringroad/proxy [ringroad/cmd/ringroad]", true},
		{"ringroad/cmd/ringroad", "ringroad/hack/lab [ringroad/cmd/ringroad]", false},
		{"ringroad/proxy", "ringroad/stack", true},
		{"ringroad/proxy", "ringroad/proxy/http1", true},
		{"ringroad/proxy", "ringroad/dataplane", false},
		{"ringroad/stack", "ringroad/proxy", false},
		{"ringroad/bpf", "ringroad/dataplane", false},
		{"ringroad/cmd/ringroad", "ringroad/hack/lab", false},
		{"ringroad/hack/e2e", "ringroad/cmd/ringroad", true},
		{"ringroad/dataplane", "gvisor.dev/gvisor/pkg/tcpip", false},
		{"ringroad/stack", "gvisor.dev/gvisor/pkg/tcpip", true},
		{"ringroad/stack", "golang.org/x/sys/unix", false},
		{"ringroad/dataplane", "github.com/asavie/xdp", true},
		{"ringroad/internal/thing", "ringroad/bpf", false},
		{"ringroad/proxy", "net/netip", true},
	} {
		if why := refused(c.importer, c.imported); (why == "") != c.allowed {
			t.Errorf("%s -> %s: allowed %v, refused because %q", c.importer, c.imported, c.allowed, why)
		}
	}
}

func list(t *testing.T) []goPackage {
	t.Helper()
	c := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", module+"...")
	c.Stderr = new(bytes.Buffer)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, c.Stderr)
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 3 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	return packages
}
