package stack

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"ringroad/bpf"
)

const (
	defaultBatch = 32
	// turnsAlone is in how many turns with frames the goroutines that netstack's processing does not ask for
	// run once: a switch takes 0.2 us, and many turns have one request.
	turnsAlone = 16
)

// Stack is one worker's TCP over its links. All methods but Wake belong to the
// loop's goroutine.
type Stack struct {
	net      *netstack.Stack
	links    []*link
	resolver Resolver
	waiter   Waiter
	clock    *clock
	poller   *Poller
	watched  watchQueue // connections with output on its way
	sharing  sharing
	spares   spares
	peers    *peers     // nil: alone
	flows    *openFlows // nil: the XDP program is not told
	tcp      TCPOptions
	batch    int
	spin     time.Duration

	now        atomic.Int64 // loop time of this turn, ns; written by the loop
	wall       time.Time    // wall time of this turn
	busy       time.Duration
	queued     bool          // netstack was given segments in this turn, and its goroutine may have to process them
	looked     time.Duration // when fireTimers looked what waits
	due        time.Duration // when the links want a turn; valid iff hasDue
	hasDue     bool
	asleep     atomic.Bool
	generation uint64                // of the routes in use
	outlets    map[netip.Addr]outlet // found with these routes
	done       chan struct{}
	listeners  []*Listener                  // that are open
	refusing   []netstack.TransportEndpoint // those that answer SYNs with RST
	cookies    bpf.CookieKey
	synQueue   synQueue
	opening    opening
	epoch      time.Duration      // system's monotonic time when loop time began
	routes     []hopRoute         // as netstack's, most specific first
	tables     []endpointTable    // of netstack
	received   *tcpip.StatCounter // netstack's count of valid segments
	sent       *tcpip.StatCounter // and of sent ones

	reader bytes.Reader      // the source of a Write
	writer tcpip.SliceWriter // the destination of a Read
	stats  LoopStats

	began    time.Duration // of the turn before; valid iff turning
	turning  bool          // the loop has not slept since
	queues   QueueStats
	accepted uint64 // connections taken off accept queues
}

