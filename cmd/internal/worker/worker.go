// Package worker wires one set of queues to one event loop: an AF_XDP socket
// on each interface, a TCP stack on them, the proxy on the stack. It is what a
// worker process runs; nothing in it is shared with another worker.
package worker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/config"
	"ringroad/stack"
)

// Options are what a worker is given.
type Options struct {
	Config     *config.Config
	Interfaces []*dataplane.Interface
	Queue      int // of every interface
	Log        *slog.Logger
	AccessLog  io.Writer // nil: none
}

// Worker owns its queues from New to the end of Run.
type Worker struct {
	queues     []*dataplane.Queue
	interfaces []*dataplane.Interface
	waiter     *dataplane.Waiter
	neighbours *dataplane.Neighbours
	stack      *stack.Stack
	proxy      *proxy.Worker
}

// New binds the sockets, builds the stack and listens. Frames may come from
// then on; they are answered once Run runs.
func New(o Options) (*Worker, error) {
	w := &Worker{interfaces: o.Interfaces}
	if err := w.build(o); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *Worker) build(o Options) error {
	c := o.Config
	indexes := make([]int, 0, len(o.Interfaces))
	for _, i := range o.Interfaces {
		q, err := i.OpenQueue(dataplane.QueueOptions{
			Queue:       o.Queue,
			RingEntries: c.Rings.Entries,
			FrameBytes:  frameBytes(c.Rings.FrameBytes, i.MTU()),
			Frames:      c.Rings.Frames,
			ZeroCopy:    zeroCopyModes[c.ZeroCopy],
		})
		if err != nil {
			return err
		}
		w.queues = append(w.queues, q)
		indexes = append(indexes, i.Index())
		o.Log.Info("queue open", "interface", i.Name(), "queue", o.Queue, "driver", i.Driver(),
			"mode", i.Mode().String(), "zero_copy", q.ZeroCopy())
	}
	var err error
	if w.waiter, err = dataplane.NewWaiter(w.queues); err != nil {
		return err
	}
	if w.neighbours, err = dataplane.NewNeighbours(indexes...); err != nil {
		return err
	}
	links := make([]stack.Link, len(o.Interfaces))
	for k, i := range o.Interfaces {
		addresses, err := i.Addresses()
		if err != nil {
			return err
		}
		links[k] = stack.Link{
			Name: i.Name(), Index: i.Index(), Device: w.queues[k], MAC: i.MAC(), MTU: i.MTU(),
			Addresses:     addresses,
			TrustChecksum: trustChecksum(c.RXChecksum, i.Driver()),
		}
	}
	w.stack, err = stack.New(stack.Config{
		Links: links, Resolver: w.neighbours, Waiter: w.waiter,
		FirstPort: c.BackendPorts.First, LastPort: c.BackendPorts.Last,
		TCP:  tcpOptions(&c.TCP),
		Spin: spin(c),
	})
	if err != nil {
		return err
	}
	w.warnUnreachable(o)
	w.proxy, err = proxy.New(proxy.Options{Config: c, Stack: w.stack, Log: o.Log, AccessLog: o.AccessLog})
	return err
}

// warnUnreachable tells of backends to which no route leads by the worker's
// interfaces: requests for them will be answered 502 until there is one.
func (w *Worker) warnUnreachable(o Options) {
	routes := w.neighbours.Routes()
	for _, u := range o.Config.Upstreams {
		for _, s := range u.Servers {
			via := func(r dataplane.Route) bool { return r.Prefix.Contains(s.Addr()) }
			if !slices.ContainsFunc(routes, via) {
				o.Log.Warn("no route to the backend by these interfaces: add the interface it is reached by, or a route",
					"backend", s.String(), "upstream", u.Name, "interfaces", o.Config.Interfaces)
			}
		}
	}
}

// Run runs the event loop on the calling goroutine until Stop, or until a
// drain has ended, and releases everything.
func (w *Worker) Run() error {
	w.proxy.Run()
	return w.close()
}

// Stop ends Run at once. Any goroutine may call it.
func (w *Worker) Stop() { w.proxy.Stop() }

// Drain makes Run end when the exchanges under way have. Any goroutine may
// call it.
func (w *Worker) Drain() { w.proxy.Drain() }

// Check reports an interface that was removed: its sockets will never receive
// again, and nothing wakes the loop to find out. Any goroutine may call it. A
// loop that does not answer in time is no error here.
func (w *Worker) Check() error {
	found := make(chan error, 1)
	w.proxy.Post(func() {
		var errs []error
		for _, q := range w.queues {
			errs = append(errs, q.Check())
		}
		found <- errors.Join(errs...)
	})
	select {
	case err := <-found:
		return err
	case <-time.After(snapshotTimeout):
		return nil
	}
}

func (w *Worker) close() error {
	var errs []error
	if w.stack != nil {
		w.stack.Close()
	}
	if w.neighbours != nil {
		w.neighbours.Close()
	}
	if w.waiter != nil {
		w.waiter.Close()
	}
	for _, q := range w.queues {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

var zeroCopyModes = map[config.ZeroCopy]dataplane.ZeroCopyMode{
	config.ZeroCopyAuto: dataplane.ZeroCopyAuto,
	config.ZeroCopyOn:   dataplane.ZeroCopyOn,
	config.ZeroCopyOff:  dataplane.ZeroCopyOff,
}

// trustChecksum decides rx_checksum. Kernel peers on veth hand frames over
// whose checksums are not filled in.
func trustChecksum(c config.RXChecksum, driver string) bool {
	return c == config.RXChecksumTrust || c == config.RXChecksumAuto && driver == "veth"
}

func spin(c *config.Config) time.Duration {
	if c.Wait == config.WaitSpin {
		return c.SpinBudget
	}
	return 0
}

// frameBytes chooses the frame size for `rings.frame_bytes: auto`: the smallest
// that holds a frame of the MTU behind the kernel's headroom.
func frameBytes(configured, mtu int) int {
	const small, large, headroom, linkHeader = 2048, 4096, 256, 22
	switch {
	case configured != 0:
		return configured
	case mtu+linkHeader <= small-headroom:
		return small
	default:
		return large
	}
}

func tcpOptions(c *config.TCP) stack.TCPOptions {
	delay := c.ACKDelay
	if delay == 0 {
		delay = -1 // zero means the default to the stack
	}
	return stack.TCPOptions{
		CongestionControl: string(c.CongestionControl),
		NoSACK:            !c.SACK,
		NoRACK:            !c.RACK,
		NoAutoTuning:      !c.AutoTuning,
		AckDelay:          delay,
		TimeWait:          c.TimeWait,
		FinWait2:          c.FinWait,
		MinRTO:            c.MinRTO,
		SynRetries:        c.SYNRetries,
		MaxRetries:        c.Retries,
		ReceiveBuffer:     buffer(c.ReceiveBuffer),
		SendBuffer:        buffer(c.SendBuffer),
	}
}

func buffer(b config.Buffer) stack.Buffer {
	return stack.Buffer{Min: b.MinBytes, Default: b.DefaultBytes, Max: b.MaxBytes}
}

// Addresses returns the addresses by which clients can reach an interface, for
// messages.
func Addresses(i *dataplane.Interface) ([]netip.Addr, error) {
	prefixes, err := i.Addresses()
	if err != nil {
		return nil, fmt.Errorf("read the addresses of %s: %w", i.Name(), err)
	}
	var own []netip.Addr
	for _, p := range prefixes {
		if !p.Addr().IsLinkLocalUnicast() {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own, nil
}
