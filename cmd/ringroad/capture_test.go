package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCaptureWritesAFileAndASummary(t *testing.T) {
	path := serveMaster(t, &fakeMaster{})
	file := filepath.Join(t.TempDir(), "x.pcapng")
	var stdout, stderr bytes.Buffer
	if status := execute(t.Context(), []string{"capture", "--control", path, "-d", "1ms", "-w", file, "tcp", "port", "80"}, &stdout, &stderr); status != statusOK {
		t.Fatalf("status %d: %s", status, stderr.String())
	}
	for _, want := range []string{"ringroad: capturing on eth0\n", "0 frames captured in ", "\n0 frames dropped because a buffer was full\n"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("no %q in:\n%s", want, stderr.String())
		}
	}
	b, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(b, []byte("\x0a\x0d\x0d\x0a")) || !bytes.Contains(b, []byte("tcp port 80")) || stdout.Len() > 0 {
		t.Errorf("the file has %q, %v; printed %q", b, err, stdout.String())
	}
	// Whoever may not read other people's requests may not read the file.
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestCaptureRefusesWhatCannotBe(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"port", "filter: column 5"},
		{"-Q up", `direction "up"`},
		{"-s -5", "snapshot length"},
		{"-B 1", "buffer of 1 KiB"},
		{"-C 5", "need -w"},
		{"-G 5 -w -", "need -w"},
		{"-W 5 -w x", "-W needs"},
		{"-C -5 -w x", "negative"},
	} {
		var stdout, stderr bytes.Buffer
		status := execute(t.Context(), append([]string{"capture", "--control", "/nonexistent"}, strings.Fields(c.args)...), &stdout, &stderr)
		if status != statusUsage || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%s: status %d: %s", c.args, status, stderr.String())
		}
	}
}
