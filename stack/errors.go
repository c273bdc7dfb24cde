package stack

import (
	"errors"
	"fmt"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Errors of connections and listeners, named for the errno that the kernel
// gives in the same place.
var (
	ErrWouldBlock = errors.New("operation would block")    // EAGAIN
	ErrFull       = errors.New("send buffer is full")      // EAGAIN, of the connection that is written
	ErrReset      = errors.New("connection reset by peer") // ECONNRESET
	ErrRefused    = errors.New("connection refused")       // ECONNREFUSED
	ErrTimeout    = errors.New("connection timed out")     // ETIMEDOUT
	ErrNoRoute    = errors.New("no route to host")         // EHOSTUNREACH, ENETUNREACH
	ErrNoPort     = errors.New("no local port left")       // EADDRNOTAVAIL
	ErrInUse      = errors.New("address already in use")   // EADDRINUSE
	ErrClosed     = errors.New("connection is closed")     // EPIPE, ENOTCONN, EBADF
	ErrAborted    = errors.New("software caused abort")    // ECONNABORTED

	// EADDRNOTAVAIL on bind
	ErrNotLocal = errors.New("cannot assign local address: none of the interfaces named has it (`ip -br address` lists theirs)")
)

// errorOf translates netstack's error; nil stays nil.
func errorOf(e tcpip.Error) error {
	switch e := e.(type) {
	case nil:
		return nil
	case *tcpip.ErrWouldBlock, *tcpip.ErrConnectStarted, *tcpip.ErrAlreadyConnecting:
		return ErrWouldBlock
	case *tcpip.ErrClosedForReceive:
		return io.EOF
	case *tcpip.ErrClosedForSend, *tcpip.ErrNotConnected, *tcpip.ErrInvalidEndpointState:
		return ErrClosed
	case *tcpip.ErrConnectionReset:
		return ErrReset
	case *tcpip.ErrConnectionRefused:
		return ErrRefused
	case *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		return ErrAborted
	case *tcpip.ErrTimeout:
		return ErrTimeout
	case *tcpip.ErrHostUnreachable, *tcpip.ErrNetworkUnreachable, *tcpip.ErrHostDown, *tcpip.ErrNoNet:
		return ErrNoRoute
	case *tcpip.ErrNoPortAvailable:
		return ErrNoPort
	case *tcpip.ErrPortInUse, *tcpip.ErrDuplicateAddress:
		return ErrInUse
	case *tcpip.ErrBadLocalAddress:
		return ErrNotLocal
	default:
		return fmt.Errorf("netstack: %s", e)
	}
}
