// Package worker is a worker process and what its master needs to know of it.
//
// A worker wires its queues to one event loop: AF_XDP sockets on each interface, a
// TCP stack on them, the proxy on the stack (worker.go). It shares nothing with
// another worker but the rings by which frames are handed over.
//
// The process (process.go) is started by the master with a socket, over which it
// is told what to do (channel.go, protocol.go). Once its sockets are bound it gives
// up every privilege (package sandbox): what needs one, or a file, it is given by
// the master. What it counts it shows on a page of shared memory (page.go).
package worker

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/trace"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/config"
	"ringroad/stack"
)

// Options are what a worker is given.
type Options struct {
	*Start
	Config    *config.Config
	Log       *slog.Logger
	AccessLog io.Writer // nil: none
	files     files
}

// Worker owns its queues from New to the end of Run.
type Worker struct {
	index, workers int
	ports          config.PortRange // of this worker's connections to backends
	links          []link
	waiter         *dataplane.Waiter
	neighbours     *dataplane.Neighbours
	handover       *dataplane.Handover // nil: there is one worker
	stack          *stack.Stack
	proxy          *proxy.Worker
	memory         *Memory
	page           *Page
	tap            *capture.Tap    // nil: no capture; loop only
	recorder       *trace.Recorder // nil: no trace; loop only
	ringEntries    int             // of every ring

	values   *values // what was published last
	reader   processReader
	handed   dataplane.HandoverStats
	log      *slog.Logger
	nextTick time.Time // of memory and warnings
}

// link is an interface with the worker's sockets on it.
type link struct {
	Link
	queues      []queue
	invalid     uint64    // descriptors that were told of
	nextWarning time.Time // when they may be again
}

type queue struct {
	*dataplane.Queue
	number int
}

// New binds the sockets, builds the stack and listens. Frames may come once the
// master has entered the sockets; they are answered once Run runs.
func New(o Options) (*Worker, error) {
	w := &Worker{index: o.Index, workers: o.Workers, log: o.Log}
	if err := w.build(o); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *Worker) build(o Options) (err error) {
	c := o.Config
	if w.memory, err = NewMemory(); err != nil {
		return err
	}
	w.ports.First, w.ports.Last = stack.PortBlock(c.BackendPorts.First, c.BackendPorts.Last, w.index, w.workers)
	if w.page, err = OpenPage(o.files.page, o.Links); err != nil {
		return err
	}
	w.values = newValues(o.Links)
	table, err := openClients(o.files.clients, c.Limits.Client.Entries, w.index, w.workers)
	if err != nil {
		return err
	}
	flows, err := bpf.OpenFlows(o.files.flood, o.files.flows, w.index)
	if err != nil {
		return err
	}
	queues, err := w.openQueues(o)
	if err != nil {
		return err
	}
	if w.waiter, err = dataplane.NewWaiter(queues); err != nil {
		return err
	}
	indexes := make([]int, len(w.links))
	links := make([]stack.Link, len(w.links))
	for i := range w.links {
		l := &w.links[i]
		indexes[i] = l.Index
		links[i] = stack.Link{
			Name: l.Name, Index: l.Index, Device: l.queues[0], MAC: l.MAC, MTU: l.MTU,
			Addresses: l.Addresses,
			Checksums: checksums(c.RXChecksum, l.Driver),
			Placement: w.placement(l.RSS),
		}
		if links[i].AnswerSYNs, err = l.answerSYNs(o.files.answers[i]); err != nil {
			return err
		}
		for k, q := range l.queues {
			if k > 0 {
				links[i].More = append(links[i].More, q)
			}
			links[i].ReceiveBytes += q.Levels().Fill * min(l.MTU, q.Levels().FrameBytes) // nothing has come yet
		}
	}
	if w.neighbours, err = dataplane.NewNeighbours(indexes...); err != nil {
		return err
	}
	s := stack.Config{
		Links: links, Resolver: w.neighbours, Waiter: w.waiter,
		Worker: w.index, Workers: w.workers,
		FirstPort: c.BackendPorts.First, LastPort: c.BackendPorts.Last,
		Flows:     flows,
		TCP:       tcpOptions(&c.TCP),
		Spin:      spin(c),
		CookieKey: o.Cookies,
	}
	if w.workers > 1 {
		w.handover, err = dataplane.OpenHandover(dataplane.HandoverOptions{
			Memory: o.files.memory, Bells: o.files.bells, Self: w.index, Stats: &w.handed,
		})
		if err != nil {
			return err
		}
		s.Handover = w.handover
	}
	o.files.close()
	epoch, err := bootTime()
	if err != nil {
		return err
	}
	s.Epoch = epoch
	if w.stack, err = stack.New(s); err != nil { // its clock begins here
		return err
	}
	if w.handover != nil {
		w.handover.Watch(w.stack.Wake)
		w.waiter.Heed(w.handover)
	}
	w.warnUnreachable(c)
	w.proxy, err = proxy.New(proxy.Options{
		Config: c, Stack: w.stack, Log: o.Log, AccessLog: o.AccessLog, Pages: o.Reload.Pages, Stats: &w.values.proxy,
		Clients: table, Epoch: epoch,
		Pulse: w.page.pulse(), Tick: w.tick, TickInterval: tickInterval, IdleTick: idleTick,
	})
	return err
}

