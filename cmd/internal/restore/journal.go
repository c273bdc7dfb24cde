// Package restore gives devices back as they were. Before the master changes a
// setting it writes down what was there; at its end it undoes all of it, and when
// it came to no end, its successor does so at its start.
package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"ringroad/dataplane"
)

// Change is one setting of a device that was changed.
type Change struct {
	Interface string            `json:"interface"` // its name then
	Index     int               `json:"index"`
	Setting   dataplane.Setting `json:"setting"`
	Before    string            `json:"before"`
	After     string            `json:"after"`
}

// Device is how settings are read and written; that of the kernel is Kernel.
type Device struct {
	Read  func(ifindex int, s dataplane.Setting) (string, error)
	Write func(ifindex int, s dataplane.Setting, value string) error
}

// Kernel reads and writes the settings of the calling thread's network namespace.
var Kernel = Device{dataplane.ReadSetting, dataplane.WriteSetting}

// Journal holds the changes that are to be undone, in a file that exists exactly as
// long as there are some. It belongs to one goroutine, and the file to one process:
// whoever opens it must hold a lock of another kind.
type Journal struct {
	path    string
	device  Device
	changes []Change // in the order in which they were made
}

// Open reads what an earlier process left to be undone, which is nothing if it came
// to its end.
func Open(path string, d Device) (*Journal, error) {
	j := &Journal{path: path, device: d}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &j.changes)
	}
	if err != nil {
		return nil, fmt.Errorf("read which device settings are to be restored: %w; if %s is damaged, remove it and look after the settings yourself", err, path)
	}
	return j, nil
}

// Set changes a setting, and remembers what it was. It reports whether there was
// anything to change.
func (j *Journal) Set(name string, ifindex int, s dataplane.Setting, value string) (c Change, changed bool, err error) {
	before, err := j.device.Read(ifindex, s)
	if err != nil {
		return c, false, fmt.Errorf("read %s of %s: %w", s, name, err)
	}
	if before == value {
		return c, false, nil
	}
	c = Change{Interface: name, Index: ifindex, Setting: s, Before: before, After: value}
	j.changes = append(j.changes, c)
	if err := j.write(); err != nil {
		j.changes = j.changes[:len(j.changes)-1]
		return c, false, err
	}
	if err := j.device.Write(ifindex, s, value); err != nil {
		j.changes = j.changes[:len(j.changes)-1]
		return c, false, errors.Join(fmt.Errorf("set %s of %s to %s: %w", s, name, value, err), j.write())
	}
	return c, true, nil
}

// Undo restores every setting that still is what it was set to, the last first, and
// returns those that it restored. One that somebody changed since is theirs; one of
// a device that is gone is forgotten. What cannot be restored stays written down.
func (j *Journal) Undo() (restored []Change, err error) {
	var errs []error
	var left []Change
	// Some drivers make their indirection table anew with every number of channels,
	// and it is then neither what it was nor what it was set to.
	anew := map[int]bool{}
	for _, c := range slices.Backward(j.changes) {
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
	if len(j.changes) == 0 {
		return nil, nil
	}
	slices.Reverse(left)
	j.changes = left
	errs = append(errs, j.write())
	return restored, errors.Join(errs...)
}

// write replaces the file in one step; without changes there is none.
func (j *Journal) write() error {
	err := j.replace()
	if err != nil {
		return fmt.Errorf("write which device settings are to be restored: %w", err)
	}
	return nil
}

func (j *Journal) replace() error {
	if len(j.changes) == 0 {
		return os.Remove(j.path)
	}
	b, err := json.MarshalIndent(j.changes, "", "  ")
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
