package proxy

import (
	"errors"
	"fmt"
	"net/http"
)

// Source says whose doing an error is. It decides the level of the log line.
type Source uint8

// The sources.
const (
	Client Source = iota
	Backend
	Internal
)

// String names the source.
func (s Source) String() string {
	switch s {
	case Client:
		return "client"
	case Backend:
		return "backend"
	}
	return "internal"
}

// Phase is how far an exchange had come.
type Phase uint8

// The phases, in the order of an exchange. Request and response may overlap.
const (
	PhaseHead    Phase = iota // reading the request head
	PhaseBody                 // reading the request body
	PhaseConnect              // connecting to a backend
	PhaseSend                 // sending the request to the backend
	PhaseWait                 // waiting for the response head
	PhaseRelay                // reading the response body
	PhaseDeliver              // sending the response to the client
	PhaseTunnel               // moving bytes both ways
)

// String names the phase for the log.
func (p Phase) String() string {
	switch p {
	case PhaseHead:
		return "reading the request head"
	case PhaseBody:
		return "reading the request body"
	case PhaseConnect:
		return "connecting"
	case PhaseSend:
		return "sending the request"
	case PhaseWait:
		return "waiting for the response"
	case PhaseRelay:
		return "reading the response body"
	case PhaseTunnel:
		return "in the tunnel"
	}
	return "sending the response"
}

// buffer names the buffer of a connection that the exchange depended on in the
// phase; "": none, or several.
func (p Phase) buffer() string {
	switch p {
	case PhaseHead, PhaseBody:
		return "client receive"
	case PhaseSend:
		return "backend send"
	case PhaseWait, PhaseRelay:
		return "backend receive"
	case PhaseDeliver:
		return "client send"
	}
	return ""
}

// statusClientGone is what the access log shows for a client that went away
// before its answer, as nginx does. It is never sent.
const statusClientGone = 499

// Error is why an exchange did not go as it should. Source and Retryable decide
// what becomes of it: whether another connection is tried, what the client is
// answered, and how loudly it is logged.
type Error struct {
	Source Source
	Phase  Phase
	// Status is the answer, as long as none has begun. 0: the client cannot be
	// answered any more.
	Status int
	// Retryable tells that the cause lies in this one connection, so that
	// another may do. Whether the request may be sent again is another question
	// (exchange.mayRepeat).
	Retryable bool
	Err       error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %v", e.Source, e.Phase, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Causes that no lower layer has an error for.
var (
	errTruncated = errors.New("connection closed before the end of the message")
	errNoAnswer  = errors.New("connection closed before an answer")
	errFull      = errors.New("max_connections reached")
	errStopped   = errors.New("the proxy was stopped")

	errClientConnections = errors.New("the client has too many connections (limits.client.connections)")
	errClientRequests    = errors.New("the client sends too many requests (limits.client.requests)")
)

// timeoutError is the end of a wait. Its text says what was waited for.
type timeoutError struct {
	wait wait
	text string
}

// Error implements error.
func (e *timeoutError) Error() string { return e.text }

// timedOut holds the ends of waits that exchanges fail by.
var timedOut = [waitIdle + 1]*timeoutError{
	waitClientHeader: {waitClientHeader, "timed out waiting for the end of the request head (timeouts.client_header)"},
	waitClientBody:   {waitClientBody, "timed out waiting for more of the request body (timeouts.client_body)"},
	waitClientSend:   {waitClientSend, "timed out waiting for the client to take more of the response (timeouts.client_send)"},
	waitConnect:      {waitConnect, "timed out waiting for the connection (timeouts.connect)"},
	waitBackendRead:  {waitBackendRead, "timed out waiting for the backend to send (timeouts.backend_read)"},
	waitBackendSend:  {waitBackendSend, "timed out waiting for the backend to take more of the request (timeouts.backend_send)"},
	waitTunnel:       {waitTunnel, "timed out waiting for anything to move (timeouts.tunnel)"},
}

// connectError is err of a connection that could not be made.
func connectError(err error) Error {
	return Error{Source: Backend, Phase: PhaseConnect, Status: http.StatusBadGateway, Retryable: true, Err: err}
}
