package stack

import (
	"net/netip"
	"time"

	"ringroad/bpf"
	"ringroad/dataplane"
)

// Device is what a link needs of a queue. [dataplane.Queue] is the real one.
// Peek to Release are called by the loop alone; the others under the link's
// lock.
type Device interface {
	Waiting() int
	Peek(max int) int
	Frame(i int) []byte
	Chained() bool
	More(i int) bool
	Release(n int)
	Reserve() (dataplane.TXFrame, []byte, bool)
	Submit(f dataplane.TXFrame, n int)
	TXChecksum() bool
	SubmitPartial(f dataplane.TXFrame, n, start, offset int)
	Discard(f dataplane.TXFrame)
	Unpublished() int
	Kick() error
	Pending() int
}

// Waiter parks the loop. [dataplane.Waiter] is the real one.
type Waiter interface {
	// Poll looks for a moment, if that has lately been enough, for what Wait
	// waits for, and reports whether there is something.
	Poll() bool
	// Wait returns when a device has frames, after Wake, or after d (d < 0: no
	// timer).
	Wait(d time.Duration)
	// Wake ends a Wait, this one or the next. Any goroutine may call it.
	Wake()
}

// Resolver answers from the kernel's neighbour and route tables.
// [dataplane.Neighbours] is the real one.
type Resolver interface {
	Lookup(ifindex int, ip netip.Addr) (mac [6]byte, ok bool)
	Provoke(ifindex int, ip netip.Addr)
	Generation() uint64
	Routes() []dataplane.Route
	// Changed is signalled after each new generation.
	Changed() <-chan struct{}
}

// Checksums says which TCP checksums a link takes.
type Checksums int

const (
	// ChecksumsRight are right.
	ChecksumsRight Checksums = iota
	// ChecksumsUnfilled are right, or what a kernel leaves to a NIC to complete: the sum
	// of the pseudo-header (CHECKSUM_PARTIAL). On a veth there is no NIC.
	ChecksumsUnfilled
	// ChecksumsAny are not looked at.
	ChecksumsAny
)

// Link describes one interface's queues to the stack.
type Link struct {
	Name      string
	Index     int // kernel interface index
	Device    Device
	MAC       [6]byte
	MTU       int // of the IP packet, bytes
	Addresses []netip.Prefix
	Checksums Checksums
	// ReceiveBytes is how much payload the frames of all its queues hold that receive; 0: there is no limit to what
	// peers may send at once.
	ReceiveBytes int
	// More are further queues of the interface, which only receive.
	More []Device
	// Placement chooses the ports of backend connections; nil: any port.
	Placement Placement
	// AnswerSYNs has XDP answer the SYNs of these queues with SYN cookies until a time
	// of the system's monotonic clock; 0: no more. Nil: there is nobody to do it.
	AnswerSYNs func(until time.Duration)
}

// Config is what New needs. Zero values of the scalar fields mean defaults.
type Config struct {
	Links    []Link
	Resolver Resolver
	Waiter   Waiter
	// FirstPort and LastPort bound the local ports of the backend connections of
	// all workers, inclusive. XDP steers exactly these. This worker uses its
	// PortBlock of them.
	FirstPort, LastPort uint16
	// Worker is this one of Workers, counted from 0; both 0: there is but one.
	Worker, Workers int
	// Handover joins the workers. Nil: a frame for another worker is answered
	// as one for nobody.
	Handover Handover
	// Flows tells the XDP program which connections are open. Nil: it is not told, and
	// floods come to the stack.
	Flows Flows
	TCP   TCPOptions
	// Batch is the most frames taken from one queue in a turn. Default 32: at
	// 1,000 connections 128 cost a tenth of the requests and 512 half of them,
	// because what was injected has left the cache when its session runs. Frames
	// that are merged with others do not count, up to four times as many.
	Batch int
	// Spin is how long Sleep polls before it parks. 0: parks at once.
	Spin time.Duration
	// CookieKey is the secret of SYN cookies, and Epoch the system's monotonic time
	// (CLOCK_MONOTONIC) at New: what one worker, or XDP, answered with a cookie
	// another can judge when they have both in common. No key: a random one.
	CookieKey bpf.CookieKey
	Epoch     time.Duration
}

// Congestion control algorithms netstack offers.
const (
	Cubic = "cubic"
	Reno  = "reno"
)

// Buffer is the range of a socket buffer in bytes, as tcp_rmem and tcp_wmem.
type Buffer struct{ Min, Default, Max int }

// TCPOptions are the stack-wide TCP settings. A zero value of a field means
// the default of DefaultTCPOptions, but for the negated switches.
type TCPOptions struct {
	CongestionControl string
	NoSACK            bool // RFC 2018
	NoRACK            bool // RFC 8985; without it recovery takes 2 to 6 times as long
	ReceiveBuffer     Buffer
	SendBuffer        Buffer
	NoAutoTuning      bool // of the receive buffer
	// AckDelay is how long a pure ACK may be held for data to carry it
	// (RFC 9293 3.8.6.3 allows less than 0.5 s). Negative: never held.
	AckDelay time.Duration
	// TimeWait is 2 MSL (RFC 9293 3.4.2), Linux's 60 s by default.
	TimeWait time.Duration
	// FinWait2 is how long an orphaned connection waits for the peer's FIN, or to
	// take more of what is queued.
	FinWait2 time.Duration
	// SynRetries bounds retransmissions of our SYN.
	SynRetries int
	// MaxRetries bounds retransmissions of data before the connection fails,
	// as tcp_retries2.
	MaxRetries int
	MinRTO     time.Duration
}

// DefaultTCPOptions are the settings used where TCPOptions says nothing.
func DefaultTCPOptions() TCPOptions {
	return TCPOptions{
		CongestionControl: Cubic,
		ReceiveBuffer:     Buffer{4 << 10, 256 << 10, 4 << 20},
		SendBuffer:        Buffer{4 << 10, 256 << 10, 4 << 20},
		AckDelay:          5 * time.Millisecond,
		TimeWait:          60 * time.Second,
		FinWait2:          60 * time.Second,
		SynRetries:        6,
		MaxRetries:        15,
		MinRTO:            200 * time.Millisecond,
	}
}

func (o TCPOptions) withDefaults() TCPOptions {
	d := DefaultTCPOptions()
	if o.CongestionControl == "" {
		o.CongestionControl = d.CongestionControl
	}
	if o.ReceiveBuffer == (Buffer{}) {
		o.ReceiveBuffer = d.ReceiveBuffer
	}
	if o.SendBuffer == (Buffer{}) {
		o.SendBuffer = d.SendBuffer
	}
	orDefault(&o.AckDelay, d.AckDelay)
	orDefault(&o.TimeWait, d.TimeWait)
	orDefault(&o.FinWait2, d.FinWait2)
	orDefault(&o.SynRetries, d.SynRetries)
	orDefault(&o.MaxRetries, d.MaxRetries)
	orDefault(&o.MinRTO, d.MinRTO)
	return o
}

func orDefault[T time.Duration | int](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
