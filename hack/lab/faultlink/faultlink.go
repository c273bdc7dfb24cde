// Package faultlink joins two interfaces of a network namespace like a cable with faults: it loses frames, singly or in bursts,
// doubles, reorders, delays and corrupts them, is slow, swallows large packets, or goes down for a while.
//
// Each direction has a packet socket that receives on one interface and one that sends on the other. What becomes of a frame depends
// on the seed and on how many frames came before it (fate.go), so a run can be repeated, and two proxies can be compared under the
// same fates. Frames are relayed as they are: the interfaces at the far ends must fill checksums in and must not send segments larger
// than the MTU (transmit checksum offload off).
//
// The way of a frame: it is too big, or the link is down, or it is lost; corrupted; held until others have overtaken it; sent at the
// link's rate; delayed; sent, twice if it is duplicated.
//
// Not done: VLAN tags are not restored.
package faultlink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Counters are the frames of one direction.
type Counters struct {
	Forwarded  uint64 `json:"forwarded"`
	Lost       uint64 `json:"lost"`       // on purpose
	Down       uint64 `json:"down"`       // came while the link was down
	TooBig     uint64 `json:"too_big"`    // over the MTU of the link
	Overflowed uint64 `json:"overflowed"` // came faster than the link's rate for too long
	Duplicated uint64 `json:"duplicated"`
	Reordered  uint64 `json:"reordered"`
	Corrupted  uint64 `json:"corrupted"`
	Refused    uint64 `json:"refused"` // the sending interface did not take it
}

const (
	// frameBytes is the largest frame that is relayed: the largest MTU of a veth and an Ethernet header fit.
	frameBytes    = 1 << 16
	ethernetBytes = 14

	defaultGap = 3
	// longestHold is how long a frame waits for those that shall overtake it: there may be none.
	longestHold = 2 * time.Millisecond
	// queueTime is how much the queue before a slow link holds: of a full window of most paths, not of all.
	queueTime = 100 * time.Millisecond
)

// Run relays between interfaces a and b of the calling process's namespace until SIGTERM or SIGINT, then writes the counters of both
// directions as one line of JSON. edge is the one of them behind which the edge is. It prints "ready" once frames flow.
func Run(a, b, edge string, o Options, out io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	directions := []*direction{{from: a, to: b}, {from: b, to: a}}
	failed := make(chan error, len(directions))
	for i, d := range directions {
		if err := d.open(); err != nil {
			return err
		}
		d.set(o, i, edge)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	for _, d := range directions {
		go func() { failed <- d.relay() }()
	}
	fmt.Fprintln(out, "ready")
	select {
	case err := <-failed:
		return err
	case <-stop:
		return json.NewEncoder(out).Encode(map[string]Counters{a + "-" + b: directions[0].counters(), b + "-" + a: directions[1].counters()})
	}
}

// direction relays from one interface to the other. One goroutine runs relay; the counters may be read by any.
type direction struct {
	from, to string
	in, out  int // packet sockets, bound to the interfaces
	o        Options
	fates    [streams]*fates

	now    time.Time
	first  time.Time // when the first frame with TCP came; zero: none did
	held   []held    // to be overtaken
	queue  []waiting // ordered by due time
	idleAt time.Time // when the link will have sent what it got
	spare  [][]byte

	forwarded, lost, down, tooBig, overflowed, duplicated, reordered, corrupted, refused atomic.Uint64
}

// held is a frame that others shall overtake.
type held struct {
	frame  []byte
	copies int
	jitter float64
	gap    int // how many still
	until  time.Time
}

// waiting is a frame on its way.
type waiting struct {
	frame  []byte
	copies int
	due    time.Time
}

// set sets what the direction does; the link as such has the options o.
func (d *direction) set(o Options, index int, edge string) {
	way := FromEdge
	if d.to == edge {
		way = ToEdge
	}
	if o.Only != BothWays && o.Only != way {
		o = Options{Seed: o.Seed}
	}
	if o.Gap == 0 {
		o.Gap = defaultGap
	}
	d.o = o
	for stream := range d.fates {
		d.fates[stream] = newFates(&d.o, index, stream)
	}
}

func (d *direction) counters() Counters {
	return Counters{
		Forwarded: d.forwarded.Load(), Lost: d.lost.Load(), Down: d.down.Load(), TooBig: d.tooBig.Load(), Overflowed: d.overflowed.Load(),
		Duplicated: d.duplicated.Load(), Reordered: d.reordered.Load(), Corrupted: d.corrupted.Load(), Refused: d.refused.Load(),
	}
}

func (d *direction) open() (err error) {
	if d.in, err = bind(d.from, unix.ETH_P_ALL); err != nil {
		return err
	}
	// Protocol 0: this socket only sends.
	d.out, err = bind(d.to, 0)
	return err
}

func bind(name string, protocol uint16) (int, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return -1, fmt.Errorf("find interface %s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket: %w", err)
	}
	err = errors.Join(
		// Without it the frames that the other direction sends here would be received again.
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		// The frames are addressed to the hosts at the far ends.
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(link.Index), Type: unix.PACKET_MR_PROMISC}),
		// No frame may get lost but on purpose.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20),
	)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set up packet socket of %s: %w", name, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: link.Index}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind packet socket to %s: %w", name, err)
	}
	return fd, nil
}

