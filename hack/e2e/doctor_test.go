package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// doctorLimit includes the three seconds after which the kernel gives a neighbour up.
const doctorLimit = 20 * time.Second

// finding is a line of the doctor's, as its JSON has it.
type finding struct{ Severity, Check, Subject, Text, Remedy string }

// doctor examines the edge, and checks that the exit status tells of problems.
func doctor(t *testing.T, args ...string) (all []finding) {
	t.Helper()
	out, err := shared.Edge.Run(doctorLimit, binary, append([]string{"doctor", "--json"}, args...)...)
	if decodeErr := json.NewDecoder(strings.NewReader(out)).Decode(&all); decodeErr != nil {
		t.Fatalf("%v, %v, it printed:\n%s", decodeErr, err, out)
	}
	if problems := bySeverity(all, "problem"); (len(problems) > 0) != (err != nil) {
		t.Errorf("exit status %v with the problems %+v", err, problems)
	}
	return all
}

func bySeverity(all []finding, severity string) []finding {
	return slices.DeleteFunc(slices.Clone(all), func(f finding) bool { return f.Severity != severity })
}

// mustFind returns the finding of a check about a subject.
func mustFind(t *testing.T, all []finding, severity, check, subject string) finding {
	t.Helper()
	for _, f := range all {
		if f.Severity == severity && f.Check == check && f.Subject == subject {
			return f
		}
	}
	t.Fatalf("no %s of %s %s in:\n%+v", severity, check, subject, all)
	return finding{}
}

func TestDoctorFindsNoProblemInTheLab(t *testing.T) {
	file := writeFile(t, "ringroad.yaml", bothFamilies)
	all := doctor(t, "-c", file, "--control", filepath.Join(t.TempDir(), "control.sock"))
	if problems := bySeverity(all, "problem"); len(problems) > 0 {
		t.Errorf("before it runs: %+v", problems)
	}
	r := start(t, bothFamilies)
	mustServe(t, shared)
	for _, args := range [][]string{{"-c", file}, nil} { // without a file: that of the running one
		all = doctor(t, append(args, "--control", r.Control)...)
		if problems := bySeverity(all, "problem"); len(problems) > 0 {
			t.Errorf("while it runs: %+v", problems)
		}
		mustContain(t, mustFind(t, all, "ok", "xdp", "e0").Text, fmt.Sprintf("process %d", r.PID()))
		mustContain(t, mustFind(t, all, "ok", "zero-copy", "e0").Text, "in use: false")
		mustContain(t, mustFind(t, all, "ok", "features", "e0").Text, "XDP basic redirect", "RX metadata timestamp hash", "TX metadata none")
		mustFind(t, all, "ok", "worker", "0")
		mustFind(t, all, "ok", "backend", "10.2.0.2:8080")
		mustFind(t, all, "ok", "backend", "[fd00:2::2]:8081")
	}
}

// TestDoctorFindsFaults seeds faults, and mends some with the commands that the doctor names.
func TestDoctorFindsFaults(t *testing.T) {
	spare(t, false)
	attachOther(t)
	file := writeFile(t, "ringroad.yaml", `interfaces: [e0, e1, x0]
listeners: [{address: "10.1.0.1:80", upstream: a}, {address: "10.8.0.1:80", upstream: a}]
upstreams: {a: {servers: ["10.2.0.2:8080", "10.2.0.99:8080", "10.2.0.2:9", "10.1.0.1:8080"]}}
backend_ports: 30000-40000
`)
	socket := filepath.Join(t.TempDir(), "control.sock")
	all := doctor(t, "-c", file, "--control", socket)
	mustFind(t, all, "problem", "listener", "10.8.0.1:80")
	mustContain(t, mustFind(t, all, "problem", "backend", "10.2.0.99:8080").Text, "no ARP", "e1")
	mustContain(t, mustFind(t, all, "warning", "backend", "10.2.0.2:9").Text, "refused")
	mustContain(t, mustFind(t, all, "problem", "backend", "10.1.0.1:8080").Text, "this host", "e0")
	mustContain(t, mustFind(t, all, "warning", "ephemeral ports", "").Remedy, "sysctl -w net.ipv4.ip_local_port_range='40001 60999'")
	other := mustFind(t, all, "problem", "xdp", "x0")
	mustContain(t, other.Text, "other_pass")
	mustContain(t, other.Remedy, "bpftool link detach id ")
	mend(t, "ip link set dev x1 up") // without it there is no carrier
	mend(t, mustFind(t, all, "problem", "link", "x0").Remedy)
	mustFind(t, doctor(t, "x0", "--control", socket), "ok", "link", "x0")
}

// mend runs a command of the doctor's in the edge.
func mend(t *testing.T, command string) {
	t.Helper()
	c := shared.Edge.Exec("sh", "-ec", command)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}
