package main

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// machine is where a run took place.
type machine struct {
	Kernel      string  `json:"kernel"`
	Processor   string  `json:"processor"`
	Processors  int     `json:"processors"`
	MemoryBytes int64   `json:"memory_bytes"`
	Load        float64 `json:"load_at_start"` // of the last minute: other work spoils figures
}

func describeMachine() machine {
	m := machine{Processors: runtime.NumCPU(), Processor: fieldOf("/proc/cpuinfo", "model name"), Kernel: firstLine("/proc/sys/kernel/osrelease")}
	if kb, err := strconv.ParseInt(strings.TrimSuffix(fieldOf("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryBytes = kb << 10
	}
	load, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	m.Load, _ = strconv.ParseFloat(load, 64)
	return m
}

// fieldOf returns what stands behind "NAME:" in a file of /proc, or "".
func fieldOf(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}

// versions asks the programs that take part.
func versions() map[string]string {
	v := map[string]string{"go": runtime.Version()}
	for name, command := range map[string][]string{
		"nginx":    {"nginx", "-v"},
		"haproxy":  {"haproxy", "-v"},
		"wrk":      {"wrk", "-v"}, // ends with a failure, as it does for anything it does not know
		"ringroad": {"git", "describe", "--tags", "--always", "--dirty"},
	} {
		out, _ := exec.Command(command[0], command[1:]...).CombinedOutput()
		line, _, _ := strings.Cut(string(out), "\n")
		line = strings.TrimPrefix(line, "nginx version: ")
		if line, _, _ = strings.Cut(line, " - "); line == "" {
			line = "unknown"
		}
		v[name] = line
	}
	return v
}
