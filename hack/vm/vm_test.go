package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestReportIsReadFromAConsole has what a serial console adds: carriage returns, and lines of the kernel in between.
func TestReportIsReadFromAConsole(t *testing.T) {
	console := strings.ReplaceAll(`[    0.000000] Linux version 7.3
GUEST 7.3.4+deb13-amd64
=== RUN   TestRelay
=== RUN   TestRelay/2
=== ATTR  TestRelay/2 mode zero-copy on 2 of 2
[    9.123456] igb 0000:00:01.0: a warning
=== ATTR  TestRelay/2 placed [3 5] as predicted
=== RUN   TestRelay/4
    relay_test.go:7: it is broken
--- FAIL: TestRelay (3.50s)
    --- PASS: TestRelay/2 (1.25s)
    --- FAIL: TestRelay/4 (2.25s)
=== RUN   TestOther
--- SKIP: TestOther (0.00s)
=== RUN   TestHangs
RESULT 1
`, "\n", "\r\n")
	r := readReport([]byte(console))
	var got []record
	for _, t := range r.records {
		got = append(got, *t)
	}
	want := []record{
		{"TestRelay/2", "PASS", "1.25", []string{"mode zero-copy on 2 of 2", "placed [3 5] as predicted"}},
		{"TestRelay/4", "FAIL", "2.25", nil},
		{"TestOther", "SKIP", "0.00", nil},
		{"TestHangs", "", "", nil},
	}
	if !reflect.DeepEqual(got, want) || r.kernel != "7.3.4+deb13-amd64" || r.result != "1" || r.passed() {
		t.Errorf("got %+v, %+v", got, r)
	}
}

// TestSilenceIsNoSuccess: what did not say that it is done has failed.
func TestSilenceIsNoSuccess(t *testing.T) {
	for console, want := range map[string]bool{
		"": false,
		"=== RUN   TestA\n--- PASS: TestA (0.00s)\n":                   false,
		"=== RUN   TestA\n--- PASS: TestA (0.00s)\nRESULT 0\n":         true,
		"=== RUN   TestA\nRESULT 0\n":                                  false,
		"RESULT 0\n":                                                   false,
		"=== RUN   TestA\n--- SKIP: TestA (0.00s)\nRESULT 0\nRESULT 2": false,
	} {
		if r := readReport([]byte(console)); r.passed() != want {
			t.Errorf("%q: passed %v", console, !want)
		}
	}
}

// TestArchiveIsAsTheKernelReadsIt walks an archive by its headers.
func TestArchiveIsAsTheKernelReadsIt(t *testing.T) {
	var b bytes.Buffer
	c := &cpioWriter{w: &b}
	c.add("d", kindDirectory, 0o755, nil)
	c.device("d/console", 5, 1)
	c.add("d/file", kindRegular, 0o644, []byte("hello"))
	if err := c.finish(); err != nil {
		t.Fatal(err)
	}
	var got []string
	aligned := func(n int) int { return (n + 3) &^ 3 }
	for rest := b.Bytes(); len(rest) > 0; {
		var field [13]int
		for i := range field {
			if _, err := fmt.Sscanf(string(rest[6+8*i:14+8*i]), "%x", &field[i]); err != nil {
				t.Fatal(err)
			}
		}
		size, nameBytes := field[6], field[11]
		content := aligned(110 + nameBytes)
		got = append(got, fmt.Sprintf("%s %s %o %d,%d %q", rest[:6], rest[110:110+nameBytes-1], field[1], field[9], field[10], rest[content:content+size]))
		rest = rest[content+aligned(size):]
	}
	want := []string{
		`070701 d 40755 0,0 ""`, `070701 d/console 20600 5,1 ""`, `070701 d/file 100644 0,0 "hello"`, `070701 TRAILER!!! 0 0,0 ""`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestMachineThatHangsIsSwitchedOnAgain has programs in qemu's place that hang as it does.
func TestMachineThatHangsIsSwitchedOnAgain(t *testing.T) {
	const (
		silent = "exec sleep 60"
		stuck  = "echo Linux; exec sleep 60"
		well   = "echo Linux; echo GUEST 7.3; sleep 3; echo RESULT 0"
		broken = "echo Linux; echo no such device >&2; exit 1"
	)
	for _, tc := range []struct {
		name  string
		boots []string
		want  string // what it says at last
		err   string
	}{
		{"at once", []string{well}, "0", ""},
		{"silent", []string{silent, well}, "0", ""},
		{"stuck, then silent", []string{stuck, silent, well}, "0", ""},
		{"never", []string{silent, stuck, silent, well}, "", "switched on 3 times: the machine does not boot"},
		{"refused", []string{broken, well}, "", "qemu: exit status 1: no such device"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			script := "#!/bin/sh\necho x >>" + root + "/boots\ncase $(wc -l <" + root + "/boots) in\n"
			for i, boot := range tc.boots {
				script += fmt.Sprintf("%d) %s ;;\n", i+1, boot)
			}
			program := filepath.Join(root, "usr/bin/qemu-system-x86_64")
			if err := errors.Join(os.MkdirAll(filepath.Dir(program), 0o755), os.WriteFile(program, []byte(script+"esac\n"), 0o755)); err != nil {
				t.Fatal(err)
			}
			m := machine{
				emulator: emulator{root}, leg: shortLegs[0], wire: hub{}, log: filepath.Join(root, "log"),
				patience: patience{silence: 2 * time.Second, boot: 2 * time.Second},
			}
			console, err := m.run(context.Background())
			if fmt.Sprint(err) != tc.err && (err != nil || tc.err != "") {
				t.Errorf("%v, want %q", err, tc.err)
			}
			if r := readReport(console); r.result != tc.want {
				t.Errorf("it said %q", console)
			}
		})
	}
}
