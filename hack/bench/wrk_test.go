package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab"
)

func TestParseWrk(t *testing.T) {
	const before = "Running 1s test @ http://10.1.0.1:80/\n  57310 requests in 1.00s, 9.18MB read\nTransfer/sec:      9.18MB\n"
	for _, c := range []struct {
		name, line string
		want       load
	}{
		{"clean", `{"requests":57310,"micros":2000000,"connect":0,"read":0,"write":0,"status":0,"timeout":0,"p50":1090,"p99":1980,"p999":2.5e+06}`,
			load{requests: 57310, rate: 28655, p50: 1090, p99: 1980, p999: 2.5e6}},
		{"errors", `{"requests":10,"micros":1000000,"connect":1,"read":2,"write":3,"status":4,"timeout":5,"p50":1,"p99":2,"p999":3}`,
			load{requests: 10, rate: 10, errors: 15, said: "connect 1, read 2, write 3, status 4, timeout 5", p50: 1, p99: 2, p999: 3}},
	} {
		if got, err := parseWrk(before + "\nbench " + c.line + "\n"); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
	for _, out := range []string{"", "unable to connect", before, "\nbench {", "\nbench {}", "\nbench {\"requests\":1,\"micros\":0}\n"} {
		if l, err := parseWrk(out); err == nil {
			t.Errorf("%q is read as %+v", out, l)
		}
	}
}

// TestEveryLoadArrivesAsTheCaseSays runs the load of every case that wrk makes against the backends themselves: scripts are run by
// nothing but wrk.
func TestEveryLoadArrivesAsTheCaseSays(t *testing.T) {
	l, err := lab.Up(lab.Options{Forward: true, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	seen := map[string]bool{}
	for _, k := range cases {
		script, err := writeWrkScript(l, k)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		what := string(text) + k.target()
		if k.idle > 0 || seen[what] {
			continue
		}
		seen[what] = true
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			few := *k
			few.connections = 2
			got, err := wrk(l, &few, k.backend(), time.Second)
			if err != nil || got.errors > 0 || got.requests == 0 || (got.p50 <= 0) != (k.pipeline > 0) || got.p999 < got.p99 {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	out, err := l.Client.Run(5*time.Second, "curl", "-si", "http://10.2.0.2:8080/chunked/64k")
	if err != nil || !strings.Contains(out, "Transfer-Encoding: chunked") {
		t.Errorf("what should come in chunks: %.300q, %v", out, err)
	}
}
