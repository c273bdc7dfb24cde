package bpf

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// Options says which program to load.
type Options struct {
	Frags  bool // the program for frames in several buffers (Linux 5.18), for an MTU above one page
	Queues int  // receive queues of the interface, at least 1: the size of the socket map
	// Flows is where workers say what is open. Nil: nobody does, and nothing is refused for it.
	Flows *Flows
}

// Steer is one loaded steering program with its maps, for one interface. It steers nothing until Configure and SetSocket
// are called. Any goroutine may call its methods, except Close, which must be the last call.
type Steer struct {
	program *ebpf.Program
	maps    steerMaps
	queues  int
	buckets *ebpf.MapSpec // of the memory for source prefixes

	configure sync.Mutex // serialises Configure
	installed rules      // what the maps hold; guarded by configure
	limiting  bool       // sources has its map; guarded by configure
}

// LoadError says that the kernel refused the program or a map.
type LoadError struct {
	Frags bool   // which program
	Hint  string // what the user can do about it; may be empty
	Err   error
}

func (e *LoadError) Error() string {
	program := "steering program"
	if e.Frags {
		program = "multi-buffer steering program"
	}
	s := fmt.Sprintf("load %s: %v", program, e.Err)
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

func (e *LoadError) Unwrap() error { return e.Err }

// VerifierLog returns the lines in which the kernel says why it refused the program, or nil if that was not the reason.
func (e *LoadError) VerifierLog() []string {
	var v *ebpf.VerifierError
	if errors.As(e.Err, &v) {
		return v.Log
	}
	return nil
}

// Load loads the program and creates its maps. If the kernel refuses, the error is a [*LoadError].
// Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (without it the verifier forbids the arithmetic on packet pointers).
func Load(o Options) (*Steer, error) {
	if o.Queues < 1 {
		return nil, fmt.Errorf("load steering program for %d queues: at least 1 is needed", o.Queues)
	}
	spec, err := loadSteer()
	if err != nil {
		return nil, &LoadError{Frags: o.Frags, Err: err}
	}
	name, other := steerProgRingroadSteer, steerProgRingroadFrags
	if o.Frags {
		name, other = other, name
	}
	delete(spec.Programs, other)
	spec.Maps[steerMapSockets].MaxEntries = uint32(o.Queues)
	spec.Maps[steerMapAnswerUntil].MaxEntries = uint32(o.Queues)

	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, &LoadError{Frags: o.Frags, Hint: hint(err), Err: err}
	}
	var co ebpf.CollectionOptions
	if o.Flows != nil {
		co.MapReplacements = o.Flows.replace(spec)
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, co)
	if err != nil {
		return nil, &LoadError{Frags: o.Frags, Hint: hint(err), Err: err}
	}
	defer collection.Close()

	s := &Steer{program: collection.DetachProgram(name), queues: o.Queues, buckets: spec.Maps[steerMapSources].InnerMap.Copy()}
	s.buckets.Name = "ringroad_source"
	if err := collection.Assign(&s.maps); err != nil {
		return nil, errors.Join(&LoadError{Frags: o.Frags, Err: err}, s.program.Close())
	}
	return s, nil
}

// hint says what the user can do about an error of the bpf system call.
func hint(err error) string {
	var verifier *ebpf.VerifierError
	refused := errors.As(err, &verifier)
	if refused || errors.Is(err, unix.EPERM) {
		if missing := missingCapabilities(); len(missing) > 0 {
			return "missing capability " + strings.Join(missing, ", ") + "; run as root"
		}
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return "a security policy forbids the bpf system call (seccomp, kernel lockdown, container)"
	case refused:
		return "the kernel's verifier refused the program; please report the kernel version with the verifier log"
	case errors.Is(err, ebpf.ErrNotSupported):
		return "the kernel is too old: Linux 6.1 or later is needed"
	case errors.Is(err, unix.ENOMEM):
		return "free memory, or raise the memory limit of the control group"
	}
	return ""
}

// missingCapabilities names what the calling thread lacks to load the program.
func missingCapabilities() (missing []string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil
	}
	has := func(capability int) bool { return data[capability/32].Effective&(1<<(capability%32)) != 0 }
	if has(unix.CAP_SYS_ADMIN) && has(unix.CAP_NET_ADMIN) {
		return nil // CAP_SYS_ADMIN includes the other two
	}
	for _, c := range []struct {
		number int
		name   string
	}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_PERFMON, "CAP_PERFMON"}} {
		if !has(c.number) {
			missing = append(missing, c.name)
		}
	}
	return missing
}

// Program returns the loaded program, to be attached. It is closed by Close.
func (s *Steer) Program() *ebpf.Program { return s.program }

// Close releases the program and the maps. A program that is still attached lives on with its maps.
func (s *Steer) Close() error {
	return errors.Join(s.program.Close(), s.maps.Close())
}

// SetSocket makes the AF_XDP socket fd the receiver of queue's frames, in place of any other. The kernel takes the entry
// back when the socket is closed; the program then counts DropNoSocket.
func (s *Steer) SetSocket(queue uint32, fd int) error {
	if int64(queue) >= int64(s.queues) {
		return fmt.Errorf("set socket of queue %d: the program was loaded for %d queues", queue, s.queues)
	}
	err := s.maps.Sockets.Update(queue, uint32(fd), ebpf.UpdateAny)
	if err != nil {
		return fmt.Errorf("set socket of queue %d to descriptor %d: %w", queue, fd, err)
	}
	return nil
}

// AnswerUntil is the descriptor of memory to map: for each receive queue a word, the time (CLOCK_MONOTONIC, ns) until which its
// SYNs to listeners are answered with SYN cookies by the program, as Config.Cookies says. It belongs to s.
func (s *Steer) AnswerUntil() int { return s.maps.AnswerUntil.FD() }

// Counters returns the verdicts so far, summed over the CPUs. It makes a system call a verdict and disturbs no frame.
func (s *Steer) Counters() (Counters, error) {
	var counters Counters
	var cpus []uint64
	for v := range counters {
		if err := s.maps.Verdicts.Lookup(uint32(v), &cpus); err != nil {
			return Counters{}, fmt.Errorf("read counter %v: %w", Verdict(v), err)
		}
		for _, frames := range cpus {
			counters[v] += frames
		}
	}
	return counters, nil
}
