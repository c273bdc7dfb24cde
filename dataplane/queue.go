package dataplane

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultRingEntries  = 4096    // their frames are 3.4 ms of 10 Gbit/s; the backlog takes what comes while a loop does not
	defaultFrameBytes   = 2048    // holds an MTU of 1500 and the kernel's headroom
	maxFrameBytes       = 4096    // a page: more is for huge pages only
	defaultBacklogBytes = 4 << 20 // 8,000 requests of 500 bytes
	defaultBindTimeout  = 3 * time.Second

	// busyPollMicroseconds enables polling: the calls made here do not block, and poll once.
	busyPollMicroseconds = 20

	minRingEntries, maxRingEntries = 64, 1 << 15

	// A backlog holds a few packets of any MTU.
	minBacklogBytes, maxBacklogBytes = 64 << 10, 1 << 30
	// frameHeadroomBytes is what the kernel keeps free before a received frame.
	frameHeadroomBytes = unix.XDP_PACKET_HEADROOM
	// linkHeaderBytes is the Ethernet header with two VLAN tags.
	linkHeaderBytes = 14 + 2*4
)

// QueueOptions are the sizes and modes of a queue. The zero value of each field but Queue stands for its default.
type QueueOptions struct {
	Queue       int            // index of the NIC queue
	RingEntries int            // slots of each of the four rings, a power of two; default 4096
	FrameBytes  int            // 2048 or 4096; default: what the link's MTU and its driver need; larger packets take several
	Frames      int            // frames of the UMEM, at most RingEntries of them for receiving; default 7/8 RingEntries, at least 64
	Backlog     int            // bytes for packets of a crowded RX ring, taken as they are needed; default 4 MiB, negative: none
	ZeroCopy    ZeroCopyMode   // default ZeroCopyAuto
	TXChecksum  TXChecksumMode // default TXChecksumAuto
	BusyPoll    int            // frames that a poll of the driver by the owner may handle; default 0: the kernel polls
	BindTimeout time.Duration  // how long to wait for a queue that is busy; default 3 s, negative: not at all
	Stats       *Stats         // where to count; default: memory of its own
}

// withDefaults fills in defaults and refuses what cannot work.
func (o QueueOptions) withDefaults() (QueueOptions, error) {
	if o.RingEntries == 0 {
		o.RingEntries = defaultRingEntries
	}
	if o.FrameBytes == 0 {
		o.FrameBytes = defaultFrameBytes
	}
	if o.Frames == 0 {
		o.Frames = max(o.RingEntries*7/8, minRingEntries)
	}
	if o.Backlog == 0 {
		o.Backlog = defaultBacklogBytes
	}
	o.Backlog = max(o.Backlog, 0) &^ (backlogAlign - 1)
	if o.Stats == nil {
		o.Stats = new(Stats)
	}
	if o.BindTimeout == 0 {
		o.BindTimeout = defaultBindTimeout
	}
	switch {
	case o.RingEntries < minRingEntries || o.RingEntries > maxRingEntries || bits.OnesCount(uint(o.RingEntries)) != 1:
		return o, fmt.Errorf("%w: %d ring entries: want a power of two from %d to %d", ErrOptions, o.RingEntries, minRingEntries, maxRingEntries)
	case o.FrameBytes != defaultFrameBytes && o.FrameBytes != maxFrameBytes:
		return o, fmt.Errorf("%w: frames of %d bytes: want 2048 or 4096", ErrOptions, o.FrameBytes)
	case o.Frames < minRingEntries || o.Frames > 2*o.RingEntries:
		return o, fmt.Errorf("%w: %d frames: want %d to %d (twice the ring entries)", ErrOptions, o.Frames, minRingEntries, 2*o.RingEntries)
	case o.Backlog > 0 && o.Backlog < minBacklogBytes || o.Backlog > maxBacklogBytes:
		return o, fmt.Errorf("%w: a backlog of %d bytes: want %d to %d", ErrOptions, o.Backlog, minBacklogBytes, maxBacklogBytes)
	case o.BusyPoll < 0 || o.BusyPoll > math.MaxUint16:
		return o, fmt.Errorf("%w: a busy-poll budget of %d: want 0 to %d", ErrOptions, o.BusyPoll, math.MaxUint16)
	case o.Queue < 0:
		return o, fmt.Errorf("%w: queue %d", ErrOptions, o.Queue)
	}
	return o, nil
}

// rxFrames is how many of the frames receive: four fifths, as many as the fill ring has slots at most, and no fewer
// than leaves the others room on the TX ring.
func (o QueueOptions) rxFrames() int {
	return max(min(o.Frames*4/5, o.RingEntries), o.Frames-o.RingEntries)
}

