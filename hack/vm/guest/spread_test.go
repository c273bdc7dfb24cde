package guest

import (
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ringroad/dataplane"
)

// TestPreparedQueues has ringroad take two of four queues away, whose table sends nothing to some. After a crash the doctor gives the
// NIC back as it was.
func TestPreparedQueues(t *testing.T) {
	if guest.driver != "igb" {
		t.Skip("virtio_net has as many queues as processors")
	}
	prepare(t, 4)
	skewed := append(make([]uint32, 96), slices.Repeat([]uint32{3}, 32)...)
	if err := setIndirection("nut", skewed); err != nil {
		t.Fatal(err)
	}
	read := func(s dataplane.Setting) string {
		t.Helper()
		value, err := dataplane.ReadSetting(guest.nut.Attrs().Index, s)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	settings := []dataplane.Setting{dataplane.SettingRSS, dataplane.SettingChannels, dataplane.SettingRings}
	var before []string
	for _, s := range settings {
		before = append(before, read(s))
	}
	if before[0] != "weight 3 0 0 1" || before[1] != "combined 4" {
		t.Fatalf("the NIC begins with %q", before)
	}
	r := &rig{Ringroad: launch(t, configuration+"workers: 2\nprepare: true\n"), queues: 2}
	if err := r.WaitReady(startLimit); err != nil {
		t.Fatal(err)
	}
	table := strings.Index(r.Output(), `command="ethtool -X nut equal 2"`)
	channels := strings.Index(r.Output(), `command="ethtool -L nut combined 2"`)
	if table < 0 || channels < table {
		t.Errorf("the table is changed at %d, the channels at %d of what it says:\n%s", table, channels, r.Output())
	}
	r.readRSS(t)
	r.waitCarrier(t)
	r.mustPredict(t, 8)
	during := [2]int{}
	for _, q := range r.rss.Table {
		during[q]++
	}
	if during[0] != during[1] {
		t.Errorf("entries of the table for each queue: %v", during)
	}
	t.Attr("prepared", strings.Join([]string{read(dataplane.SettingRSS), read(dataplane.SettingChannels), read(dataplane.SettingRings)}, ", "))
	if err := r.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	// The exit status may tell of other problems.
	out, _ := exec.Command("/bin/ringroad", "doctor", "nut", "--fix", "--control", r.Control).CombinedOutput() //nolint:errcheck // see above
	for i, s := range settings {
		if now := read(s); now != before[i] {
			t.Errorf("%s is %q after a crash and the doctor, was %q:\n%s", s, now, before[i], out)
		}
	}
	t.Attr("restored", strings.Join(before, ", "))
}