// openQueues binds the sockets of every interface.
func (w *Worker) openQueues(o Options) (all []*dataplane.Queue, err error) {
	c := o.Config
	backlog := c.Rings.BacklogBytes
	if backlog == 0 {
		backlog = -1 // zero means the default to the queue
	}
	for i := range o.Links {
		l := link{Link: o.Links[i]}
		w.links = append(w.links, l)
		for k, number := range l.Queues {
			q, err := dataplane.OpenQueue(l.LinkInfo, dataplane.QueueOptions{
				Queue:       number,
				RingEntries: c.Rings.Entries,
				FrameBytes:  c.Rings.FrameBytes,
				Frames:      c.Rings.Frames,
				Backlog:     backlog,
				ZeroCopy:    zeroCopyModes[c.ZeroCopy],
				TXChecksum:  txChecksumModes[c.TXChecksum],
				BusyPoll:    c.BusyPoll,
				Stats:       &w.values.links[i].queues[k].ours,
			})
			if err != nil {
				return nil, err
			}
			w.links[i].queues = append(w.links[i].queues, queue{q, number})
			w.ringEntries = q.Levels().RingEntries
			all = append(all, q)
			o.Log.Info("queue open", "interface", l.Name, "queue", number, "driver", l.Driver,
				"mode", l.Mode.String(), "zero_copy", q.ZeroCopy(), "reason", q.ZeroCopyReason(),
				"tx_checksum", q.TXChecksum(), "tx_checksum_reason", q.TXChecksumReason())
		}
	}
	return all, nil
}

// answerSYNs has the XDP program answer the SYNs of the worker's queues of l.
func (l *link) answerSYNs(f *os.File) (func(until time.Duration), error) {
	answers, err := dataplane.OpenAnswers(f, slices.Max(l.Queues)+1)
	if err != nil {
		return nil, err
	}
	return func(until time.Duration) {
		for _, q := range l.Queues {
			answers.Until(q, until)
		}
	}, nil
}

// placement chooses source ports for a NIC that places flows by r; nil: nothing is
// known, or nothing has to be chosen.
func (w *Worker) placement(r *dataplane.RSS) stack.Placement {
	if r == nil || w.workers == 1 {
		return nil
	}
	return dataplane.NewPlacement(r, w.index, w.workers, w.ports.First, w.ports.Last)
}

// warnUnreachable tells of backends to which no route leads by the worker's
// interfaces: requests for them will be answered 502 until there is one. One worker
// says it for all.
func (w *Worker) warnUnreachable(c *config.Config) {
	if w.index != 0 {
		return
	}
	routes := w.neighbours.Routes()
	for _, u := range c.Upstreams {
		for _, s := range u.Servers {
			via := func(r dataplane.Route) bool { return r.Prefix.Contains(s.Addr()) }
			if !slices.ContainsFunc(routes, via) {
				w.log.Warn("no route to the backend by these interfaces: add the interface it is reached by, or a route",
					"backend", s.String(), "upstream", u.Name, "interfaces", c.Interfaces)
			}
		}
	}
}

// Run runs the event loop on the calling goroutine until Stop, or until a
// drain has ended. What the worker holds is released with its process: a confined
// one cannot do it.
func (w *Worker) Run() {
	w.proxy.Run()
	w.publish(time.Now())
	w.stack.Close()
}

// Stop ends Run at once. Any goroutine may call it.
func (w *Worker) Stop() { w.proxy.Stop() }

