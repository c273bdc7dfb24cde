package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrCgo: C code is linked in, so the threads of this process cannot be changed
// together.
var ErrCgo = errors.New("this binary contains C code: build it with CGO_ENABLED=0")

// Options say who a worker becomes.
type Options struct {
	// Identity is the user to run as. A process that is neither root nor has
	// CAP_SETUID and CAP_SETGID stays who it is, with a warning.
	Identity Identity
	// Parent is the master's process, with which the worker dies; 0: it outlives
	// it. The kernel means the thread that started the worker: a master must start
	// it from a thread that lives as long as itself (runtime.LockOSThread).
	Parent int
	Log    *slog.Logger // nil: warnings are lost
}

// Enter takes everything from the process that it no longer needs; the package
// comment says what. It is called once. After an error the process is in some
// state between, and should end.
func Enter(o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	_, _ = time.Now().Zone() // reads the file of the time zone, which cannot be opened later
	filter, err := assemble(architecture, policy(os.Getpid()))
	if err != nil {
		return err
	}
	had, err := effective()
	if err != nil {
		return err
	}
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// With the user go the capabilities, so what takes one is done before.
	if had.has(unix.CAP_SETPCAP) {
		if err := dropBoundingSet(); err != nil {
			return fmt.Errorf("drop the bounding set: %w", err)
		}
	} else {
		o.Log.Warn("the capability bounding set stays: dropping it takes CAP_SETPCAP")
	}
	if err := become(o.Identity, had, o.Log); err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("drop the capabilities: %w", err)
	}
	// Other processes of the same user could read the memory of a dumpable one.
	// Where the user changed, fs.suid_dumpable has decided already.
	if err := prctl(unix.PR_SET_DUMPABLE, 0); err != nil {
		return fmt.Errorf("forbid tracing: %w", err)
	}
	if err := dieWith(o.Parent); err != nil {
		return err
	}
	if err := installFilter(filter); err != nil {
		return fmt.Errorf("install the system call filter: %w; the kernel needs CONFIG_SECCOMP_FILTER", err)
	}
	return nil
}

// capabilities is a set of them.
type capabilities uint64

func (c capabilities) has(bits ...uint) bool {
	for _, b := range bits {
		if c&(1<<b) == 0 {
			return false
		}
	}
	return true
}

// effective is what the calling thread may do.
func effective() (capabilities, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read the capability set: %w", err)
	}
	return capabilities(data[1].Effective)<<32 | capabilities(data[0].Effective), nil
}

// dropBoundingSet takes every capability from it that the kernel knows.
func dropBoundingSet() error {
	for c := uintptr(0); ; c++ {
		err := prctl(unix.PR_CAPBSET_DROP, c)
		if errors.Is(err, unix.EINVAL) && c > 0 {
			return nil // beyond the last
		}
		if err != nil {
			return err
		}
	}
}

// become changes user and group and leaves all other groups.
func become(i Identity, had capabilities, log *slog.Logger) error {
	uid, gid := os.Getuid(), os.Getgid()
	if !had.has(unix.CAP_SETUID, unix.CAP_SETGID) {
		if uid != i.UID || gid != i.GID {
			log.Warn("the worker stays the user it is: to become another takes CAP_SETUID and CAP_SETGID",
				"user", i.Name, "uid", uid, "gid", gid)
		}
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leave all groups: %w", explained(err))
	}
	if err := syscall.Setresgid(i.GID, i.GID, i.GID); err != nil {
		return fmt.Errorf("become group %d: %w", i.GID, explained(err))
	}
	if err := syscall.Setresuid(i.UID, i.UID, i.UID); err != nil {
		return fmt.Errorf("become user %s (%d): %w", i.Name, i.UID, explained(err))
	}
	return nil
}

// explained adds what may have gone wrong for a process that has the
// capabilities.
func explained(err error) error {
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: a user namespace that does not map it? name a user that it maps with the key user", err)
	}
	return err
}

// dieWith makes the kernel end the process when its parent ends. Changing the
// user has cleared what the parent asked for when it started it.
func dieWith(parent int) error {
	if parent == 0 {
		return nil
	}
	if err := prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL)); err != nil {
		return fmt.Errorf("ask to end with the master: %w", err)
	}
	// It may have ended before.
	if now := os.Getppid(); now != parent {
		return fmt.Errorf("the master (process %d) has ended", parent)
	}
	return nil
}

// prctl changes every thread of the process.
func prctl(option int, value uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, uintptr(option), value, 0, 0, 0, 0)
	return errorOf(errno)
}

func errorOf(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return ErrCgo // AllThreadsSyscall, without having tried
	}
	return errno
}
