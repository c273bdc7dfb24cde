package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// attempts makes system calls that a worker has no business with.
func attempts() map[string]string {
	result := map[string]string{}
	try := func(name string, err error) {
		result[name] = "succeeds"
		if err != nil {
			result[name] = err.Error()
		}
	}
	raw := func(number, a, b, c uintptr) error {
		if _, _, errno := syscall.Syscall(number, a, b, c); errno != 0 {
			return errno
		}
		return nil
	}
	_, err := os.Open("/etc/hostname")
	try("open for reading", err)
	_, err = os.Create(os.TempDir() + "/jail")
	try("open for writing", err)
	_, err = os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	try("open own memory", err)
	try("remove", os.Remove("/nothing"))
	try("execute", syscall.Exec("/bin/true", []string{"true"}, nil))
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	try("TCP socket", err)
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	try("UDP socket", err)
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	try("unix socket", err)
	_, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW, 0)
	try("AF_XDP socket", err)
	_, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER)
	try("netfilter socket", err)
	try("become root", raw(unix.SYS_SETUID, 0, 0, 0))
	try("raise a limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	try("bpf", raw(unix.SYS_BPF, 0, 0, 0))
	try("ptrace", raw(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0))
	try("mount", unix.Mount("none", "/mnt", "tmpfs", 0, ""))
	try("new namespace", unix.Unshare(unix.CLONE_NEWUSER))
	try("new namespace by clone", raw(unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD), 0, 0))
	try("fork", raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0))
	try("clone3", raw(unix.SYS_CLONE3, 0, 0, 0))
	try("kill the parent", unix.Kill(os.Getppid(), unix.SIGKILL))
	try("kill all", unix.Kill(-1, 0))
	_, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	try("executable memory", err)
	try("io_uring", raw(unix.SYS_IO_URING_SETUP, 1, 0, 0))
	try("own descriptor's owner", raw(unix.SYS_FCNTL, 0, unix.F_SETOWN, 1))
	try("dumpable again", unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
	try("ioctl", raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, 0))
	return result
}
