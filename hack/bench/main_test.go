package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab"
)

func TestMain(m *testing.M) {
	lab.Child()
	generatorChild()
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	o, err := parse(nil)
	if err != nil || len(o.cases) != len(cases) || o.rounds != 3 || !o.latency || strings.Join(o.candidates, ",") != "direct,nginx,haproxy,ringroad" {
		t.Errorf("%+v, %v", o, err)
	}
	o, err = parse([]string{"-quick", "-r", "2", "-candidates", "base,ringroad"})
	if err != nil || o.rounds != 2 || o.duration != 2*time.Second || o.latency || len(o.cases) == 0 || len(o.cases) == len(cases) {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = parse([]string{"-quick"}); err != nil || o.estimate() > 3*time.Minute {
		t.Errorf("-quick takes %v, %v", o.estimate(), err)
	}
	o, err = parse([]string{"-cases", "close,c1", "-candidates", "ringroad"})
	if err != nil || len(o.cases) != 2 || o.cases[0].name != "close" {
		t.Errorf("%+v, %v", o, err)
	}
	if got := strings.Join(o.of(o.cases[1]), ","); got != "ringroad,ringroad-spin" {
		t.Errorf("c1 is measured with %s", got)
	}
	for _, args := range []string{
		"-cases=none", "-cases=c1,", "-candidates=apache", "-candidates=", "-r=-1", "-d=0s", "-d=1500ms", "more", "-keep=../x", "-keep=.x", "-limit=x",
	} {
		if _, err := parse([]string{args}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// TestCasesAreSound: what the table says must be possible.
func TestCasesAreSound(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range cases {
		if seen[k.name] || k.name != filepath.Base(k.name) || strings.ContainsAny(k.name, ", ") || k.about == "" {
			t.Errorf("case %q, %q", k.name, k.about)
		}
		seen[k.name] = true
		for _, g := range k.targets {
			if g.limit <= 0 || g.absolute != (g.metric.unit != "") {
				t.Errorf("%s: target %+v of %s", k.name, g, g.metric.name)
			}
			if g.candidate == ringroadSpin && !k.spin {
				t.Errorf("%s: its target needs ringroad-spin", k.name)
			}
		}
		// A process may open 20,000 files here, and a proxy on the kernel's TCP needs two for a client.
		if k.clients() > 9000 || k.idle > 9900 {
			t.Errorf("%s: HAProxy cannot have so many connections", k.name)
		}
		if k.chunked && k.upload%uploadChunkBytes != 0 {
			t.Errorf("%s: %d bytes are no whole chunks", k.name, k.upload)
		}
	}
}
