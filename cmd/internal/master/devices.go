package master

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"ringroad/cmd/internal/restore"
	"ringroad/dataplane"
)

// busyPollSettings keep interrupts off while a worker polls, and bound what a
// packet waits for when none does. Of the values in use elsewhere (DPDK, the
// kernel's examples) these are the same; shorter timeouts cost throughput.
var busyPollSettings = []struct {
	setting dataplane.Setting
	value   string
}{
	{dataplane.SettingDeferHardIRQs, "2"},
	{dataplane.SettingGROFlushTimeout, "200000"},
}

// openJournal undoes what an earlier master left that came to no end. What the
// doctor mended stays until this one ends.
func (m *master) openJournal() error {
	journal := restore.Open(m.Control, restore.Kernel)
	all, err := journal.Changes()
	if err != nil {
		return err
	}
	m.journal = journal
	for _, c := range all {
		if c.Fix {
			m.log.Info("`ringroad doctor --fix` has changed an interface, until ringroad ends", "interface", c.Interface,
				"command", c.Setting.Command(c.Interface, c.After), "before", c.Before)
		}
	}
	err = m.restoreDevices("an earlier ringroad came to no end: the interface has its setting back", func(c restore.Change) bool { return !c.Fix })
	if err != nil {
		m.log.Warn("cannot undo what an earlier ringroad changed", "error", err)
	}
	return nil
}

// prepareDevices does for `prepare` what serves the program and the sockets. What a
// driver refuses is told, and goes on as it is.
func (m *master) prepareDevices() {
	if !m.config.Prepare {
		return
	}
	for _, name := range m.config.Interfaces {
		i, err := net.InterfaceByName(name)
		if err != nil {
			continue // OpenInterface says more
		}
		m.prepare(name, i.Index, dataplane.SettingLRO, "off", nil)
		m.prepare(name, i.Index, dataplane.SettingGROHW, "off", nil)
		rings, err := dataplane.RingsFor(i.Index, m.config.Rings.Entries)
		m.prepare(name, i.Index, dataplane.SettingRings, rings, err)
		// A queue that the table names cannot go, and one that has just come is in none.
		m.spread(name, i.Index)
		if n := m.config.Workers; n > 0 {
			channels, err := dataplane.ChannelsFor(i.Index, n)
			m.prepare(name, i.Index, dataplane.SettingChannels, channels, err)
			m.spread(name, i.Index)
		}
	}
}

// spread has the NIC place flows on the queues that are served, as many on each.
func (m *master) spread(name string, ifindex int) {
	table, err := dataplane.RSSFor(ifindex, m.config.Workers)
	m.prepare(name, ifindex, dataplane.SettingRSS, table, err)
}

// prepare changes a setting; err is why its value is not known.
func (m *master) prepare(name string, ifindex int, s dataplane.Setting, value string, err error) {
	if err == nil {
		_, err = dataplane.ReadSetting(ifindex, s)
	}
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, dataplane.ErrUnsupported) {
		m.log.Debug("the interface has no such setting", "interface", name, "setting", s, "reason", err)
		return
	}
	if err == nil {
		err = m.set(name, ifindex, s, value)
	}
	if err != nil {
		m.log.Warn("cannot prepare an interface: it stays as it is", "interface", name, "error", err)
	}
}

// pollDevices sets up the interfaces for `busy_poll`.
func (m *master) pollDevices() error {
	if m.config.BusyPoll == 0 {
		return nil
	}
	for k, i := range m.interfaces {
		if i.Mode() != dataplane.ModeNative {
			m.log.Warn("busy_poll does nothing in generic mode", "interface", i.Name())
			continue
		}
		for _, s := range busyPollSettings {
			err := m.set(m.links[k].state.Name, i.Index(), s.setting, s.value)
			if errors.Is(err, syscall.EROFS) {
				return fmt.Errorf("busy_poll: %w: /sys must be writable; in a unit of systemd, set ProtectKernelTunables=no", err)
			} else if err != nil {
				return fmt.Errorf("busy_poll: %w", err)
			}
		}
	}
	return nil
}

// set changes a setting until the master ends.
func (m *master) set(name string, ifindex int, s dataplane.Setting, value string) error {
	c, changed, err := m.journal.Set(restore.Change{Interface: name, Index: ifindex, Setting: s, After: value})
	if changed {
		m.log.Info("an interface was changed, until ringroad ends", "interface", name,
			"command", s.Command(name, value), "before", c.Before)
	}
	return err
}

// restoreDevices undoes the changes of which choose says so, and logs each with the
// message.
func (m *master) restoreDevices(message string, choose func(restore.Change) bool) error {
	restored, err := m.journal.Undo(choose)
	for _, c := range restored {
		m.log.Info(message, "interface", c.Interface, "command", c.Undone())
	}
	return err
}
