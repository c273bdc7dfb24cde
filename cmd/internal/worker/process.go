package worker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"

	"ringroad/cmd/internal/sandbox"
	"ringroad/dataplane"
	"ringroad/proxy"
	"ringroad/proxy/config"
)

// IsProcess reports whether this process was started as a worker.
func IsProcess() bool { return os.Getenv(RoleVariable) == "worker" }

// Main is a worker process: it does what its master says, and ends with it. It
// returns the exit status.
func Main() int {
	// Signals from a terminal and for the master's process group are the
	// master's to act on; SIGTERM ends the worker, and the master notices.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGPIPE)
	// The loop and netstack's processor hand over to each other on one P; with
	// more every segment would cross cores.
	runtime.GOMAXPROCS(1)
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "ringroad: worker:", err)
		return 1
	}
	return 0
}

func serve() error {
	c, err := OpenChannel(os.NewFile(InheritedChannel, "master"))
	if err != nil {
		return err
	}
	p := &process{channel: c}
	if err := p.start(); err != nil {
		// The master reports it with what it knows.
		if sendErr := c.Send(Message{Kind: MessageEnd, Error: err.Error()}); sendErr != nil {
			return errors.Join(err, sendErr)
		}
		return nil
	}
	go p.listen()
	p.worker.Run()
	if p.profile != nil {
		pprof.StopCPUProfile()
		return p.profile.Close()
	}
	return nil
}

// process is what a worker process consists of.
type process struct {
	channel *Channel
	worker  *Worker
	level   slog.LevelVar
	profile *os.File      // nil: none
	reload  *proxy.Reload // prepared; loop only
	next    *config.Config
	access  *logFile // nil: none; loop only
}

// start builds the worker and gives up what it needs no more.
func (p *process) start() error {
	timeout := time.AfterFunc(startTimeout, func() { p.channel.Close() }) //nolint:errcheck // it ends the wait
	m, list, err := p.channel.Receive()
	timeout.Stop()
	if err != nil {
		return fmt.Errorf("wait for the master: %w", err)
	}
	s := m.Start
	if m.Kind != MessageStart || s == nil {
		return fmt.Errorf("the master sent %q first", m.Kind)
	}
	f, ok := s.split(list)
	if !ok {
		return fmt.Errorf("the master sent %d descriptors", len(list))
	}
	if s.CPU >= 0 {
		if err := sandbox.Pin(s.CPU); err != nil {
			return err
		}
	}
	if f.profile != nil {
		if err := pprof.StartCPUProfile(f.profile); err != nil {
			return fmt.Errorf("write the CPU profile: %w", err)
		}
		p.profile = f.profile
	}
	c, err := config.Parse("the master's configuration", []byte(s.Reload.Config))
	if err != nil {
		return err
	}
	p.level.Set(c.Log.Level)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &p.level}))
	if s.Workers > 1 {
		log = log.With("worker", s.Index)
	}
	o := Options{Start: s, Config: c, files: f, Log: log}
	if f.access != nil {
		p.access = &logFile{file: f.access}
		o.AccessLog = p.access
	}
	if p.worker, err = New(o); err != nil {
		return err
	}
	p.worker.memory.Started()
	if err := sandbox.Enter(sandbox.Options{Identity: s.Identity, Parent: s.Master, Log: log}); err != nil {
		return errors.Join(err, p.worker.close())
	}
	ready := Ready{}
	var sockets []int
	for i := range p.worker.links {
		for _, q := range p.worker.links[i].queues {
			ready.Queues = append(ready.Queues, Queue{
				Link: i, Queue: q.number, ZeroCopy: q.ZeroCopy(), Reason: q.ZeroCopyReason(),
				TXChecksum: q.TXChecksum(), TXChecksumReason: q.TXChecksumReason(),
			})
			sockets = append(sockets, q.FD())
		}
	}
	return p.channel.Send(Message{Kind: MessageReady, Ready: &ready}, sockets...)
}

