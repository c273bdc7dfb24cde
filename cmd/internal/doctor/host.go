package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"ringroad/bpf"
	"ringroad/cmd/internal/filter"
	"ringroad/cmd/internal/sandbox"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/config"
)

// kernelFacts are what the kernel answers when it is asked for what ringroad needs.
type kernelFacts struct {
	release      string
	capabilities error // of this process
	features     []feature
}

// feature is something that must be there.
type feature struct {
	name string
	err  error // why it is not; nil: it is
	need string
}

// loopback is the index of lo in every network namespace.
const loopback = 1

// probe tries each feature where that leaves no trace.
func probe() kernelFacts {
	f := kernelFacts{capabilities: dataplane.CheckCapabilities()}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		f.release = unix.ByteSliceToString(u.Release[:])
	}
	if f.capabilities == nil {
		steer, err := bpf.Load(bpf.Options{Queues: 1})
		f.features = append(f.features, feature{"steering program", err, "Linux 6.1 or later with CONFIG_BPF_SYSCALL"})
		if err == nil {
			f.features = append(f.features, feature{"XDP by bpf_link", probeLink(steer), "Linux 5.9 or later"})
			steer.Close() //nolint:errcheck // it was never attached
		}
		f.features = append(f.features, feature{"AF_XDP sockets", probeSocket(), "a kernel with CONFIG_XDP_SOCKETS"})
	}
	f.features = append(f.features,
		feature{"memfd", probeMemfd(), "Linux 3.17 or later, and a container that allows memfd_create"},
		feature{"seccomp filters", probeSeccomp(), "a kernel with CONFIG_SECCOMP_FILTER"})
	return f
}

