package stack

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"ringroad/dataplane"
)

const (
	etherBytes     = header.EthernetMinimumSize
	etherTypeIPv4  = 0x0800
	etherTypeIPv6  = 0x86dd
	etherTypeVLAN  = 0x8100
	etherTypeQinQ  = 0x88a8
	vlanTagBytes   = 4
	maxGSOBytes    = 65536 - 256 // an IPv4 total length is 16 bits; headers need room below it
	maxUnresolved  = 64          // packets that may wait for a neighbour, as Linux's unres_qlen in frames of 2 KB
	unresolvedWait = time.Second // RFC 1122 2.3.2.2 asks to keep at least one, not for how long
)

// link is the netstack.LinkEndpoint of one interface's queues. It builds the
// Ethernet header itself, so netstack hands it network packets.
type link struct {
	stack *Stack
	id    tcpip.NICID
	Link
	devices    []Device // Device and More
	owed       []int    // frames of each that timers wait for, if positive (fireTimers); loop only
	dispatcher netstack.NetworkDispatcher
	address    tcpip.LinkAddress  // MAC: each route asks for it
	addresses  map[netip.Addr]int // own, with the lengths of their prefixes; loop only
	lastOwn    tcpip.Address      // the own address seen last
	queue      segmentQueuer
	merges     []*merge     // those that are open, and behind them what new ones are made of; open only while batches are delivered
	acks       []segment    // held back, while a batch is delivered
	joined     *buffer.View // the frame being delivered, if it is memory of netstack's; nil: it is the device's
	chain      []byte       // a frame of several pieces, while a tap or hooks are on
	plain      []byte       // a packet of the stock way made plain; allocated when first used
	judged     bool         // what goes the stock way was plain: it went the lean way as far as that leads
	origin     int          // worker whose queue the frame being delivered came from; fromQueue: this one's

	leaveChecksums bool // the device completes those of segments

	recent [1 << routeBits]*netstack.Route // by a hash of the remote address; loop only

	established [1 << establishedBits]establishedPlace // loop only

	tap   Tap    // nil: off; written under mu by the loop
	hooks *Hooks // nil: off; written under mu by the loop

	suspect atomic.Int64 // loop time until which acknowledgments of some flow are looked at: see judgeRecovery
	shrank  atomic.Bool  // a window of some peer has shrunk (shrink.go)

	device, index int     // where the frame being delivered came in; valid iff tap or hooks are on
	in            Segment // what hooks are shown; loop only

	// mu guards what follows: the loop and netstack's processor both send.
	mu         sync.Mutex
	submitted  uint64   // frames put on the TX ring so far
	untapped   [][]byte // those of them that no kick has published; valid iff tap is on
	flows      flowTable
	timeWait   timeWaitTable
	held       heldQueue
	updates    windowUpdates
	flooded    time.Duration // until then SYNs may be shed
	crowded    bool          // the queue that frames are delivered from has too many for SYNs to be answered
	strays     allowance     // of segments that go round the workers
	refused    allowance     // of segments that are answered with RST
	unwanted   allowance     // of SYNs that are, because their listener does not admit who sends them
	strange    allowance     // of packets that the lean path does not take
	paying     bool          // an ACK that is sent now has been held long enough
	answers    time.Duration // how long it takes of late until data follows a segment whose ACK is held
	backlog    packetQueue   // waits for TX frames
	unresolved packetQueue   // waits for a neighbour
	neighbours neighbourCache
	out        Segment // what hooks are shown
	stats      LinkStats
}

var (
	_ netstack.LinkEndpoint = (*link)(nil)
	_ netstack.GSOEndpoint  = (*link)(nil)
)

func newLink(s *Stack, id tcpip.NICID, l Link) (*link, error) {
	memory, free, err := dataplane.NewOutsideHeap[timeWaitMemory]()
	if err != nil {
		return nil, fmt.Errorf("make the table of connections in TIME_WAIT of %s: %w", l.Name, err)
	}
	k := &link{stack: s, id: id, Link: l, address: tcpip.LinkAddress(l.MAC[:]), origin: fromQueue, leaveChecksums: l.Device.TXChecksum()}
	k.devices = append(append(k.devices, l.Device), l.More...)
	k.owed = make([]int, len(k.devices))
	k.flows.init()
	for range openMerges {
		k.merges = append(k.merges, new(merge))
	}
	k.merges, k.acks = k.merges[:0], make([]segment, 0, openMerges)
	k.timeWait = newTimeWaitTable(memory)
	// Not in Close: netstack's goroutines may still hold the link.
	runtime.AddCleanup(k, func(free func() error) { _ = free() }, free) // fails only for memory that is not mapped
	k.in.Link, k.out.Link, k.out.From, k.out.sent = int(id)-1, int(id)-1, fromQueue, true
	return k, nil
}

// WritePackets implements netstack.LinkWriter: the way of everything but plain
// TCP, which takes the lean path. It accepts all packets: what finds
// no TX frame waits, because a dropped segment costs the sender its window.
func (l *link) WritePackets(list netstack.PacketBufferList) (int, tcpip.Error) {
	packets := list.AsSlice()
	l.mu.Lock()
	for _, p := range packets {
		hop := p.EgressRoute.NextHop
		if hop.BitLen() == 0 {
			hop = p.EgressRoute.RemoteAddress
		}
		l.send(p, hop)
	}
	l.mu.Unlock()
	l.stack.wakeIfAsleep()
	return len(packets), nil
}

// MTU implements netstack.LinkEndpoint.
func (l *link) MTU() uint32 { return uint32(l.Link.MTU) }

// SetMTU implements netstack.LinkEndpoint; the MTU is the interface's.
func (l *link) SetMTU(uint32) {}

// MaxHeaderLength implements netstack.LinkEndpoint: the Ethernet header is
// written into the frame, not into netstack's packet.
func (l *link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements netstack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return l.address }

// SetLinkAddress implements netstack.LinkEndpoint.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements netstack.LinkEndpoint. TCP checksums are computed
// here when the segment has been copied, or by the device.
func (l *link) Capabilities() netstack.LinkEndpointCapabilities {
	c := netstack.LinkEndpointCapabilities(0) | netstack.CapabilityTXChecksumOffload
	if l.Checksums == ChecksumsAny {
		c |= netstack.CapabilityRXChecksumOffload
	}
	return c
}

// GSOMaxSize implements netstack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return maxGSOBytes }

// SupportedGSO implements netstack.GSOEndpoint: segments of up to 64 KB are
// taken and split straight into TX frames.
func (l *link) SupportedGSO() netstack.SupportedGSO { return netstack.HostGSOSupported }

// Attach implements netstack.LinkEndpoint.
func (l *link) Attach(d netstack.NetworkDispatcher) { l.dispatcher = d }

// IsAttached implements netstack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher != nil }

// Wait implements netstack.LinkEndpoint.
func (l *link) Wait() {}

// ARPHardwareType implements netstack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements netstack.LinkEndpoint.
func (l *link) AddHeader(*netstack.PacketBuffer) {}

// ParseHeader implements netstack.LinkEndpoint.
func (l *link) ParseHeader(*netstack.PacketBuffer) bool { return true }

// Close implements netstack.LinkEndpoint.
func (l *link) Close() {}

// SetOnCloseAction implements netstack.LinkEndpoint.
func (l *link) SetOnCloseAction(func()) {}
