package dataplane

import "errors"

// What opening can fail with. The errors that wrap these name the interface and queue, and say what to do.
var (
	// ErrPermission: a capability is missing.
	ErrPermission = errors.New("missing capability")
	// ErrNoInterface: there is no interface of that name.
	ErrNoInterface = errors.New("no such interface")
	// ErrInterfaceDown: the interface is administratively down.
	ErrInterfaceDown = errors.New("interface is down")
	// ErrNotEthernet: the interface carries no Ethernet frames, or is the loopback.
	ErrNotEthernet = errors.New("not an Ethernet interface")
	// ErrMTU: the MTU is larger than what the frames hold, or than what is possible at all.
	ErrMTU = errors.New("MTU too large")
	// ErrProgramAttached: somebody else's XDP program is on the interface.
	ErrProgramAttached = errors.New("another XDP program is attached")
	// ErrUnsupported: the kernel or the driver cannot do what was demanded.
	ErrUnsupported = errors.New("not supported")
	// ErrNoQueue: the interface has no such queue.
	ErrNoQueue = errors.New("no such queue")
	// ErrQueueBusy: another socket is bound to the queue.
	ErrQueueBusy = errors.New("queue is in use by another AF_XDP socket")
	// ErrLockedMemory: the UMEM does not fit the limit on locked memory.
	ErrLockedMemory = errors.New("locked memory limit too low")
	// ErrOptions: a size is not possible.
	ErrOptions = errors.New("invalid options")
	// ErrInterfaceGone: the interface of a bound queue was removed; the queue is of no use any more.
	ErrInterfaceGone = errors.New("interface is gone")
	// ErrInUse: a waiter still waits on the queue.
	ErrInUse = errors.New("queue still has a waiter")
)
