package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTraceEndsByItself(t *testing.T) {
	path := serveMaster(t, &fakeMaster{})
	var stdout, stderr bytes.Buffer
	drawing := filepath.Join(t.TempDir(), "x.svg")
	if status := execute(t.Context(), []string{"trace", "--control", path, "-d", "1ms", "--svg", drawing}, &stdout, &stderr); status != statusOK {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	for _, want := range []string{"ringroad: following requests on eth0\n", "0 requests followed\n"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in:\n%s", want, stderr.String())
		}
	}
	// No request, no picture.
	if _, err := os.Stat(drawing); !os.IsNotExist(err) || stdout.Len() > 0 {
		t.Errorf("%v; printed %q", err, stdout.String())
	}
}

func TestTraceRefusesWhatCannotBe(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--client 10.1", `"10.1" is no address`},
		{"--client 10.1.0.0/40", `"10.1.0.0/40" is no network`},
		{"--path api", "begins with /"},
		{"--slower -1s", "positive time"},
		{"-d -1s", "positive time"},
		{"--json --svg x", "one of them"},
		{"80", "unexpected argument"},
	} {
		var stdout, stderr bytes.Buffer
		status := execute(t.Context(), append([]string{"trace", "--control", "/nonexistent"}, strings.Fields(c.args)...), &stdout, &stderr)
		if status != statusUsage || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: status %d: %s", c.args, status, stderr.String())
		}
	}
}
