package stack

import (
	"time"

	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ringroad/bpf"
)

// The XDP program refuses what belongs to no connection while there is a flood of that
// (flood.go), if it knows which connections are open: for a packet that it drops the loop
// pays nothing. It is told by a table in shared memory.
//
// A connection is marked in the table before anything but a SYN can come for it: when its
// SYN or SYN-ACK leaves, or its cookie comes back. netstack tells nobody when one is gone,
// so from time to time a sweep marks those that are there, in netstack or in TIME_WAIT,
// and the others are cleared.
//
// A flood has begun when packets were shed. From then on the program counts what it
// refuses, and the flood lasts while that are many. Of SYNs, which belong to no connection
// yet, it drops what the loop cannot answer, but lets through those that are sent again.

// Flows is where the XDP program learns which flows are open. [bpf.FlowTable] is the real
// one, and says what the methods do. Mark is called by the loop and netstack's processor,
// the others by the loop.
type Flows interface {
	Mark(f *bpf.Flow)
	Marked() int
	Sweep(open func())
	Guard(d time.Duration, syns bool)
	Guarding() bool
	Refused() (n, syns uint64)
}

var _ Flows = (*bpf.FlowTable)(nil)

const (
	// tendInterval is how often the loop looks whether there is a flood.
	tendInterval = 100 * time.Millisecond
	// guardTime is how long the program refuses strays after the flood was seen last. A loop
	// that has nothing to do turns four times in it.
	guardTime = time.Second
	// lastingFlood is what refused packets a second make a flood last. Answering as many
	// would cost about a percent of a processor.
	lastingFlood = 1000
	// leastSweep is how many connections are opened at least between two sweeps: a sixteenth of
	// the slots.
	leastSweep = 1 << 14
)

// openFlows is what a stack does with its Flows; nil: nobody is told. It belongs to the
// loop, but for mark.
type openFlows struct {
	Flows
	next     time.Duration // when to look again, if nothing is shed
	looked   time.Duration // when it was looked last
	guarding bool          // as of then
	synsFew  time.Duration // until then no more SYNs come than the loop can answer: the program sees to it
	shed     tally         // by the stack until then
	refused  tally         // by the program until then
}

// tally counts packets that are of no connection, and SYNs apart.
type tally struct{ strays, syns uint64 }

// mark says that a flow is open.
func (o *openFlows) mark(k *flowKey) {
	o.Mark(&bpf.Flow{Remote: k.remote, Local: k.local, RemotePort: uint16(k.ports), LocalPort: uint16(k.ports >> 16)})
}

// tendFlows keeps the table clean, and says when there is a flood.
func (s *Stack) tendFlows(now time.Duration) {
	o := s.flows
	var shed tally
	for _, l := range s.links {
		shed.strays += l.stats.StraysShed + l.stats.StrangeShed
		shed.syns += l.stats.SynsShed
	}
	if now < o.next && (o.guarding || shed == o.shed) {
		return
	}
	guarding, refused := o.Guarding(), tally{}
	refused.strays, refused.syns = o.Refused()
	refused.strays -= refused.syns
	many := uint64(lastingFlood * (now - o.looked) / time.Second)
	syns := shed.syns != o.shed.syns || guarding && refused.syns-o.refused.syns > many
	strays := shed.strays != o.shed.strays || guarding && refused.strays-o.refused.strays > many
	if syns || strays {
		if !guarding {
			s.stats.Floods++
		}
		o.Guard(guardTime, syns)
		guarding = true
		if syns {
			o.synsFew = now + guardTime
		}
	}
	o.guarding, o.shed, o.refused, o.looked, o.next = guarding, shed, refused, now, now+tendInterval
	if o.Marked() > max(leastSweep, s.endpoints()/2) {
		s.sweepFlows()
	}
}

// sweepFlows marks all open flows, and clears what is of no open one.
func (s *Stack) sweepFlows() {
	s.flows.Sweep(func() {
		for _, t := range s.tables {
			t.each(func(id *netstack.TransportEndpointID) {
				if id.RemotePort != 0 { // no listener
					k := flowKeyOf(id)
					s.flows.mark(&k)
				}
			})
		}
		for id := range s.synQueue.index {
			k := flowKeyOf(&id)
			s.flows.mark(&k)
		}
		for _, l := range s.links {
			l.mu.Lock()
			l.timeWait.each(func(w *waiting) {
				key := l.timeWait.key(w)
				s.flows.mark(&key)
			})
			l.mu.Unlock()
		}
	})
}

// endpoints is how many netstack has, and handshakes in the SYN queue.
func (s *Stack) endpoints() (n int) {
	n = s.synQueue.len()
	for _, t := range s.tables {
		n += t.len()
	}
	return n
}
