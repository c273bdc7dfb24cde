package trace

import (
	"fmt"
	"time"
)

// lane is a row of a drawing: a place where a request can be.
type lane int

// The lanes, in the order in which a request passes them.
const (
	laneRX lane = iota
	laneSYN
	laneAccept
	laneReceive
	laneReady
	laneWorker
	laneConnect
	laneBackendSend
	laneBackend
	laneBackendReceive
	laneSend
	laneTX
	laneCount
)

var laneNames = [laneCount]string{
	"NIC: RX ring", "SYN queue", "accept queue", "receive buffer", "ready list", "worker", "backend connection",
	"send buffer to backend", "backend at work", "receive buffer from backend", "send buffer", "NIC: TX ring",
}

// span is a time that a request was in a lane.
type span struct {
	lane     lane
	from, to time.Duration // since the first event of the line; equal: a moment
	text     string
	faint    bool // of the other connection, or waiting
}

// spans are where the request was, and when.
func (l *Line) spans() (list []span) {
	var open [laneCount]*Event
	var readySide [Backend + 1]*Event
	begin := func(at lane, e *Event) {
		if open[at] == nil {
			open[at] = e
		}
	}
	end := func(at lane, to time.Duration, text string) {
		if e := open[at]; e != nil {
			list = append(list, span{lane: at, from: e.At, to: to, text: text})
			open[at] = nil
		}
	}
	var runs, worked *Event // the worker's turn that is under way, and its last step
	turn := func() {
		if runs != nil {
			list = append(list, span{lane: laneWorker, from: runs.At, to: worked.At, text: l.Describe(worked), faint: runs.Side == Backend})
			runs, worked = nil, nil
		}
	}
	for i := range l.Events {
		e := &l.Events[i]
		what := l.Describe(e)
		mark := func(at lane) {
			list = append(list, span{lane: at, from: e.At, to: e.At + e.Took, text: what, faint: e.Side == Backend})
		}
		switch e.Kind {
		case Parsed, Read, Chosen, Built, Connecting, Connected, Written, Interim, Response, Answered, Failed, Released, Tunnel, KeptAlive, Closed, Aborted:
			if runs == nil {
				runs = e
			}
			worked = e
		case Runs:
			turn()
			runs, worked = e, e
		case Accepted, FrameReceived, Kick, LastACK:
			turn()
		}
		switch e.Kind {
		case FrameReceived:
			mark(laneRX)
			if e.Side == Client && e.Values[frameFlags]&flagSYN == 0 {
				end(laneSYN, e.At, "handshake: "+what)
			}
			if e.Side == Backend {
				end(laneBackendSend, e.At, "acknowledged with: "+what)
				if e.Values[frameBytes] > 0 {
					end(laneBackend, e.At, "until its first byte: "+what)
				}
			}
		case SYNQueue:
			begin(laneSYN, e)
		case AcceptQueue:
			end(laneSYN, e.At, what)
			begin(laneAccept, e)
		case Accepted:
			end(laneAccept, e.At, what)
		case ReceiveBuffer:
			begin(receiveLane(e.Side), e)
		case Ready:
			readySide[e.Side] = e
		case Taken:
			if from := readySide[e.Side]; from != nil {
				list = append(list, span{lane: laneReady, from: from.At, to: e.At, text: fmt.Sprintf("%s: %s", e.Side, what), faint: e.Side == Backend})
				readySide[e.Side] = nil
			}
		case Read:
			if e.Values[moveLevel] == 0 {
				end(receiveLane(e.Side), e.At, what)
			}
		case Chosen:
			begin(laneConnect, e)
		case Written:
			if e.Side == Backend {
				begin(laneBackendSend, e)
				begin(laneBackend, e)
			} else {
				begin(laneSend, e)
			}
		case Released, Failed, Tunnel:
			end(laneConnect, e.At, what)
			end(laneBackend, e.At, what)
			end(laneBackendSend, e.At, what)
		case FrameSent:
			begin(laneTX, e)
		case Kick:
			mark(laneTX)
		case Completed:
			end(laneTX, e.At, what)
		case LastACK:
			end(laneSend, e.At, what)
		case Aborted:
			end(laneSend, e.At, what)
		}
	}
	turn()
	last := l.Events[len(l.Events)-1].At
	for at := range laneCount {
		end(at, last, "to the end of the trace")
	}
	return list
}

func receiveLane(s Side) lane {
	if s == Backend {
		return laneBackendReceive
	}
	return laneReceive
}
