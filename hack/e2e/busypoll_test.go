package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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
	mustMatch(t, r.Output(), `an earlier ringroad came to no end.*interface=e0 setting=gro_flush_timeout value=7000`)
	mustServe(t, shared)
	if _, err := shared.Edge.Run(10*time.Second, "sh", "-c", "echo 0 > /sys/class/net/e0/gro_flush_timeout"); err != nil {
		t.Fatal(err)
	}
}