func (d *direction) relay() error {
	frame := make([]byte, frameBytes)
	for {
		n, _, err := unix.Recvfrom(d.in, frame, unix.MSG_DONTWAIT)
		d.now = time.Now()
		d.release()
		switch {
		case err == nil:
			d.take(frame[:n])
		case errors.Is(err, unix.EAGAIN):
			if err := d.wait(); err != nil {
				return err
			}
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN): // down only while links are being set up
		default:
			return fmt.Errorf("receive from %s: %w", d.from, err)
		}
	}
}

// wait returns when there is a frame to receive, or when one is due.
func (d *direction) wait() error {
	var timeout *unix.Timespec
	if at, ok := d.next(); ok {
		t := unix.NsecToTimespec(max(at.Sub(d.now), 0).Nanoseconds())
		timeout = &t
	}
	if _, err := unix.Ppoll([]unix.PollFd{{Fd: int32(d.in), Events: unix.POLLIN}}, timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for frames of %s: %w", d.from, err)
	}
	return nil
}

// next is when the first frame is due that waits; ok is false when none does.
func (d *direction) next() (at time.Time, ok bool) {
	if len(d.queue) > 0 {
		at, ok = d.queue[0].due, true
	}
	for i := range d.held {
		if until := d.held[i].until; !ok || until.Before(at) {
			at, ok = until, true
		}
	}
	return at, ok
}

// take lets a frame that came meet its fate.
func (d *direction) take(frame []byte) {
	o := &d.o
	stream := streamOf(frame)
	if stream == streamTCP && d.first.IsZero() {
		d.first = d.now
	}
	t := d.fates[stream].next()
	switch {
	case o.DownFor > 0 && !d.first.IsZero() && d.now.Sub(d.first) >= o.DownAt && d.now.Sub(d.first) < o.DownAt+o.DownFor:
		d.down.Add(1)
		return
	case o.MTU > 0 && len(frame)-ethernetBytes > o.MTU:
		d.tooBig.Add(1)
		return
	case t.lost:
		d.lost.Add(1)
		return
	}
	if bits := uint64(len(frame)-ethernetBytes) * 8; t.corrupted && bits > 0 {
		d.corrupted.Add(1)
		bit := t.bit % bits
		frame[ethernetBytes+bit/8] ^= 1 << (bit % 8)
	}
	copies := 1
	if t.duplicated {
		d.duplicated.Add(1)
		copies = 2
	}
	if t.reordered {
		d.reordered.Add(1)
		d.held = append(d.held, held{d.copyOf(frame), copies, t.jitter, o.Gap, d.now.Add(longestHold)})
		return
	}
	d.forward(frame, copies, t.jitter)
	for i := range d.held {
		d.held[i].gap--
	}
	d.release()
}

// forward gives a frame to the link, which sends it at its rate and delivers it after its delay.
func (d *direction) forward(frame []byte, copies int, jitter float64) {
	o, due := &d.o, d.now
	if o.Rate > 0 {
		if d.idleAt.Sub(d.now) > queueTime {
			d.overflowed.Add(1)
			return
		}
		if d.idleAt.After(due) {
			due = d.idleAt
		}
		due = due.Add(time.Duration(int64(copies*len(frame)*8) * int64(time.Second) / o.Rate))
		d.idleAt = due
	}
	due = due.Add(o.Delay + time.Duration(jitter*float64(o.Jitter)))
	if n := len(d.queue); n > 0 && due.Before(d.queue[n-1].due) {
		due = d.queue[n-1].due
	}
	if len(d.queue) == 0 && !due.After(d.now) {
		d.send(frame, copies)
		return
	}
	d.queue = append(d.queue, waiting{d.copyOf(frame), copies, due})
}

// release lets frames go on that have been overtaken, and sends those that are due.
func (d *direction) release() {
	kept := d.held[:0]
	for _, h := range d.held {
		if h.gap > 0 && h.until.After(d.now) {
			kept = append(kept, h)
			continue
		}
		d.forward(h.frame, h.copies, h.jitter)
		d.spare = append(d.spare, h.frame)
	}
	d.held = kept
	sent := 0
	for ; sent < len(d.queue) && !d.queue[sent].due.After(d.now); sent++ {
		d.send(d.queue[sent].frame, d.queue[sent].copies)
		d.spare = append(d.spare, d.queue[sent].frame)
	}
	if sent > 0 {
		d.queue = d.queue[:copy(d.queue, d.queue[sent:])]
	}
}

func (d *direction) send(frame []byte, copies int) {
	for range copies {
		if _, err := unix.Write(d.out, frame); err != nil {
			d.refused.Add(1)
			continue
		}
		d.forwarded.Add(1)
	}
}

// copyOf copies a frame into memory of its own, of one that was sent if there is.
func (d *direction) copyOf(frame []byte) []byte {
	if n := len(d.spare); n > 0 {
		b := d.spare[n-1][:0]
		d.spare = d.spare[:n-1]
		return append(b, frame...)
	}
	return append(make([]byte, 0, max(2048, len(frame))), frame...)
}
