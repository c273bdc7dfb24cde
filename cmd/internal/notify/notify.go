// Package notify tells systemd how the service is, by the protocol of
// sd_notify(3). Where no service manager listens (NOTIFY_SOCKET is not set) it
// does nothing, and so does WatchdogInterval.
//
//	Ready            serving; after a reload too
//	Reloading, Ready around a reload, whether or not it succeeds
//	Stopping         at the begin of a drain or a stop
//	Status           a line for `systemctl status`
//	Alive            before every half of WatchdogSec= has passed, or systemd kills the service
//
// An error means that the manager could not be told: a reason for a warning, not
// for ending. Only the master speaks; any goroutine may.
package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that what was being started or reloaded now serves. The status is
// shown by `systemctl status`.
func Ready(status string) error { return send(daemon.SdNotifyReady, statusLine(status)) }

// Reloading says that a reload begins. Ready ends it.
func Reloading() error {
	// With the time the manager can tell this from an earlier one.
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("read the monotonic clock: %w", err)
	}
	return send(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

// Stopping says that the end has begun.
func Stopping() error { return send(daemon.SdNotifyStopping) }

// Status replaces the line that `systemctl status` shows.
func Status(text string) error { return send(statusLine(text)) }

// Alive keeps the manager's watchdog quiet.
func Alive() error { return send(daemon.SdNotifyWatchdog) }

// WatchdogInterval is how often Alive is to be called: half of what the manager
// waits for. 0: it does not watch this process.
func WatchdogInterval() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("read what systemd's watchdog wants: %w", err)
	}
	return d / 2, nil
}

// statusLine is the assignment for a text, which must not hold another one.
func statusLine(text string) string {
	return "STATUS=" + strings.Join(strings.Fields(text), " ")
}

// send sends assignments in one datagram.
func send(assignments ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
