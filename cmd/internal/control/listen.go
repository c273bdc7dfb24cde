package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxPathBytes is what a unix socket's address holds, its final zero aside.
	maxPathBytes = len(unix.RawSockaddrUnix{}.Path) - 1
	// lockTimeout bounds how long Lock waits for another one in the same folder.
	lockTimeout = 5 * time.Second
	// probeTimeout bounds how long Listen waits for the owner of the socket to say
	// who it is.
	probeTimeout = 2 * time.Second
)

// Listen makes the control socket, readable and writable for its owner alone,
// and its folder when it is missing. A socket that a killed process left behind
// is replaced; one that somebody answers on is an error, and so is any other
// file of that name. Closing the listener removes the socket.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path, elsewhere)
	if errors.Is(err, errInUse) {
		err = fmt.Errorf("%s %w by %s: end it first, or name another place with --control", path, errInUse, ownerOf(path))
	}
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return l, nil
}

// elsewhere is what to do about a path that cannot be.
const elsewhere = "name another place with --control"

// ListenUnix makes another socket in the same way, whose file has the given mode.
// remedy says in its errors what to do about the path.
func ListenUnix(path string, mode os.FileMode, remedy string) (net.Listener, error) {
	l, err := listen(path, remedy)
	if errors.Is(err, errInUse) {
		err = fmt.Errorf("%s %w by another process: end it first, or %s", path, errInUse, remedy)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil { // bind has taken the umask off
		return nil, errors.Join(fmt.Errorf("%w; %s", err, remedy), l.Close())
	}
	return l, nil
}

// errInUse: somebody answers on the socket.
var errInUse = errors.New("is in use")

func listen(path, remedy string) (net.Listener, error) {
	if err := checkPath(path, remedy); err != nil {
		return nil, err
	}
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("%w; %s", err, remedy)
	}
	// Two that start together must not both find, and remove, what the other made.
	unlock, err := Lock(folder)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path, remedy); err != nil {
		return nil, err
	}
	c := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		// bind makes the file with the mode of the socket, less the umask, so it
		// is never open to others.
		var modeErr error
		err := conn.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, modeErr)
	}}
	l, err := c.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, remedy)
	}
	return l, nil
}

func checkPath(path, remedy string) error {
	if path == "" {
		return errors.New("the path is empty: " + remedy)
	}
	if len(path) > maxPathBytes {
		return fmt.Errorf("%s: a socket's path has at most %d bytes: %s", path, maxPathBytes, remedy)
	}
	return nil
}

// Lock takes a folder until it is given back: of all that lock it, in whatever
// process, one has it. It waits some seconds for another.
func Lock(folder string) (unlock func(), err error) {
	d, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { d.Close() }, nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w; name a folder of its own with --control", folder, err), d.Close())
		}
	}
}

// removeStale makes room for a socket, unless something is there that is not
// ours to remove.
func removeStale(path, remedy string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket: remove it, or %s", path, remedy)
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil // its owner has just ended
	}
	if err == nil {
		err = conn.Close()
	}
	return errors.Join(errInUse, err)
}

// ownerOf says who answers on a socket, if it says so in time.
func ownerOf(path string) string {
	c, err := Dial(path)
	if err != nil {
		return "another process"
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if s, err := c.Status(ctx); err == nil {
		return fmt.Sprintf("ringroad, process %d", s.PID)
	}
	return fmt.Sprintf("process %d", c.pid)
}

// Answers reports whether somebody answers on the socket.
func Answers(path string) bool {
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		conn.Close() //nolint:errcheck // it was a question
	}
	return err == nil
}

// peer is the process at the other end, 0 for one that this PID namespace does
// not show.
func peer(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		credentials, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, optErr); err != nil {
		return 0, err
	}
	return int(credentials.Pid), nil
}
