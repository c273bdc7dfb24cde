package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// BuildRingroad builds the ringroad binary of the module that the working directory belongs to, as `make build` does but for the
// version, into the directory, and returns its path.
func BuildRingroad(dir string) (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module's folder: %w", err)
	}
	binary := filepath.Join(dir, "ringroad")
	args := []string{"build", "-trimpath", "-o", binary}
	if pgo := filepath.Join(strings.TrimSpace(string(root)), "cmd/ringroad/default.pgo"); exists(pgo) {
		args = append(args, "-pgo="+pgo)
	}
	c := exec.Command("go", append(args, "ringroad/cmd/ringroad")...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	c.Dir = strings.TrimSpace(string(root))
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ringroad: %w:\n%s", err, out)
	}
	return binary, os.Chmod(binary, 0o755)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Ringroad is a ringroad that runs in the edge. Its process is the master.
type Ringroad struct {
	*Process
	ConfigFile string
	StatsFile  string
	Control    string // path of the control socket
	LogFile    string // all that it prints on standard error

	lab    *Lab
	binary string
}

// StartRingroad runs the binary in the edge with the given configuration (YAML) and the flags after it. It does not wait until
// ringroad serves: see Ringroad.WaitReady.
func (l *Lab) StartRingroad(binary, configuration string, flags ...string) (*Ringroad, error) {
	dir, err := os.MkdirTemp(l.Dir, "ringroad-")
	if err != nil {
		return nil, err
	}
	r := &Ringroad{
		ConfigFile: filepath.Join(dir, configurationName), StatsFile: filepath.Join(dir, statsName), Control: filepath.Join(dir, controlName),
		LogFile: filepath.Join(dir, logName), lab: l, binary: binary,
	}
	if i := slices.Index(flags, "--control"); i >= 0 {
		r.Control = flags[i+1]
	}
	if err := r.Configure(configuration); err != nil {
		return nil, err
	}
	log, err := os.Create(r.LogFile)
	if err != nil {
		return nil, err
	}
	c := l.Edge.Exec(binary, append(runFlags(dir), flags...)...)
	c.Stderr = log
	if r.Process, err = l.Start("ringroad", c); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		<-r.Done()
		log.Close()
	}()
	return r, nil
}

// What is in the directory of a ringroad.
const (
	configurationName = "ringroad.yaml"
	statsName         = "stats.json"
	controlName       = "control.sock"
	logName           = "stderr.log"
)

// runFlags are the arguments of every ringroad of a lab: all that it keeps outside its memory is in a directory of its own, so that
// several labs, and a ringroad of the machine, live side by side.
func runFlags(dir string) []string {
	return []string{
		"run",
		"-c", filepath.Join(dir, configurationName),
		"--stats-file", filepath.Join(dir, statsName),
		"--control", filepath.Join(dir, controlName),
	}
}

// Configure replaces the configuration file. Ringroad reads it at its next reload.
func (r *Ringroad) Configure(configuration string) error {
	// By rename: whoever reads it never finds half of it.
	temporary := r.ConfigFile + ".new"
	if err := os.WriteFile(temporary, []byte(configuration), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, r.ConfigFile)
}

// Command runs a command that speaks to the master, such as "reload", and returns all that it printed.
func (r *Ringroad) Command(limit time.Duration, name string, args ...string) (string, error) {
	p, err := r.StartCommand(name, args...)
	if err != nil {
		return "", err
	}
	err = p.Wait(limit)
	p.Stop(0)
	return p.Output(), err
}

// StartCommand starts a command that speaks to the master, such as "capture".
func (r *Ringroad) StartCommand(name string, args ...string) (*Process, error) {
	return r.lab.Start("ringroad "+name, r.lab.Edge.Exec(r.binary, append([]string{name, "--control", r.Control}, args...)...))
}

// WaitReady waits until ringroad has said that it serves.
func (r *Ringroad) WaitReady(limit time.Duration) error { return r.WaitLine("msg=ready", limit) }

// Stats is the content of a statistics file: every number in it by its path, such as "interfaces.e0.queues.0.levels.free". An
// element of a list goes by its name or queue.
type Stats map[string]float64

// Stats reads statistics of which those of every worker that serves or drains were gathered after the call. An idle worker shows them
// four times a second; one that has not for a second stands still, and what it showed last is read.
func (r *Ringroad) Stats() (Stats, error) {
	const limit, still = 5 * time.Second, time.Second
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		b, err := r.ask()
		var s struct {
			Workers []struct {
				State string
				Time  time.Time
			}
		}
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		late := 0
		for _, w := range s.Workers {
			if (w.State == "serving" || w.State == "draining") && !w.Time.After(began) {
				late++
			}
		}
		switch waited := time.Since(began); {
		case err == nil && (late == 0 || waited > still):
			return parseStats(b)
		case err != nil && waited > limit:
			return nil, err
		}
	}
}

// Snapshot asks the master for the statistics as they are. What workers count is up to a turn of their loops old.
func (r *Ringroad) Snapshot() (Stats, error) {
	b, err := r.ask()
	if err != nil {
		return nil, err
	}
	return parseStats(b)
}

// ask asks the master for the statistics.
func (r *Ringroad) ask() ([]byte, error) {
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", r.Control)
		},
	}}
	response, err := c.Get("http://ringroad/stats")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask for statistics: %w", err), r.state())
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, b)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for statistics: %w", err)
	}
	return b, nil
}

// state says whether the process has ended.
func (r *Ringroad) state() error {
	select {
	case <-r.Done():
		return fmt.Errorf("ringroad has ended: %w; it printed:\n%s", r.err, r.Output())
	default:
		return nil
	}
}

// ReadStats reads a statistics file.
func ReadStats(path string) (Stats, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s, err := parseStats(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

func parseStats(b []byte) (Stats, error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, err
	}
	s := Stats{}
	s.flatten("", v)
	return s, nil
}

func (s Stats) flatten(path string, v any) {
	join := func(name string) string {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	switch v := v.(type) {
	case float64:
		s[path] = v
	case map[string]any:
		for name, element := range v {
			s.flatten(join(name), element)
		}
	case []any:
		for i, element := range v {
			name := strconv.Itoa(i)
			if m, ok := element.(map[string]any); ok {
				if n, ok := m["name"].(string); ok {
					name = n
				} else if q, ok := m["queue"].(float64); ok {
					name = strconv.Itoa(int(q))
				}
			}
			s.flatten(join(name), element)
		}
	}
}

// Moved returns the numbers that differ from an earlier reading, by how much.
func (s Stats) Moved(since Stats) Stats {
	moved := Stats{}
	for path, v := range s {
		if d := v - since[path]; d != 0 {
			moved[path] = d
		}
	}
	return moved
}
