package lab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ringroad/hack/lab/faultlink"
	"ringroad/hack/lab/rss"
)

// The addresses of the lab. Both prefixes of a family are reached through the edge.
var (
	EdgeToClient4  = netip.MustParseAddr("10.1.0.1")
	EdgeToClient6  = netip.MustParseAddr("fd00:1::1")
	Client4        = netip.MustParseAddr("10.1.0.2")
	Client6        = netip.MustParseAddr("fd00:1::2")
	EdgeToBackend4 = netip.MustParseAddr("10.2.0.1")
	EdgeToBackend6 = netip.MustParseAddr("fd00:2::1")
	Backend4       = netip.MustParseAddr("10.2.0.2")
	Backend6       = netip.MustParseAddr("fd00:2::2")
)

// The ports that the backend answers on.
const (
	NginxPort = 8080 // nginx, or the Go server where nginx is not installed
	GoPort    = 8081 // the Go server (package backend)
)

// The interfaces of the edge that ringroad is attached to, and those at their other ends.
const (
	EdgeClientLink  = "e0"
	EdgeBackendLink = "e1"
	ClientLink      = "c0"
	BackendLink     = "b0"
)

// Options says what lab to make. The zero value is a lab of one queue and MTU 1500, with filled checksums and without loss.
type Options struct {
	Queues int // receive and transmit queues of each veth; 0 means 1
	MTU    int // of every veth, bytes; 0 means 1500

	// RSS makes the edge's interfaces distribute what they receive over their queues by this key, as a NIC would whose table is
	// entry % Queues. nil leaves it to the sending kernels: then a connection stays on one queue, which nobody can foretell.
	RSS rss.Key

	Offloads Offloads // of every veth

	// NoQdisc leaves what sends to the edge without a queueing discipline. Then a frame that finds the edge's ring full, 256 frames in
	// native mode of XDP, is lost, as in a NIC that is flooded; with one its sender waits (Linux 6.18 and later; before, it may be lost too).
	NoQdisc bool

	Forward bool // the edge forwards packets, so that the client can reach the backend without a proxy

	ClientFault  *faultlink.Options // faults between client and edge; nil means a plain veth pair
	BackendFault *faultlink.Options // faults between edge and backend

	Files map[string]int64 // files that /f/ of the backends serves: name to size in bytes
}

// Offloads says what the kernel leaves to a veth to do, as it would to a NIC.
type Offloads int

const (
	// ChecksumsFilled turns transmit checksum offload off, and TCP segmentation offload with it: frames are as on a wire. The kernel
	// still builds large segments and cuts them at the interface.
	ChecksumsFilled Offloads = iota
	// OffloadsOn leaves veths as they are made. Frames of a kernel peer carry unfilled TCP checksums, and TCP segments larger than the
	// MTU reach a peer that takes them; a receiver that verifies checksums must reject them all.
	OffloadsOn
	// OffloadsOff turns everything off that lets the kernel work on more than one frame at a time, generic segmentation and receive
	// offload and scatter-gather included: it pays for each frame, as ringroad does.
	OffloadsOff
)

// Lab is a network that is up. Its methods may be called from any goroutine.
type Lab struct {
	ID      string
	Client  *Namespace
	Edge    *Namespace
	Backend *Namespace
	Dir     string // temporary directory of this run; readable by everybody
	Files   string // directory of the files that the backends serve; in memory where the machine has /dev/shm

	ClientWire  *Wire // between client and edge; nil unless it was given faults
	BackendWire *Wire // between edge and backend

	options Options
	record  *record
	all     []*Namespace // every namespace, the wires' too, in the order they were made
	rss     []io.Closer  // programs of RSS on what sends to the edge

	mu        sync.Mutex
	processes []*Process
	closed    sync.Once
	closeErr  error
	ending    atomic.Bool // a signal has come
}