// Queue is one AF_XDP socket on one queue of an interface, with its UMEM. All methods are for the one goroutine that
// owns it, unless they say otherwise.
type Queue struct {
	fd       int
	ifindex  int
	name     string // "queue 3 of eth0"
	zeroCopy bool
	reason   string // why it is, or is not

	txChecksum       bool
	txChecksumReason string // why it is, or is not

	umem       []byte
	readable   []byte // where received frames are read: the UMEM, or a copy of its first part if distrusted
	frames     *frames
	fill       ring[uint64]
	rx         ring[unix.XDPDesc]
	tx         ring[unix.XDPDesc]
	completion ring[uint64]

	backlog  backlog
	crowded  uint32 // so many received frames may be on the RX ring: of more, small packets are set aside
	crammed  uint32 // and of more than so many all packets
	peeked   uint32 // RX descriptors whose frames the loop may read
	untold   uint32 // the last of them, which a full backlog left on the ring and Peek has not returned yet
	taken    uint32 // RX descriptors whose frames are in state RX; valid iff chains, otherwise those peeked are
	busyPoll bool   // Peek polls the driver
	maxFrame int    // longest packet: MTU and link header
	metadata int    // bytes before the data of a frame that is sent
	chains   bool   // packets may be in several frames (XDP_USE_SG)
	chained  bool   // a packet peeked may be
	skipping bool   // the RX ring is within a packet that is dropped
	// distrusted is a driver that hands out frames that it does not have, and may write to those that are read.
	distrusted bool
	// continued is how many of the unpublished TX descriptors say that another one follows.
	continued int
	retry     time.Duration // when to kick again what the last kick left behind; 0: it left nothing
	starved   bool          // a reservation failed since the waiter last saw a free frame
	gone      bool          // the interface was removed
	stats     *Stats
	mayLeave  bool                  // kicks of many frames may be left to the sender
	sender    *sender               // nil: none was yet
	hooks     atomic.Pointer[Hooks] // nil: off

	socket *umemSocket
	file   *os.File        // a duplicate of the descriptor, registered with Go's netpoller
	conn   syscall.RawConn // of file
	waited bool            // a Waiter holds the queue
}

// OpenQueue binds a socket to a queue. It needs neither the [Interface] nor its program, so a process that was told
// the link can do it. Nothing is received before [Interface.SetSocket] was given the descriptor. The errors are those of
// [Interface.OpenQueue].
func OpenQueue(l LinkInfo, o QueueOptions) (*Queue, error) {
	if o.FrameBytes == 0 {
		o.FrameBytes = o.ZeroCopy.frameBytesFor(l, runningKernel())
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open queue %d of %s: %w", o.Queue, l.Name, err)
	}
	if err := checkCapabilities(capNetAdmin, capNetRaw); err != nil {
		return nil, fmt.Errorf("open queue %d of %s: %w", o.Queue, l.Name, err)
	}
	if err := l.checkFrameBytes(o.FrameBytes); err != nil {
		return nil, fmt.Errorf("open queue %d of %s: %w", o.Queue, l.Name, err)
	}
	g := socketGeometry{entries: o.RingEntries, frames: o.Frames, frameBytes: o.FrameBytes}
	s, reason, err := bindWithPolicy(l, o, g)
	if err != nil {
		return nil, explainBind(l, o, err)
	}
	q := &Queue{
		fd: s.fd, ifindex: l.Index, name: fmt.Sprintf("queue %d of %s", o.Queue, l.Name), socket: s,
		umem: s.umem, readable: s.umem, metadata: s.metadata,
		maxFrame: l.MTU + linkHeaderBytes, chains: l.Frags, stats: o.Stats, reason: reason,
	}
	span := 1
	if q.chains {
		span = framesFor(q.maxFrame, o.FrameBytes)
	}
	q.crowded, q.crammed = uint32(o.rxFrames()/crowdedPart), uint32(o.rxFrames()/crammedPart)
	q.frames = newFrames(uint(bits.TrailingZeros(uint(o.FrameBytes))), o.rxFrames(), o.Frames-o.rxFrames(), span)
	if err := q.setUp(l, o); err != nil {
		return nil, fmt.Errorf("open %s: %w", q.name, errors.Join(err, q.Close()))
	}
	return q, nil
}

