package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4
)

// xdpMD is struct xdp_md of linux/bpf.h.
type xdpMD struct {
	Data, DataEnd, DataMeta, IngressIfindex, RXQueueIndex, EgressIfindex uint32
}

func load(t testing.TB, o Options) *Steer {
	t.Helper()
	s, err := Load(o)
	if err != nil {
		var refused *LoadError
		if errors.As(err, &refused) {
			for _, line := range refused.VerifierLog() {
				t.Log(line)
			}
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// steering returns a program with testConfig and a socket on queue 0, which is the queue that the kernel's test-run uses.
func steering(t testing.TB, frags bool) *Steer {
	t.Helper()
	s := load(t, Options{Frags: frags, Queues: 1})
	configure(t, s, testConfig)
	fd := socket(t)
	if err := s.SetSocket(0, fd); err != nil {
		t.Fatal(err)
	}
	return s
}

func configure(t testing.TB, s *Steer, c Config) {
	t.Helper()
	if err := s.Configure(c); err != nil {
		t.Fatal(err)
	}
}

// socket opens an AF_XDP socket. The test-run executes the program's look-up of the socket, not the hand-over to it, so it
// need not be bound; TestSocketReceivesWhatTheKernelDoesNot has one that is.
func socket(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal("open AF_XDP socket:", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// run passes frame through the program and returns its verdict, checked against the action. Of a frame in several
// buffers the first holds linear bytes; 0 leaves the division to the kernel.
func run(t testing.TB, s *Steer, frame []byte, linear int) Verdict {
	t.Helper()
	v, _ := runOut(t, s, frame, linear)
	return v
}

// runOut is run, with what the frame has become.
func runOut(t testing.TB, s *Steer, frame []byte, linear int) (Verdict, []byte) {
	t.Helper()
	before := counters(t, s)
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+64)}
	if linear > 0 {
		o.Context = &xdpMD{DataEnd: uint32(linear)}
	}
	action, err := s.Program().Run(&o)
	if err != nil {
		t.Fatalf("run %d bytes, %d in the first buffer: %v", len(frame), linear, err)
	}
	after := counters(t, s)
	var verdicts []Verdict
	for v := range after {
		if n := after[v] - before[v]; n == 1 {
			verdicts = append(verdicts, Verdict(v))
		} else if n != 0 {
			t.Fatalf("%v counted %d times", Verdict(v), n)
		}
	}
	if len(verdicts) != 1 {
		t.Fatalf("one frame counted as %v", verdicts)
	}
	v := verdicts[0]
	want := uint32(xdpPass)
	switch {
	case v.Redirected():
		want = xdpRedirect
	case v.Dropped():
		want = xdpDrop
	case v == AnswerSYNCookie:
		want = xdpTX
	}
	if action != want {
		t.Fatalf("action %d for %v, want %d", action, v, want)
	}
	return v, o.DataOut
}

func counters(t testing.TB, s *Steer) Counters {
	t.Helper()
	c, err := s.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forget empties the memory for fragments.
func forget(t testing.TB, s *Steer) {
	t.Helper()
	var key steerFragment
	var seen uint64
	for i := s.maps.Fragments.Iterate(); i.Next(&key, &seen); {
		if err := s.maps.Fragments.Delete(&key); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, frags := range []bool{false, true} {
		s := steering(t, frags)
		for _, c := range verdictCases() {
			t.Run(fmt.Sprintf("%s frags=%v", c.name, frags), func(t *testing.T) {
				forget(t, s)
				r := newReference(testConfig)
				for _, f := range c.before {
					run(t, s, f, 0)
					r.verdict(f)
				}
				if v := run(t, s, c.frame, 0); v != c.want {
					t.Errorf("verdict %v, want %v", v, c.want)
				}
				if v := r.verdict(c.frame); v != c.want {
					t.Errorf("reference says %v, want %v", v, c.want)
				}
			})
		}
	}
}

func TestVerdictCasesAreComplete(t *testing.T) {
	var seen [NumVerdicts]bool
	seen[DropNoSocket] = true                                                           // TestNoSocketDrops
	seen[AnswerSYNCookie] = true                                                        // TestSYNCookies
	seen[DropDenied], seen[DropConnectionRate], seen[DropPacketRate] = true, true, true // TestLists, TestLimits
	for _, v := range []Verdict{DropFirstSYN, DropStrayACK, DropStray, DropStrayFragment, DropStrayICMP} {
		seen[v] = true // TestStraysInAFlood
	}
	for _, c := range verdictCases() {
		seen[c.want] = true
	}
	names := map[string]bool{}
	for v := range Verdict(NumVerdicts) {
		if !seen[v] {
			t.Errorf("no case for %v", v)
		}
		if v.String() == "" || v.Help() == "" || names[v.String()] {
			t.Errorf("verdict %d: name %q, help %q", v, v, v.Help())
		}
		names[v.String()] = true
	}
}

// A frame that lost its end must not be redirected: the kernel discards it, and so would the stack.
func TestTruncatedFramesPass(t *testing.T) {
	for _, frags := range []bool{false, true} {
		s := steering(t, frags)
		for _, c := range verdictCases() {
			if !c.want.Redirected() || len(c.frame) > 200 {
				continue
			}
			for n := 14; n < len(c.frame)-c.padding; n++ {
				if v := run(t, s, c.frame[:n], 0); v.Redirected() || v.Dropped() {
					t.Errorf("%s frags=%v: %d of %d bytes: %v", c.name, frags, n, len(c.frame), v)
				}
			}
		}
	}
}

// Linux 6.18 can start a test-run with a short first buffer, as some drivers do.
func TestHeadersInLaterBuffers(t *testing.T) {
	s := steering(t, true)
	for _, c := range verdictCases() {
		if len(c.frame) > 200 {
			continue
		}
		for linear := 14; linear < len(c.frame); linear++ {
			forget(t, s)
			for _, f := range c.before {
				run(t, s, f, min(linear, len(f)))
			}
			if v := run(t, s, c.frame, linear); v != c.want {
				t.Errorf("%s, first buffer of %d bytes: %v, want %v", c.name, linear, v, c.want)
			}
		}
	}
}

func TestNoSocketDrops(t *testing.T) {
	s := load(t, Options{Queues: 1})
	configure(t, s, testConfig)
	syn := ethernet(ip4(client4, own4, protoTCP, tcp(40000, 80)))
	ssh := ethernet(ip4(client4, own4, protoTCP, tcp(40000, 22)))
	if v := run(t, s, syn, 0); v != DropNoSocket {
		t.Errorf("before a socket is set: %v", v)
	}
	fd := socket(t)
	if err := s.SetSocket(0, fd); err != nil {
		t.Fatal(err)
	}
	if v := run(t, s, syn, 0); v != RedirectListener {
		t.Errorf("with a socket: %v", v)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	if v := run(t, s, syn, 0); v != DropNoSocket {
		t.Errorf("after the socket is closed: %v", v)
	}
	if v := run(t, s, ssh, 0); v != PassOtherPort {
		t.Errorf("the kernel's traffic: %v", v)
	}
}

func TestSetSocketRefuses(t *testing.T) {
	s := load(t, Options{Queues: 2})
	if err := s.SetSocket(2, socket(t)); err == nil {
		t.Error("queue 2 of 2 accepted")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(r.Close(), w.Close()) }()
	if err := s.SetSocket(1, int(r.Fd())); err == nil {
		t.Error("a pipe accepted as AF_XDP socket")
	}
}

func TestFragmentMemory(t *testing.T) {
	first := func(port, id uint16) []byte {
		return ethernet(ip4With(header4{id: id, flags: 0x2000}, client4, own4, protoTCP, tcp(40000, port)))
	}
	later := func(id uint16) []byte {
		return ethernet(ip4With(header4{id: id, flags: 3}, client4, own4, protoTCP, []byte("rest")))
	}
	check := func(t *testing.T, s *Steer, id uint16, want Verdict) {
		t.Helper()
		if v := run(t, s, later(id), 0); v != want {
			t.Errorf("later fragment: %v, want %v", v, want)
		}
	}

	t.Run("an identification used again by a flow of the kernel's is forgotten", func(t *testing.T) {
		s := steering(t, false)
		run(t, s, first(80, 7), 0)
		check(t, s, 7, RedirectFragment)
		run(t, s, first(22, 7), 0)
		check(t, s, 7, PassUnknownFragment)
	})
	t.Run("an old identification is not believed", func(t *testing.T) {
		s := steering(t, false)
		run(t, s, first(80, 7), 0)
		var key steerFragment
		var seen uint64
		if !s.maps.Fragments.Iterate().Next(&key, &seen) {
			t.Fatal("first fragment not remembered")
		}
		for _, c := range []struct {
			age  uint64 // seconds
			want Verdict
		}{{20, RedirectFragment}, {31, PassUnknownFragment}} {
			var now unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
				t.Fatal(err)
			}
			// A machine that has been up for less than this wraps around, as the program's difference does.
			if err := s.maps.Fragments.Put(&key, uint64(now.Nano())-c.age*1e9); err != nil {
				t.Fatal(err)
			}
			check(t, s, 7, c.want)
		}
	})
	t.Run("when full the newest stay", func(t *testing.T) {
		s := steering(t, false)
		frames := int(s.maps.Fragments.MaxEntries()) * 2
		for id := range frames {
			if _, err := s.Program().Run(&ebpf.RunOptions{Data: first(80, uint16(id))}); err != nil {
				t.Fatal(err)
			}
		}
		check(t, s, uint16(frames-1), RedirectFragment)
	})
}

func TestCountersSumOverCPUs(t *testing.T) {
	s := steering(t, false)
	frame := ethernetOf(0x0806, make([]byte, 28))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &all) }()
	cpus := 0
	for cpu := 0; cpu < 1024; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Program().Run(&ebpf.RunOptions{Data: frame}); err != nil {
			t.Fatal(err)
		}
		cpus++
	}
	if got := counters(t, s)[PassNotIP]; got != uint64(cpus) {
		t.Errorf("%d frames counted, one on each of %d CPUs", got, cpus)
	}
}

func TestLoadNamesMissingCapabilities(t *testing.T) {
	for _, c := range []struct {
		name string
		keep []int
		want string // in the error; empty: loads
	}{
		{"none", nil, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON;"},
		{"without bpf", []int{unix.CAP_NET_ADMIN, unix.CAP_PERFMON}, "missing capability CAP_BPF;"},
		{"without net admin", []int{unix.CAP_BPF, unix.CAP_PERFMON}, "missing capability CAP_NET_ADMIN;"},
		{"without perfmon", []int{unix.CAP_BPF, unix.CAP_NET_ADMIN}, "missing capability CAP_PERFMON;"},
		{"all three", []int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, frags := range []bool{false, true} {
				err := withCapabilities(t, c.keep, func() error {
					s, err := Load(Options{Frags: frags, Queues: 1})
					if err != nil {
						return err
					}
					return s.Close()
				})
				var refused *LoadError
				switch {
				case c.want == "" && err != nil:
					t.Error(err)
				case c.want != "" && !errors.As(err, &refused):
					t.Errorf("error %v, want a LoadError", err)
				case c.want != "" && !strings.Contains(refused.Hint, c.want):
					t.Errorf("hint %q, want %q in it", refused.Hint, c.want)
				}
			}
		})
	}
	if _, err := Load(Options{}); err == nil {
		t.Error("0 queues accepted")
	}
}

// withCapabilities runs f on a thread whose effective capabilities are keep.
func withCapabilities(t *testing.T, keep []int, f func() error) error {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var full, few [2]unix.CapUserData
	if err := unix.Capget(&header, &full[0]); err != nil {
		t.Fatal(err)
	}
	few = full
	for i := range few {
		few[i].Effective = 0
	}
	for _, c := range keep {
		few[c/32].Effective |= 1 << (c % 32)
	}
	if err := unix.Capset(&header, &few[0]); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Capset(&header, &full[0]); err != nil {
			t.Fatal(err)
		}
	}()
	return f()
}

// BenchmarkVerdict measures the program itself; the kernel repeats it b.N times in one system call.
func BenchmarkVerdict(b *testing.B) {
	for _, frags := range []bool{false, true} {
		s := steering(b, frags)
		for _, c := range verdictCases() {
			if !c.bench {
				continue
			}
			b.Run(fmt.Sprintf("%s frags=%v", c.name, frags), func(b *testing.B) {
				if _, err := s.Program().Run(&ebpf.RunOptions{Data: c.frame, Repeat: uint32(b.N)}); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
