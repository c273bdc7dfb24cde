package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringroad/cmd/internal/sandbox"
)

// worker holds what has to be open before.
type worker struct {
	log    *os.File
	left   net.Conn // a socket to itself
	right  net.Conn
	silent [2]int // a pipe that nobody writes to, in blocking mode
}

func prepare() (*worker, error) {
	w := &worker{}
	var err error
	if w.log, err = os.CreateTemp("", "jail"); err != nil {
		return nil, err
	}
	if err := os.Remove(w.log.Name()); err != nil {
		return nil, err
	}
	if err := syscall.Pipe(w.silent[:]); err != nil {
		return nil, err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if w.left, err = conn(ends[0]); err != nil {
		return nil, err
	}
	w.right, err = conn(ends[1])
	return w, err
}

func conn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	return net.FileConn(f)
}

// block keeps n threads in system calls, for ever.
func (w *worker) block(n int) {
	var started sync.WaitGroup
	for range n {
		started.Add(1)
		go func() {
			runtime.LockOSThread()
			started.Done()
			_, _ = syscall.Read(w.silent[0], make([]byte, 1))
		}()
	}
	started.Wait()
}

// work does what a Go program does and returns what failed.
func (w *worker) work() []string {
	var failures []string
	for name, f := range map[string]func() error{
		"collect":         collect,
		"timer":           timer,
		"thread's end":    threadEnd,
		"panics":          panics,
		"profile":         profile,
		"poller":          w.poller,
		"open file":       w.openFile,
		"signal":          signals,
		"random":          random,
		"netlink":         list,
		"pipe":            pipe,
		"pin":             pin,
		"resource limits": limits,
	} {
		if err := f(); err != nil {
			failures = append(failures, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return failures
}

func collect() error {
	kept := make(chan [][]byte, 8)
	for range cap(kept) {
		go func() {
			var b [][]byte
			for range 64 {
				b = append(b, bytes.Repeat([]byte{1}, 64<<10))
			}
			kept <- b
		}()
	}
	for range cap(kept) {
		<-kept
	}
	runtime.GC()
	debug.FreeOSMemory()
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
	metrics.Read(m)
	if m[0].Value.Uint64() == 0 {
		return errors.New("no metrics")
	}
	return nil
}

func timer() error {
	before := time.Now()
	<-time.After(time.Millisecond)
	if !time.Now().After(before) {
		return errors.New("time stands still")
	}
	_ = time.Now().Local().Format(time.RFC1123Z)
	return nil
}

// threadEnd ends a thread: its goroutine returns while it is locked.
func threadEnd() error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
	}()
	<-done
	return nil
}

func panics() (err error) {
	defer func() {
		if recover() == nil {
			err = errors.New("no panic")
		}
	}()
	var none *report
	none.Log = "a segmentation fault, which the runtime makes a panic"
	return nil
}

func profile() error {
	var out bytes.Buffer
	if err := pprof.StartCPUProfile(&out); err != nil {
		return err
	}
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
	}
	pprof.StopCPUProfile()
	if out.Len() == 0 {
		return errors.New("empty")
	}
	return pprof.Lookup("goroutine").WriteTo(io.Discard, 1)
}

// poller sends a descriptor through the netpoller, after waiting in it.
func (w *worker) poller() error {
	if err := w.left.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	if _, err := w.left.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("read with a deadline: %w", err)
	}
	if err := w.left.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	got := make(chan error, 1)
	go func() {
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := w.left.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
		if err == nil {
			err = descriptor(oob[:n])
		}
		got <- err
	}()
	if _, _, err := w.right.(*net.UnixConn).WriteMsgUnix([]byte{1}, unix.UnixRights(int(w.log.Fd())), nil); err != nil {
		return err
	}
	return <-got
}

func descriptor(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fds[0]), "passed")
	defer f.Close()
	_, err = f.WriteString("through a descriptor that came later\n")
	return err
}

func (w *worker) openFile() error {
	if _, err := w.log.WriteString("line\n"); err != nil {
		return err
	}
	_, err := w.log.Stat()
	return err
}

func signals() error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGUSR1)
	defer signal.Stop(c)
	if err := unix.Kill(os.Getpid(), unix.SIGUSR1); err != nil {
		return err
	}
	<-c
	return nil
}

func random() error {
	_, err := rand.Read(make([]byte, 1<<16))
	return err
}

func list() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = h.NeighList(0, netlink.FAMILY_ALL)
	return err
}

func pipe() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := w.WriteString("x"); err != nil {
		return err
	}
	return w.Close()
}

func pin() error {
	cpus, err := sandbox.AllowedCPUs()
	if err != nil {
		return err
	}
	if len(cpus) != 1 {
		return fmt.Errorf("on %v", cpus)
	}
	return sandbox.Pin(cpus[0])
}

func limits() error {
	var l unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
}
