package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// namespaceDir is where ip-netns(8) keeps its names, so that `ip netns exec NAME` works for ours.
const namespaceDir = "/run/netns"

// Namespace is one named network namespace: one host of the lab.
type Namespace struct {
	Name   string
	handle netns.NsHandle
	home   netns.NsHandle // of the process, to return to
}

// namespace makes the host of the given role with its loopback up.
func (l *Lab) namespace(role string) (*Namespace, error) {
	n := &Namespace{Name: namePrefix + l.ID + "-" + role, handle: netns.None(), home: netns.None()}
	if err := l.record.addNamespace(n.Name); err != nil {
		return nil, err
	}
	l.all = append(l.all, n)

	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	n.home = home
	n.handle, err = netns.NewNamed(n.Name)
	n.leave()
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", n.Name, err)
	}
	return n, n.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo in %s: %w", n.Name, err)
		}
		return netlink.LinkSetUp(lo)
	})
}

// leave takes the thread back into the process's own namespace and unlocks it. A thread that cannot go back must not serve other
// goroutines.
func (n *Namespace) leave() {
	if err := netns.Set(n.home); err != nil {
		panic(fmt.Sprintf("leave network namespace %s: %v", n.Name, err))
	}
	runtime.UnlockOSThread()
}

// Do runs f on a thread inside the namespace. Sockets that f opens and files of /proc/thread-self/net and /proc/sys/net that it
// reads belong to the namespace; goroutines that f starts do not run there.
func (n *Namespace) Do(f func() error) error {
	runtime.LockOSThread()
	if err := netns.Set(n.handle); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", n.Name, err)
	}
	defer n.leave()
	return f()
}

// Exec returns the command that runs a program inside the namespace. It is killed when this process dies, and an interrupt typed
// at the terminal does not reach it.
func (n *Namespace) Exec(name string, args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c
}

// Run runs a program inside the namespace to its end, for at most the given time, and returns its standard output. The error of a
// program that fails carries the end of what it said on standard error.
func (n *Namespace) Run(limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name, name}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.WaitDelay = time.Second
	var stderr tail
	c.Stderr = &stderr
	out, err := c.Output()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v", limit)
	}
	if err != nil {
		return string(out), fmt.Errorf("%s in %s: %w: %s", name, n.Name, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// Dial connects from inside the namespace. The address must be numeric: a look-up would happen on another thread.
func (n *Namespace) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen listens inside the namespace. The address must be numeric.
func (n *Namespace) Listen(network, address string) (ln net.Listener, err error) {
	err = n.Do(func() error {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

// WaitTCP waits until something in the namespace's reach accepts a connection.
func (n *Namespace) WaitTCP(address string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		c, err := n.Dial(ctx, "tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s from %s: %w", address, n.Name, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Processes returns the ids of the processes that are in the namespace.
func (n *Namespace) Processes() ([]int, error) { return processesIn(n.Name) }

func (n *Namespace) remove() error {
	err := removeNamespace(n.Name)
	for _, h := range []*netns.NsHandle{&n.handle, &n.home} {
		if h.IsOpen() {
			err = errors.Join(err, h.Close())
		}
	}
	return err
}

// removeNamespace kills what runs in a namespace, deletes its veths (the far ends go with them) and takes its name away. A
// namespace that does not exist is no error.
func removeNamespace(name string) error {
	path := filepath.Join(namespaceDir, name)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := killIn(name, 5*time.Second); err != nil {
		return err
	}
	if h, err := netns.GetFromName(name); err == nil {
		err = deleteLinks(h)
		if err = errors.Join(err, h.Close()); err != nil {
			return fmt.Errorf("delete links of %s: %w", name, err)
		}
	}
	// A crash between making the file and mounting the namespace on it leaves a plain file: unmounting it fails, removing works.
	if err := netns.DeleteNamed(name); err != nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("delete network namespace %s: %w", name, err)
		}
	}
	return nil
}

func deleteLinks(ns netns.NsHandle) error {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Type() == "veth" {
			// The pair may just have gone with its other end.
			if err := h.LinkDel(link); err != nil && !errors.Is(err, syscall.ENODEV) {
				return fmt.Errorf("delete %s: %w", link.Attrs().Name, err)
			}
		}
	}
	return nil
}

// killIn kills every process of the namespace and waits until they are gone.
func killIn(name string, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		pids, err := processesIn(name)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			// Between listing and killing the process may end, and its id may not be given away that soon.
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill processes %v of network namespace %s: still there after %v", pids, name, limit)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// processesIn finds the processes of a namespace by the identity (device and inode) of the namespace itself.
func processesIn(name string) ([]int, error) {
	var ns, own, of syscall.Stat_t
	if err := syscall.Stat(filepath.Join(namespaceDir, name), &ns); err != nil {
		return nil, fmt.Errorf("look at network namespace %s: %w", name, err)
	}
	if err := syscall.Stat("/proc/self/ns/net", &own); err != nil {
		return nil, fmt.Errorf("look at own network namespace: %w", err)
	}
	if ns.Dev != own.Dev || ns.Ino == own.Ino { // a plain file left by a crash, or ourselves
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if err := syscall.Stat("/proc/"+e.Name()+"/ns/net", &of); err == nil && of.Dev == ns.Dev && of.Ino == ns.Ino {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
