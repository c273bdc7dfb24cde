// Package faultlink joins two interfaces of a network namespace like a cable that loses frames.
//
// Each direction has a packet socket that receives on one interface and one that sends on the other, and its own generator of random
// numbers, so what is lost depends on the seed and on the order of the frames alone. Frames are relayed as they are: the interfaces
// at the far ends must fill checksums in and must not send segments larger than the MTU (transmit checksum offload off).
//
// Not done: delay, reordering, duplication, corruption and rate limits; VLAN tags are not restored.
package faultlink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Options says what happens to frames. The zero value loses none.
type Options struct {
	Loss float64 // share of frames lost in each direction, 0 to 1
	Seed uint64
}

// Counters are the frames of one direction.
type Counters struct {
	Forwarded uint64 `json:"forwarded"`
	Lost      uint64 `json:"lost"`    // on purpose
	Refused   uint64 `json:"refused"` // the sending interface did not take it
}

// frameBytes is the largest frame that is relayed: the largest MTU of a veth and an Ethernet header fit.
const frameBytes = 1 << 16

// Run relays between interfaces a and b of the calling process's namespace until SIGTERM or SIGINT, then writes the counters of both
// directions as one line of JSON. It prints "ready" once frames flow.
func Run(a, b string, o Options, out io.Writer) error {
	if o.Loss < 0 || o.Loss > 1 {
		return fmt.Errorf("loss %v is not a share between 0 and 1", o.Loss)
	}
	directions := []*direction{{from: a, to: b}, {from: b, to: a}}
	failed := make(chan error, len(directions))
	for i, d := range directions {
		if err := d.open(); err != nil {
			return err
		}
		d.random, d.loss = rand.New(rand.NewPCG(o.Seed, uint64(i))), o.Loss
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
	random   *rand.Rand
	loss     float64

	forwarded, lost, refused atomic.Uint64
}

func (d *direction) counters() Counters {
	return Counters{d.forwarded.Load(), d.lost.Load(), d.refused.Load()}
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
		n, _, err := unix.Recvfrom(d.in, frame, 0)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN): // down only while links are being set up
			continue
		case err != nil:
			return fmt.Errorf("receive from %s: %w", d.from, err)
		}
		if d.random.Float64() < d.loss {
			d.lost.Add(1)
			continue
		}
		if _, err := unix.Write(d.out, frame[:n]); err != nil {
			d.refused.Add(1)
			continue
		}
		d.forwarded.Add(1)
	}
}
