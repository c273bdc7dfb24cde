package control

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// WritePIDFile writes the number of this process, in one step, and makes the
// folder when it is missing. A file that names a process that has ended is
// replaced; one that names another that lives, or no process at all, is an
// error. The caller calls remove at its end.
func WritePIDFile(path string) (remove func() error, err error) {
	if err := writePIDFile(path); err != nil {
		return nil, fmt.Errorf("write the pid file: %w", err)
	}
	return func() error { return removePIDFile(path) }, nil
}

func writePIDFile(path string) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintln(f, os.Getpid())
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	for {
		// A link, unlike a rename, never replaces what another process wrote.
		err := os.Link(f.Name(), path)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := checkPIDFile(path); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// checkPIDFile refuses a file that must not be replaced.
func checkPIDFile(path string) error {
	pid, err := readPIDFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case pid == os.Getpid():
		return nil // numbers are used again, in containers always
	}
	// Signal 0 only asks. EPERM: somebody else's.
	if err := unix.Kill(pid, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return nil
	}
	return fmt.Errorf("%s names process %d, which is running: end it, remove the file if that is no ringroad, or name another one with the key pid_file", path, pid)
}

func readPIDFile(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 32)
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%s exists and holds no process number: remove it, or name another one with the key pid_file", path)
	}
	return int(pid), nil
}

// removePIDFile leaves a file alone that is no longer ours.
func removePIDFile(path string) error {
	pid, err := readPIDFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && pid != os.Getpid() {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("remove the pid file: %w", err)
	}
	return nil
}
