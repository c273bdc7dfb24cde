// Package restore gives devices back as they were. Before a setting is changed,
// what was there is written down; the master undoes all of it at its end, and when
// it came to no end, its successor does so at its start, or the doctor.
//
// What the doctor changes is in the same journal. That stays when a master starts,
// and is undone at its end.
package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"ringroad/cmd/internal/control"
	"ringroad/dataplane"
)

// Change is one setting of a device that was changed.
type Change struct {
	Interface string            `json:"interface"` // its name then
	Index     int               `json:"index"`
	Setting   dataplane.Setting `json:"setting"`
	Before    string            `json:"before"`
	After     string            `json:"after"`
	// Fix: the doctor made it. A master that starts leaves it, and undoes it at its end.
	Fix bool `json:"fix,omitempty"`
}

// Undone is the command that the undoing of the change equals.
func (c Change) Undone() string { return c.Setting.Command(c.Interface, c.Before) }

// Device is how settings are read and written; that of the kernel is Kernel.
type Device struct {
	Read  func(ifindex int, s dataplane.Setting) (string, error)
	Write func(ifindex int, s dataplane.Setting, value string) error
}

// Kernel reads and writes the settings of the calling thread's network namespace.
var Kernel = Device{dataplane.ReadSetting, dataplane.WriteSetting}

// Journal holds the changes that are to be undone, in a file that exists exactly as
// long as there are some. Any process may have one of the same file open: each
// operation locks the folder of the file, and reads it anew.
type Journal struct {
	path   string
	device Device
}

// Open returns the journal that belongs to a control socket.
func Open(socket string, d Device) *Journal { return &Journal{path: socket + ".restore", device: d} }

// Changes are those that are to be undone, in the order in which they were made.
func (j *Journal) Changes() (all []Change, err error) {
	b, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("read which device settings are to be restored: %w; if %s is damaged, remove it and look after the settings yourself", err, j.path)
	}
	return all, nil
}

// Set makes a change to a setting, which the caller fills in but for Before. It
// reports whether there was anything to change.
func (j *Journal) Set(c Change) (made Change, changed bool, err error) {
	err = j.locked(func() error {
		all, err := j.Changes()
		if err != nil {
			return err
		}
		if c.Before, err = j.device.Read(c.Index, c.Setting); err != nil {
			return fmt.Errorf("read %s of %s: %w", c.Setting, c.Interface, err)
		}
		if c.Before == c.After {
			return nil
		}
		if err := j.write(append(slices.Clone(all), c)); err != nil {
			return err
		}
		if err := j.device.Write(c.Index, c.Setting, c.After); err != nil {
			return errors.Join(fmt.Errorf("set %s of %s to %s: %w", c.Setting, c.Interface, c.After, err), j.write(all))
		}
		changed = true
		return nil
	})
	return c, changed, err
}

// Undo restores those settings of which choose says so, the last first, if they
// still are what they were set to, and returns those that it restored. One that
// somebody changed since is theirs; one of a device that is gone is forgotten. What
// cannot be restored stays written down. No other process changes anything while
// choose is asked.
func (j *Journal) Undo(choose func(Change) bool) (restored []Change, err error) {
	err = j.locked(func() error {
		all, err := j.Changes()
		if err != nil || len(all) == 0 {
			return err
		}
		var left []Change
		restored, left, err = j.undo(all, choose)
		return errors.Join(err, j.write(left))
	})
	return restored, err
}

func (j *Journal) undo(all []Change, choose func(Change) bool) (restored, left []Change, err error) {
	var errs []error
	// Some drivers make their indirection table anew with every number of channels,
	// and it is then neither what it was nor what it was set to.
	anew := map[int]bool{}
	for _, c := range slices.Backward(all) {
		if !choose(c) {
			left = append(left, c)
			continue
		}
		now, err := j.device.Read(c.Index, c.Setting)
		if err == nil && now != c.Before && (now == c.After || c.Setting == dataplane.SettingRSS && anew[c.Index]) {
			if err = j.device.Write(c.Index, c.Setting, c.Before); err == nil {
				restored = append(restored, c)
				anew[c.Index] = anew[c.Index] || c.Setting == dataplane.SettingChannels
			}
		}
		if err != nil && !errors.Is(err, dataplane.ErrNoInterface) {
			left = append(left, c)
			errs = append(errs, fmt.Errorf("restore %s of %s to %s: %w", c.Setting, c.Interface, c.Before, err))
		}
	}
	slices.Reverse(left)
	return restored, left, errors.Join(errs...)
}

// locked calls f while no other process has the journal.
func (j *Journal) locked(f func() error) error {
	folder := filepath.Dir(j.path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	unlock, err := control.Lock(folder)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// write replaces the file in one step; without changes there is none.
func (j *Journal) write(all []Change) error {
	err := j.replace(all)
	if err != nil {
		return fmt.Errorf("write which device settings are to be restored: %w", err)
	}
	return nil
}

func (j *Journal) replace(all []Change) error {
	if len(all) == 0 {
		if err := os.Remove(j.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(j.path), filepath.Base(j.path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), j.path)
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // the other error says more
	}
	return err
}
