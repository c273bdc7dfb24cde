package lab

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const (
	namePrefix  = "rr" // of every namespace
	dirPrefix   = "ringroad-lab-"
	registryDir = "/run/ringroad-lab"
	memoryDir   = "/dev/shm" // may forbid to execute what is in it
)

// record is the entry of one run in the registry: who made the lab, and what there is to remove when that process is gone. It is
// written before the thing it names is made.
type record struct {
	ID         string   `json:"id"`
	PID        int      `json:"pid"`
	StartTime  uint64   `json:"start_time"` // of the process, clock ticks after boot: tells a process from a later one of the same id
	Namespaces []string `json:"namespaces"`
	Dirs       []string `json:"dirs"`
}

// newRecord chooses the id of this run and enters it.
func newRecord() (*record, error) {
	var random [2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	r := &record{PID: os.Getpid(), StartTime: start}
	r.ID = strconv.FormatInt(int64(r.PID), 36) + hex.EncodeToString(random[:])
	r.Dirs = []string{filepath.Join(os.TempDir(), dirPrefix+r.ID)}
	if _, err := os.Stat(memoryDir); err == nil {
		r.Dirs = append(r.Dirs, filepath.Join(memoryDir, dirPrefix+r.ID))
	}
	return r, r.write()
}

func (r *record) addNamespace(name string) error {
	r.Namespaces = append(r.Namespaces, name)
	return r.write()
}

func (r *record) path() string { return filepath.Join(registryDir, r.ID+".json") }

func (r *record) write() error {
	if err := os.MkdirAll(registryDir, 0o755); err != nil {
		return fmt.Errorf("make registry of labs: %w", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	// By rename: a sweep that runs at the same time never reads half a record.
	temporary := r.path() + ".new"
	if err := os.WriteFile(temporary, b, 0o644); err != nil {
		return fmt.Errorf("enter lab in the registry: %w", err)
	}
	return os.Rename(temporary, r.path())
}

// remove takes the run out of the registry, its directories first.
func (r *record) remove() error {
	for _, dir := range r.Dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove directory of the lab: %w", err)
		}
	}
	if err := os.Remove(r.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("take lab out of the registry: %w", err)
	}
	return nil
}

// alive reports whether the process that made the lab still runs.
func (r *record) alive() bool {
	start, err := startTime(r.PID)
	return err == nil && start == r.StartTime
}

// sweep removes the labs of processes that are gone. One sweep runs at a time on the machine.
func sweep() error {
	if err := os.MkdirAll(registryDir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(registryDir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	paths, err := filepath.Glob(filepath.Join(registryDir, "*.json"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		errs = append(errs, sweepOne(path))
	}
	return errors.Join(errs...)
}

func sweepOne(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // its owner removed it just now
	}
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil || r.path() != path {
		return fmt.Errorf("%s is no record of a lab; remove it", path)
	}
	if r.alive() {
		return nil
	}
	for _, name := range r.Namespaces {
		if !strings.HasPrefix(name, namePrefix+r.ID+"-") {
			return fmt.Errorf("%s names network namespace %q, which is not its own; remove it", path, name)
		}
		if err := removeNamespace(name); err != nil {
			return err
		}
	}
	for _, dir := range r.Dirs {
		if filepath.Base(dir) != dirPrefix+r.ID {
			return fmt.Errorf("%s names directory %q, which is not its own; remove it", path, dir)
		}
	}
	return r.remove()
}

// startTime returns when a process started (field 22 of proc_pid_stat(5)).
func startTime(pid int) (uint64, error) {
	fields, err := procStat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// procStat returns the fields of /proc/PID/stat that follow the name: the first is field 3 of proc_pid_stat(5), the state.
func procStat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(b[strings.LastIndexByte(string(b), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 22 {
		return nil, fmt.Errorf("read /proc/%d/stat: unexpected content %q", pid, b)
	}
	return fields, nil
}
