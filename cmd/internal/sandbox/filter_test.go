package sandbox

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// call is a system call as a filter sees it.
type call struct {
	architecture uint32
	number       uint32
	arguments    [6]uint64
}

// judge runs a filter on a call and returns what becomes of it.
func judge(t *testing.T, filter []bpf.RawInstruction, c call) uint32 {
	t.Helper()
	program, ok := bpf.Disassemble(filter)
	if !ok {
		t.Fatal("cannot be disassembled")
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	// The machine reads words as those of a packet; the kernel reads native ones.
	data := make([]byte, offsetArguments+6*8)
	put := func(offset, word uint32) { binary.BigEndian.PutUint32(data[offset:], word) }
	put(offsetNumber, c.number)
	put(offsetArchitecture, c.architecture)
	for n, a := range c.arguments {
		put(lower(n), uint32(a))
		put(lower(n)^4, uint32(a>>32))
	}
	verdict, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(verdict)
}

func TestPolicy(t *testing.T) {
	const (
		self   = 4711
		allow  = uint32(unix.SECCOMP_RET_ALLOW)
		eperm  = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
		eacces = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EACCES)
		enosys = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
		thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD
		minus1 = ^uint64(0)
	)
	filter, err := assemble(architecture, policy(self))
	if err != nil {
		t.Fatal(err)
	}
	if len(filter) > unix.BPF_MAXINSNS {
		t.Errorf("%d instructions, the kernel takes %d", len(filter), unix.BPF_MAXINSNS)
	}
	for _, c := range []struct {
		name string
		call call
		want uint32
	}{
		{"sendto", call{number: unix.SYS_SENDTO, arguments: [6]uint64{minus1, minus1, minus1, minus1, minus1, minus1}}, allow},
		{"futex", call{number: unix.SYS_FUTEX}, allow},
		{"exit_group", call{number: unix.SYS_EXIT_GROUP}, allow},
		{"another architecture", call{architecture: unix.AUDIT_ARCH_I386, number: unix.SYS_SENDTO}, eperm},
		{"x32", call{number: unix.SYS_SENDTO | 0x40000000}, eperm},
		{"unknown number", call{number: 5000}, eperm},
		{"largest number", call{number: ^uint32(0)}, eperm},
		{"execve", call{number: unix.SYS_EXECVE}, eperm},
		{"execveat", call{number: unix.SYS_EXECVEAT}, eperm},
		{"ptrace", call{number: unix.SYS_PTRACE}, eperm},
		{"process_vm_writev", call{number: unix.SYS_PROCESS_VM_WRITEV}, eperm},
		{"bpf", call{number: unix.SYS_BPF}, eperm},
		{"mount", call{number: unix.SYS_MOUNT}, eperm},
		{"connect", call{number: unix.SYS_CONNECT}, eperm},
		{"memfd_create", call{number: unix.SYS_MEMFD_CREATE}, eperm},
		{"capset", call{number: unix.SYS_CAPSET}, eperm},
		{"seccomp", call{number: unix.SYS_SECCOMP}, eperm},
		{"openat", call{number: unix.SYS_OPENAT}, eacces},
		{"openat2", call{number: unix.SYS_OPENAT2}, eacces},
		{"open_by_handle_at", call{number: unix.SYS_OPEN_BY_HANDLE_AT}, eperm},

		{"mmap", call{number: unix.SYS_MMAP, arguments: [6]uint64{2: unix.PROT_READ | unix.PROT_WRITE}}, allow},
		{"mmap executable", call{number: unix.SYS_MMAP, arguments: [6]uint64{2: unix.PROT_READ | unix.PROT_EXEC}}, eperm},
		{"mprotect executable", call{number: unix.SYS_MPROTECT, arguments: [6]uint64{2: unix.PROT_EXEC}}, eperm},
		{"thread", call{number: unix.SYS_CLONE, arguments: [6]uint64{thread}}, allow},
		{"fork", call{number: unix.SYS_CLONE, arguments: [6]uint64{uint64(unix.SIGCHLD)}}, eperm},
		{"thread in a namespace", call{number: unix.SYS_CLONE, arguments: [6]uint64{thread | unix.CLONE_NEWNET}}, eperm},
		{"clone3", call{number: unix.SYS_CLONE3}, enosys},
		{"kill itself", call{number: unix.SYS_KILL, arguments: [6]uint64{self, 9}}, allow},
		{"kill its group", call{number: unix.SYS_KILL, arguments: [6]uint64{0, 9}}, eperm},
		{"kill all", call{number: unix.SYS_KILL, arguments: [6]uint64{minus1, 9}}, eperm},
		{"tgkill another", call{number: unix.SYS_TGKILL, arguments: [6]uint64{self + 1, self + 1, 9}}, eperm},
		{"F_SETFL", call{number: unix.SYS_FCNTL, arguments: [6]uint64{3, unix.F_SETFL}}, allow},
		{"F_SETOWN", call{number: unix.SYS_FCNTL, arguments: [6]uint64{3, unix.F_SETOWN}}, eperm},
		{"read a limit", call{number: unix.SYS_PRLIMIT64, arguments: [6]uint64{3: minus1}}, allow},
		{"read own limit by number", call{number: unix.SYS_PRLIMIT64, arguments: [6]uint64{0: self, 3: minus1}}, allow},
		{"set a limit", call{number: unix.SYS_PRLIMIT64, arguments: [6]uint64{2: 0x1000}}, eperm},
		{"set a limit from high memory", call{number: unix.SYS_PRLIMIT64, arguments: [6]uint64{2: 0x1000_0000_0000}}, eperm},
		{"read another's limit", call{number: unix.SYS_PRLIMIT64, arguments: [6]uint64{0: 1}}, eperm},
		{"netlink route", call{number: unix.SYS_SOCKET, arguments: [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE}}, allow},
		{"netlink audit", call{number: unix.SYS_SOCKET, arguments: [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}}, eperm},
		{"TCP", call{number: unix.SYS_SOCKET, arguments: [6]uint64{unix.AF_INET, unix.SOCK_STREAM}}, eperm},
		// The second argument is the number of write: a rule that does not match must not fall into the next one.
		{"socket of type 1", call{number: unix.SYS_SOCKET, arguments: [6]uint64{unix.AF_UNIX, unix.SYS_WRITE}}, eperm},
		{"SO_RCVTIMEO", call{number: unix.SYS_SETSOCKOPT, arguments: [6]uint64{3, unix.SOL_SOCKET}}, allow},
		{"an option of TCP", call{number: unix.SYS_SETSOCKOPT, arguments: [6]uint64{3, unix.SOL_TCP}}, eperm},
		{"name a mapping", call{number: unix.SYS_PRCTL, arguments: [6]uint64{unix.PR_SET_VMA, unix.PR_SET_VMA_ANON_NAME}}, allow},
		{"dumpable", call{number: unix.SYS_PRCTL, arguments: [6]uint64{unix.PR_SET_DUMPABLE, 1}}, eperm},
	} {
		if c.call.architecture == 0 {
			c.call.architecture = architecture
		}
		if got := judge(t, filter, c.call); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

func TestAssembleRefusesTwoRulesForACall(t *testing.T) {
	if _, err := assemble(architecture, []rule{{number: 1}, {number: 2}, {number: 1}}); err == nil {
		t.Error("assembled")
	}
}
