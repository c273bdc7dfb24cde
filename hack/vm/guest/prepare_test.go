package guest

import (
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/dataplane"
)

// TestPreparedAndPolled has ringroad take two of four queues away, of a NIC whose table sends nothing to some, give it larger rings, and
// poll it. After a crash the successor gives the NIC back as it was before it prepares it anew; after another the doctor does.
func TestPreparedAndPolled(t *testing.T) {
	if guest.driver != "igb" {
		t.Skip("virtio_net has as many queues as processors")
	}
	prepare(t, 4)
	skewed := append(make([]uint32, 96), slices.Repeat([]uint32{3}, 32)...)
	if err := setIndirection("nut", skewed); err != nil {
		t.Fatal(err)
	}
	nut := guest.nut.Attrs().Index
	if err := dataplane.WriteSetting(nut, dataplane.SettingGROFlushTimeout, "7000"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dataplane.WriteSetting(nut, dataplane.SettingGROFlushTimeout, "0"); err != nil {
			t.Error(err)
		}
	})
	settings := []struct {
		name                dataplane.Setting
		before, set, during string
	}{
		{dataplane.SettingRSS, "weight 3 0 0 1", "equal 2", "weight 1 1"}, // the driver makes a table of its own when channels go
		{dataplane.SettingChannels, "combined 4", "combined 2", "combined 2"},
		{dataplane.SettingRings, "rx 256 tx 256", "rx 1024 tx 1024", "rx 1024 tx 1024"},
		{dataplane.SettingDeferHardIRQs, "0", "2", "2"},
		{dataplane.SettingGROFlushTimeout, "7000", "200000", "200000"},
	}
	mustRead := func(when string, want func(i int) string) {
		t.Helper()
		for i, s := range settings {
			value, err := dataplane.ReadSetting(nut, s.name)
			if err != nil {
				t.Fatal(err)
			}
			if value != want(i) {
				t.Errorf("%s: %s is %q, want %q", when, s.name, value, want(i))
			}
		}
	}
	before := func(i int) string { return settings[i].before }
	during := func(i int) string { return settings[i].during }
	mustRead("at first", before)

	dir, yaml := t.TempDir(), configuration+bestMode()+"workers: 2\nprepare: true\nbusy_poll: 64\nwait: spin\n"
	r := &rig{Ringroad: launchIn(t, dir, yaml), queues: 2, workers: 2}
	if err := r.WaitReady(startLimit); err != nil {
		t.Fatal(err)
	}
	table := strings.Index(r.Output(), `command="ethtool -X nut equal 2"`)
	channels := strings.Index(r.Output(), `command="ethtool -L nut combined 2"`)
	if table < 0 || channels < table {
		t.Errorf("the table is changed at %d, the channels at %d of what it says:\n%s", table, channels, r.Output())
	}
	mustRead("while ringroad runs", during)
	r.waitServes(t)
	r.pollsBusily(t)
	r.mustBeHome(t)
	r.kill(t)
	mustRead("after a crash", during)

	r = &rig{Ringroad: launchIn(t, dir, yaml)}
	if err := r.WaitReady(startLimit); err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		undone := fmt.Sprintf(`an earlier ringroad came to no end: the interface has its setting back" interface=nut command="%s"`, s.name.Command("nut", s.before))
		again := fmt.Sprintf(`command="%s" before="?%s"?\n`, s.name.Command("nut", s.set), s.before)
		_, rest, ok := strings.Cut(r.Output(), undone)
		if !ok || !regexp.MustCompile(again).MatchString(rest) {
			t.Errorf("%s was not put back by the successor and changed again:\n%s", s.name, r.Output())
		}
	}
	r.kill(t)
	// The exit status may tell of other problems.
	out, _ := exec.Command("/bin/ringroad", "doctor", "nut", "--fix", "--control", r.Control).CombinedOutput() //nolint:errcheck // see above
	mustRead("after another crash and the doctor", before)
	if t.Failed() {
		t.Logf("the doctor:\n%s", out)
	}
	var told []string
	for _, s := range settings {
		told = append(told, fmt.Sprintf("%s %s -> %s -> %s", s.name, s.before, s.during, s.before))
	}
	t.Attr("settings", strings.Join(told, ", "))
}

// pollsBusily relays with workers that poll the NIC in place of its interrupts.
func (r *rig) pollsBusily(t *testing.T) {
	t.Helper()
	before, raised := r.stats(t), interrupts(t)
	began := time.Now()
	want := r.connect(t, 16, door4, door6)
	took := time.Since(began)
	after := r.stats(t)
	moved := after.Moved(before)
	r.tellInterrupts(t, raised, moved)
	r.mustPlace(t, moved, want)
	r.mustWakeOnDemand(t, after, 2) // polling may not reach the TX ring
	polls := r.sum(moved, "ours.busy_polls")
	if polls == 0 {
		t.Error("nobody polled")
	}
	kicks, frames := r.sum(moved, "ours.kicks"), r.sum(moved, "ours.tx_frames")
	if guest.zeroCopy && kicks > 5*frames {
		t.Errorf("%.0f kicks for %.0f frames: they wait on the TX ring for a driver that nobody wakes", kicks, frames)
	}
	t.Attr("busy-polls", fmt.Sprintf("%.0f, kicks %.0f for %.0f frames in %.1f s", polls, kicks, frames, took.Seconds()))
}

// kill ends the master as a crash does.
func (r *rig) kill(t *testing.T) {
	t.Helper()
	if err := r.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	resetBackendConnections()
}
