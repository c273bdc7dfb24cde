package restore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ringroad/dataplane"
)

// devices are settings in memory, by index and name.
type devices map[string]string

var errBroken = errors.New("broken")

func (d devices) device() Device {
	key := func(i int, s dataplane.Setting) string { return fmt.Sprintf("%d %s", i, s) }
	return Device{
		Read: func(i int, s dataplane.Setting) (string, error) {
			v, ok := d[key(i, s)]
			if !ok {
				return "", dataplane.ErrNoInterface
			}
			return v, nil
		},
		Write: func(i int, s dataplane.Setting, v string) error {
			if d["broken"] == v {
				return errBroken
			}
			d[key(i, s)] = v
			return nil
		},
	}
}

// all chooses every change.
func all(Change) bool { return true }

func set(t *testing.T, j *Journal, index int, s dataplane.Setting, value string, want bool) {
	t.Helper()
	if _, changed, err := j.Set(Change{Interface: "eth0", Index: index, Setting: s, After: value}); err != nil || changed != want {
		t.Fatalf("set %s to %s: changed %v, %v", s, value, changed, err)
	}
}

func absent(t *testing.T, path string) {
	t.Helper()
	if list, err := filepath.Glob(path + "*"); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestSettingsAreRestoredAtTheEndAndAfterACrash(t *testing.T) {
	for _, crash := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "restore")
		d := devices{"1 a": "0", "1 b": "0", "2 a": "7", "3 a": "5"}
		j := Open(path, d.device())
		if restored, err := j.Undo(all); restored != nil || err != nil {
			t.Fatalf("nothing was changed, restored %v, %v", restored, err)
		}
		set(t, j, 1, "a", "2", true)
		set(t, j, 1, "b", "9", true)
		set(t, j, 1, "b", "10", true) // twice: back to the first
		set(t, j, 2, "a", "8", true)
		set(t, j, 3, "a", "5", false) // as it was
		set(t, j, 3, "a", "6", true)
		d["2 a"] = "1"   // by somebody else
		delete(d, "3 a") // the device is gone
		if crash {
			j = Open(path, d.device())
		}
		restored, err := j.Undo(all)
		if err != nil || len(restored) != 3 {
			t.Errorf("restored %v, %v", restored, err)
		}
		if d["1 a"] != "0" || d["1 b"] != "0" || d["2 a"] != "1" {
			t.Errorf("settings afterwards: %v", d)
		}
		absent(t, path)
	}
}

// TestATableThatTheDriverMakesAnew has a driver that makes its table anew when the number of channels changes, as igb does.
func TestATableThatTheDriverMakesAnew(t *testing.T) {
	const rss, channels = "1 " + string(dataplane.SettingRSS), "1 " + string(dataplane.SettingChannels)
	for _, before := range []string{"weight 3 1", "driver's 4"} {
		path := filepath.Join(t.TempDir(), "restore")
		d := devices{rss: before, channels: "4"}
		device := d.device()
		write := device.Write
		device.Write = func(i int, s dataplane.Setting, v string) error {
			if s == dataplane.SettingChannels {
				d[rss] = "driver's " + v
			}
			return write(i, s, v)
		}
		j := Open(path, device)
		set(t, j, 1, dataplane.SettingRSS, "equal 2", true)
		set(t, j, 1, dataplane.SettingChannels, "2", true)
		if _, err := j.Undo(all); err != nil || d[rss] != before || d[channels] != "4" {
			t.Errorf("%v: afterwards %v", err, d)
		}
		// Without a change of ours to the channels, a table that is another one is somebody's.
		set(t, j, 1, dataplane.SettingRSS, "equal 2", true)
		d[rss] = "theirs"
		if _, err := j.Undo(all); err != nil || d[rss] != "theirs" {
			t.Errorf("%v: afterwards %v", err, d)
		}
		absent(t, path)
	}
}

// TestAMasterLeavesFixes has a successor undo what a master left, but not what the doctor mended before and beside it.
func TestAMasterLeavesFixes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "restore")
	d := devices{"1 a": "0", "1 b": "0", "2 a": "0"}
	fix := func(index int, s dataplane.Setting) {
		t.Helper()
		// The doctor is another process, with a journal of its own.
		if _, changed, err := Open(path, d.device()).Set(Change{Index: index, Setting: s, After: "1", Fix: true}); err != nil || !changed {
			t.Fatal(changed, err)
		}
	}
	j := Open(path, d.device())
	fix(1, "a")
	set(t, j, 1, "b", "1", true)
	fix(2, "a")
	j = Open(path, d.device())
	restored, err := j.Undo(func(c Change) bool { return !c.Fix })
	if err != nil || len(restored) != 1 || d["1 a"] != "1" || d["1 b"] != "0" || d["2 a"] != "1" {
		t.Errorf("at the start: restored %v, %v: %v", restored, err, d)
	}
	if restored, err = j.Undo(all); err != nil || len(restored) != 2 || d["1 a"] != "0" || d["2 a"] != "0" {
		t.Errorf("at the end: restored %v, %v: %v", restored, err, d)
	}
	absent(t, path)
}

func TestWhatCannotBeRestoredIsNotForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "restore")
	d := devices{"1 a": "0", "1 b": "1"}
	j := Open(path, d.device())
	set(t, j, 1, "a", "2", true)
	set(t, j, 1, "b", "2", true)
	d["broken"] = "0"
	if _, err := j.Undo(all); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "restore a of eth0 to 0") {
		t.Errorf("error %v", err)
	}
	delete(d, "broken")
	if restored, err := Open(path, d.device()).Undo(all); err != nil || len(restored) != 1 || d["1 a"] != "0" || d["1 b"] != "1" {
		t.Errorf("restored %v, %v: %v", restored, err, d)
	}
	absent(t, path)
}

func TestARefusedChangeLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "restore")
	d := devices{"1 a": "0", "broken": "3"}
	j := Open(path, d.device())
	if _, _, err := j.Set(Change{Interface: "eth0", Index: 1, Setting: "a", After: "3"}); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
	if _, _, err := j.Set(Change{Interface: "eth0", Index: 4, Setting: "a", After: "3"}); !errors.Is(err, dataplane.ErrNoInterface) {
		t.Errorf("error %v", err)
	}
	absent(t, path)
}

func TestADamagedJournalIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "restore")
	if err := os.WriteFile(path+".restore", []byte(`[{"interface"`), 0o600); err != nil {
		t.Fatal(err)
	}
	j := Open(path, devices{"1 a": "0"}.device())
	_, listErr := j.Changes()
	_, _, setErr := j.Set(Change{Index: 1, Setting: "a", After: "1"})
	_, undoErr := j.Undo(all)
	for _, err := range []error{listErr, setErr, undoErr} {
		if err == nil || !strings.Contains(err.Error(), path+".restore") {
			t.Errorf("error %v does not name the file", err)
		}
	}
}
