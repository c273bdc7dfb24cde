package dataplane

import (
	"testing"
)

func TestChannelsCanBeSetAndPutBack(t *testing.T) {
	w := newWire(t, 1, 4)
	index := w.edgeLink(0).Attrs().Index
	read := func(s Setting) string {
		t.Helper()
		v, err := ReadSetting(index, s)
		must(t, err)
		return v
	}
	before := read(SettingChannels)
	if before != "rx 4 tx 4" {
		t.Fatalf("channels %q", before)
	}
	two, err := ChannelsFor(index, 2)
	must(t, err)
	must(t, WriteSetting(index, SettingChannels, two))
	if now := read(SettingChannels); now != "rx 2 tx 2" {
		t.Errorf("channels %q, want two", now)
	}
	must(t, WriteSetting(index, SettingChannels, before))
	if now := read(SettingChannels); now != before {
		t.Errorf("channels %q, want %q", now, before)
	}
	_, err = ChannelsFor(index, 5)
	wantError(t, err, ErrUnsupported, "channels of rre0", "at most 4")
	wantError(t, WriteSetting(index, SettingChannels, "many"), ErrOptions, "many")
}

func TestSettingsThatAreNotThere(t *testing.T) {
	w := newWire(t, 1, 1)
	index := w.edgeLink(0).Attrs().Index
	if v, err := ReadSetting(index, SettingLRO); err != nil || v != "off" {
		t.Errorf("LRO of a veth: %q, %v", v, err)
	}
	if _, err := ReadSetting(index, SettingRings); err == nil {
		t.Error("a veth has rings")
	}
	_, err := ReadSetting(1<<30, SettingLRO)
	wantError(t, err, ErrNoInterface)
	// The test's sysfs is that of the namespace it was started in.
	_, err = ReadSetting(index, SettingGROFlushTimeout)
	wantError(t, err, ErrUnsupported, "ip netns exec")
}

func TestSettingsAsCommands(t *testing.T) {
	for s, want := range map[Setting]string{
		SettingLRO:           "ethtool -K eth0 lro V",
		SettingGROHW:         "ethtool -K eth0 rx-gro-hw V",
		SettingChannels:      "ethtool -L eth0 V",
		SettingRings:         "ethtool -G eth0 V",
		SettingDeferHardIRQs: "echo V > /sys/class/net/eth0/napi_defer_hard_irqs",
	} {
		if got := s.Command("eth0", "V"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
