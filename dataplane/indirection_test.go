package dataplane

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTablesAreTexts goes both ways: a table is the text that the command of ethtool has, which makes the same table.
func TestTablesAreTexts(t *testing.T) {
	for text, table := range map[string]Indirection{
		"equal 1":               {0, 0, 0, 0, 0, 0, 0, 0},
		"equal 2":               {0, 1, 0, 1, 0, 1, 0, 1},
		"equal 3":               {0, 1, 2, 0, 1, 2, 0, 1},
		"weight 1 1":            {0, 0, 0, 0, 1, 1, 1, 1}, // what igb starts with
		"weight 3 1":            {0, 0, 0, 0, 0, 0, 1, 1},
		"weight 0 0 1":          {2, 2, 2, 2, 2, 2, 2, 2},
		"weight 4 0 3 1":        {0, 0, 0, 0, 2, 2, 2, 3},
		"table 1 0 1 0 1 0 1 0": {1, 0, 1, 0, 1, 0, 1, 0},
	} {
		if got := table.String(); got != text {
			t.Errorf("table %v is %q, want %q", table, got, text)
		}
		if got, err := parseTable(len(table), text); err != nil || !slices.Equal(got, table) {
			t.Errorf("%q is %v, %v, want %v", text, got, err, table)
		}
	}
	// As ethtool rounds: shares of 8 end at 2 2/3 and 5 1/3.
	if got, err := parseTable(8, "weight 1 1 1"); err != nil || !slices.Equal(got, []uint32{0, 0, 1, 1, 1, 2, 2, 2}) {
		t.Errorf("three equal weights: %v, %v", got, err)
	}
	for _, text := range []string{"", "equal", "equal 0", "equal -1", "equal 2 2", "equal 70000", "weight", "weight 0 0", "weight 1 x", "table 0 1", "many 4"} {
		_, err := parseTable(8, text)
		wantError(t, err, ErrOptions, text)
	}
}

func TestEven(t *testing.T) {
	for _, c := range []struct {
		table Indirection
		n     int
		want  bool
	}{
		{Indirection{0, 1, 0, 1}, 2, true},
		{Indirection{0, 0, 1, 1}, 2, true},
		{Indirection{0, 1, 2, 0}, 3, true},
		{Indirection{0, 1, 0, 1}, 1, false}, // a queue without a worker
		{Indirection{0, 1, 0, 1, 0, 1, 0, 1}, 4, false},
		{Indirection{0, 0, 0, 1}, 2, false},
		{Indirection{0, 0, 0, 0}, 2, false},
	} {
		if got := c.table.Even(c.n); got != c.want {
			t.Errorf("%v over %d queues: %v", c.table, c.n, got)
		}
	}
}

func TestCommandsOfSettings(t *testing.T) {
	for want, c := range map[string]struct {
		s     Setting
		value string
	}{
		"ethtool -X eth0 equal 2":                                    {SettingRSS, "equal 2"},
		"ethtool -X eth0 weight 3 0 1":                               {SettingRSS, "weight 3 0 1"},
		"(no command of ethtool) indirection table of eth0: 1 0 1 0": {SettingRSS, "table 1 0 1 0"},
		"ethtool -L eth0 combined 4":                                 {SettingChannels, "combined 4"},
		"ethtool -G eth0 rx 512 tx 512":                              {SettingRings, "rx 512 tx 512"},
		"ethtool -K eth0 rx-gro-hw off":                              {SettingGROHW, "off"},
		"echo 2 > /sys/class/net/eth0/napi_defer_hard_irqs":          {SettingDeferHardIRQs, "2"},
	} {
		if got := c.s.Command("eth0", c.value); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestVethHasNoTable: what there is not is not supported, and says of what.
func TestVethHasNoTable(t *testing.T) {
	w := newWire(t, 1, 2)
	index := w.edgeLink(0).Attrs().Index
	for name, f := range map[string]func() error{
		"read":  func() error { _, err := ReadSetting(index, SettingRSS); return err },
		"write": func() error { return WriteSetting(index, SettingRSS, "equal 2") },
		"for":   func() error { _, err := RSSFor(index, 2); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "rss of rre0") {
			t.Errorf("%s: %v", name, err)
		} else {
			wantError(t, err, unix.EOPNOTSUPP)
		}
	}
}
