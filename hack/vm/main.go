// Command vm tests ringroad on drivers of real network cards, which a network of namespaces does not have: in virtual machines of qemu,
// each with the card under test and a peer on one wire. What it needs of Debian (qemu, three kernels: some 300 MB) it fetches once into
// the user's cache folder and unpacks there; nothing is installed, and the host's apt stays as it is.
//
//	host: fetch, unpack, build ── initramfs: init, ringroad, guest.test ──► guest: init runs guest.test ── console ──► table
//
// A machine has no disk; what it runs comes with its kernel. Package init is its first process, package guest the tests. The exit status
// is 0 when all passed, and also, behind a line that begins with SKIP, where the packages cannot be had.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Suites of Debian by the kernel that they have.
const (
	newKernels   = "trixie-backports" // the newest there are
	oldKernel    = "trixie"           // 6.12, whose igb has no zero-copy
	oldestKernel = "bookworm"         // 6.1, of Debian 12
)

// leg is a machine and what is tried on it.
type leg struct {
	name     string
	suite    string
	nic      string // by its driver
	cpus     int
	queues   []int  // tried one after the other
	zeroCopy bool   // what the driver can do
	tellsRSS bool   // the kernel tells how the driver places flows, if it does: from 6.3 on
	tests    string // as go test -run has it
}

// Virtio's queues are as many as processors: on more, the kernel falls over when the program is attached again (7.3).
var legs = []leg{
	{"igb", newKernels, "igb", 2, []int{2, 4, 8}, true, true, "."},
	{"virtio_net", newKernels, "virtio_net", 2, []int{2}, true, true, "."},
	{"igb-old", oldKernel, "igb", 2, []int{2}, false, true, "^(TestQueues|TestZeroCopyThatCannotBeHad)$"},
	{"igb-oldest", oldestKernel, "igb", 2, []int{2}, false, false, "^TestQueues$/^2$/^Relay$"},
	{"veth-oldest", oldestKernel, "veth", 2, []int{2}, false, false, "^TestQueues$/^2$/^Relay$"},
}

// shortLegs are for every change to pass: minutes would be too long.
var shortLegs = []leg{
	{"igb", newKernels, "igb", 2, []int{2}, true, true, "^TestQueues$/^2$/^(Relay|TableChanged)$"},
	{"igb-oldest", oldestKernel, "igb", 2, []int{2}, false, false, "^TestQueues$/^2$/^Relay$"},
	{"veth-oldest", oldestKernel, "veth", 2, []int{2}, false, false, "^TestQueues$/^2$/^Relay$"},
}

// environment is what package guest goes by; the kernel hands it on to its first process.
func (l leg) environment() map[string]string {
	yes := map[bool]string{true: "yes", false: "no"}
	return map[string]string{
		"RINGROAD_VM_DRIVER":    l.nic,
		"RINGROAD_VM_QUEUES":    strings.ReplaceAll(strings.Trim(fmt.Sprint(l.queues), "[]"), " ", ","),
		"RINGROAD_VM_ZERO_COPY": yes[l.zeroCopy],
		"RINGROAD_VM_TELLS_RSS": yes[l.tellsRSS],
		"RINGROAD_VM_TESTS":     l.tests,
	}
}

type options struct {
	fresh, verbose, kvm, short bool
	fetchLimit                 time.Duration
	limit                      time.Duration // of all machines together
}