const (
	// tickInterval is how old the page may be while something happens.
	tickInterval = 100 * time.Millisecond
	// idleTick is how often an idle loop turns, so that the master sees it live: a
	// fourth of the shortest watchdog.
	idleTick = 250 * time.Millisecond
	// memoryInterval is how often Memory.Tick is called.
	memoryInterval = time.Second
	// warningInterval is how often the same warning comes at most.
	warningInterval = time.Minute
)

// tick is called by the loop, between two turns.
func (w *Worker) tick() {
	now := w.stack.WallTime()
	w.publish(now)
	if w.recorder != nil {
		w.recorder.Tick()
	}
	if !now.Before(w.nextTick) {
		w.nextTick = now.Add(memoryInterval)
		w.memory.Tick()
		for i := range w.links {
			for _, q := range w.links[i].queues {
				q.Trim()
			}
		}
		w.warnInvalid(now)
	}
}

// warnInvalid tells of frames that a driver handed out and did not have.
func (w *Worker) warnInvalid(now time.Time) {
	for i := range w.links {
		l, invalid := &w.links[i], uint64(0)
		for k := range w.values.links[i].queues {
			invalid += w.values.links[i].queues[k].ours.RXInvalid
		}
		if invalid == l.invalid || now.Before(l.nextWarning) {
			continue
		}
		w.log.Warn("the driver handed out frames that it did not have: they were dropped, and TCP sends them again",
			"interface", l.Name, "driver", l.Driver, "frames", invalid-l.invalid, "remedy", "rings.entries: larger, or zero_copy: off")
		l.invalid, l.nextWarning = invalid, now.Add(warningInterval)
	}
}

// publish shows all statistics on the page. The proxy and the queues count in
// values themselves.
func (w *Worker) publish(now time.Time) {
	v := w.values
	v.loop, v.tcp, v.queues = w.stack.LoopStats(), w.stack.TCPStats(), w.stack.QueueStats()
	v.handover, v.handed = w.handed, w.stack.HandoverStats()
	if w.handover != nil {
		l := w.handover.Levels()
		v.rings = HandoverLevelStats{Out: uint64(l.Out), In: uint64(l.In), RingBytes: uint64(l.RingBytes)}
	}
	w.proxy.ServerStats(v.servers[:])
	w.reader.read(&v.process)
	for i := range w.links {
		l := &w.links[i]
		v.links[i].link = w.stack.LinkStats(l.Index)
		for k, q := range l.queues {
			qv := &v.links[i].queues[k]
			qv.levels.update(q.Levels())
			if kernel, err := q.KernelStats(); err == nil { // the interface may be gone
				qv.kernel = kernel
			}
		}
	}
	w.page.publish(v, now)
}

func (w *Worker) close() error {
	var errs []error
	if w.stack != nil {
		w.stack.Close()
	}
	if w.handover != nil {
		errs = append(errs, w.handover.Close())
	}
	if w.neighbours != nil {
		w.neighbours.Close()
	}
	if w.waiter != nil {
		w.waiter.Close()
	}
	for i := range w.links {
		for _, q := range w.links[i].queues {
			errs = append(errs, q.Close())
		}
	}
	return errors.Join(errs...)
}

var zeroCopyModes = map[config.ZeroCopy]dataplane.ZeroCopyMode{
	config.ZeroCopyAuto: dataplane.ZeroCopyAuto,
	config.ZeroCopyOn:   dataplane.ZeroCopyOn,
	config.ZeroCopyOff:  dataplane.ZeroCopyOff,
}

var txChecksumModes = map[config.TXChecksum]dataplane.TXChecksumMode{
	config.TXChecksumAuto:     dataplane.TXChecksumAuto,
	config.TXChecksumSoftware: dataplane.TXChecksumSoftware,
	config.TXChecksumOffload:  dataplane.TXChecksumOffload,
}

// checksums decides rx_checksum. Kernel peers on veth hand frames over whose
// checksums are not filled in.
func checksums(c config.RXChecksum, driver string) stack.Checksums {
	switch {
	case c == config.RXChecksumTrust:
		return stack.ChecksumsAny
	case c == config.RXChecksumAuto && driver == "veth":
		return stack.ChecksumsUnfilled
	}
	return stack.ChecksumsRight
}

func spin(c *config.Config) time.Duration {
	if c.Wait == config.WaitSpin {
		return c.SpinBudget
	}
	return 0
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
