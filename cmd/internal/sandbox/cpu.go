package sandbox

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxCPUs is what the kernel can be built for at most (NR_CPUS_RANGE_END).
const maxCPUs = 8192

// AllowedCPUs are the CPUs that the calling thread may run on, in ascending
// order. After [Pin] that is one.
func AllowedCPUs() ([]int, error) {
	set := unix.NewCPUSet(maxCPUs)
	if err := unix.SchedGetaffinityDynamic(0, set); err != nil {
		return nil, fmt.Errorf("read the allowed CPUs: %w", err)
	}
	var cpus []int
	for cpu := range maxCPUs {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// Pin binds every thread of the process to one CPU, and with them those that
// they start.
func Pin(cpu int) error {
	if cpu < 0 || cpu >= maxCPUs {
		return fmt.Errorf("pin to CPU %d: there is none of this number", cpu)
	}
	set := unix.NewCPUSet(maxCPUs)
	set.Set(cpu)
	err := setAffinity(set)
	switch {
	case errors.Is(err, unix.EINVAL):
		allowed, _ := AllowedCPUs()
		return fmt.Errorf("pin to CPU %d: it does not exist or this process may not use it (allowed: %v); see cpu_affinity", cpu, allowed)
	case err != nil:
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	return nil
}
