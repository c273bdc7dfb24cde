package bpf

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapFlows maps both maps of [Flows], and reads the clock of the programs.
func mapFlows(flood, slots *os.File) (*FlowTable, error) {
	value, err := mapArray(flood, int(unsafe.Sizeof(steerFlood{})))
	if err != nil {
		return nil, err
	}
	t := &FlowTable{flood: (*steerFlood)(unsafe.Pointer(&value[0]))}
	if t.slots, err = mapArray(slots, int(t.flood.Mask+1)*int(t.flood.Bytes)); err != nil {
		return nil, errors.Join(err, unix.Munmap(value))
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, fmt.Errorf("read the clock: %w", err)
	}
	t.began, t.since = time.Now(), uint64(now.Nano())
	return t, nil
}

// mapArray maps the first n bytes of the values of an array, rounded up to pages.
func mapArray(f *os.File, n int) (mem []byte, err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		if e := raw.Control(func(fd uintptr) {
			mem, err = unix.Mmap(int(fd), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		}); e != nil {
			err = e
		}
	}
	return mem, err
}