func main() {
	only := flag.String("only", "", "one machine: igb, virtio_net, igb-old, igb-oldest or veth-oldest")
	tests := flag.String("run", "", "some tests: a pattern as that of go test")
	var o options
	flag.BoolVar(&o.short, "short", false, "a few tests that take a minute; where fetching takes longer than that, the machines are passed over")
	flag.BoolVar(&o.fresh, "fetch", false, "fetch the packages again, whatever is in the cache folder")
	flag.BoolVar(&o.verbose, "v", false, "print what the machines say")
	flag.BoolVar(&o.kvm, "kvm", false, "let the host's processor run the machines (KVM) instead of emulating one")
	flag.DurationVar(&o.limit, "limit", 320*time.Second, "of fetching, and of all machines together, which take some three minutes, and longer on a slow host")
	flag.Parse()
	o.fetchLimit = o.limit
	if o.short {
		legs, o.fetchLimit = shortLegs, time.Minute
	}
	legs = slices.DeleteFunc(legs, func(l leg) bool { return l.name != *only && *only != "" })
	for i := range legs {
		if *tests != "" {
			legs[i].tests = *tests
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	failed, err := run(ctx, o)
	cancel()
	switch {
	case errors.As(err, new(unavailable)):
		fmt.Println("SKIP: no virtual machine here:", err)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	case len(failed) > 0:
		fmt.Println("FAIL:", strings.Join(failed, ", "))
		os.Exit(1)
	default:
		fmt.Println("ok")
	}
}

// run returns the legs that failed.
func run(ctx context.Context, o options) (failed []string, err error) {
	if runtime.GOARCH != "amd64" {
		return nil, unavailablef("the machines are of amd64, this is %s", runtime.GOARCH)
	}
	if len(legs) == 0 {
		return nil, errors.New("-only names no machine: see -help")
	}
	s, err := openStore(o.fresh)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	step := func(format string, args ...any) {
		fmt.Printf("%5.1fs  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	e, kernels, err := s.all(ctx, o.fetchLimit)
	if err != nil {
		return nil, err
	}
	step("packages in %s", s.dir)
	dir, err := os.MkdirTemp("", "ringroad-vm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	p, err := buildPrograms(ctx, dir)
	if err != nil {
		return nil, err
	}
	disks := map[string]string{}
	for suite, k := range kernels {
		modules, err := k.modules(ctx, kernelModules...)
		if err != nil {
			return nil, err
		}
		disks[suite] = filepath.Join(dir, suite+".cpio")
		if err := writeInitramfs(disks[suite], modules, p); err != nil {
			return nil, fmt.Errorf("write the initramfs: %w", err)
		}
	}
	step("ringroad and its tests built for Linux %s", strings.Join(releases(kernels), ", "))

	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("the machines were not done after %v", o.limit))
	defer cancel()
	reports := make([]report, len(legs))
	for i, l := range legs {
		w, l, err := newWire(l)
		if err != nil {
			return nil, err
		}
		m := machine{emulator: e, kernel: kernels[l.suite], initramfs: disks[l.suite], leg: l, wire: w, patience: bootPatience, kvm: o.kvm, log: filepath.Join(s.dir, "console-"+l.name+".log")}
		console, err := m.run(ctx)
		err = errors.Join(err, w.close())
		reports[i] = readReport(console)
		if o.verbose {
			os.Stdout.Write(console) //nolint:errcheck // nothing can be done about it
		}
		if err != nil || !reports[i].passed() {
			failed = append(failed, l.name)
			explain(m, console, err)
		}
		step("%s has run", l.name)
	}
	fmt.Printf("\n"+tableFormat, "MACHINE", "TEST", "", "SECONDS", "SEEN")
	for i, l := range legs {
		reports[i].print(l)
	}
	fmt.Println()
	return failed, nil
}

// all returns what the legs need.
func (s *store) all(ctx context.Context, limit time.Duration) (e emulator, kernels map[string]kernel, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, unavailablef("not fetched within %v", limit))
	defer cancel()
	if e, err = s.emulator(ctx); err != nil {
		return e, nil, err
	}
	kernels = map[string]kernel{}
	for _, l := range legs {
		if kernels[l.suite], err = s.kernel(ctx, l.suite); err != nil {
			return e, nil, err
		}
	}
	return e, kernels, nil
}

// newWire chooses a machine's wire. Several queues of virtio need root; without it there is one.
func newWire(l leg) (wire, leg, error) {
	switch {
	case l.nic == "veth":
		return veth{}, l, nil
	case l.nic != "virtio_net":
		return hub{}, l, nil
	case os.Geteuid() != 0:
		l.cpus, l.queues = 1, []int{1}
		return hub{}, l, nil
	}
	b, err := newBridge(slices.Max(l.queues))
	return b, l, err
}

func releases(kernels map[string]kernel) (names []string) {
	for _, k := range kernels {
		names = append(names, k.Release)
	}
	slices.Sort(names)
	return names
}

// explain says why a machine failed.
func explain(m machine, console []byte, err error) {
	lines := strings.SplitAfter(string(console), "\n")
	fmt.Printf("\n%s failed (%v); the end of what it said, all of it is in %s:\n%s\n",
		m.leg.name, err, m.log, strings.Join(lines[max(0, len(lines)-40):], ""))
}