// Up removes what dead runs have left, makes a lab and starts the backends in it. It needs root. When it fails nothing is left.
func Up(o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("make lab: network namespaces need root; run as root")
	}
	if o.Queues == 0 {
		o.Queues = 1
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	if err := sweep(); err != nil {
		return nil, fmt.Errorf("remove leftovers of earlier labs: %w", err)
	}
	l := &Lab{options: o}
	if err := l.up(); err != nil {
		return nil, errors.Join(fmt.Errorf("make lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) up() error {
	if err := l.register(); err != nil {
		return err
	}
	if err := l.wireUp(); err != nil {
		return err
	}
	if err := l.writeFiles(); err != nil {
		return err
	}
	return l.startBackends()
}

// register takes an id, enters the run in the registry and makes its directories. From here on a crash leaves nothing for good.
func (l *Lab) register() error {
	r, err := newRecord()
	if err != nil {
		return err
	}
	l.record, l.ID, l.Dir = r, r.ID, r.Dirs[0]
	l.Files = filepath.Join(r.Dirs[len(r.Dirs)-1], "f")
	for _, dir := range []string{l.Dir, l.Files} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory of the lab: %w", err)
		}
	}
	return nil
}

// wireUp makes the three hosts and the links between them.
func (l *Lab) wireUp() (err error) {
	for _, host := range []struct {
		at   **Namespace
		role string
	}{{&l.Client, "client"}, {&l.Edge, "edge"}, {&l.Backend, "backend"}} {
		if *host.at, err = l.namespace(host.role); err != nil {
			return err
		}
	}
	c0 := end{l.Client, ClientLink, []netip.Prefix{prefixOf(Client4), prefixOf(Client6)}}
	e0 := end{l.Edge, EdgeClientLink, []netip.Prefix{prefixOf(EdgeToClient4), prefixOf(EdgeToClient6)}}
	e1 := end{l.Edge, EdgeBackendLink, []netip.Prefix{prefixOf(EdgeToBackend4), prefixOf(EdgeToBackend6)}}
	b0 := end{l.Backend, BackendLink, []netip.Prefix{prefixOf(Backend4), prefixOf(Backend6)}}
	if l.ClientWire, err = l.wire("client-wire", c0, e0, l.options.ClientFault); err != nil {
		return err
	}
	if l.BackendWire, err = l.wire("backend-wire", e1, b0, l.options.BackendFault); err != nil {
		return err
	}
	if err := l.Client.defaultRoutes(ClientLink, EdgeToClient4, EdgeToClient6); err != nil {
		return err
	}
	if err := l.Backend.defaultRoutes(BackendLink, EdgeToBackend4, EdgeToBackend6); err != nil {
		return err
	}
	return l.tune()
}

// Options returns what the lab was made with, defaults filled in.
func (l *Lab) Options() Options { return l.options }

// Close stops what runs in the lab and removes it. Later calls return what the first one did.
func (l *Lab) Close() error {
	l.closed.Do(func() { l.closeErr = l.close() })
	return l.closeErr
}

func (l *Lab) close() error {
	l.mu.Lock()
	processes := l.processes
	l.mu.Unlock()
	var errs []error
	for _, p := range processes {
		_ = p.signal(syscall.SIGTERM) // all at once; fails only for one that has ended
	}
	for _, p := range processes {
		p.Stop(2 * time.Second)
	}
	for _, program := range l.rss {
		errs = append(errs, program.Close())
	}
	for _, n := range l.all {
		errs = append(errs, n.remove())
	}
	if l.record != nil {
		errs = append(errs, l.record.remove())
	}
	return errors.Join(errs...)
}

// CloseOnSignal removes the labs and ends the program with the given status when it is interrupted, terminated or hung up, until the
// function that it returns is called. A program has one at a time.
func CloseOnSignal(status int, labs ...*Lab) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, ok := <-c; !ok {
			return
		}
		for _, l := range labs {
			l.ending.Store(true)
		}
		for _, l := range labs {
			if err := l.Close(); err != nil {
				fmt.Fprintln(os.Stderr, "remove lab:", err)
				status = 1
			}
		}
		os.Exit(status)
	}()
	return func() {
		signal.Stop(c)
		close(c)
	}
}

// EndedBySignal returns at once while no signal has come that ends the program (see CloseOnSignal), and never afterwards: what fails
// then fails because everything is being taken away, and is not worth a report.
func (l *Lab) EndedBySignal() {
	if l.ending.Load() {
		select {}
	}
}

func prefixOf(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 24)
	}
	return netip.PrefixFrom(a, 64)
}