// probeLink asks for native mode on the loopback, which has none: a kernel that
// knows such links says so, another finds the question invalid.
func probeLink(s *bpf.Steer) error {
	l, err := link.AttachXDP(link.XDPOptions{Program: s.Program(), Interface: loopback, Flags: link.XDPDriverMode})
	if err == nil {
		return l.Close()
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

func probeSocket() error {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func probeMemfd() error {
	fd, err := unix.MemfdCreate("ringroad-doctor", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// probeSeccomp sets a filter at address 0, which only a kernel with filters tries
// to read.
func probeSeccomp() error {
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0); !errors.Is(err, unix.EFAULT) {
		return err
	}
	return nil
}

func (r *Report) kernel(f kernelFacts) {
	if f.capabilities != nil {
		r.add(Problem, "capabilities", "", f.capabilities.Error()+"; checks that need it were left out", "sudo ringroad doctor ...")
	} else {
		r.ok("capabilities", "", "all that are needed")
	}
	var have []string
	for _, p := range f.features {
		if p.err != nil {
			r.add(Problem, "kernel", p.name, fmt.Sprintf("Linux %s refuses it: %v", f.release, p.err), p.need)
			continue
		}
		have = append(have, p.name)
	}
	if len(have) > 0 {
		r.ok("kernel", "", "Linux %s has %s", f.release, strings.Join(have, ", "))
	}
}

// memoryFacts bound what workers may pin.
type memoryFacts struct {
	locked     uint64 // RLIMIT_MEMLOCK, bytes
	privileged bool   // CAP_IPC_LOCK: it does not count
	available  uint64 // bytes; 0: unknown
}

func readMemory() (m memoryFacts) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil {
		m.locked = limit.Cur
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err == nil {
		m.privileged = data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			var kib uint64
			if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); err == nil {
				m.available = kib << 10
			}
		}
	}
	return m
}

// memory compares what the frames of all queues take with what may be pinned.
func (r *Report) memory(c *config.Config, nics []nic, m memoryFacts) {
	var need uint64
	for i := range nics {
		if n := &nics[i]; n.Inspection != nil {
			need += uint64(n.Link.RXQueues) * uint64(framesOf(c)) * uint64(frameBytes(c, n))
		}
	}
	switch {
	case need == 0:
	case !m.privileged && m.locked < need:
		r.add(Problem, "memory", "", fmt.Sprintf("the rings pin %s, RLIMIT_MEMLOCK is %s and CAP_IPC_LOCK is missing", size(need), size(m.locked)),
			fmt.Sprintf("ulimit -l %d (systemd: LimitMEMLOCK=%d), or smaller rings.entries", need>>10, need))
	case m.available != 0 && m.available < need:
		r.add(Problem, "memory", "", fmt.Sprintf("the rings pin %s, only %s are available", size(need), size(m.available)), "smaller rings.entries or rings.frames")
	default:
		r.ok("memory", "", "the rings pin %s, which may be locked", size(need))
	}
}

// framesOf is rings.frames with its default.
func framesOf(c *config.Config) int {
	if c.Rings.Frames != 0 {
		return c.Rings.Frames
	}
	return max(c.Rings.Entries*7/8, 64)
}

func size(bytes uint64) string {
	if bytes > 1<<50 {
		return "unlimited"
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

// processorFacts are about the CPUs that this process may use.
type processorFacts struct {
	allowed   []int
	governors map[int]string // of those that have one
	hugePages string         // the chosen word of transparent_hugepage/enabled; "": unknown
}

func readProcessors() (p processorFacts) {
	p.allowed, _ = sandbox.AllowedCPUs()
	p.governors = map[int]string{}
	for _, cpu := range p.allowed {
		if b, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", cpu)); err == nil {
			p.governors[cpu] = strings.TrimSpace(string(b))
		}
	}
	if b, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "["); ok {
			p.hugePages, _, _ = strings.Cut(rest, "]")
		}
	}
	return p
}

// processors looks at where workers will run.
func (r *Report) processors(c *config.Config, nics []nic, p processorFacts) {
	workers := workersOf(c, nics)
	use := p.allowed
	var missing []int
	for _, cpu := range c.CPUAffinity.CPUs {
		if !slices.Contains(p.allowed, cpu) {
			missing = append(missing, cpu)
		}
	}
	if len(c.CPUAffinity.CPUs) > 0 {
		use = c.CPUAffinity.CPUs
	}
	switch {
	case len(missing) > 0:
		r.add(Problem, "processors", "", fmt.Sprintf("cpu_affinity names CPUs %v, this process may use %v", missing, p.allowed), "cpu_affinity, or taskset and the service's CPUAffinity=")
	case workers == 0: // the interfaces are not there
	case workers > len(use):
		r.add(Warning, "processors", "", fmt.Sprintf("%d workers share %d CPUs", workers, len(use)), fmt.Sprintf("workers: %d", len(use)))
	case workers == len(use) && !c.CPUAffinity.Off && workers > 0:
		r.ok("processors", "", "%d workers, one on each of CPUs %v: none is left for interrupts and other programs", workers, use)
	default:
		r.ok("processors", "", "%d workers, CPUs %v", workers, use)
	}
	var slow []int
	for _, cpu := range use {
		if g, ok := p.governors[cpu]; ok && g != "performance" {
			slow = append(slow, cpu)
		}
	}
	if len(slow) > 0 {
		r.add(Warning, "governor", "", fmt.Sprintf("CPUs %v change their clock with the load (%s): requests after a pause take longer", slow, p.governors[slow[0]]),
			"cpupower frequency-set -g performance")
	}
	if p.hugePages == "always" {
		r.ok("huge pages", "", "transparent_hugepage is always: workers may take up more memory than they use")
	}
}

// files looks at what the configuration names.
func (r *Report) files(c *config.Config) {
	if id, err := sandbox.Lookup(c.User); err != nil {
		r.add(Problem, "user", c.User, err.Error(), "")
	} else {
		r.ok("user", c.User, "workers become it (number %d)", id.UID)
	}
	if _, err := proxy.ReadPages(c); err != nil {
		r.add(Problem, "error pages", "", err.Error(), "")
	}
	if _, err := filter.Read(&c.Filter); err != nil {
		r.add(Problem, "filter", "", err.Error(), "")
	}
	if path := c.Log.Access; path != "" {
		folder := filepath.Dir(path)
		if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil {
			r.add(Problem, "access log", path, fmt.Sprintf("it cannot be made: %v", err), "mkdir -p "+folder+", or log.access: off")
		}
	}
}
