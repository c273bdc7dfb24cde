package e2e

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/hack/lab"
)

// pollSettings are the settings of the edge's interfaces that busy_poll changes.
func pollSettings(t *testing.T) string {
	t.Helper()
	out, err := shared.Edge.Run(10*time.Second, "sh", "-c",
		"cat /sys/class/net/e0/napi_defer_hard_irqs /sys/class/net/e0/gro_flush_timeout /sys/class/net/e1/napi_defer_hard_irqs /sys/class/net/e1/gro_flush_timeout")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(out), " ")
}

// TestBusyPollSettingsAreRestored ends ringroad in order, and by SIGKILL; then its successor restores what the interfaces had.
func TestBusyPollSettingsAreRestored(t *testing.T) {
	const before, during = "0 7000 0 0", "2 200000 2 200000"
	if _, err := shared.Edge.Run(10*time.Second, "sh", "-c", "echo 7000 > /sys/class/net/e0/gro_flush_timeout"); err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(t.TempDir(), "control.sock")
	left := func() []string {
		list, err := filepath.Glob(control + ".restore*")
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	polling := bothFamilies + "busy_poll: 64\nwait: spin\n"
	r := start(t, polling, "--control", control)
	if now := pollSettings(t); now != during {
		t.Errorf("settings %s while it runs, want %s", now, during)
	}
	mustServe(t, shared)
	if s := stats(t, r); s["interfaces.e0.queues.0.ours.busy_polls"] == 0 {
		t.Error("nobody polled")
	}
	if !r.Stop(stopLimit) {
		t.Fatal("it did not end")
	}
	if now := pollSettings(t); now != before || left() != nil {
		t.Errorf("settings %s after the end, want %s; left %v", now, before, left())
	}

	r = start(t, polling, "--control", control)
	if err := r.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	if now := pollSettings(t); now != during || len(left()) != 1 {
		t.Errorf("settings %s after a crash, want %s; left %v", now, during, left())
	}
	r = start(t, bothFamilies, "--control", control)
	if now := pollSettings(t); now != before || left() != nil {
		t.Errorf("settings %s with a successor, want %s; left %v", now, before, left())
	}
	mustMatch(t, r.Output(), `an earlier ringroad came to no end.*interface=e0 command="echo 7000 > /sys/class/net/e0/gro_flush_timeout"`)
	mustServe(t, shared)
	if _, err := shared.Edge.Run(10*time.Second, "sh", "-c", "echo 0 > /sys/class/net/e0/gro_flush_timeout"); err != nil {
		t.Fatal(err)
	}
}

// TestPreparedInterfacesAreGivenBack has ringroad take queues away that nobody would serve.
func TestPreparedInterfacesAreGivenBack(t *testing.T) {
	w := upWide(t, lab.Options{Queues: 2})
	for _, end := range []struct {
		n    *lab.Namespace
		name string
	}{{w.Client, "c0"}, {w.Backend, "b0"}} { // veth wants no more than the other end will have
		if _, err := end.n.Run(10*time.Second, "ethtool", "-L", end.name, "rx", "1", "tx", "1"); err != nil {
			t.Fatal(err)
		}
	}
	queues := func(name string) string {
		t.Helper()
		out, err := w.Edge.Run(10*time.Second, "ethtool", "-l", name)
		if err != nil {
			t.Fatal(err)
		}
		_, current, _ := strings.Cut(out, "Current hardware settings:")
		return regexp.MustCompile(`RX:\s+(\d+)`).FindStringSubmatch(current)[1]
	}
	r := startIn(t, w.Lab, bothFamilies+"workers: 1\nprepare: true\n")
	for _, name := range edgeLinks {
		mustMatch(t, r.Output(), `an interface was changed, until ringroad ends.*command="ethtool -L `+name+` rx 1 tx 1" before="rx 2 tx 2"`)
		if n := queues(name); n != "1" {
			t.Errorf("%s has %s queues while ringroad runs", name, n)
		}
	}
	mustServe(t, w.Lab)
	if !r.Stop(stopLimit) {
		t.Fatal("it did not end")
	}
	for _, name := range edgeLinks {
		mustMatch(t, r.Output(), `the interface has its setting back.*command="ethtool -L `+name+` rx 2 tx 2"`)
		if n := queues(name); n != "2" {
			t.Errorf("%s has %s queues afterwards, want its two", name, n)
		}
	}
}
