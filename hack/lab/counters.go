package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// userHZ is the unit of times in /proc: USER_HZ is 100 on every architecture that Go runs on.
const userHZ = 100

// KernelTCP is what the kernel's own TCP of a namespace has done: /proc/net/snmp and /proc/net/netstat. TCP over IPv4 and over IPv6
// count in the same place.
type KernelTCP map[string]uint64

// Moved returns the counters that differ from an earlier reading, by how much.
func (k KernelTCP) Moved(since KernelTCP) map[string]uint64 {
	moved := map[string]uint64{}
	for name, v := range k {
		if d := v - since[name]; d != 0 {
			moved[name] = d
		}
	}
	return moved
}

// KernelTCP reads the counters of the namespace's kernel: every one of the Tcp and TcpExt lines, as "Tcp.InSegs" and so on.
func (n *Namespace) KernelTCP() (KernelTCP, error) {
	k := KernelTCP{}
	err := n.Do(func() error {
		for _, file := range []string{"snmp", "netstat"} {
			if err := k.read("/proc/thread-self/net/" + file); err != nil {
				return fmt.Errorf("read TCP counters of %s: %w", n.Name, err)
			}
		}
		return nil
	})
	return k, err
}

// read takes pairs of lines: "Tcp: name name", then "Tcp: value value".
func (k KernelTCP) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		names := strings.Fields(lines.Text())
		if !lines.Scan() {
			break
		}
		values := strings.Fields(lines.Text())
		if len(names) == 0 || len(names) != len(values) {
			return fmt.Errorf("%s: unexpected line %q", path, lines.Text())
		}
		group := strings.TrimSuffix(names[0], ":")
		if group != "Tcp" && group != "TcpExt" {
			continue
		}
		for i := 1; i < len(names); i++ {
			// MaxConn is -1.
			if v, err := strconv.ParseInt(values[i], 10, 64); err == nil {
				k[group+"."+names[i]] = uint64(v)
			}
		}
	}
	return lines.Err()
}

// MachineTime is how long the processors of the machine have worked since boot, summed over all of them, by what they did.
type MachineTime struct {
	User, System, Interrupt time.Duration // nice is User; Interrupt is hard and soft interrupts, in which the kernel receives
}

// Busy is all of it.
func (m MachineTime) Busy() time.Duration { return m.User + m.System + m.Interrupt }

// Sub returns what was done since an earlier reading.
func (m MachineTime) Sub(since MachineTime) MachineTime {
	return MachineTime{m.User - since.User, m.System - since.System, m.Interrupt - since.Interrupt}
}

// ReadMachineTime reads /proc/stat, whose unit is 10 ms.
func ReadMachineTime() (MachineTime, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return MachineTime{}, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return MachineTime{}, fmt.Errorf("read /proc/stat: unexpected line %q", line)
	}
	sum := func(columns ...int) (d time.Duration) {
		for _, i := range columns {
			v, e := strconv.ParseUint(fields[i], 10, 64)
			if e != nil {
				err = fmt.Errorf("read /proc/stat: %w", e)
			}
			d += time.Duration(v) * time.Second / userHZ
		}
		return d
	}
	m := MachineTime{User: sum(1, 2), System: sum(3), Interrupt: sum(6, 7)}
	return m, err
}

// CPU returns the processor time that processes have used: in their own code, and in the kernel for them.
func CPU(pids ...int) (user, system time.Duration, err error) {
	for _, pid := range pids {
		fields, err := procStat(pid)
		if err != nil {
			return 0, 0, err
		}
		for i, sum := range []*time.Duration{&user, &system} {
			v, err := strconv.ParseUint(fields[11+i], 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("read processor time of %d: %w", pid, err)
			}
			*sum += time.Duration(v) * time.Second / userHZ
		}
	}
	return user, system, nil
}

// PSS returns the memory that processes take up together, in bytes: what is resident, where a page that several processes have, such as
// those of one binary, is shared out among them (proc_pid_smaps(5)).
func PSS(pids ...int) (int64, error) { return memory("Pss:", pids) }

// AnonymousPSS is PSS without pages of files, such as those of a binary, which come and go as they are used.
func AnonymousPSS(pids ...int) (int64, error) { return memory("Pss_Anon:", pids) }

// RSS returns what is resident of processes, in bytes, where a page counts for each process that has it.
func RSS(pids ...int) (int64, error) { return memory("Rss:", pids) }

func memory(line string, pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		kb, err := rollup(pid, line)
		if err != nil {
			return 0, fmt.Errorf("read memory of %d: %w", pid, err)
		}
		sum += kb << 10
	}
	return sum, nil
}

// rollup returns a line of /proc/PID/smaps_rollup, in KiB.
func rollup(pid int, name string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == name {
			return strconv.ParseInt(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("smaps_rollup has no line %s", name)
}

// Children returns the ids of the direct children of a process.
func Children(pid int) ([]int, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // a thread that has ended; its children are another's now
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(b)) {
			id, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", path, err)
			}
			pids = append(pids, id)
		}
	}
	return pids, nil
}

// family returns a process and all its descendants.
func family(pid int) ([]int, error) {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		children, err := Children(pids[i])
		if err != nil {
			return nil, err
		}
		pids = append(pids, children...)
	}
	return pids, nil
}
