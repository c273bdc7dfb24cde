package sandbox

import (
	"slices"

	"golang.org/x/sys/unix"
)

// policy is what a worker may do, as process pid, once it has started. It names
// what the Go runtime and the packages below need; everything else is refused.
func policy(pid int) []rule {
	self := uint32(pid)
	rules := []rule{
		// Memory. Code comes from the binary alone: nothing that could be written
		// may be executed.
		{number: unix.SYS_MMAP, any: [][]condition{{masked(2, unix.PROT_EXEC, 0)}}},
		{number: unix.SYS_MPROTECT, any: [][]condition{{masked(2, unix.PROT_EXEC, 0)}}},

		// Threads, but no processes: the flags must say so and ask for no
		// namespace. Those of clone3 are in memory, where a filter cannot look; a
		// caller that is told that it does not exist falls back to clone.
		{number: unix.SYS_CLONE, any: [][]condition{{masked(0, unix.CLONE_THREAD|namespaces, unix.CLONE_THREAD)}}},
		{number: unix.SYS_CLONE3, errno: unix.ENOSYS},

		// Signals go to this process alone: its siblings have the same user.
		{number: unix.SYS_KILL, any: [][]condition{{is(0, self)}}},
		{number: unix.SYS_TGKILL, any: [][]condition{{is(0, self)}}},

		// F_SETOWN and F_SETSIG would send signals too.
		{number: unix.SYS_FCNTL, any: [][]condition{
			{is(1, unix.F_DUPFD_CLOEXEC)}, {is(1, unix.F_GETFD)}, {is(1, unix.F_SETFD)}, {is(1, unix.F_GETFL)}, {is(1, unix.F_SETFL)},
		}},

		// Pin, and the runtime's count of CPUs.
		{number: unix.SYS_SCHED_SETAFFINITY, any: [][]condition{{is(0, 0)}}},

		// Limits may be read. (os/exec and net read them.)
		{number: unix.SYS_PRLIMIT64, any: [][]condition{
			slices.Concat([]condition{is(0, 0)}, null(2)),
			slices.Concat([]condition{is(0, self)}, null(2)),
		}},

		// The runtime names its mappings for /proc/PID/maps.
		{number: unix.SYS_PRCTL, any: [][]condition{{is(0, unix.PR_SET_VMA), is(1, unix.PR_SET_VMA_ANON_NAME)}}},

		// A question to ethtool takes a netlink socket of its own. All others are
		// open: dataplane's provoking makes its datagram sockets in advance.
		{number: unix.SYS_SOCKET, any: [][]condition{
			{is(0, unix.AF_NETLINK), is(2, unix.NETLINK_ROUTE)},
			{is(0, unix.AF_NETLINK), is(2, unix.NETLINK_GENERIC)},
		}},
		{number: unix.SYS_SETSOCKOPT, any: [][]condition{{is(1, unix.SOL_SOCKET)}, {is(1, unix.SOL_NETLINK)}}},

		// Whoever opens files wants to hear that it is not permitted to, in the
		// words of files.
		{number: unix.SYS_OPENAT, errno: unix.EACCES},
		{number: unix.SYS_OPENAT2, errno: unix.EACCES},
	}
	for _, number := range slices.Concat(unconditional, unconditionalHere) {
		rules = append(rules, rule{number: uint32(number)})
	}
	return append(rules, rulesHere...)
}

// namespaces are the flags of clone that ask for one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// unconditional are the system calls that are allowed whatever their arguments.
var unconditional = []uintptr{
	// The loop's: kicks, sleeping, the handover's bells, the access log.
	unix.SYS_SENDTO,
	unix.SYS_RECVFROM,
	unix.SYS_EPOLL_PWAIT,
	unix.SYS_EPOLL_PWAIT2,
	unix.SYS_EPOLL_CTL,
	unix.SYS_EPOLL_CREATE1,
	unix.SYS_READ,
	unix.SYS_WRITE,
	unix.SYS_READV,
	unix.SYS_WRITEV,
	unix.SYS_PREAD64,
	unix.SYS_PWRITE64,
	unix.SYS_PPOLL,
	unix.SYS_EVENTFD2,
	unix.SYS_PIPE2,

	// Talking to the master and to netlink.
	unix.SYS_SENDMSG,
	unix.SYS_SENDMMSG,
	unix.SYS_RECVMSG,
	unix.SYS_RECVMMSG,
	unix.SYS_BIND,
	unix.SYS_SHUTDOWN,
	unix.SYS_GETSOCKNAME,
	unix.SYS_GETPEERNAME,
	unix.SYS_GETSOCKOPT,

	// Descriptors that are open already.
	unix.SYS_CLOSE,
	unix.SYS_DUP,
	unix.SYS_DUP3,
	unix.SYS_FSTAT,
	unix.SYS_LSEEK,
	unix.SYS_FSYNC,
	unix.SYS_FDATASYNC,

	// Memory, threads and the scheduler.
	unix.SYS_MUNMAP,
	unix.SYS_MADVISE,
	unix.SYS_FUTEX,
	unix.SYS_SET_ROBUST_LIST,
	unix.SYS_RSEQ,
	unix.SYS_MEMBARRIER,
	unix.SYS_SCHED_YIELD,
	unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_GETCPU,
	unix.SYS_EXIT,
	unix.SYS_EXIT_GROUP,

	// Time; the timers are those of CPU profiles.
	unix.SYS_CLOCK_GETTIME,
	unix.SYS_CLOCK_GETRES,
	unix.SYS_CLOCK_NANOSLEEP,
	unix.SYS_GETTIMEOFDAY,
	unix.SYS_NANOSLEEP,
	unix.SYS_SETITIMER,
	unix.SYS_TIMER_CREATE,
	unix.SYS_TIMER_SETTIME,
	unix.SYS_TIMER_DELETE,

	// Signals.
	unix.SYS_RT_SIGACTION,
	unix.SYS_RT_SIGPROCMASK,
	unix.SYS_RT_SIGRETURN,
	unix.SYS_SIGALTSTACK,
	unix.SYS_RESTART_SYSCALL,

	// Questions about oneself.
	unix.SYS_GETPID,
	unix.SYS_GETPPID,
	unix.SYS_GETTID,
	unix.SYS_GETUID,
	unix.SYS_GETEUID,
	unix.SYS_GETGID,
	unix.SYS_GETEGID,
	unix.SYS_GETRLIMIT,
	unix.SYS_GETRUSAGE,
	unix.SYS_GETRANDOM,
	unix.SYS_SYSINFO,
	unix.SYS_UNAME,
}
