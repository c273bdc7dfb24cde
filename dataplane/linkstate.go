package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// LinkState is what can change about an interface while it is open.
type LinkState struct {
	Name     string
	MTU      int
	MAC      [6]byte
	RXQueues int  // in use
	Up       bool // administratively
	Carrier  bool
}

// State reads the interface's state as it is now. The error wraps [ErrInterfaceGone] when it was removed, or moved to
// another network namespace; its queues find out by themselves only when asked.
func (i *Interface) State() (LinkState, error) {
	nl, err := i.netlink.LinkByIndex(i.link.Index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return LinkState{}, fmt.Errorf("interface %s: %w", i.link.Name, ErrInterfaceGone)
	} else if err != nil {
		return LinkState{}, fmt.Errorf("read the state of %s: %w", i.link.Name, err)
	}
	a := nl.Attrs()
	s := LinkState{Name: a.Name, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0}
	copy(s.MAC[:], a.HardwareAddr)
	if s.RXQueues, err = countRXQueues(a); err != nil {
		return LinkState{}, fmt.Errorf("read the state of %s: %w", a.Name, err)
	}
	return s, nil
}

// LinkEvents tells that the state or the addresses of some interfaces may have changed. Channels ([LinkState.RXQueues])
// change without an event: ask once in a while too.
type LinkEvents struct {
	interfaces []int
	changed    chan struct{}
	events     *nl.NetlinkSocket
	stopping   atomic.Bool
	stop       chan struct{}
	stopped    sync.WaitGroup
}

// NewLinkEvents listens for the interfaces with these indices, in the network namespace of the calling thread.
func NewLinkEvents(ifindex ...int) (*LinkEvents, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("follow interfaces: %w", err)
	}
	e := &LinkEvents{interfaces: slices.Clone(ifindex), changed: make(chan struct{}, 1), events: s, stop: make(chan struct{})}
	e.stopped.Add(1)
	go e.listen()
	return e, nil
}

// Changed has a value after something may have changed, once for any number of changes. It is never closed.
func (e *LinkEvents) Changed() <-chan struct{} { return e.changed }

// Close ends the goroutine.
func (e *LinkEvents) Close() {
	if e.stopping.Swap(true) {
		return
	}
	close(e.stop)
	e.events.Close()
	e.stopped.Wait()
}

func (e *LinkEvents) listen() {
	defer e.stopped.Done()
	for {
		messages, _, err := e.events.Receive()
		if e.stopping.Load() {
			return
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			// As unknown as events that were lost, but it must not spin.
			select {
			case <-time.After(dumpRetry):
			case <-e.stop:
				return
			}
		}
		if err != nil || slices.ContainsFunc(messages, func(m syscall.NetlinkMessage) bool { return e.concerns(m.Data) }) {
			select {
			case e.changed <- struct{}{}:
			default:
			}
		}
	}
}

// concerns reports whether a message is about one of the interfaces: struct ifinfomsg and struct ifaddrmsg have the
// index in the same place.
func (e *LinkEvents) concerns(data []byte) bool {
	return len(data) >= 8 && slices.Contains(e.interfaces, int(binary.NativeEndian.Uint32(data[4:8])))
}
