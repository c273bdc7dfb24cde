package master

import (
	"errors"
	"fmt"
	"syscall"

	"ringroad/cmd/internal/restore"
	"ringroad/dataplane"
)

// journalSuffix follows the path of the control socket, whose lock is that of the
// journal too.
const journalSuffix = ".restore"

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

// tuneDevices undoes what an earlier master left that came to no end, and sets up
// the interfaces for `busy_poll`.
func (m *master) tuneDevices() (err error) {
	if m.journal, err = restore.Open(m.Control+journalSuffix, restore.Kernel); err != nil {
		return err
	}
	if err := m.restoreDevices("an earlier ringroad came to no end: the interface has its setting back"); err != nil {
		m.log.Warn("cannot undo what an earlier ringroad changed", "error", err)
	}
	if m.config.BusyPoll == 0 {
		return nil
	}
	for k, i := range m.interfaces {
		if i.Mode() != dataplane.ModeNative {
			m.log.Warn("busy_poll does nothing in generic mode", "interface", i.Name())
			continue
		}
		for _, s := range busyPollSettings {
			c, changed, err := m.journal.Set(m.links[k].state.Name, i.Index(), s.setting, s.value)
			if errors.Is(err, syscall.EROFS) {
				return fmt.Errorf("busy_poll: %w: /sys must be writable; in a unit of systemd, set ProtectKernelTunables=no", err)
			} else if err != nil {
				return fmt.Errorf("busy_poll: %w", err)
			}
			if changed {
				m.log.Info("a setting of an interface was changed, until ringroad ends", "interface", c.Interface,
					"setting", c.Setting, "value", c.After, "before", c.Before)
			}
		}
	}
	return nil
}

// restoreDevices undoes all changes, and logs each with the message.
func (m *master) restoreDevices(message string) error {
	restored, err := m.journal.Undo()
	for _, c := range restored {
		m.log.Info(message, "interface", c.Interface, "setting", c.Setting, "value", c.Before)
	}
	return err
}