// listen does what the master says, on the loop between two turns.
func (p *process) listen() {
	w := p.worker.proxy
	for {
		m, list, err := p.channel.Receive()
		if err != nil {
			// Without a master nothing is steered here any more, and nobody
			// would ever end this process.
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "ringroad: worker:", err)
			}
			os.Exit(1)
		}
		switch m.Kind {
		case MessagePrepare:
			w.Post(func() { p.answer(m, p.prepare(m.Reload)) })
		case MessageCommit:
			w.Post(func() { p.answer(m, p.commit()) })
		case MessageAbort:
			w.Post(p.abort)
		case MessageAccessLog:
			w.Post(func() { p.setAccessLog(list) })
		case MessageRSS:
			w.Post(func() { p.worker.place(m.RSS.Link, m.RSS.RSS) })
		case MessageAddresses:
			w.Post(func() { p.worker.setAddresses(m.Addresses.Link, m.Addresses.Addresses) })
		case MessageCapture:
			// Mapping the ring takes a moment, which is not the loop's.
			tap, err := p.worker.newTap(m.Capture, list)
			w.Post(func() { p.answer(m, errors.Join(err, p.worker.setTap(tap))) })
		case MessageTrace:
			recorder, err := p.worker.newRecorder(m.Trace, list)
			w.Post(func() { p.answer(m, errors.Join(err, p.worker.setRecorder(recorder))) })
		case MessageDrain:
			w.Drain()
			w.Post(func() { p.answer(m, nil) })
		case MessageConnections:
			p.worker.survey(m.Connections, list)
		case MessageProfile:
			go m.Profile.write(list)
		case MessageStop:
			p.worker.Stop()
		default:
			closeAll(list)
		}
	}
}

func (p *process) answer(m Message, err error) {
	r := Message{Kind: MessageReply, Number: m.Number}
	if err != nil {
		r.Error = err.Error()
	}
	if err := p.channel.Send(r); err != nil {
		os.Exit(1) // the master is gone
	}
}

func (p *process) prepare(r *Reload) error {
	p.abort()
	c, err := config.Parse("the master's configuration", []byte(r.Config))
	if err != nil {
		return err
	}
	if p.reload, err = p.worker.proxy.Prepare(c, r.Pages); err != nil {
		return err
	}
	p.next = c
	return nil
}

func (p *process) commit() error {
	if p.reload == nil {
		return errors.New("nothing is prepared")
	}
	p.reload.Commit()
	p.level.Set(p.next.Log.Level)
	p.worker.warnUnreachable(p.next)
	p.reload, p.next = nil, nil
	return nil
}

func (p *process) abort() {
	if p.reload != nil {
		p.reload.Abort()
		p.reload, p.next = nil, nil
	}
}

// setAccessLog writes access lines to another file, or nowhere.
func (p *process) setAccessLog(list []*os.File) {
	switch {
	case len(list) == 0:
		p.worker.proxy.SetAccessLog(nil)
		p.access = nil // closed by the collector, when its last line is written
	case p.access != nil:
		p.access.swap(list[0])
	default:
		p.access = &logFile{file: list[0]}
		p.worker.proxy.SetAccessLog(p.access)
	}
}

// setAddresses makes the stack answer on the addresses of a link, and on no other.
func (w *Worker) setAddresses(link int, addresses []netip.Prefix) {
	if link < 0 || link >= len(w.links) {
		return
	}
	if err := w.stack.SetAddresses(w.links[link].Index, addresses); err != nil {
		w.log.Error("cannot follow the addresses of an interface", "interface", w.links[link].Name, "error", err)
	}
}

// write writes the profile to the first of the files, and closes them.
func (o *Profile) write(list []*os.File) {
	defer closeAll(list)
	if len(list) == 0 {
		return
	}
	if o.Name != CPUProfile {
		if o.Collect {
			runtime.GC()
		}
		if p := pprof.Lookup(o.Name); p != nil {
			p.WriteTo(list[0], 0) //nolint:errcheck // whoever reads sees that it is cut off
		}
		return
	}
	if err := pprof.StartCPUProfile(list[0]); err != nil {
		return // one is being taken
	}
	time.Sleep(time.Duration(o.Seconds) * time.Second)
	pprof.StopCPUProfile()
}

// place makes connections to backends use ports whose replies a NIC brings to this
// worker.
func (w *Worker) place(link int, r *dataplane.RSS) {
	if link < 0 || link >= len(w.links) {
		return
	}
	w.stack.SetPlacement(w.links[link].Index, w.placement(r))
}
