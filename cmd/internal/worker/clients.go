package worker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/proxy/clients"
)

// NewClientMemory makes the memory of limits.client for the workers. Pages of it become
// real as they are used.
func NewClientMemory(entries, workers int) (*os.File, error) {
	fd, err := unix.MemfdCreate("ringroad-clients", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make the table of clients: %w", err)
	}
	f := os.NewFile(uintptr(fd), "clients")
	var key [clients.KeyBytes]byte
	rand.Read(key[:]) //nolint:errcheck // it never fails
	err = unix.Ftruncate(fd, int64(clients.Words(entries, workers))*8)
	if err == nil {
		_, err = f.WriteAt(key[:], 0)
	}
	if err == nil {
		// A file that shrinks kills those who have it mapped.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		return nil, fmt.Errorf("make the table of clients: %w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// openClients maps it, for as long as the process lives.
func openClients(f *os.File, entries, self, workers int) (*clients.Table, error) {
	size := clients.Words(entries, workers) * 8
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("map the table of clients: %w", err)
	}
	if info.Size() != int64(size) {
		return nil, fmt.Errorf("map the table of clients: it has %d bytes, want %d", info.Size(), size)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the table of clients: %w", err)
	}
	return clients.Open(wordsOf(mem), entries, self, workers)
}

// bootTime is the clock that all processes have in common (CLOCK_MONOTONIC).
func bootTime() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0, fmt.Errorf("read the clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}