// bindWithPolicy binds in zero-copy or copy mode, and says why. Zero-copy that was only wished for falls back.
func bindWithPolicy(l LinkInfo, o QueueOptions, g socketGeometry) (s *umemSocket, reason string, err error) {
	ask, reason := o.ZeroCopy.wantsZeroCopy(l, o.FrameBytes, runningKernel())
	// What the UMEM has room for is said before the mode is known.
	for _, zeroCopy := range []bool{false, true} {
		if leaves, _ := o.TXChecksum.leaves(l, zeroCopy); leaves && (ask || !zeroCopy) {
			g.metadata = txMetadataBytes
		}
	}
	flags := uint16(unix.XDP_USE_NEED_WAKEUP)
	if l.Frags {
		flags |= unix.XDP_USE_SG
		if ask && l.shortOfSegments(o.FrameBytes) != "" {
			return nil, reason, unix.EOPNOTSUPP // the kernel would bind it, and drop what is too long
		}
	}
	if ask {
		s, err := bindSocket(l.Index, o.Queue, g, flags|unix.XDP_ZEROCOPY, o.BindTimeout)
		if err == nil {
			if got, _ := zeroCopyBound(s.fd); !got { // setUp asks again, and takes the error
				reason = fmt.Sprintf("driver %s accepted it and copies all the same: %s", l.Driver, refusal(l, o.FrameBytes, runningKernel()))
			}
			return s, reason, nil
		}
		if o.ZeroCopy == ZeroCopyOn || errors.Is(err, unix.EBUSY) {
			return nil, reason, err
		}
		reason = fmt.Sprintf("driver %s refused it: %v", l.Driver, err)
	}
	s, err = bindSocket(l.Index, o.Queue, g, flags|unix.XDP_COPY, o.BindTimeout)
	return s, reason, err
}

// setUp lays the rings over their memory, fills the fill ring and registers the socket with the netpoller.
func (q *Queue) setUp(l LinkInfo, o QueueOptions) (err error) {
	if q.zeroCopy, err = zeroCopyBound(q.fd); err != nil {
		return err
	}
	if o.ZeroCopy == ZeroCopyOn && !q.zeroCopy {
		return fmt.Errorf("%w: zero-copy was demanded, %s; set zero_copy to auto or off", ErrUnsupported, q.reason)
	}
	q.txChecksum, q.txChecksumReason = o.TXChecksum.leaves(l, q.zeroCopy)
	if o.TXChecksum == TXChecksumOffload && !q.txChecksum {
		return fmt.Errorf("%w: checksum offload was demanded, %s; set tx_checksum to auto or software", ErrUnsupported, q.txChecksumReason)
	}
	if err := q.layRings(o.RingEntries); err != nil {
		return err
	}
	if q.backlog, err = newBacklog(o.Backlog); err != nil {
		return err
	}
	if q.zeroCopy && policyOf(l.Driver).doubles {
		q.distrust()
	}
	for i := range q.frames.rx {
		q.fill.put(q.frames.startFill(i))
	}
	q.refill()
	// In copy mode every frame on its way counts against the socket's send buffer, whose default holds under a
	// hundred; the TX frames are the limit meant. Only the force option goes beyond net.core.wmem_max.
	if err := unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, (o.Frames-q.frames.rx)*4096); err != nil {
		return fmt.Errorf("raise the send buffer: %w", err)
	}
	if err := q.pollBusily(o.BusyPoll); err != nil {
		return err
	}
	// A zero-copy driver sends by itself, and one that is polled is the owner's.
	q.mayLeave = !q.zeroCopy && !q.busyPoll && processors() > 1
	return q.register()
}

// pollBusily has the owner's system calls poll the driver, and no one else as long as they come (napi.rst, preferred
// busy polling).
func (q *Queue) pollBusily(budget int) error {
	if budget == 0 {
		return nil
	}
	for _, o := range []struct {
		name          string
		option, value int
	}{
		{"SO_PREFER_BUSY_POLL", unix.SO_PREFER_BUSY_POLL, 1},
		{"SO_BUSY_POLL", unix.SO_BUSY_POLL, busyPollMicroseconds},
		{"SO_BUSY_POLL_BUDGET", unix.SO_BUSY_POLL_BUDGET, budget},
	} {
		if err := unix.SetsockoptInt(q.fd, unix.SOL_SOCKET, o.option, o.value); err != nil {
			return fmt.Errorf("%w: busy polling: set %s to %d: %w", ErrUnsupported, o.name, o.value, err)
		}
	}
	q.busyPoll = true
	return nil
}