// New builds the stack. netstack starts GOMAXPROCS processor goroutines for
// it; a worker sets GOMAXPROCS to 1 first.
func New(c Config) (*Stack, error) {
	if len(c.Links) == 0 || c.Resolver == nil || c.Waiter == nil {
		return nil, errors.New("new stack: needs at least one link, a resolver and a waiter")
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.Worker < 0 || c.Worker >= c.Workers {
		return nil, fmt.Errorf("new stack: there is no worker %d of %d", c.Worker, c.Workers)
	}
	if c.Workers > 1 && c.FirstPort == 0 {
		return nil, errors.New("new stack: several workers need backend ports to divide")
	}
	s := &Stack{
		resolver: c.Resolver,
		waiter:   c.Waiter,
		tcp:      c.TCP.withDefaults(),
		batch:    c.Batch,
		spin:     c.Spin,
		done:     make(chan struct{}),
		outlets:  make(map[netip.Addr]outlet),
		cookies:  c.CookieKey,
	}
	if s.cookies == (bpf.CookieKey{}) {
		rand.Read(s.cookies[:]) //nolint:errcheck // it never fails
	}
	if s.batch <= 0 {
		s.batch = defaultBatch
	}
	s.clock = newClock(s.wakeIfAsleep)
	s.clock.epoch, s.epoch = c.Epoch+cookieLead, c.Epoch
	s.poller = &Poller{stack: s}
	s.synQueue.init()
	s.peers = newPeers(&c)
	if c.Flows != nil {
		s.flows = &openFlows{Flows: c.Flows}
	}
	s.tick()
	s.net = netstack.New(netstack.Options{
		NetworkProtocols: []netstack.NetworkProtocolFactory{
			s.lean(ipv4.NewProtocol),
			// Neighbour discovery, router solicitation and MLD stay with the
			// kernel.
			s.lean(ipv6.NewProtocolWithOptions(ipv6.Options{})),
		},
		TransportProtocols: []netstack.TransportProtocolFactory{tcp.NewProtocolCUBIC},
		Clock:              s.clock,
	})
	s.tables = endpointTables(s.net)
	s.received, s.sent = s.net.Stats().TCP.ValidSegmentsReceived, s.net.Stats().TCP.SegmentsSent
	if err := s.setOptions(); err != nil {
		s.net.Destroy()
		return nil, err
	}
	s.opening.init(s.net) // its endpoints have the options
	if c.FirstPort != 0 {
		first, last := PortBlock(c.FirstPort, c.LastPort, c.Worker, c.Workers)
		if err := s.net.SetPortRange(first, last); err != nil {
			s.net.Destroy()
			return nil, fmt.Errorf("set backend ports of %d-%d for worker %d of %d: %w", c.FirstPort, c.LastPort, c.Worker, c.Workers, errorOf(err))
		}
	}
	for i, l := range c.Links {
		if err := s.addLink(tcpip.NICID(i+1), l); err != nil {
			s.net.Destroy()
			return nil, err
		}
	}
	s.updateRoutes()
	go s.followResolver()
	return s, nil
}

// addLink makes l a NIC of netstack.
func (s *Stack) addLink(id tcpip.NICID, l Link) error {
	k, err := newLink(s, id, l)
	if err != nil {
		return err
	}
	k.queue = s.net.TransportProtocolInstance(tcp.ProtocolNumber).(segmentQueuer)
	own := ownAddresses(l.Addresses)
	k.addresses = make(map[netip.Addr]int, len(own))
	s.links = append(s.links, k)
	if err := s.net.CreateNICWithOptions(id, k, netstack.NICOptions{Name: l.Name}); err != nil {
		return fmt.Errorf("add %s to the stack: %w", l.Name, errorOf(err))
	}
	for a, bits := range own {
		if err := s.addAddress(k, netip.PrefixFrom(a, bits)); err != nil {
			return err
		}
	}
	return nil
}

// setOptions hands the TCP options to netstack.
func (s *Stack) setOptions() error {
	o := &s.tcp
	sack := tcpip.TCPSACKEnabled(!o.NoSACK)
	recovery := tcpip.TCPRACKLossDetection
	if o.NoRACK {
		recovery = 0
	}
	congestion := tcpip.CongestionControlOption(o.CongestionControl)
	tuning := tcpip.TCPModerateReceiveBufferOption(!o.NoAutoTuning)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: o.ReceiveBuffer.Min, Default: o.ReceiveBuffer.Default, Max: o.ReceiveBuffer.Max}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: o.SendBuffer.Min, Default: o.SendBuffer.Default, Max: o.SendBuffer.Max}
	timeWait := tcpip.TCPTimeWaitTimeoutOption(netstackTimeWait)
	reuse := tcpip.TCPTimeWaitReuseGlobal
	finWait := tcpip.TCPLingerTimeoutOption(o.FinWait2)
	syn := tcpip.TCPSynRetriesOption(o.SynRetries)
	retries := tcpip.TCPMaxRetriesOption(o.MaxRetries)
	rto := tcpip.TCPMinRTOOption(o.MinRTO)
	for _, v := range []struct {
		name   string
		option tcpip.SettableTransportProtocolOption
	}{
		{"SACK", &sack}, {"recovery", &recovery}, {"congestion control", &congestion}, {"receive buffer auto-tuning", &tuning},
		{"receive buffer", &receive}, {"send buffer", &send}, {"TIME_WAIT", &timeWait}, {"TIME_WAIT reuse", &reuse},
		{"FIN_WAIT_2", &finWait}, {"SYN retries", &syn}, {"retries", &retries}, {"minimum RTO", &rto},
	} {
		if err := s.net.SetTransportProtocolOption(tcp.ProtocolNumber, v.option); err != nil {
			return fmt.Errorf("set TCP %s to %v: %w", v.name, v.option, errorOf(err))
		}
	}
	return nil
}

// Turn begins a loop turn (steps 2 to 4): it takes a batch from every queue and
// from the other workers, hands over what is theirs, lets netstack run, and fires
// due timers. now is the loop time of the turn,
// from an arbitrary origin; work is how many frames came.
func (s *Stack) Turn() (now time.Duration, work int) {
	now = s.tick()
	if s.turning {
		s.stats.TurnLength.ObserveTime(now - s.began)
	}
	s.began, s.turning = now, true
	if s.flows != nil {
		s.tendFlows(now)
	}
	if g := s.resolver.Generation(); g != s.generation {
		s.updateRoutes()
	}
	for _, l := range s.links {
		work += l.receive(s.batch)
	}
	if s.peers != nil {
		work += s.receiveHanded()
		s.peers.flush()
	}
	s.stats.Turns++
	if work > 0 {
		s.stats.BusyTurns++
		s.stats.Batch.Observe(uint64(work))
		if s.queued || s.stats.BusyTurns%turnsAlone == 0 {
			s.queued = false
			runtime.Gosched() // netstack's processor runs
		}
	}
	s.rearm(now)
	s.tendHandshakes(now)
	if s.fireTimers(now) > 0 {
		runtime.Gosched()
	}
	if work > 0 {
		s.busy = now
	}
	return now, work
}

