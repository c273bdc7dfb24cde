package dataplane

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explainBind says what a failed bind means and what to do about it.
func explainBind(l LinkInfo, o QueueOptions, err error) error {
	return fmt.Errorf("open queue %d of %s: %w", o.Queue, l.Name, bindReason(l, o, err))
}

func bindReason(l LinkInfo, o QueueOptions, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w for more than %v: another ringroad, or another AF_XDP program; `ss --xdp -p` names it (%w)", ErrQueueBusy, o.BindTimeout, err)
	case errors.Is(err, unix.ENOBUFS):
		return lockedMemory(o, err)
	case errors.Is(err, unix.EINVAL) && o.Queue >= l.RXQueues:
		return fmt.Errorf("%w: %s has %d, numbered from 0 (%w)", ErrNoQueue, l.Name, l.RXQueues, err)
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("%w: ip link set dev %s up (%w)", ErrInterfaceDown, l.Name, err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w (%w)", ErrInterfaceGone, err)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("%w: this kernel is built without AF_XDP (CONFIG_XDP_SOCKETS) (%w)", ErrUnsupported, err)
	case o.ZeroCopy == ZeroCopyOn:
		return fmt.Errorf("%w: zero-copy was demanded, driver %s refuses it (%s): set zero_copy to auto or off (%w)",
			ErrUnsupported, l.Driver, refusal(l, o.FrameBytes, runningKernel()), err)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w, although no capability is missing: look for a security module or a container's seccomp profile", err)
	}
	return err
}

// lockedMemory explains that the UMEM cannot be pinned.
func lockedMemory(o QueueOptions, err error) error {
	need := o.Frames * o.FrameBytes >> 10
	var limit unix.Rlimit
	if limitErr := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); limitErr != nil {
		return errors.Join(err, limitErr)
	}
	return fmt.Errorf("%w: each queue pins %d KiB, RLIMIT_MEMLOCK is %d KiB for all: grant CAP_IPC_LOCK, or raise it (ulimit -l, LimitMEMLOCK=, limits.conf) (%w)",
		ErrLockedMemory, need, limit.Cur>>10, err)
}