func (q *Queue) layRings(entries int) error {
	o, sizes, err := ringSizes(q.fd, entries)
	if err != nil {
		return err
	}
	rings := q.socket.rings
	for at, bytes := range sizes {
		if len(rings[at]) < bytes {
			return fmt.Errorf("the ring at offset %#x is mapped with %d bytes, not %d", at, len(rings[at]), bytes)
		}
	}
	q.fill = ringOver[uint64](rings[unix.XDP_UMEM_PGOFF_FILL_RING], o.Fr, entries)
	q.completion = ringOver[uint64](rings[unix.XDP_UMEM_PGOFF_COMPLETION_RING], o.Cr, entries)
	q.rx = ringOver[unix.XDPDesc](rings[unix.XDP_PGOFF_RX_RING], o.Rx, entries)
	q.tx = ringOver[unix.XDPDesc](rings[unix.XDP_PGOFF_TX_RING], o.Tx, entries)
	return nil
}

// register gives a duplicate of the descriptor to Go's netpoller. A duplicate, because the socket closes its own.
func (q *Queue) register() error {
	fd, err := unix.FcntlInt(uintptr(q.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate the descriptor: %w", err)
	}
	// Without O_NONBLOCK os.NewFile would leave the descriptor out of the netpoller.
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(fmt.Errorf("make the descriptor non-blocking: %w", err), unix.Close(fd))
	}
	q.file = os.NewFile(uintptr(fd), q.name)
	q.conn, err = q.file.SyscallConn()
	return err
}

// Close releases the queue: the socket, its rings, the UMEM. Slices of frames are invalid afterwards. Any [Waiter] on
// the queue must be closed before. The kernel may keep the queue busy for some tens of milliseconds more.
func (q *Queue) Close() error {
	if q.socket == nil {
		return nil
	}
	if q.waited {
		return fmt.Errorf("close %s: %w", q.name, ErrInUse)
	}
	if q.sender != nil {
		q.sender.close()
	}
	var errs []error
	if q.file != nil {
		errs = append(errs, q.file.Close())
	}
	errs = append(errs, q.backlog.close(), q.socket.close())
	q.socket, q.file, q.umem, q.readable = nil, nil, nil, nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", q.name, err)
	}
	return nil
}

// FD is the socket's descriptor, for [Interface.SetSocket] here or in the process that it is sent to. It belongs to the
// queue. A copy held elsewhere keeps the NIC queue busy after Close: close it as soon as it is entered.
func (q *Queue) FD() int { return q.fd }

// ZeroCopy reports whether the kernel bound the queue in zero-copy mode (XDP_OPTIONS read back).
func (q *Queue) ZeroCopy() bool { return q.zeroCopy }

// ZeroCopyReason tells why the queue has zero-copy, or has not.
func (q *Queue) ZeroCopyReason() string { return q.reason }

// Stats is the queue's own account; it stays valid and up to date.
func (q *Queue) Stats() *Stats { return q.stats }

// KernelStats asks the kernel (XDP_STATISTICS). Any goroutine may ask while the queue is open.
func (q *Queue) KernelStats() (KernelStats, error) {
	s, err := kernelStatistics(q.fd)
	if err != nil {
		return KernelStats{}, fmt.Errorf("read statistics of %s: %w", q.name, err)
	}
	return kernelStatsFrom(s), nil
}

// Levels tells where the frames are. What the completion ring held is reaped: at rest no kick does that, and a network card, or
// a busy kernel's peer of a veth, has sent a frame only when the kick is over.
func (q *Queue) Levels() Levels {
	completion := int(q.completion.level())
	q.Reap()
	c := &q.frames.count
	return Levels{
		Frames: len(q.frames.state),
		Free:   c[stateFree], Fill: c[stateFill], RX: c[stateRX], TX: c[stateTX],
		FillRing: int(q.fill.level()), RXRing: int(q.rx.level()), TXRing: int(q.tx.level()),
		CompletionRing: completion,
		RingEntries:    len(q.fill.slots),
		Backlog:        q.backlog.level(), BacklogBytes: len(q.backlog.data),
		FrameBytes: 1 << q.frames.shift,
	}
}

// Check reports whether the queue's interface was removed, as [ErrInterfaceGone]. Removal wakes nobody, so the owner
// of an idle queue should ask once in a while. One system call.
func (q *Queue) Check() error {
	if !q.gone {
		// Only the removal of the device sets an error on the socket (xsk_notifier); reading it clears it.
		errno, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return fmt.Errorf("check %s: %w", q.name, err)
		}
		q.gone = errno == int(unix.ENETDOWN)
	}
	if q.gone {
		return fmt.Errorf("%s: %w", q.name, ErrInterfaceGone)
	}
	return nil
}
