package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/dataplane"
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
	bindOther(t)
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
	all = doctor(t, "x0", "--control", socket)
	mustFind(t, all, "ok", "link", "x0")
	mustContain(t, mustFind(t, all, "problem", "sockets", "x0").Text, "[0]") // told of an interface that is up
}

// bindOther binds a socket to the spare interface, which goes with it.
func bindOther(t *testing.T) {
	t.Helper()
	err := shared.Edge.Do(func() error {
		i, err := dataplane.Inspect(spareLink)
		if err != nil {
			return err
		}
		i.Link.Mode = dataplane.ModeGeneric
		q, err := dataplane.OpenQueue(i.Link, dataplane.QueueOptions{})
		if err == nil {
			t.Cleanup(func() { q.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mend runs a command of the doctor's in the edge.
func mend(t *testing.T, command string) {
	t.Helper()
	c := shared.Edge.Exec("sh", "-ec", command)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// TestDoctorMends has --fix mend the other end of a veth before ringroad runs, and what a killed ringroad left; and each of the ways in which
// that is taken back.
func TestDoctorMends(t *testing.T) {
	spare(t, true)
	socket := filepath.Join(t.TempDir(), "control.sock")
	file := writeFile(t, "ringroad.yaml", `interfaces: [x0, e1]
rx_checksum: verify
listeners: [{address: "10.9.0.1:80", upstream: u}]
upstreams: {u: {servers: ["10.2.0.2:8080"]}}
`)
	examine := func(args ...string) []finding { t.Helper(); return doctor(t, append(args, "--control", socket)...) }
	mustHave := func(checksums, polling string, left int) {
		t.Helper()
		out, err := shared.Edge.Run(10*time.Second, "ethtool", "-k", "x1")
		if err != nil {
			t.Fatal(err)
		}
		mustContain(t, out, "tx-checksum-ip-generic: "+checksums)
		if now := pollSettings(t); now != polling {
			t.Errorf("settings %s, want %s", now, polling)
		}
		if list, err := filepath.Glob(socket + ".restore*"); err != nil || len(list) != left {
			t.Errorf("%v is left, %v", list, err)
		}
	}
	const idle, polling = "0 0 0 0", "2 200000 2 200000"

	mustFind(t, examine("-c", file), "problem", "checksums", "x0")
	mustHave("on", idle, 0)
	mended := mustFind(t, examine("-c", file, "--fix"), "fixed", "checksums", "x0")
	mustContain(t, mended.Remedy, "ethtool -K x1 tx-checksum-ip-generic off")
	mustHave("off", idle, 1)
	all := examine("-c", file)
	mustFind(t, all, "ok", "checksums", "x0")
	mustFind(t, all, "ok", "settings", "x1")

	// One that runs takes it over, and what it has changed is not the doctor's to restore.
	r := start(t, bothFamilies+"busy_poll: 64\nwait: spin\n", "--control", socket)
	mustMatch(t, r.Output(), "doctor --fix` has changed an interface.*command=\"ethtool -K x1 tx-checksum-ip-generic off\"")
	mustFind(t, examine("e0", "--fix"), "ok", "settings", "e0")
	mustHave("off", polling, 1)
	if _, err := shared.Edge.Run(doctorLimit, binary, "doctor", "--undo", "--control", socket); err == nil || !strings.Contains(err.Error(), "when it ends") {
		t.Errorf("undone while it runs: %v", err)
	}
	if err := r.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	mustContain(t, mustFind(t, examine("e0"), "warning", "settings", "e1").Remedy, "echo 0 > /sys/class/net/e1/")
	mustHave("off", polling, 1)
	mustFind(t, examine("e0", "--fix"), "fixed", "settings", "e1")
	mustHave("off", idle, 1)

	if r = start(t, bothFamilies, "--control", socket); !r.Stop(stopLimit) {
		t.Fatal("it did not end")
	}
	mustMatch(t, r.Output(), "the interface has its setting back.*command=\"ethtool -K x1 tx-checksum-ip-generic on\"")
	mustHave("on", idle, 0)

	examine("-c", file, "--fix")
	mustHave("off", idle, 1)
	out, err := shared.Edge.Run(doctorLimit, binary, "doctor", "--undo", "--control", socket)
	if err != nil || out != "ethtool -K x1 tx-checksum-ip-generic on\n" {
		t.Errorf("undone: %v, it printed:\n%s", err, out)
	}
	mustHave("on", idle, 0)
}
