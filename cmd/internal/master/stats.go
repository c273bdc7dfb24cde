package master

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/worker"
)

// read takes a snapshot of everything. The pages can be read at any time, whatever
// the workers do.
func (m *master) read() *worker.Snapshot {
	interfaces := make([]worker.InterfaceStats, len(m.interfaces))
	for k, i := range m.interfaces {
		s := worker.InterfaceStats{Name: m.links[k].state.Name, Driver: i.Driver(), Mode: i.Mode().String(), Verdicts: map[string]uint64{}}
		if c, err := i.Counters(); err == nil {
			for v, n := range c {
				s.Verdicts[bpf.Verdict(v).String()] = n
			}
		}
		interfaces[k] = s
	}
	s := worker.NewSnapshot(time.Now(), interfaces)
	var servers []worker.Server
	for i := range m.config.Upstreams {
		for _, a := range m.config.Upstreams[i].Servers {
			servers = append(servers, worker.Server{Upstream: m.config.Upstreams[i].Name, Addr: a})
		}
	}
	for _, c := range m.children {
		st := worker.Stats{Worker: c.index, State: string(c.state), Restarts: c.restarts}
		if c.process != nil {
			st.PID = c.process.Pid
		}
		s.Add(st, c.page, &c.ended, c.queues, servers)
	}
	return s
}

// snapshot is read for other goroutines. ok is false when a worker does not serve,
// or the master has ended.
func (m *master) snapshot() (s worker.Snapshot, ok bool) {
	read := make(chan struct{})
	m.post(func() {
		s, ok = *m.read(), true
		for _, c := range m.children {
			ok = ok && c.state == stateServing && time.Since(c.beat) < m.config.Watchdog/2
		}
		close(read)
	})
	select {
	case <-read:
		return s, ok
	case <-m.done:
		return worker.Snapshot{}, false
	}
}

// writeStats writes the statistics file.
func (m *master) writeStats() {
	if m.StatsFile == "" {
		return
	}
	if err := writeJSON(m.StatsFile, m.read()); err != nil {
		m.log.Error("write statistics", "error", err)
	}
}

// writeJSON replaces the file in one step, so that a reader never sees half.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode statistics: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // the write error says more
	}
	return err
}

// processState is the kernel's word for what a process does: running, sleeping,
// stopped and so on.
func processState(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "gone"
	}
	for line := range strings.Lines(string(b)) {
		if state, ok := strings.CutPrefix(line, "State:"); ok {
			return strings.TrimSpace(state)
		}
	}
	return "unknown"
}