// fireTimers fires the timers that are due and returns how many. What came before a timer was due is taken first: a loop that was
// held up would send again what has long been acknowledged, on its own rings, and go on slowly. The kernel does so where a socket
// is in use: its backlog comes before its timers (tcp_write_timer, TCP_WRITE_TIMER_DEFERRED).
func (s *Stack) fireTimers(now time.Duration) (fired int) {
	if at, ok := s.clock.next(); !ok || at > now {
		return 0
	}
	for _, l := range s.links {
		if slices.Max(l.owed) > 0 {
			return 0
		}
	}
	fired = s.clock.run(s.looked)
	waiting := 0
	for _, l := range s.links {
		for k, d := range l.devices {
			l.owed[k] = d.Waiting()
			waiting += l.owed[k]
		}
	}
	if s.looked = now; waiting == 0 {
		fired += s.clock.run(now)
	}
	return fired
}

// Flush ends a loop turn (steps 6 to 8).
func (s *Stack) Flush() {
	s.hasDue = false
	now := s.Now()
	for _, l := range s.links {
		if next, ok := l.flush(now); ok && (!s.hasDue || next < s.due) {
			s.due, s.hasDue = next, true
		}
	}
}

// Sleep parks the loop until a frame arrives, Wake is called, a timer of the
// stack is due, or the loop time until (negative: no limit) has come. It reports
// whether it parked, or would have but for until: what it looks for first was not there.
func (s *Stack) Sleep(until time.Duration) bool {
	s.turning = false
	if s.spin > 0 && s.Now()-s.busy < s.spin {
		runtime.Gosched()
		return false
	}
	if s.poller.Ready() || s.pendingOutput() {
		return false
	}
	if s.waiter.Poll() {
		s.stats.Polls++
		return false
	}
	s.asleep.Store(true)
	defer s.asleep.Store(false)
	if s.poller.Ready() || s.pendingOutput() {
		return false
	}
	if s.peers != nil {
		if !s.peers.handover.Park() {
			return false
		}
		defer s.peers.handover.Unpark()
	}
	d := time.Duration(-1)
	earliest := func(at time.Duration) {
		if w := max(at-s.clock.elapsed(), 0); d < 0 || w < d {
			d = w
		}
	}
	if until >= 0 {
		earliest(until)
	}
	if at, ok := s.clock.next(); ok {
		earliest(at)
	}
	if at, ok := s.watched.next(); ok {
		earliest(at)
	}
	if at, ok := s.synQueue.next(); ok {
		earliest(at)
	}
	if s.hasDue {
		earliest(s.due)
	}
	if d != 0 {
		s.stats.Sleeps++
	}
	s.waiter.Wait(d)
	return true
}

// pendingOutput reports output that appeared after Flush: the processor may
// have been preempted and run since.
func (s *Stack) pendingOutput() bool {
	for _, l := range s.links {
		l.mu.Lock()
		pending := l.Device.Pending() > 0 && !s.hasDue
		l.mu.Unlock()
		if pending {
			return true
		}
	}
	return false
}

// Wake ends the current or the next Sleep. Any goroutine may call it.
func (s *Stack) Wake() { s.waiter.Wake() }

// wakeIfAsleep is for netstack's goroutine: it makes sure that a sleeping loop
// sees what just happened. The caller has published its work before.
func (s *Stack) wakeIfAsleep() {
	if s.asleep.Load() {
		s.waiter.Wake()
	}
}

// Now is the loop time of this turn.
func (s *Stack) Now() time.Duration { return time.Duration(s.now.Load()) }

// WallTime is the wall time of this turn.
func (s *Stack) WallTime() time.Time { return s.wall }

func (s *Stack) tick() time.Duration {
	s.wall = time.Now()
	now := s.wall.Sub(s.clock.base)
	if s.clock.manual != nil {
		now = s.clock.manual()
	}
	s.now.Store(int64(now))
	s.clock.set(now)
	return now
}

// Congested reports back-pressure: packets wait for TX frames, so reading more
// from any session would only lengthen the queue.
func (s *Stack) Congested() bool {
	for _, l := range s.links {
		if l.backlog.some.Load() {
			return true
		}
	}
	return false
}

// Poller is the stack's interest and ready lists.
func (s *Stack) Poller() *Poller { return s.poller }

// Close resets what is left and stops netstack. It does not close devices.
func (s *Stack) Close() {
	close(s.done)
	s.net.Close()
	s.Flush()
	s.net.Destroy()
}

// followResolver wakes the loop when routes or neighbours changed.
func (s *Stack) followResolver() {
	for {
		select {
		case <-s.resolver.Changed():
			s.Wake()
		case <-s.done:
			return
		}
	}
}
